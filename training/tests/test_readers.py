"""The readers of the further sources on records in each source's own shape, broken ones too."""

import json
import re
from pathlib import Path

import pytest

from training.pedcorpus.archive import Library
from training.pedcorpus.ledger import Ledger
from training.pedcorpus.readers import disc, exams, held_cases, lexicons, midmed, reasoning, remedi
from training.pedcorpus.readers.ages import about_child, age_group
from training.pedcorpus.readers.more import PAIR_READERS, READERS
from training.pedcorpus.record import AGE_GROUPS
from training.pedcorpus.sources import (
    CAREGPT,
    CHINESEBLUE,
    DISC,
    HUATUOGPT,
    ICD,
    KG,
    MIDMED,
    MING,
    REASONING,
    REMEDI,
    SOURCES,
    THUOCL,
    YIER,
    ZHONGJING,
    register,
)

THINK = {
    "input": "两岁孩子持续高烧40度，退烧药不管用，还抽搐了怎么办？",
    "output": "<think>红旗信号</think>\n**这是儿科急症！**请立即前往急诊。保持侧卧位，防止误吸。",
    "meta": {"specialty": "pediatrics"},
}


def put(folder: Path, source: str, path: str, content: object, lines: bool = True) -> Library:
    """Write a file of a source: text as it is, records as JSON lines or as one list."""
    target = folder / source / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        target.write_text(content, "utf-8")
    elif lines and isinstance(content, list):
        target.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in content), "utf-8")
    else:
        target.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return Library(folder)


def removed(ledger: Ledger, source: str) -> dict[str, int]:
    return dict(ledger.removed[source])


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("肾病综合征快速利尿的方法（男，4岁）", "学龄前"),
        ("宝宝五个月零七天，鼻塞（女，30岁）", "婴儿"),
        ("1岁3个月的宝宝发烧", "幼儿"),
        ("新生儿便秘怎么办", "新生儿"),
        ("两岁孩子持续高烧", "幼儿"),
        ("孩子12岁了，还尿床", "青少年"),
        ("咳嗽3个月了，一直不好", ""),
        ("宝宝15天了，有黄疸", "新生儿"),
        ("一名25岁男性患者", "成人"),
    ],
)
def test_the_stated_age_is_read_and_how_long_an_illness_lasts_is_not(text: str, group: str) -> None:
    assert age_group(text) == group
    assert group == "" or group in AGE_GROUPS


def test_a_pregnant_woman_is_no_child() -> None:
    assert not about_child("怀孕了孩子会不会受影响")
    assert about_child("宝宝咳嗽怎么办")


def test_reasoning_goes_and_exam_questions_stay_out(tmp_path: Path) -> None:
    records = [
        THINK,
        {"input": "诊断首先考虑\nA. 肺炎\nB. 哮喘", "output": "<think>x</think>\n肺炎。"},
        {"input": "孩子咳嗽怎么办？", "output": "<think>没有结束"},
        {"output": "没有问题"},
    ]
    library = put(tmp_path, REASONING, reasoning.PATH, records)
    with (tmp_path / REASONING / reasoning.PATH).open("a") as file:
        file.write("\n{broken")
    ledger = Ledger()
    (chat,) = reasoning.reasoning(library, ledger, 0)
    assert "红旗" not in chat.answer and "*" not in chat.answer
    assert chat.answer.startswith("这是儿科急症！")
    assert (chat.task, chat.department, chat.age_group) == ("trerecom", "儿科", "幼儿")
    assert chat.templated and chat.provenance.endswith("#1")
    counts = removed(ledger, REASONING)
    assert counts["exam question with options"] == 1 and counts["broken line"] == 1
    assert counts["broken record: no question, or no answer after </think>"] == 2
    assert ledger.read[REASONING] == 5


