"""Personal data: phones, e-mails, QQ and WeChat ids, URLs, identity numbers, booking lines, names.

A sentence with a way to reach somebody is removed as a whole; a name is replaced by the word for
its bearer, since what is said about the patient stays worth reading.
"""

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
_BOOKING = re.compile(
    "(?:预约|咨询|联系|挂号|热线|服务|急救|值班|门诊|医院)(?:的)?(?:电话|热线|号码|手机)[：:是为]?(?=.{0,6}\\d)|"
    "(?:出诊|坐诊)时间[：:是为]|挂号费[：:]?\\d|(?:详细|医院|门诊|来院|通讯|联系)地址[：:是]|"
    "[省市区县].{1,12}[路街道巷].{0,8}\\d+号|乘(?:坐)?\\d+路"
)
_LONG_NUMBER = re.compile(r"(?<![\d.])\d{8,}(?!\d)")

KINDS: dict[str, re.Pattern[str]] = {
    "url": _URL,
    "email": _EMAIL,
    "phone": _PHONE,
    "identity": _IDENTITY,
    "messenger": _MESSENGER,
    "booking line": _BOOKING,
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


_SURNAMES = (
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦许何吕张孔曹严金魏陶姜谢邹苏潘葛范彭鲁马方任袁柳史唐薛雷贺倪汤罗郝"
    "安于傅齐余顾孟黄萧尹姚邵汪毛戴宋庞熊纪舒屈董梁杜阮蓝季贾江郭林钟徐邱高夏蔡田樊胡霍卢丁邓洪石崔龚程邢"
    "陆翁侯邬曾沙丰关刘叶白龙万段易"
)
_TITLED = re.compile(
    f"(?:(?<![一-鿿])|(?<=[找请由让挂问]))(?!谢谢|于是|黄疸|石家|高级|高年|金牌|万能|曾经|白班|方便|任何|安排|关于|马上|钱)[{_SURNAMES}][一-鿿]{{1,2}}(大夫|医生|主任医师|主任|医师|教授|护士长|老师)"
)
_NAMED = re.compile(
    f"(?:姓名|患者姓名)[：: ]*[{_SURNAMES}][一-鿿]{{1,2}}(?![一-鿿])|"
    f"(患者|病人|患儿)[：:]?[{_SURNAMES}](?:某某?|[一-鿿]{{1,2}})(?=[，, 、（(]{{1,2}}(?:男|女))"
)


# Surnames that are words as well: only where a word cannot end.
_RISKY = "于何任安高金白黄方关万史段叶石毛江苏汤丁沙龙易钱孔雷时曾夏常严孟丰应"
_PLAIN = "".join(s for s in _SURNAMES if s not in _RISKY + "谢")
_SURNAMED = re.compile(
    "(?:(?<![地官对双医药西明由任如等关属主责所相有处])"
    f"[{_PLAIN}]|(?:(?<![一-鿿])|(?<=[谢问找请是听跟和给让您你]))[{_RISKY}]|(?<=[找问听跟和给让])谢)"
    "(大夫|医生|主任医师|主任(?!委)|医师|教授)"
)
_HOSPITAL = re.compile(
    "(?:北京|上海|天津|重庆|广州|[一-鿿]{2})[市县区]第?[一二三四五六七八九十]{1,2}(?:人民)?医院"
)


def unsurname(text: str) -> str:
    """The text with a doctor's surname before the title, and numbered hospitals, replaced."""
    return _HOSPITAL.sub("医院", _SURNAMED.sub(r"\1", text))


def unname(text: str) -> str:
    """The text with full names before a title, and names of patients, replaced."""
    return _NAMED.sub(lambda m: m.group(1) or "", _TITLED.sub(r"\1", text))
