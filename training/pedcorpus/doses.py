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
    r"(?:毫克|微克|毫升|国际单位|万单位|万u|单位|iu|mg|μg|ug|mcg|ml|cc|mmol|u(?![a-z])|g(?![a-z])|"
    r"克(?!力|服)|[㎎㎖㎍])(?!\s*[/／]\s*(?:d?l(?![a-z])|分?升))"  # per litre: a finding
)
_LOOSE = r"(?:片|粒|滴|袋|支|丸|包|贴|[小大茶汤]?[勺匙]|瓶|颗|枚|喷|揿|栓|剂|把)"
_FREQUENCY = (
    rf"(?:[每一][日天晚]|[日每])\s*{_RANGE}\s*次|{_RANGE}\s*次\s*[/／每]\s*[日天]"
    rf"|[每隔]+\s*{_RANGE}\s*(?:个)?(?:小时|h)\s*(?:一|1)?\s*次|(?<![a-z])(?:[bt]\.?i\.?d|q\.?d|"
    rf"q\d+h)(?![a-z])"
    rf"|(?:每|一|1)次\s*{_RANGE}\s*(?:个|口)(?![月岁年])"
)
_HOURS = rf"{_RANGE}\s*(?:个)?(?:小时|钟头|h)"
_LIMIT = r"(?:不[能要得可应宜]?超过|最多|至多|[之以]?内|里|可以?|能|要|只|需|共|分|再|才|就)"
_DAY = r"(?:[每一][日天晚]|[日每]|(?:24|二十四)\s*个?(?:小时|h))"
# A rhythm that no verb ties to a medicine.
_RHYTHM = (
    rf"{_DAY}\s*{_LIMIT}+\s*{_RANGE}\s*次|(?:24|二十四)\s*个?(?:小时|h)\s*{_RANGE}\s*次"
    rf"|{_HOURS}\s*{_LIMIT}*\s*[一1]\s*次(?!都|也)|早中?晚各\s*{_RANGE}\s*次"
)
# The verb of taking within the rhythm. More than six times a day are meals.
_FEW = r"(?:[1-6]|[一二两三四五六])(?![0-9十])"
_TAKEN = (
    rf"(?:{_DAY}|早中?晚各?|{_HOURS})\s*(?:{_LIMIT}|以上|左右|后)*\s*"
    r"(?:口服|服用?|吃|使用|外用|用|打|注射|输|滴|喷|涂|抹|雾化|给)药?\s*了?\s*"
    rf"{_LIMIT}*\s*{_FEW}(?:\s*[-~～—－至到、,，]?\s*{_FEW})?\s*次"
    r"(?!的?[^，。；药]{0,2}(?:奶|饭|餐|食|粥|面|菜|果|蛋|肉|鱼|水|喷嚏|嗝|鼾|哈欠|疫苗|电话|尿))"
)
_LEAST_LIMIT = rf"不[能要得可应宜]?超过\s*{_RANGE}\s*次"
_STRICT_DOSE = re.compile(rf"{_RANGE}\s*{_STRICT}", re.I)
_LOOSE_DOSE = re.compile(rf"{_ARABIC}(?:\s*[-~～—－至到]\s*{_NUMBER})?\s*{_LOOSE}")
_LOOSE_HAN_DOSE = re.compile(rf"{_HAN}+\s*{_LOOSE}")
_FREQUENCY_DOSE = re.compile(_FREQUENCY, re.I)
_RHYTHM_DOSE = re.compile(_RHYTHM, re.I)
_TAKEN_DOSE = re.compile(_TAKEN, re.I)
_LIMIT_DOSE = re.compile(_LEAST_LIMIT)
_PARTS_DOSE = re.compile(
    r"[半一二三两四1234]分之[一二三1-3]\s*(?:片|粒|袋|支|量)"
    r"|半[片粒袋支包]|[减加]半服?用|[加翻]倍(?:量|服|使)"
    r"|(?<![奶饭食一])半量|[0-9一二三]\s*[/／]\s*[0-9]\s*的?量|(?:药|剂|用)量[^，。]{0,2}减半"
)
_MEDICINE = re.compile(
    r"服|吃|喂|药|用|注射|涂|抹|喷|滴|每次|一次|每日|一日|每天|一天|剂量|抗生素|胶囊|颗粒"
)
_BODILY = re.compile(
    r"大便|小便|排便|排尿|尿布|腹泻|拉稀|拉肚|呕吐|吐奶|发作|咳嗽|抽搐|喂奶|吃奶|哺乳|喂养|母乳"
    r"|刷牙|洗澡|洗手|通风|开窗|测|量体温|体温|运动|洗脸|洗头|擦浴|进餐|换"
)
_MEAL = re.compile(
    "奶|饭(?![前后])|辅食|餐(?![前后])|水果|便(?!秘)|尿|拉|吐|泻|睡|醒|哭|惊|翻身|喘|咳|抽|烧|热|疼|痛|痒"
)
_DRUG = re.compile(
    "药|头孢|西林|霉素|布洛芬|美林|泰诺|氨基酚|口服液|糖浆|颗粒|胶囊|滴剂|混悬|软膏|乳膏|针剂|吊瓶"
)
# What is weighed or measured on the patient, right before the amount.
_MEASURED = re.compile(
    "(?P<what>血糖|血红蛋白|血色素|胆红素|奶量|尿量|(?<![按照据斤克gG/每的])体重)(?P<then>[^，。、]{0,12})$"
)
_NOT_MEASURED = re.compile("药|服|吃|葡萄糖|注|滴|补|给|kg|公斤|千克|按|用量|剂量|每次用", re.I)
_SENTENCE = re.compile(r"[^。！？；!?;\n]*[。！？；!?;\n]*")
_ASKED = re.compile(
    r"[？?]\s*$|[吗呢么吧][。，～~]*\s*$|几[次片粒滴袋支包勺][了呀啊呢]?[。，]*\s*$"
)


def _measured(sentence: str, match: re.Match[str]) -> bool:
    """Whether an amount is a finding: weight gained, blood sugar, milk drunk, urine passed."""
    before = _MEASURED.search(sentence[: match.start()])
    if before is None or _NOT_MEASURED.search(before["then"]):
        return False
    return (
        before["what"] != "体重" or match.group()[-1] in "g克" and match.group()[-2] not in "mu毫微"
    )


def _doses_in(sentence: str) -> int:
    if "几" in sentence and _ASKED.search(sentence):
        sentence = sentence.replace("几", "□")  # asks for a number and gives none
    found = sum(not _measured(sentence, match) for match in _STRICT_DOSE.finditer(sentence))
    found += len(_LOOSE_DOSE.findall(sentence)) + len(_PARTS_DOSE.findall(sentence))
    if _MEDICINE.search(sentence):
        found += len(_LOOSE_HAN_DOSE.findall(sentence))
    bodily, drug = _BODILY.search(sentence), _DRUG.search(sentence)
    often = len(_FREQUENCY_DOSE.findall(sentence))
    if not bodily:
        found += often
    if not often and not bodily and (drug or not _MEAL.search(sentence)):
        found += len(_RHYTHM_DOSE.findall(sentence))
    if drug or not _MEAL.search(sentence):
        found += len(_TAKEN_DOSE.findall(sentence))
    if not found and drug and not bodily:
        found += len(_LIMIT_DOSE.findall(sentence))
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