MIDMED_RECORDS = [
    {
        "dialog": [
            "医生您好，我家宝宝12个月了，我担心是不是手足口复发。",
            "请问宝宝手掌和口腔有没有明显症状？体温怎么样？",
            "体温正常。",
            "可以用氮芥酊，您看行吗？",
            "好的。",
            "要多久？",
        ],
        "temp_kg": {"用药": ["氮芥酊(国药)"], "检查": ["HIV抗体"]},
    },
    {
        "dialog": ["孩子眼睛红", "建议做沙眼衣原体的检查。"],
        "temp_kg": {"检查": ["沙眼衣原体"]},
    },
    {"dialog": ["孩子拉肚子", "最近有没有吃白菜？"], "temp_kg": {"宜饮食": ["白菜"]}},
    {"dialog": ["没有，秋天时得过一次。", "多久了？"], "temp_kg": {}},
    {"dialog": "no list", "temp_kg": {}},
]


def test_only_the_asking_before_the_first_advice_is_kept(tmp_path: Path) -> None:
    library = put(tmp_path, MIDMED, midmed.PATH, [*MIDMED_RECORDS, MIDMED_RECORDS[0]], lines=False)
    ledger = Ledger()
    (chat,) = midmed.consultations(library, ledger, 0)
    assert len(chat.turns) == 2 and chat.turns[1].text.endswith("体温怎么样？")
    assert "氮芥酊" not in "".join(turn.text for turn in chat.turns)
    # It teaches a manner and is no reference: it never measures anything.
    assert (chat.task, chat.split) == ("evidiag", "train")
    assert removed(ledger, MIDMED) == {
        "the doctor recommends at once": 2,
        "does not begin with a complaint": 1,
        "broken record: no dialogue or no graph": 1,
        "duplicate": 1,
    }


def remedi_line(context: str, patient: str, doctor: str, action: str) -> str:
    return (
        f"<|endoftext|> <|context|> {context} <|endofcontext|> <|currentuser|> {patient} "
        f"<|endofcurrentuser|> <|intent|> x <|endofintent|> <|action|> {action} <|endofaction|> "
        f"<|response|> {doctor} <|endofresponse|> <|endoftext|>"
    )


def test_turns_become_dialogues_again(tmp_path: Path) -> None:
    lines = [
        remedi_line(
            "", "新生儿便秘怎么办（女，2个月）", "请问宝宝是吃母乳还是奶粉", "Inquire symptom 喂养"
        ),
        remedi_line("<|user|> x", "母乳", "考虑攒肚，这是正常的现象", "Diagnosis disease 攒肚"),
        remedi_line(
            "<|user|> x", "要吃药吗", "妈咪爱每次半袋，一天两次", "Recommend medicine 妈咪爱"
        ),
        "",
        remedi_line("", "高血压能喝酒吗（男，50岁）", "不能喝酒，要低盐饮食", "Inform precaution"),
        "no marks at all",
    ]
    library = put(tmp_path, REMEDI, remedi.HUMAN, "\n".join(lines))
    put(tmp_path, REMEDI, remedi.PERTURBED, lines[0])
    ledger = Ledger()
    child, adult = remedi.consultations(library, ledger, 0)
    assert [turn.role for turn in child.turns] == ["user", "assistant"] * 2
    assert (child.task, child.age_group, child.department) == ("evidiag", "婴儿", "儿科")
    assert "半袋" not in child.answer and "2个月" not in child.turns[0].text
    assert (adult.task, adult.age_group) == ("general", "成人")
    counts = removed(ledger, REMEDI)
    assert counts["broken line: a mark is missing"] == 1
    assert counts["machine paraphrase of another dialogue"] == 1


CMEXAM_CSV = """Question,Options,Answer,Explanation,Disease Group,Area of Competency,Clinical Department
小儿肺炎最常见的病原是,"A 病毒
B 细菌
C 真菌",B,细菌最常见。,x,y,儿科
酶的特点,"A 高效
B 专一",AB,,x,y,不符合
坏的,"第一
第二",A,,x,y,内科
晶状体位于,"A 前
B 后",B,,x,y,不符合
"""


