"""What readers may not give: other models' names, wrong facts, garbled words, formulae cut out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from training.pedcorpus.archive import Library
from training.pedcorpus.construct import Options, apply, engine_from
from training.pedcorpus.ledger import Ledger
from training.pedcorpus.quality import LONGEST_CHAT
from training.pedcorpus.readers import (
    authored,
    cmdd,
    consult,
    general,
    kg,
    kg_talks,
    papers,
    symptoms,
)
from training.pedcorpus.record import Text, Turn
from training.pedcorpus.sources import BABY, CHINAXIV, LLAMAFACTORY, OWN, SMILE, ZHONGJING
from training.pedcorpus.split import hashed, split_of


def put(folder: Path, source: str, path: str, content: object) -> Library:
    """Write one file of a source as JSON."""
    target = folder / source / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return Library(folder)


def test_what_a_model_wrote_is_not_counted_as_written_by_people(tmp_path: Path) -> None:
    asked = {"question": "宝宝夜里总醒怎么办？", "answer": "先看看室温和衣被是否合适。"}
    library = put(tmp_path, BABY, "server/data/few-shot-samples.json", [asked])
    [baby] = consult.baby(library, Ledger())
    assert baby.templated
    assert all(talk.templated for talk in authored.talks(Ledger()))
    told = {"instruction": "怎样才能睡得好？", "output": "每天按时上床，睡前不看手机。"}
    put(tmp_path, LLAMAFACTORY, "data/alpaca_zh_demo.json", [told])
    put(tmp_path, LLAMAFACTORY, "data/oaast_sft_zh.json", [told])
    marks = {t.id.split("-")[0]: t.templated for t in general.instructions(library, Ledger())}
    assert marks == {"alpaca_zh_demo": True, "oaast_sft_zh": False}  # the latter: volunteers


@pytest.mark.parametrize("department", ["儿科", "内科"])
def test_a_dialogue_in_which_another_model_names_itself_goes(
    tmp_path: Path, department: str
) -> None:
    said = "可能是饮水多或尿路感染，建议查尿常规，平时注意清洁。"
    names = ["我是仲景智能医学助手。", "我是智能医学助手，", ""]
    rows = [
        {"instruction": "孩子尿频是怎么回事？", "output": name + said, "cate1": department}
        for name in names
    ]
    library = put(tmp_path, ZHONGJING, "data/CMtMedQA_test.json", rows)
    ledger = Ledger()
    assert [c.id for c in consult.cmtmedqa(library, ledger, 9)] == ["cmtmedqa-2"]
    assert ledger.removed[ZHONGJING]["speaks as another model"] == 2


def talk_of(name: str, said: str, held_out: bool = False) -> cmdd.Consultation:
    case = symptoms.Case(f"mz10/{name}", ("腹泻",), ("呕吐",), (), "小儿腹泻", held_out)
    turns = (
        Turn("user", "宝宝拉肚子三天了，一天五六次。"),
        Turn("assistant", "大便什么样？"),
        Turn("user", "像水一样。"),
        Turn("assistant", said),
    )
    return cmdd.Consultation(name, turns, case, held_out)


def trained(task: str, train: bool = True) -> str:
    """A dialogue id that the hash puts into training, or into the validation set."""
    wanted = "train" if train else "valid"
    return next(str(i) for i in range(999) if hashed(f"cmdd/{i}", task) == wanted)


POINTS = "在您的界面可以找到已就诊医生，建议多休息。"
STANDS = "建议饮食清淡，多喝水，注意休息，观察大便次数，必要时去医院查大便常规。"


def test_advice_that_points_at_the_dialogue_leaves_training_and_its_test_item_goes() -> None:
    ledger = Ledger()
    for name, held in ((trained("trerecom"), False), (trained("trerecom", False), True)):
        talk = talk_of(name, POINTS + STANDS, held)
        found = list(cmdd.recommendations([talk], ledger))
        if held:
            assert not found  # unusable as a test
        else:
            assert "界面" not in found[0].answer and "饮食清淡" in found[0].answer
            assert found[0].built_question
    assert sum(r.get("points at what only the dialogue shows", 0) for r in ledger.removed.values())
    [valid] = cmdd.recommendations([talk_of(trained("trerecom", False), POINTS + STANDS)])
    assert "界面" in valid.answer  # its wording stays


def test_an_opening_put_together_is_marked() -> None:
    name = trained("evidiag")
    talk = talk_of(name, STANDS)
    own = replace(
        talk, turns=(Turn("user", "宝宝腹泻三天了，一天五六次，还呕吐。"), *talk.turns[1:])
    )
    headless = replace(talk, turns=talk.turns[1:])
    marks = [[c.built_question for c in cmdd.evidence([t])] for t in (own, headless)]
    assert not any(marks[0]) and marks[1] and all(marks[1])


def test_garbled_sentences_of_doctors_leave_training_only() -> None:
    odd = "还是饮食不好，或者是出来见面，游泳的话就一定要去医院。"
    name = next(
        str(i)
        for i in range(999)
        if all(hashed(f"cmdd/{i}", task) == "train" for task in ("evidiag", "trerecom"))
    )
    talks = [talk_of(name, odd + STANDS), talk_of(name, odd + STANDS, True)]
    ledger = Ledger()
    train, held = cmdd._fluent(talks, ledger)
    assert train.turns[-1].text == STANDS and held.turns == talks[1].turns


def test_what_the_parent_affirms_is_not_denied() -> None:
    case = symptoms.Case("mz10/1", ("咳嗽",), (), ("呕吐", "腹泻"), "小儿支气管炎", False)
    said = "不咳嗽也干呕，偶尔会吐。没有拉肚子。"
    assert symptoms.heard(case, said).absent == ("呕吐", "腹泻")
    assert symptoms.heard(case, said, said).absent == ("腹泻",)
    assert symptoms.affirmed("呕吐", "呕吐物是奶瓣。") and not symptoms.affirmed("呕吐", "会吐吗？")


def test_a_child_is_not_asked_for_an_adults_symptom() -> None:
    record = {
        "pid": "1",
        "exp_sxs": {"鼻塞": "1", "喷射性呕吐": "1"},
        "imp_sxs": {"宫颈糜烂": "0", "呕吐": "0", "咳嗽": "0"},
        "label": "小儿感冒",
    }
    assert symptoms._case("mz10", record, False).absent == ("咳嗽",)
    assert symptoms._case("mz10", record, True).absent == ("宫颈糜烂", "呕吐", "咳嗽")


def disease(name: str) -> kg.Disease:
    facts = {
        "症状": ["多尿", "少饮"],
        "传染方式": ["无传染性"],
        "预防措施": ["少饮水", "少饮酒", "勤洗手"],
        "生病原因": ["遗传"],
    }
    return kg.Disease(name, True, facts)


def test_the_graph_neither_denies_infection_nor_advises_to_drink_little() -> None:
    germ, other = kg.sound(disease("小儿细菌感染性口炎")), kg.sound(disease("小儿糖尿病"))
    assert germ.get("传染方式") == [] and other.get("传染方式") == ["无传染性"]
    assert germ.get("症状") == ["多尿"] and germ.get("预防措施") == ["少饮酒", "勤洗手"]
    [page] = kg.pages([disease("小儿细菌感染性口炎" * 2)], Ledger(), 1)
    assert "少饮、" not in page.text and "传染性" not in page.text
    for i in range(60):
        name = f"小儿病毒感染{i}"
        for chat in kg_talks.knowledge([disease(name)], 1):
            if split_of(chat) == "train":
                assert "少饮" not in chat.answer and not chat.id.endswith("传染")
            else:  # as it was chosen
                assert "少饮" in chat.answer or "症状" not in chat.id


def test_papers_of_other_fields_give_no_pediatric_questions() -> None:
    robots = "类人机器人是指那些在外表和行为方面都高度接近人类的机器人，可以陪伴自闭症儿童训练。"
    illness = "过敏性紫癜(HSP)是一种儿童常见的以小血管炎为主要病变的全身性疾病，皮肤紫癜最为多见。"
    texts = [Text("ChinaXiv-1", CHINAXIV, True, robots + illness)]
    own = [Text("own-1", OWN, True, robots)]
    asked = [
        [c.question for c in apply(t, engine_from(Options(rule="role_play")), Ledger())]
        for t in (texts, own)
    ]
    assert len(asked[0]) == 1 and "过敏性紫癜" in asked[0][0]
    assert "类人机器人" in asked[1][0]  # the rule is for papers


def test_people_who_seek_help_are_not_taken_for_parents_of_a_child(tmp_path: Path) -> None:
    def story(first: str) -> list[str]:
        return [
            f"求助者：{first}",
            "支持者：听起来您很累。",
            *["求助者：是的。", "支持者：嗯。"] * 2,
        ]

    rows = {
        "1": story("我女朋友是个好女孩子，总和我吵架。"),
        "2": story("我家孩子不爱说话。"),
        "3": story("我的孩子说过要自残。"),
    }
    for name, lines in rows.items():
        library = put(tmp_path, SMILE, f"data/smile/{name}.json", lines)
    [text] = general.support_texts(library, Ledger(), 9999)
    assert text.id == "smile-t-2" and not text.pediatric
    assert text.text.startswith("来访者：我家") and "家长：" not in text.text
    for chat in general.support(library, Ledger(), 9):
        assert chat.templated and (chat.id.startswith("smile-2") or split_of(chat) != "train")


def test_a_long_dialogue_of_a_model_is_cut_as_one_of_people(tmp_path: Path) -> None:
    for i in range(40):
        who = ("求助者", "支持者")
        lines = [f"{who[k % 2]}：孩子第{i}次说{'不想去上学，' * 24}好。" for k in range(6)]
        library = put(tmp_path, SMILE, f"data/smile/{i}.json", lines)
    talks = [c for c in general.support(library, Ledger(), 99) if split_of(c) == "train"]
    assert talks and all(sum(len(t.text) for t in c.turns) <= LONGEST_CHAT for c in talks)


@pytest.mark.parametrize(
    ("maths", "plain"),
    [
        (r"体温$3 8 . 5 ^ { \circ } \mathrm { C }$以上", "体温38.5℃以上"),
        (r"约$5 \%$的患儿", "约5%的患儿"),
        (r"占$5 \% \sim 1 0 \%$左右", "占5%~10%左右"),
        (r"放大$4 0 0 \times$", "放大400×"),
        (r"已有报道$^{[12]}$证实", "已有报道证实"),
        (r"共$\textcircled { 1 }$类，等$3 0 \mathrm { ~ m i n }$", "共①类，等30min"),
        (r"者（$( 5 0 . 5 \% )$）旋转$3 0 ^ { \circ }$", "者（(50.5%)）旋转30°"),
        (r"差异显著（$P < 0 . 0 5$）", None),
        (r"记为$\alpha _ { i }$的系数", None),
    ],
)
def test_numbers_in_maths_stay_and_paragraphs_with_formulae_go(
    maths: str, plain: str | None
) -> None:
    body = "研究对象是某医院儿科收治的患儿，家长都签了同意书，随访至出院以后，" * 2
    found = [p for p in papers._paragraphs(f"{body}{maths}，结果见下文。") if papers._good(p)]
    assert found == ([] if plain is None else [f"{body}{plain}，结果见下文。"])
