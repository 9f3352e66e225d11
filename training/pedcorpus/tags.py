"""Department and age group: from the source where it says so, else from the question's words.

The age rule is `readers.ages.age_group`. The department of a child is 儿科; of an adult the first of
the departments below whose words the question holds, and nothing when there is none.
"""

import re
from dataclasses import replace

from .clean import PREGNANT
from .readers.ages import PEDIATRIC_GROUPS, about_child, age_group
from .record import Chat, Text

_DEPARTMENTS = (
    ("妇产科", PREGNANT),
    ("皮肤科", re.compile("皮肤|皮疹|湿疹|痤疮|青春痘|荨麻疹|癣|白癜风|脱发|疣|瘙痒|色斑")),
    ("口腔科", re.compile("牙|口腔|智齿|龋")),
    ("眼科", re.compile("眼睛|眼皮|视力|近视|白内障|青光|结膜")),
    ("耳鼻喉科", re.compile("鼻|耳|咽|喉|扁桃体|嗓子")),
    ("精神心理科", re.compile("抑郁|焦虑|失眠|心理|强迫|精神分裂|恐惧")),
    ("肿瘤科", re.compile("癌|肿瘤|化疗|放疗|白血病")),
    ("外科", re.compile("骨折|手术|痔|疝|结石|外伤|腰椎|颈椎|关节|骨|扭伤|阑尾")),
    (
        "内科",
        re.compile(
            "胃|肝|肺|心脏|高血压|糖尿|血压|血糖|肾|肠|感冒|咳|头晕|头痛|胸|脑|中风|甲状腺|贫血|便秘|"
            "腹|发烧|发热|哮喘|痛风|呕|消化"
        ),
    ),
)
# Talk that is no consultation has no department.
_TALK = ("oaast", "alpaca", "kdconv", "smile", "own-")


def department_of(question: str, pediatric: bool) -> str:
    """The department of a medical question, or the empty string."""
    if pediatric:
        return "儿科"
    return next((name for name, words in _DEPARTMENTS if words.search(question)), "")


def concerns_child(chat: Chat) -> bool:
    """Whether a record belongs to pediatrics by its department, its age group or its words."""
    if "儿" in chat.department or chat.age_group in PEDIATRIC_GROUPS:
        return True
    return chat.age_group != "成人" and about_child(chat.question)


def tagged(record: Chat | Text) -> Chat | Text:
    """The record with department and age group filled in where the source left them empty.

    A record of the three tasks gets a department only when it concerns a child.
    """
    if isinstance(record, Text):
        if record.department or not record.pediatric:
            return record
        return replace(record, department="儿科")
    age = record.age_group or age_group(record.question)
    department = record.department
    if record.task != "general":
        child = about_child(record.question) or "儿" in record.department
        age = "" if age == "成人" and child else age  # a parent's age
        department = department or ("儿科" if about_child(record.question) else "")
    elif not record.id.startswith(_TALK):
        department = department or department_of(record.question, False)
    if (age, department) == (record.age_group, record.department):
        return record
    return replace(record, age_group=age, department=department)
