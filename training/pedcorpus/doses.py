"""Doses of medicine in text.

No source here is a checked formulary, so no answer may carry a dose. A sentence that holds a
number with a unit of dose is replaced as a whole: cutting only the number would leave a sentence
that still reads like an instruction.
"""

import re

NOTICE = "剂量请遵医嘱或说明书。"

_ARABIC = r"(?:[0-9０-９]+(?:[.．][0-9０-９]+)?(?:/[0-9]+)?)"
_HAN = r"(?:[一二两三四五六七八九十百半几])"
_NUMBER = rf"(?:{_ARABIC}|{_HAN}+)"
_RANGE = rf"{_NUMBER}(?:\s*[-~～—－至到、,，/]\s*{_NUMBER})?"
_STRICT = (
    r"(?:毫克|微克|毫升|国际单位|万单位|万u|单位|iu|mg|μg|ug|mcg|ml|cc|mmol|g(?![a-z])|克(?!力|服))"
)
_LOOSE = r"(?:片|粒|滴|袋|支|丸|包|贴|勺|瓶|颗|枚|喷|揿|栓|剂|把)"
_FREQUENCY = (
    rf"(?:[每一][日天晚]|[日每])\s*{_RANGE}\s*次|{_RANGE}\s*次\s*[/／每]\s*[日天]"
    rf"|[每隔]+\s*{_RANGE}\s*(?:个)?(?:小时|h)\s*(?:一|1)?\s*次|(?<![a-z])(?:[bt]\.?i\.?d|q\.?d|"
    rf"q\d+h)(?![a-z])"
    rf"|(?:每|一|1)次\s*{_RANGE}\s*(?:个|口)(?![月岁年])"
)
_STRICT_DOSE = re.compile(rf"{_RANGE}\s*{_STRICT}", re.I)
_LOOSE_DOSE = re.compile(rf"{_ARABIC}(?:\s*[-~～—－至到]\s*{_NUMBER})?\s*{_LOOSE}")
_LOOSE_HAN_DOSE = re.compile(rf"{_HAN}+\s*{_LOOSE}")
_FREQUENCY_DOSE = re.compile(_FREQUENCY, re.I)
_PARTS_DOSE = re.compile(
    r"[半一二三两四1234]分之[一二三1-3]\s*(?:片|粒|袋|支|量)"
    r"|半[片粒袋支包]|[减加]半服?用|[加翻]倍(?:量|服|使)"
)
_MEDICINE = re.compile(
    r"服|吃|喂|药|用|注射|涂|抹|喷|滴|每次|一次|每日|一日|每天|一天|剂量|抗生素|胶囊|颗粒"
)
_BODILY = re.compile(
    r"大便|小便|排便|排尿|尿布|腹泻|拉稀|拉肚|呕吐|吐奶|发作|咳嗽|抽搐|喂奶|吃奶|哺乳|喂养|母乳"
    r"|刷牙|洗澡|洗手|通风|开窗|测|量体温|体温|运动|洗脸|洗头|擦浴|进餐|换"
)
_SENTENCE = re.compile(r"[^。！？；!?;\n]*[。！？；!?;\n]*")


def _doses_in(sentence: str) -> int:
    found = len(_STRICT_DOSE.findall(sentence))
    found += len(_LOOSE_DOSE.findall(sentence)) + len(_PARTS_DOSE.findall(sentence))
    if _MEDICINE.search(sentence):
        found += len(_LOOSE_HAN_DOSE.findall(sentence))
    if _FREQUENCY_DOSE.search(sentence) and not _BODILY.search(sentence):
        found += len(_FREQUENCY_DOSE.findall(sentence))
    return found


def count_doses(text: str) -> int:
    """How many doses (amounts with a unit, or times a day) the text holds."""
    return sum(_doses_in(sentence) for sentence in _SENTENCE.findall(text))


def strip_doses(text: str) -> str:
    """Replace every sentence that holds a dose by the notice; neighbours become one notice."""
    if not count_doses(text):
        return text
    parts: list[str] = []
    for sentence in _SENTENCE.findall(text):
        if not sentence:
            continue
        if _doses_in(sentence):
            tail = sentence[len(sentence.rstrip("\n")) :]
            if parts and parts[-1].strip() == NOTICE:
                parts[-1] = NOTICE + tail
                continue
            if NOTICE in parts:
                parts.append(tail)
                continue
            sentence = NOTICE + tail
        parts.append(sentence)
    return "".join(parts)
