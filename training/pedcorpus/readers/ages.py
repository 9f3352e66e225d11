"""The age group that a text states."""

import re

from ..clean import PREGNANT, is_pediatric

_HAN_NUMBERS = {c: i for i, c in enumerate("零一二三四五六七八九十")} | {"两": 2, "半": 0.5}
_NUMBER = r"(\d{1,3}(?:\.\d)?|[一二三四五六七八九十两半]{1,3})"
_CHILD = r"(?:宝宝|宝贝|孩子|小孩|婴儿|儿子|女儿|女宝|男宝|患儿|宝)"
# Months, weeks and days are also how long an illness lasts: they count as an age only beside a child.
_BESIDE = (
    rf"{_CHILD}[^。！？；]{{0,3}}?(?:才|刚|快|已经|有|是|现在)?{_NUMBER}\s*(?:个)?(?:多|半)?%s(?!前|内|后|以)"
    rf"|{_NUMBER}\s*(?:个)?(?:多|半)?%s(?:零?\d{{1,2}}天)?(?:大|龄|的?(?:宝|男婴|女婴|婴|孩|小孩|患儿|儿子|女儿))"
    rf"|（[男女][，,]\s*{_NUMBER}\s*(?:个)?(?:多|半)?%s）"
)
_YEARS = re.compile(rf"{_NUMBER}\s*(?:周)?岁")
_MONTHS = re.compile(_BESIDE.replace("%s", "月"))
_DAYS = re.compile(_BESIDE.replace("%s", "天"))
# "孩子这两天发烧" and "女儿两天没拉" tell how long something lasts: days are an age only beside these.
_DAYS_OLD = re.compile(
    rf"新生|早产|出生|刚生|满月|黄疸|(?<!肚)脐|{_NUMBER}天(?:大|的?(?:宝|婴|孩|男|女))|日龄"
)
_CLAUSE = re.compile("[。！？；]")
PEDIATRIC_GROUPS = ("新生儿", "婴儿", "幼儿", "学龄前", "学龄", "青少年")
_NEWBORN = re.compile("新生儿|早产儿|刚出生")
_INFANT = re.compile("婴儿(?!床|车|肝炎综合征)|男婴|女婴")
_ADULT = re.compile("老公|老婆|老人|成年人|我[爸妈]|父亲患|母亲患|更年期")


def _value(text: str) -> float:
    if text[0].isdigit():
        return float(text)
    tens, ten, ones = text.partition("十")
    if not ten:
        return sum(_HAN_NUMBERS.get(c, 0) for c in text)
    return 10 * (_HAN_NUMBERS.get(tens, 1) if tens else 1) + _HAN_NUMBERS.get(ones, 0)


def group_of(years: float) -> str:
    """The name of an age in years: newborn to 28 days, infant to 1, toddler to 3 and so on."""
    bounds = ((29 / 365, "新生儿"), (1, "婴儿"), (3, "幼儿"), (6, "学龄前"), (12, "学龄"))
    for bound, name in bounds:
        if years < bound:
            return name
    return "青少年" if years < 18 else "成人"


def age_group(text: str) -> str:
    """The age group that the text states of its patient, or the empty string."""
    found = []
    for pattern, unit in ((_YEARS, 1.0), (_MONTHS, 12.0), (_DAYS, 365.0)):
        match = pattern.search(text)
        if match is not None and (pattern is not _DAYS or _is_age(text, match)):
            value = _value(next(part for part in match.groups() if part)) / unit
            found.append((match.start(), value))
    if found and min(found)[1] < 120:  # the age named first is the patient's
        return group_of(min(found)[1])
    if _NEWBORN.search(text):
        return "新生儿"
    if _INFANT.search(text):
        return "婴儿"
    return "成人" if _ADULT.search(text) else ""


def _is_age(text: str, days: re.Match[str]) -> bool:
    """Whether a number of days is an age, by the words of its sentence."""
    number = next(i for i, part in enumerate(days.groups(), 1) if part)
    if text[max(0, days.start(number) - 1) : days.start(number)] in ("这", "近", "前", "头", "后"):
        return False
    start = max((m.end() for m in _CLAUSE.finditer(text, 0, days.start())), default=0)
    end = _CLAUSE.search(text, days.end())
    return bool(_DAYS_OLD.search(text[start : end.start() if end else len(text)]))


def about_child(question: str) -> bool:
    """Whether the patient of the question is a child and not its mother."""
    if PREGNANT.search(question):
        return False
    stated = age_group(question)
    named = bool(stated) or _DAYS.search(question) is not None or is_pediatric(question)
    return stated != "成人" and named


def department_of(pediatric: bool) -> str:
    """儿科 for a child; nothing is claimed about adults."""
    return "儿科" if pediatric else ""


ADULT_TOPIC = re.compile(
    "性生活|性交|性欲|性功能|阴茎|阴道|阴部|勃起|早泄|包皮|龟头|前列腺|月经|例假|白带|孕|流产|妇科|"
    "子宫|卵巢|精液|精索|精子|射精|遗精|滑精|手淫|艾滋|梅毒|淋病|尖锐|自杀|整形|丰胸|恐艾"
)
