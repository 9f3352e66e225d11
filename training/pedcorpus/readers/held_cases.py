"""Cases with a doctor's written conclusion, and questions with a false or dangerous premise."""

import re
from collections.abc import Iterator

from ..archive import Library
from ..clean import clean_answer, clean_question, finish, key_of, tidy
from ..ledger import Ledger
from ..phrasing import number
from ..record import Chat, dialogue
from ..sources import HUATUOGPT, ZHONGJING
from ..tasks import task_of
from .ages import ADULT_TOPIC, about_child, age_group, department_of

CASES = "eval/Med-dialog_100.json"
SAFETY = "data/CMtMedQA_test.json"
_FILLED = re.compile(r"（20\d\d[^）]*填写）")
_ELSEWHERE = re.compile("问诊记录|交流中|已经交代|遵医嘱。?$|^谢谢")
_NO_IMPRESSION = re.compile("无法给出|^咨询$|^无$|待诊$|不清")
# Affirms a rare disease from two symptoms; nothing to learn from, and partly wrong.
_AFFIRMS = re.compile(
    "^(?:是的，)?您所?(?:描述|提到)的症状(?:确实)?(?:与[^，。]{2,20})?可能与|^是的，您所?描述的症状"
)
# Found wrong on reading: an antipsychotic said to be for gastric acid, an antibiotic said illegal.
_WRONG = re.compile("阿立哌唑口腔崩解片是一种用于胃酸|使用克拉霉素或其他非法药物")


def _fields(text: str) -> dict[str, str]:
    """The form's fields: a heading line that ends with a colon, then its text."""
    parts = re.split(r"(?m)^([^\n：:]{2,12})[:：]\s*$", _FILLED.sub("", text))
    return {parts[i].strip(): parts[i + 1].strip() for i in range(1, len(parts) - 1, 2)}


def written_cases(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """Med-dialog: what a patient wrote and what the doctor concluded. For testing only."""
    for i, record in enumerate(library.records(HUATUOGPT, CASES, ledger)[: limit or None]):
        ledger.saw(HUATUOGPT)
        case = _fields(str(record.get("medical_case", "")))
        said = _fields(str(record.get("doctor_diagnosis", "")))
        question = "".join(
            clean_question(case[name]) for name in ("病情描述", "希望获得的帮助") if case.get(name)
        )
        impression, advice = said.get("病情摘要及初步印象", ""), said.get("总结建议", "")
        if not question or not impression or not advice:
            ledger.drop(HUATUOGPT, "broken record: no case, impression or advice", str(record))
            continue
        if _ELSEWHERE.search(advice) or _NO_IMPRESSION.search(impression):
            ledger.drop(HUATUOGPT, "concludes nothing", impression + " | " + advice)
            continue
        department = str(record.get("Department", ""))
        pediatric = "儿" in department or about_child(question)
        if not pediatric and ADULT_TOPIC.search(question + impression + advice):
            ledger.drop(HUATUOGPT, "adult: intimate", question)
            continue
        answer = clean_answer(f"初步考虑：{finish(impression)}{advice}")
        yield Chat(
            f"meddialog-{record.get('id', i)}",
            HUATUOGPT,
            "evidiag" if pediatric else "general",
            False,
            dialogue(question, answer),
            f"meddialog/{record.get('id', i)}",
            "test",
            department=department,
            age_group=age_group(question),
            provenance=f"{CASES}#{i + 1}",
        )


def refusals(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """Questions with a false or alarming premise, answered calmly: half train, half test.

    The half is chosen by the hash of the question. Who wrote the answers is not stated and they
    read generated, so they do not count as written by people.
    """
    seen: set[str] = set()
    for i, record in enumerate(library.records(ZHONGJING, SAFETY, ledger)):
        if "instruct" not in record:
            continue  # the dialogues of the same file have a reader of their own
        ledger.saw(ZHONGJING)
        question = clean_question(str(record["instruct"]).strip())
        question = re.sub("^医生，(?:请问)?", "", question)
        answer = finish(tidy(str(record.get("output", ""))))
        if not question or len(answer) < 10:
            ledger.drop(ZHONGJING, "broken record: no question or answer", str(record))
            continue
        if key_of(question) in seen:
            ledger.drop(ZHONGJING, "duplicate", question)
            continue
        if _AFFIRMS.search(answer) or _WRONG.search(answer):
            ledger.drop(ZHONGJING, "affirms a rare disease, or is wrong", question + " | " + answer)
            continue
        seen.add(key_of(question))
        pediatric = about_child(question)
        if limit and len(seen) > limit:
            return
        yield Chat(
            f"safety-{i}",
            ZHONGJING,
            task_of(question, pediatric),
            True,
            dialogue(question, answer),
            f"safety/{key_of(question)[:40]}",
            "test" if number("safety", question) % 2 else "train",
            department=department_of(pediatric),
            age_group=age_group(question),
            provenance=f"{SAFETY}#{i + 1}",
        )
