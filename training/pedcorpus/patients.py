"""Whom a question is about, read more closely than the readers do.

The readers' own rules decide the split of a record (by hash of its question, in shares that differ
between tasks), so they stay as they are. Here adults' questions leave the three tasks and children's
that were filed under adults join them. No question moves into or out of the held-out splits by this;
a held-out question of an adult is no item of a pediatric task and goes.
"""

import re
from dataclasses import replace

from .readers.ages import ADULT_TOPIC, PEDIATRIC_GROUPS, about_child, age_group
from .record import Chat, Text
from .tasks import task_of

# The child is wished for, unborn, or only somebody who is about: the patient is grown up.
ADULT_PATIENT = re.compile(
    "(?<!需)(?<!不)(?<!只)要(?:个|一个)?(?:小孩|宝宝|小宝|孩子)(?:[？。，、！吗呢吧不]|$)|想要(?:小孩|宝宝|小宝|孩子)了"
    "|(?:^|[，。？])[^，。？妈]{0,6}乳腺炎|胎动|(?:宝宝|孩子)(?:总)?在肚子|照顾(?:小孩|孩子|宝宝)|怀孕\\d|可以怀孕|生孩子"
    "|宝宝在肚子[^，。]{0,4}(?:活动|动)|个月了[^。？]{0,8}宝宝[^。？]{0,4}在肚子"
    "|被(?:小孩|孩子|宝宝)[^，。]{0,6}(?:打|踢|咬|抓|撞|碰)|能给(?:小孩|孩子|宝宝)喂奶"
)
_A_CHILD = re.compile("男孩|女孩|儿子|女儿|孩子|宝宝|宝贝|小孩|小儿|患儿")
# No consultations: counsel for parents' own feelings, and answers that are no person's.
_NO_CONSULTATION = ("smile", "own-", "oaast", "alpaca", "kdconv")


def of_a_child(question: str) -> bool:
    """Whether a question names a child and states an age under 18, and nothing of an adult's."""
    if not _A_CHILD.search(question) or age_group(question) not in PEDIATRIC_GROUPS:
        return False
    adult = ADULT_PATIENT.search(question) or ADULT_TOPIC.search(question)
    return about_child(question) and not adult


def by_patient(record: Chat | Text) -> Chat | Text | None:
    """The record in the task that its patient asks for, or None for a held-out adult's."""
    if isinstance(record, Text) or record.templated:
        return record
    held_out = record.split in ("valid", "test")
    if record.task in ("medkqa", "trerecom"):
        if not ADULT_PATIENT.search(record.turns[0].text):
            return record
        return None if held_out else replace(record, task="general", department="")
    joins = record.task == "general" and not held_out and of_a_child(record.turns[0].text)
    if not joins or record.id.startswith(_NO_CONSULTATION):
        return record
    return replace(record, task=task_of(record.question, True), department="儿科")
