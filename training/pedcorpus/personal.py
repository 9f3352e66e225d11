"""Personal data: phones, e-mails, QQ and WeChat ids, URLs, identity numbers."""

import re

_URL = re.compile(
    r"(?:https?://|www\.)[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]+|\b[\w-]+\.(?:com|cn|net|org)(?:/\S*)?",
    re.A,
)
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+\s?@\s?[A-Za-z0-9-]+(?:\s?\.\s?[A-Za-z0-9-]+)+")
_PHONE = re.compile(
    r"(?<!\d)(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)|(?<!\d)0\d{2,3}[- ]\d{7,8}(?!\d)|"
    r"(?<!\d)[48]00[- ]?\d{3,4}[- ]?\d{3,4}(?!\d)"
)
_IDENTITY = re.compile(r"(?<!\d)\d{17}[\dXx](?!\d)")
_MESSENGER = re.compile(r"(?:QQ|扣扣|微信|威信|加v|\bVX\b|\bWX\b|公众号|微博)", re.I)
_LONG_NUMBER = re.compile(r"(?<![\d.])\d{8,}(?!\d)")

KINDS: dict[str, re.Pattern[str]] = {
    "url": _URL,
    "email": _EMAIL,
    "phone": _PHONE,
    "identity": _IDENTITY,
    "messenger": _MESSENGER,
    "long number": _LONG_NUMBER,
}


def find_personal(text: str) -> str:
    """The kind of personal data the text holds, or the empty string."""
    for kind, pattern in KINDS.items():
        if pattern.search(text):
            return kind
    return ""


_SENTENCE = re.compile(r"[^。！？；\n]+[。！？；\n]*|\n")


def scrub(text: str) -> str:
    """The text without the sentences that hold personal data."""
    if not find_personal(text):
        return text
    return "".join(part for part in _SENTENCE.findall(text) if not find_personal(part)).strip()