def test_examinations_only_test(tmp_path: Path) -> None:
    library = put(tmp_path, MING, exams.CMEXAM, CMEXAM_CSV)
    put(
        tmp_path,
        MING,
        exams.MMEDBENCH,
        [
            {
                "question": "新生儿黄疸何时出现",
                "options": {"A": "一天", "B": "三天"},
                "answer_idx": "B",
                "meta_info": "第六部分　儿科疾病",
                "rationale": "生理性黄疸。",
            },
            {"question": "x", "options": {"A": "a"}, "answer_idx": "Z"},
        ],
    )
    ledger = Ledger()
    found = list(exams.ming(library, ledger, 0))
    assert [(e.department, e.answer, e.split) for e in found] == [
        ("儿科", 1, "test"),
        ("", 1, "test"),
        ("儿科", 1, "test"),
    ]
    assert found[0].options == ("病毒", "细菌", "真菌") and found[0].explanation == "细菌最常见。"
    assert removed(ledger, MING) == {
        "several right answers": 1,
        "broken record: question or options unreadable": 1,
        "broken record: question, options or answer missing": 1,
    }


def truth(question: str, claim: str, verdict: str) -> dict:
    asked = f"判断\n### 问题: {question} ### 回答: {claim}\n"
    return {
        "conversation": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": verdict},
        ]
    }


def choice(question: str, options: str, answer: str) -> dict:
    asked = f"选择\n### 问题: {question} ### 选项:{options} ### 回答:\n"
    return {
        "conversation": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]
    }


def test_claims_are_balanced_and_the_overlap_is_used_once(tmp_path: Path) -> None:
    claims = [
        truth("肺炎的病因（）", c, v)
        for c, v in (("细菌", "回答正确"), ("酒精", "回答错误"), ("风", "回答错误"))
    ]
    library = put(tmp_path, YIER, exams.YIER_TRUTH, [*claims, truth("x", "y", "也许")])
    options = json.dumps({"A": "细菌", "B": "酒精"}, ensure_ascii=False)
    put(
        tmp_path,
        YIER,
        exams.YIER_CHOICE,
        [
            choice("肺炎的病因（）", options, "A"),
            choice("腹泻的病因（）", options, "B"),
            choice("坏", "{", "A"),
        ],
    )
    put(tmp_path, YIER, exams.YIER_TEST, [truth("没有答案", "细菌", "")])
    ledger = Ledger()
    found = list(exams.yier(library, ledger, 0))
    assert [e.answer for e in found] == [0, 1, 1]  # right, wrong, then the choice
    assert found[0].options == exams.TRUTH and found[2].options == ("细菌", "酒精")
    counts = removed(ledger, YIER)
    assert counts["same question in YIER-train-2"] == 1
    assert counts["a further claim on the same question"] == 1
    assert counts["no answer given"] == 1
    assert counts["broken record: no question, claim or verdict"] == 1
    assert counts["broken record: options or answer unreadable"] == 1


def score(system: str, name: str, points: int) -> dict:
    said = "\n".join(f"{axis}: {points}" for axis in ("P", "A", "H", "Linguistic Quality"))
    return {"id": name, "model": system, "scores": said}


def talk(system: str, name: str, department: str, question: str, answer: str) -> dict:
    said = [{"role": "patient", "content": question}, {"role": "doctor", "content": answer}]
    info = {"department": department}
    return {"id": name, "model": system, "dataset_info": info, "conversation": said}


GOOD = "这种情况多半与受凉有关，平时注意保暖，清淡饮食，多休息，一般几天内会慢慢好转，不必过于担心。如果加重，请及时到医院就诊。"


def scored_library(folder: Path) -> Library:
    held, free = "宝宝吐奶怎么办？", "腰疼是怎么回事？"
    for system, points, answer in (("gpt-4", 5, GOOD), ("other", 3, "多喝水，注意休息就好。")):
        put(
            folder,
            DISC,
            f"eval/dialogues/{system}_cmd.json",
            [talk(system, "a", "儿科", held, answer), talk(system, "b", "内科", free, answer)],
            lines=False,
        )
        scores = [score(system, "a", points), score(system, "b", points)]
        put(folder, DISC, f"eval/gpt4_scores/cmd/result_{system}_cmd_v2.jsonl", scores)
    written = [{"id": "a", "raw_anwser": "你好，少量多次喂奶，喂完拍嗝，竖着抱一会儿就会好一些。"}]
    put(folder, DISC, disc.WRITTEN, written, lines=False)
    return Library(folder)


