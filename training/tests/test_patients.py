"""Whom a question is about: ages, adults among the children's tasks, children among the others."""

from dataclasses import replace

import pytest

from training.pedcorpus import filters
from training.pedcorpus.ledger import Ledger
from training.pedcorpus.patients import by_patient, of_a_child
from training.pedcorpus.pipeline import Pipeline, group_of
from training.pedcorpus.readers.ages import about_child, age_group
from training.pedcorpus.record import Chat, Exam, dialogue
from training.pedcorpus.sources import MING, ZHONGJING

ANSWER = "考虑是普通的情况，注意观察，多休息，清淡饮食，有不适时到医院检查明确原因再处理。"


def human(question: str, task: str, split: str = "train") -> Chat:
    return Chat("h", ZHONGJING, task, False, dialogue(question, ANSWER), split=split)


@pytest.mark.parametrize(
    ("question", "group"),
    [
        ("孩子这两天发烧，怎么办？", ""),
        ("女儿两天没拉大便了，肚脐周围疼。", ""),
        ("宝宝近三天咳嗽，出生时体重正常。", ""),
        ("宝宝10天大，脐带还没掉。", "新生儿"),
        ("孩子出生五天，黄疸很高。", "新生儿"),
        ("二十天的宝宝吐奶。", "新生儿"),
        ("宝宝3个月，吐奶两天了。", "婴儿"),
    ],
)
def test_days_are_an_age_only_where_they_say_so(question: str, group: str) -> None:
    assert age_group(question) == group
    assert about_child(question)


@pytest.mark.parametrize(
    "question",
    [
        "梅毒治疗好了以后多久才能要小孩。",
        "急性乳腺炎能静脉点滴吗？能给小孩喂奶吗？",
        "八个月了，最近宝宝总是在肚子右边活动，正常么？",
        "眼睛被小孩巴掌打击一下，会形成飞蚊症吗？",
    ],
)
def test_adults_leave_the_tasks_about_children(question: str) -> None:
    after = by_patient(human(question, "medkqa"))
    assert isinstance(after, Chat) and after.task == "general"
    assert by_patient(human(question, "medkqa", "test")) is None


@pytest.mark.parametrize(
    "question", ["宝宝咬我乳头，是要长牙了吗？", "发烧了要孩子多喝水吗？", "孩子不要小孩抱怎么办？"]
)
def test_children_stay(question: str) -> None:
    record = human(question, "trerecom")
    assert by_patient(record) is record


def test_children_join_from_general_in_training_only() -> None:
    asked = "我家男孩快7岁了，半夜起来走路，这是什么原因？"
    after = by_patient(human(asked, "general"))
    assert isinstance(after, Chat) and (after.task, after.department) == ("medkqa", "儿科")
    whole = filters.cleaned(human(asked, "general"), Ledger())
    assert isinstance(whole, Chat) and whole.task == "medkqa" and whole.age_group == "学龄"
    held = human(asked, "general", "valid")
    assert by_patient(held) is held
    smile = replace(human(asked, "general"), id="smile-1")
    assert by_patient(smile) is smile
    assert not of_a_child("我今年30岁，7岁时得过肺炎，现在怀孕，孩子会有影响吗？")


def test_a_case_and_its_dialogue_are_one_group(tmp_path) -> None:
    assert group_of("case/mz10/17") == group_of("cmdd/17") != group_of("case/mz10/18")
    pipeline = Pipeline(tmp_path, Ledger())
    said = dialogue("孩子拉肚子三天了，还吐，怎么办？", ANSWER)
    other = dialogue("宝宝咳嗽流鼻涕一个星期了吃什么药好？", ANSWER[::-1])
    held = Chat("case-mz10/17", ZHONGJING, "evidiag", True, said, "case/mz10/17", "test")
    train = Chat("cmdd-17-n", ZHONGJING, "evidiag", True, other, "cmdd/17", "train")
    pipeline.take([held, train])
    pipeline.settle()
    assert [getattr(c, "id", "") for c in pipeline.kept()] == ["case-mz10/17"]
    assert pipeline.holds_out(said[0].text) and not pipeline.holds_out(other[0].text)


def test_the_question_of_an_exam_is_enough_to_contaminate(tmp_path) -> None:
    asked = "男性，三十五岁，高热，皮肤瘙痒半个月，右颈及锁骨上淋巴结肿大，无压痛，互相粘连，最可能的诊断是"
    options = tuple(f"这是一个相当长的选项文字用来稀释问题本身第{c}个" * 2 for c in "甲乙丙丁戊")
    exam = Exam("e", MING, asked, options, 0)
    train = human("根据以下病人的情况：" + asked + "什么？请回答。", "general")
    pipeline = Pipeline(tmp_path, Ledger())
    pipeline.take([exam, train])
    pipeline.settle()
    assert [type(r) for r in pipeline.kept()] == [Exam]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("可达60#xFF05;左右，", "可达60%左右，"),
        ("一般过23天就会好转，", "一般过2-3天就会好转，"),
        ("辅食可以吃34次，", "辅食可以吃3-4次，"),
        ("已经23天了，吃了24次，", "已经23天了，吃了24次，"),
    ],
)
def test_slips_of_numbers(wrong: str, right: str) -> None:
    record = replace(
        human("宝宝怎么了？", "medkqa"), turns=dialogue("宝宝怎么了？", wrong + ANSWER)
    )
    after = filters.slips(record)
    assert isinstance(after, Chat) and after.answer == right + ANSWER
