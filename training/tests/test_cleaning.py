"""Each cleaning step apart, duplicates, and a build into which dirt was planted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.pedcorpus import filters
from training.pedcorpus.build import build
from training.pedcorpus.clean import advertises
from training.pedcorpus.dedup import near_repeats, repeats, signatures
from training.pedcorpus.doses import NOTICE, count_doses
from training.pedcorpus.ledger import SAMPLES, Ledger, masked
from training.pedcorpus.personal import find_personal, unname, unsurname
from training.pedcorpus.quality import LONGEST, LONGEST_CHAT, chunks, shortened, unsafe, windows
from training.pedcorpus.reading import PRESETS
from training.pedcorpus.record import Chat, Text, Turn, dialogue
from training.pedcorpus.sources import OWN, ZHONGJING

ANSWER = "多喝温水，注意休息，观察孩子的精神和体温，如果持续不退请及时到医院就诊。"
QUESTION = "宝宝两岁，发烧一天，怎么办？"


def chat(question: str = QUESTION, answer: str = ANSWER, **more) -> Chat:
    return Chat("c", ZHONGJING, "trerecom", False, dialogue(question, answer), **more)


def text(body: str) -> Text:
    return Text("t", OWN, True, body)


def text_after(step, record: Text) -> str | None:
    after = step(record)
    return after.text if after is not None else None


def answer_after(step, record: Chat) -> str | None:
    after = step(record)
    return after.answer if after is not None else None


# -- steps one by one ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("孩子发烧怎么办".encode().decode("latin-1"), "孩子发烧怎么办"),
        ("小儿\u9aa8\u2efe折锟斤拷了\ufffd", "小儿骨\u2efe折了"),
        ("ＡＢＣ“引号”，１２３", "ＡＢＣ“引号”，１２３"),
        ("e\u0301", "é"),
    ],
)
def test_encoding_is_repaired_and_chinese_forms_stay(broken: str, whole: str) -> None:
    assert filters.repaired(broken) == whole
    assert filters.repaired(whole) == whole


def test_encoding_gives_up_what_is_lost() -> None:
    assert filters.encoding(text("孩\ufffd子\ufffd发\ufffd烧\ufffd")) is None
    assert filters.encoding(text("孩子发烧要多喝水。" * 10)) is not None


@pytest.mark.parametrize(
    ("sentence", "is_one"),
    [
        ("欢迎来我院就诊，专家免费咨询。", True),
        ("白癜风医院的治疗技术先进。", True),
        ("点击右侧在线客服。", True),
        ("我用祖传秘方，三天可以彻底根治。", True),
        ("本病无法彻底根治，要长期观察。", False),
        ("我院儿科2010年收治120例患儿。", False),
        ("建议到正规医院的皮肤科就诊。", False),
    ],
)
def test_advertisements(sentence: str, is_one: bool) -> None:
    assert advertises(sentence) is is_one
    after = text_after(filters.advertisement, text(ANSWER + sentence))
    assert after is not None
    assert (sentence in after) is not is_one and ANSWER in after


def test_what_is_mostly_advertisement_goes() -> None:
    assert filters.advertisement(text("注意休息。欢迎来我院就诊，专家在线免费咨询。")) is None
    assert filters.advertisement(chat(answer="欢迎来我院就诊。")) is None


def test_template_phrases_leave_the_answer() -> None:
    worn = chat(answer="您好，问题分析：" + ANSWER + "祝宝宝早日康复！", department="儿科")
    assert answer_after(filters.template, worn) == ANSWER
    assert filters.template(replace(worn, templated=True)) == replace(worn, templated=True)


def test_slips_of_the_sources_are_mended() -> None:
    slipped = chat("宝宝伸懒腰，感觉&65533;。谢医生。", ANSWER, department="儿科")
    mended = filters.slips(slipped)
    assert isinstance(mended, Chat) and mended.question == "宝宝伸懒腰，感觉。谢谢医生。"


@pytest.mark.parametrize(
    "line",
    [
        "电话13812345678。",
        "加微信abc12345。",
        "身份证11010119900101123X。",
        "预约电话：010-66551234。",
        "出诊时间：周一上午。",
        "地址：北京市海淀区中关村大街27号。",
        "邮箱a.b@c.com。",
        "见https://a.cn/x。",
    ],
)
def test_personal_data(line: str) -> None:
    assert find_personal(line)
    assert filters.personal(chat(answer=ANSWER + line)) is None
    assert text_after(filters.personal, text(ANSWER * 3 + line)) == ANSWER * 3
    shown = masked(line)
    assert not any(
        part in shown for part in ("13812345678", "abc12345", "66551234", "a.b@c", "a.cn")
    )


@pytest.mark.parametrize(
    ("named", "bare"),
    [
        ("请找王建国主任看看。", "请找主任看看。"),
        ("患者张某某，男，5岁。", "患者，男，5岁。"),
        ("谢谢医生，谢谢大夫。", "谢谢医生，谢谢大夫。"),
        ("主任医师查房。", "主任医师查房。"),
    ],
)
def test_names(named: str, bare: str) -> None:
    assert unname(named) == bare


@pytest.mark.parametrize(
    ("named", "bare"),
    [
        ("谢谢张医生，朱大夫再见。", "谢谢医生，大夫再见。"),
        ("谢谢于医生。", "谢谢医生。"),
        ("在上海市七医院看过。", "在医院看过。"),
        ("由于医生忙，任何医生都行。", "由于医生忙，任何医生都行。"),
        ("关于医生和主任医师，谢谢医生。", "关于医生和主任医师，谢谢医生。"),
        ("皮肤发黄医生看过，在市医院。", "皮肤发黄医生看过，在市医院。"),
    ],
)
def test_surnames(named: str, bare: str) -> None:
    assert unsurname(named) == bare
    asked = chat(question=named, split="train")
    after = filters.cleaned(asked, Ledger())
    assert isinstance(after, Chat) and unsurname(after.question) == after.question
    held = filters.cleaned(replace(asked, split="test"), Ledger())
    assert isinstance(held, Chat) and held.question == named


def talk(*said: str, **more) -> Chat:
    return Chat("t", ZHONGJING, "trerecom", False, dialogue(*said), split="train", **more)


def test_an_exchange_answered_by_the_notice_alone_goes() -> None:
    asked = talk(QUESTION, "美林每次5ml。", "还要做什么？", ANSWER)
    after = filters.dose(asked)
    assert isinstance(after, Chat)
    assert [t.text for t in after.turns] == [QUESTION + "还要做什么？", ANSWER]
    last = talk(QUESTION, ANSWER, "吃多少？", "每次5ml。")
    cut = filters.dose(last)
    assert isinstance(cut, Chat) and [t.text for t in cut.turns] == [QUESTION, ANSWER]
    assert filters.dose(talk(QUESTION, "每次5ml。")) is None
    held = filters.dose(replace(asked, split="test"))
    assert isinstance(held, Chat) and held.turns[1].text == NOTICE and len(held.turns) == 4


@pytest.mark.parametrize(
    ("advice", "is_unsafe"),
    [
        ("可以用罗红霉素和甲硝唑，睡前不要吃糖。", True),
        ("不要吃糖，可以用吗丁啉。", True),
        ("特别严重时用利巴韦林。", True),
        ("分别用地塞米松和头孢。", True),
        ("不要给孩子吃利巴韦林。", False),
        ("禁用氨茶碱、利巴韦林和吗丁啉。", False),
        ("避免给孩子交替使用退烧药。", False),
        ("别给孩子吃利巴韦林。", False),
        ("四环素儿童禁用，酒精擦浴不可取。", False),
    ],
)
def test_only_what_forbids_the_drug_excuses_it(advice: str, is_unsafe: bool) -> None:
    assert unsafe(advice) is is_unsafe
    assert (filters.unsafe_advice(chat(answer=advice)) is None) is is_unsafe


def test_every_answer_of_a_dialogue_is_looked_at() -> None:
    said = (QUESTION, ANSWER, "要吃药吗？", "可以用利巴韦林。", "还有呢？", ANSWER)
    after = filters.unsafe_advice(talk(*said))
    assert isinstance(after, Chat) and [t.text for t in after.turns] == [*said[:2], *said[4:]]
    first = filters.unsafe_advice(talk(QUESTION, "吃吗丁啉。", "还有呢？", ANSWER))
    assert isinstance(first, Chat) and first.question == QUESTION + "还有呢？"
    assert filters.unsafe_advice(replace(talk(*said), templated=True)) is None
    held = replace(talk(*said), split="test")
    assert filters.unsafe_advice(held) == held
    # the measure by which it was chosen: a word that forbids anywhere in the sentence
    kept = chat(answer="可以用甲硝唑，睡前不要吃糖。" + ANSWER, split="test")
    assert filters.unsafe_advice(kept) == kept


def test_a_written_dialogue_loses_the_unsafe_sentence() -> None:
    lines = f"家长：{QUESTION}吃过吗丁啉。\n医生：{ANSWER}可以用吗丁啉。\n家长：好的。"
    written = filters.unsafe_advice(text(lines))
    assert isinstance(written, Text)
    assert written.text == lines.replace("可以用吗丁啉。", "")
    page = text("利巴韦林是一种广谱抗病毒药物，曾用于呼吸道合胞病毒感染的研究。")
    assert filters.unsafe_advice(page) == page


@pytest.mark.parametrize(
    "closing",
    ["不知道我的回答您是否满意？", "请问对我的解答满意吗？", "不知道我的解释您明白了吗？"],
)
def test_questions_about_the_answer_leave_it(closing: str) -> None:
    assert answer_after(filters.slips, chat(answer=ANSWER + closing)) == ANSWER
    stays = ANSWER + "孩子对饭菜满意吗？"
    assert answer_after(filters.slips, chat(answer=stays)) == stays


def test_doses_are_replaced_in_answers_and_cut_from_texts() -> None:
    dosed = ANSWER + "可以吃布洛芬，每次5ml，每日3次。"
    after = answer_after(filters.dose, chat(answer=dosed))
    assert after == ANSWER + NOTICE and count_doses(after) == 0
    asked = filters.dose(chat(question="每次吃5ml布洛芬行吗？"))
    assert isinstance(asked, Chat) and "5ml" in asked.question
    assert text_after(filters.dose, text(dosed)) == ANSWER
    refusal = chat(answer=NOTICE + ANSWER)
    assert filters.dose(refusal) == refusal
    sugar = Chat("s", OWN, "general", False, dialogue("可乐含多少糖？", "一罐含有39克糖。"))
    assert filters.dose(sugar) is None


def test_length_language_loops_unsafe_and_children() -> None:
    assert filters.length(chat(answer="多喝水。")) is None
    assert filters.length(chat(answer="水" * (LONGEST + 1))) is None
    assert filters.length(text("太短。")) is None
    assert filters.language(chat(answer="Drink water and rest, 再观察。")) is None
    assert filters.language(text("abcdefg hijklm " * 5 + "中文")) is None
    assert filters.loop(text("多喝水啊多喝水啊多喝水啊" + ANSWER)) is None
    assert filters.unsafe_advice(chat(answer="可以用酒精擦身退烧。")) is None
    assert filters.unsafe_advice(chat(answer="不要用酒精擦身退烧。")) is not None
    adult = chat(question="我今年50岁，血压高怎么办？")
    moved = filters.pediatrics(adult)
    assert isinstance(moved, Chat) and moved.task == "general"
    assert filters.pediatrics(replace(adult, templated=True)) is None
    assert filters.pediatrics(chat()) == chat()
    for step in filters.STEPS:
        assert step.apply(chat(department="儿科")) == chat(department="儿科"), step.name
        assert step.apply(text(ANSWER)) == text(ANSWER), step.name


def test_held_out_items_keep_their_wording() -> None:
    worn = chat(answer="您好，" + ANSWER, split="test")
    ledger = Ledger()
    kept = filters.cleaned(worn, ledger)
    assert isinstance(kept, Chat) and kept.answer == worn.answer
    trained = filters.cleaned(replace(worn, split="train"), ledger)
    assert isinstance(trained, Chat) and trained.answer == ANSWER
    assert ledger.changed[ZHONGJING]["template phrases"] == 1


# -- windows and chunks ----------------------------------------------------------------------


def long_dialogue(exchanges: int) -> Chat:
    turns = [Turn("user", "医生您好，孩子咳嗽三天了，请问是怎么回事？")]
    for i in range(exchanges):
        turns.append(
            Turn("assistant", f"第{i}问，孩子晚上咳得厉害吗，有没有痰，有没有喘，体温怎么样？")
        )
        turns.append(Turn("user", f"第{i}答，晚上咳得厉害一些，有一点痰，没有喘，体温正常。"))
    turns.append(Turn("assistant", "考虑支气管炎，建议到儿科门诊听一听，多喝水，注意休息。"))
    return Chat("d", ZHONGJING, "evidiag", False, tuple(turns), "talk/1", "train")


def test_windows_keep_a_long_dialogue_in_whole_exchanges() -> None:
    whole = long_dialogue(40)
    parts = list(windows(whole))
    assert len(parts) > 3
    assert {p.group for p in parts} == {"talk/1"} and len({p.id for p in parts}) == len(parts)
    said = "".join(t.text for p in parts for t in p.turns if t.role == "assistant")
    assert said == "".join(t.text for t in whole.turns if t.role == "assistant")
    for part in parts:
        assert sum(len(t.text) for t in part.turns) <= LONGEST_CHAT
        assert [t.role for t in part.turns] == ["user", "assistant"] * (len(part.turns) // 2)
        assert part.turns[0].text.startswith("医生您好，孩子咳嗽三天了")
        assert filters.length(part) is not None
    short = long_dialogue(2)
    assert list(windows(short)) == [short]


@pytest.mark.parametrize(
    "last", ["不客气。", "不用谢，祝早日康复。", "如果有其他问题，可以随时联系我。"]
)
def test_leave_takings_do_not_end_a_dialogue(last: str) -> None:
    whole = long_dialogue(2)
    turns = (*whole.turns, Turn("user", "好的，谢谢医生，我明白了。"), Turn("assistant", last))
    (part,) = windows(replace(whole, turns=turns, task="general"))
    assert part.turns == whole.turns


def test_windows_end_with_an_answer_that_says_something() -> None:
    turns = (*long_dialogue(2).turns, Turn("user", "谢谢医生。"), Turn("assistant", "不客气。"))
    (part,) = windows(replace(long_dialogue(2), turns=turns))
    assert part.turns == long_dialogue(2).turns
    assert not list(windows(replace(part, turns=turns[-2:] * 2)))


def test_shortened_and_chunks_end_with_sentences() -> None:
    long = ANSWER * 20
    cut = shortened(long)
    assert LONGEST - len(ANSWER) < len(cut) <= LONGEST and long.startswith(cut) and cut[-1] == "。"
    parts = list(chunks(text("\n".join([ANSWER * 10] * 20))))
    assert len(parts) > 2 and all(len(p.text) <= 2_400 for p in parts)
    joined = "".join(p.text for p in parts).replace("\n", "")
    assert joined == ANSWER * 200
    assert [p.id for p in parts] == [f"t-c{i}" for i in range(len(parts))]


# -- duplicates ------------------------------------------------------------------------------


def test_exact_repeats_keep_the_first_in_order() -> None:
    keys = np.array([5, 3, 5, 0, 0, 3], np.uint64)
    assert repeats(keys, np.arange(6)).tolist() == [False, False, True, False, False, True]
    order = np.array([9, 1, 0, 2, 3, 0])
    assert repeats(keys, order).tolist() == [True, True, False, False, False, False]


def test_near_repeats() -> None:
    base = "".join(
        f"第{i}条，孩子{'发热咳嗽腹泻皮疹'[i % 8]}时要观察精神和食欲。" for i in range(30)
    )
    texts = [
        base,
        base.replace("第7条", "第七条"),
        "小儿便秘多与饮食有关，应当增加蔬菜水果，养成定时排便的习惯，必要时请医生评估。" * 2,
        base.replace("观察", "留心").replace("时要", "的时候应该"),
    ]
    signature, long = signatures(texts)
    assert long.all() and signature.shape == (4, 64)
    drop = near_repeats(signature, np.arange(4))
    assert drop.tolist() == [False, True, False, False]
    assert near_repeats(signature, np.array([1, 0, 2, 3])).tolist() == [True, False, False, False]


def test_jaccard_is_estimated() -> None:
    a = "".join(chr(0x4E00 + i) for i in range(600))
    for shared in (0.6, 0.9):
        b = a[: int(600 * shared)] + "".join(
            chr(0x6000 + i) for i in range(int(600 * (1 - shared)))
        )
        signature, _ = signatures([a, b])
        true = 600 * shared / (600 * (2 - shared))
        assert abs((signature[0] == signature[1]).mean() - true) < 0.2


# -- a build with planted dirt ---------------------------------------------------------------

TINY = replace(PRESETS["ci"], constructed=0, more=1, adults=0, pairs=30)


def test_planted_dirt_is_removed_and_counted(tmp_path: Path) -> None:
    page = "".join(
        f"第{i}段：小儿支气管炎第{i}种表现为咳嗽，应当观察{i}天，注意休息。" for i in range(30)
    )
    held = chat(
        "宝宝四个月，睡觉时总是突然惊醒大哭，白天精神很好，吃奶也正常，这是怎么回事？",
        "多半是惊跳反射，神经系统还没有发育成熟，轻轻按住双手就能安静下来。",
    )
    held = replace(held, id="held", split="test")
    good = chat(
        "宝宝一岁，夜里踢被子以后开始流清鼻涕，还打喷嚏，请问该怎么护理？",
        ANSWER + "夜里注意保暖。",
    )
    records = [
        held,
        replace(held, id="copy", split="train"),
        Text("leak", OWN, True, "育儿百科。" + held.question + "家长常有这样的疑问。" + page[:300]),
        Text("page", OWN, True, page),
        Text("again", OWN, True, page),
        Text("nearly", OWN, True, page.replace("第7段", "第七段")),
        Text("phone", OWN, True, ANSWER * 4 + "请拨打电话13812345678。" + "夜间也要观察呼吸。"),
        Text(
            "clinic",
            OWN,
            True,
            "宝宝腹泻要补液，防止脱水。" * 2 + "欢迎来我院就诊，在线专家解答。" + ANSWER,
        ),
        replace(good, id="good", split="train"),
        replace(
            good,
            id="twin",
            split="train",
            turns=(Turn("user", "孩子感冒流鼻涕怎么护理？"), good.turns[1]),
        ),
        chat(answer="加微信abc12345详聊，" + ANSWER, split="train"),
    ]
    (tmp_path / "in").mkdir()
    report = build(tmp_path / "in", tmp_path / "out", TINY, records=records)

    def ids(name: str) -> set[str]:
        lines = (tmp_path / "out" / name).read_text("utf-8").splitlines()
        return {json.loads(line)["id"] for line in lines}

    texts, chats = ids("text.jsonl"), ids("chat.jsonl")
    assert {"page", "phone", "clinic"} <= texts
    assert not {"leak", "again", "nearly"} & texts
    assert {"held", "good"} <= chats
    assert not {"copy", "twin", "c"} & chats
    own = report["sources"][OWN]
    assert own["removed"]["exact duplicate"]["count"] == 1
    assert own["removed"]["near duplicate"]["count"] == 1
    assert own["removed"]["holds an evaluation item"]["count"] >= 1
    assert own["changed"]["personal data"]["count"] == 1
    assert own["changed"]["advertisement"]["count"] == 1
    people = report["sources"][ZHONGJING]["removed"]
    assert people["exact duplicate"]["count"] == 1  # the copy: the held-out one stays
    assert people["near duplicate"]["count"] == 1
    assert people["personal data"]["count"] == 1
    card = (tmp_path / "out" / "DATA_CARD.md").read_text("utf-8")
    assert "13812345678" not in card and "abc12345" not in card
    for source in report["sources"].values():
        for kind in ("removed", "changed"):
            assert all(1 <= len(step["samples"]) <= SAMPLES for step in source[kind].values())