def test_a_held_out_case_never_becomes_a_preference_pair(tmp_path: Path) -> None:
    library = scored_library(tmp_path)
    (case,) = disc.held_out(library, Ledger(), 0)
    assert case.split == "test" and case.question == "宝宝吐奶怎么办？"
    assert not case.templated and "拍嗝" in case.answer  # what a doctor wrote
    (pair,) = disc.preferences(library, Ledger())
    assert pair.turns[0].text == "腰疼是怎么回事？"
    assert pair.chosen.startswith("这种情况") and pair.rejected.startswith("多喝水")


def test_scores_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    library = scored_library(tmp_path)
    broken = [{"id": "b", "model": "other", "scores": "Proactivity: 9"}]
    put(tmp_path, DISC, "eval/gpt4_scores/cmd/result_other_cmd_v2.jsonl", broken)
    ledger = Ledger()
    assert not list(disc.preferences(library, ledger))
    assert removed(ledger, DISC)["broken record: not four scores"] == 1


def test_refusals_are_split_in_halves_by_their_question(tmp_path: Path) -> None:
    items = [
        {
            "instruct": f" 医生，我听说第{i}种土法可以治病，是真的吗？",
            "output": " 这种说法没有科学依据，请咨询医生。",
        }
        for i in range(60)
    ]
    wrong = {
        "instruct": "孩子没力气，这是罕见病吗？",
        "output": "是的，您所描述的症状可能与罕见病有关，请就医。",
    }
    library = put(
        tmp_path,
        ZHONGJING,
        held_cases.SAFETY,
        [*items, items[0], wrong, {"id": "x", "history": []}],
    )
    ledger = Ledger()
    found = list(held_cases.refusals(library, ledger, 0))
    assert len(found) == 60 and {c.split for c in found} == {"train", "test"}
    assert 15 < sum(c.split == "test" for c in found) < 45
    assert not any(c.question.startswith("医生，") for c in found)
    assert removed(ledger, ZHONGJING) == {"duplicate": 1, "affirms a rare disease, or is wrong": 1}


def test_a_written_case_keeps_what_the_doctor_concluded(tmp_path: Path) -> None:
    case = "疾病：\n皮疹\n病情描述：\n孩子2岁，腿上起疹子。\n希望获得的帮助：\n怎么办\n过敏史：\n无（2020-03-26填写）"
    said = "病情摘要及初步印象：\n荨麻疹\n总结建议：\n避免搔抓，观察变化。"
    empty = "病情摘要及初步印象：\n皮疹\n总结建议：\n相关建议参见问诊记录。"
    records = [
        {"id": 1, "medical_case": case, "doctor_diagnosis": said, "Department": "皮肤科"},
        {"id": 2, "medical_case": case, "doctor_diagnosis": empty, "Department": "皮肤科"},
        {"id": 3},
    ]
    library = put(tmp_path, HUATUOGPT, held_cases.CASES, records)
    ledger = Ledger()
    (chat,) = held_cases.written_cases(library, ledger, 0)
    assert chat.answer == "初步考虑：荨麻疹。避免搔抓，观察变化。"
    assert (chat.split, chat.task, chat.department, chat.age_group) == (
        "test",
        "evidiag",
        "皮肤科",
        "幼儿",
    )
    assert "2020" not in chat.question and "无" not in chat.question
    assert sum(removed(ledger, HUATUOGPT).values()) == 2


ICD_TREE = [
    {
        "value": "J00-J99",
        "label": "呼吸系统疾病",
        "children": [
            {
                "value": "J00-J06",
                "label": "急性上呼吸道感染",
                "children": [
                    {"value": "J00", "label": "急性鼻咽炎[感冒]"},
                    {"value": "J01", "label": "急性鼻窦炎,其他"},
                ],
            }
        ],
    }
]


def test_names_are_found_longest_first_and_invented_ones_are_told(tmp_path: Path) -> None:
    library = put(tmp_path, ICD, lexicons.ICD_PATH, ICD_TREE, lines=False)
    put(tmp_path, THUOCL, lexicons.THUOCL_PATH, "肺炎\t100\n支原体肺炎\t3\n")
    put(tmp_path, CAREGPT, "data/drug.json", ["阿奇霉素（口服）\n药品类型:抗生素"], lines=False)
    (text,) = lexicons.glossary(library, Ledger(), 0)
    assert text.text.startswith("在国际疾病分类（ICD-10）中，急性上呼吸道感染（J00-J06）属于")
    known = lexicons.lexicon(library, Ledger())
    assert set(known.find("支原体肺炎用阿奇霉素")) == {"支原体肺炎", "阿奇霉素"}
    assert known.invented("用阿奇霉素", "支原体肺炎") == ["阿奇霉素"]
    assert known.invented("用阿奇霉素", "可以用阿奇霉素") == []
    assert not list(lexicons.words(library, Ledger(), 0))


def test_triples_are_read_and_bad_lines_counted(tmp_path: Path) -> None:
    lines = "疾病 小儿肺炎 症状 疾病症状 发热 咳嗽\n疾病 坏行\n"
    library = put(tmp_path, KG, lexicons.FOLDER + "症状.txt", lines)
    ledger = Ledger()
    (triple,) = lexicons.triples(library, ledger, 0)
    assert (triple.head, triple.relation, triple.tail) == ("小儿肺炎", "症状", "发热 咳嗽")
    assert removed(ledger, KG) == {"broken line": 1}


def test_guide_intents_and_paraphrases(tmp_path: Path) -> None:
    guide = "儿童神经科是专门负责儿童神经系统相关疾病的诊断和治疗的科室，主要处理脑瘫、癫痫、智力障碍等。"
    library = put(tmp_path, CAREGPT, lexicons.GUIDE, [{"content": guide}, {}], lines=False)
    (text,) = lexicons.guide(library, Ledger(), 0)
    assert text.pediatric and text.department == "儿童神经科"
    queries = [
        {"query": "宝宝发烧怎么办", "label": "治疗方案"},
        {"query": "x", "label": "病因"},
        {},
    ]
    put(tmp_path, HUATUOGPT, exams.INTENTS, queries)
    first, second = exams.intents(library, Ledger(), 0)
    assert first.options[first.answer] == "治疗方案" and second.options[second.answer] == "病因"
    pairs = "1\t宝宝发烧怎么办\t孩子发热咋办\n0\t宝宝发烧怎么办\t宝宝咳嗽怎么办\n0\t血压高\t糖尿病\n坏行\n"
    put(tmp_path, CHINESEBLUE, exams.PARAPHRASES[0], pairs)
    same, other = exams.paraphrases(library, Ledger(), 0)
    assert (same.answer, other.answer) == (0, 1)


def test_every_registered_reader_has_a_licence_and_takes_a_limit(tmp_path: Path) -> None:
    library = put(
        tmp_path, REASONING, reasoning.PATH, [THINK, {**THINK, "input": "孩子吐了怎么办？"}]
    )
    assert len(list(reasoning.reasoning(library, Ledger(), 1))) == 1
    assert {name for name, _ in (*READERS, *PAIR_READERS)} <= set(SOURCES)
    assert {KG, CHINESEBLUE, ICD, THUOCL, YIER} <= {name for name, _ in READERS}


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    library = put(tmp_path, MIDMED, midmed.PATH, '[\n {"dialog": ]\n')
    with pytest.raises(ValueError, match=re.escape(f"{MIDMED}/{midmed.PATH}:2: not JSON")):
        list(midmed.consultations(library, Ledger(), 0))
    (tmp_path / "broken.tar.xz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="broken archive"):
        list(library.files("broken", lambda _: True))


def test_a_user_cannot_take_the_name_of_a_source() -> None:
    with pytest.raises(ValueError, match="belongs to a source"):
        register(MIDMED, "MIT")
