"""The corpus builder on the carried sample: schema, promises, splits, determinism."""

import json
from collections import Counter
from pathlib import Path

import pytest

from training.pedcorpus.archive import Library
from training.pedcorpus.build import build
from training.pedcorpus.clean import clean_answer, key_of, tidy
from training.pedcorpus.doses import count_doses
from training.pedcorpus.ledger import Ledger
from training.pedcorpus.pairs import KINDS, worse
from training.pedcorpus.personal import find_personal, scrub
from training.pedcorpus.quality import Seen, unsafe
from training.pedcorpus.readers import kg, kg_talks, questioning, symptoms
from training.pedcorpus.readers.cmdd import merged
from training.pedcorpus.record import SPLITS, TASKS, Chat, dialogue
from training.pedcorpus.sources import DXFORMER, SOURCES
from training.pedcorpus.split import Guard, assign

SAMPLE = Path(__file__).parents[1] / "sample"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("corpus")
    build(SAMPLE, out, "ci")
    return out


@pytest.fixture(scope="module")
def chats(corpus: Path) -> list[dict]:
    return lines(corpus / "chat.jsonl")


def test_sample_is_small_and_has_licences() -> None:
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 600_000
    notice = (SAMPLE / "NOTICE.md").read_text("utf-8")
    for folder in (p for p in SAMPLE.iterdir() if p.is_dir() and p.name != "licences"):
        assert folder.name in notice
        assert SOURCES[folder.name].tier == "A"
        assert (folder / "LICENSE").is_file() or SOURCES[folder.name].licence == "Apache-2.0"


def test_chat_schema(chats: list[dict]) -> None:
    assert len(chats) > 500
    assert len({c["id"] for c in chats}) == len(chats)
    for chat in chats:
        assert set(chat) == {"id", "source", "licence", "task", "split", "templated", "turns"}
        assert chat["task"] in TASKS and chat["split"] in SPLITS
        assert chat["licence"] == SOURCES[chat["source"]].licence
        roles = [turn["role"] for turn in chat["turns"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(turn["text"].strip() for turn in chat["turns"])


def test_every_task_has_training_and_validation_records(chats: list[dict]) -> None:
    counts = Counter((chat["task"], chat["split"]) for chat in chats)
    assert all(counts[task, split] > 0 for task in TASKS for split in ("train", "valid"))


def test_no_doses_and_no_personal_data(corpus: Path, chats: list[dict]) -> None:
    for chat in chats:
        for turn in chat["turns"]:
            assert not find_personal(turn["text"]), turn
            if turn["role"] == "assistant":
                assert count_doses(turn["text"]) == 0, turn
    for text in lines(corpus / "text.jsonl"):
        assert not find_personal(text["text"])


def test_no_training_question_is_held_out(corpus: Path, chats: list[dict]) -> None:
    def question(turns: list[dict]) -> str:
        return key_of("\n".join(t["text"] for t in turns if t["role"] == "user"))

    held = {question(c["turns"]) for c in chats if c["split"] != "train"}
    assert held
    assert not held & {question(c["turns"]) for c in chats if c["split"] == "train"}
    assert not held & {question(p["turns"]) for p in lines(corpus / "pairs.jsonl")}


def test_published_test_cases_stay_test(chats: list[dict]) -> None:
    found = symptoms.cases(Library(SAMPLE), Ledger())
    held = {case.id for case in found.values() if case.held_out}
    bare = {case_id.removeprefix("mz10/") for case_id in held}
    seen = 0
    for chat in chats:
        name = chat["id"].removeprefix("case-")
        if name in held or (chat["id"].startswith("cmdd-") and chat["id"].split("-")[1] in bare):
            assert chat["split"] == "test"
            seen += 1
    assert seen > 10


def test_held_out_dialogues_are_not_in_the_text(corpus: Path, chats: list[dict]) -> None:
    texts = {text["id"] for text in lines(corpus / "text.jsonl")}
    held = {
        "cmdd-" + c["id"].split("-")[1]
        for c in chats
        if c["id"].startswith("cmdd-") and c["split"] != "train"
    }
    assert held and not held & texts


def test_pairs(corpus: Path) -> None:
    pairs = lines(corpus / "pairs.jsonl")
    assert {p["kind"] for p in pairs} >= set(KINDS)
    for pair in pairs:
        assert pair["turns"][-1]["role"] == "user"
        assert pair["chosen"] != pair["rejected"]
        assert count_doses(pair["chosen"]) == 0
        if pair["kind"] == "dose":
            assert count_doses(pair["rejected"]) > 0


def test_report(corpus: Path, chats: list[dict]) -> None:
    report = json.loads((corpus / "report.json").read_text("utf-8"))
    assert sum(sum(row.values()) for row in report["chat"].values()) == len(chats)
    assert "t-zhan__MedicalQA" in report["absent"]
    removed = report["sources"]["SupritYoung__Zhongjing"]["removed"]
    assert removed and all(1 <= len(step["samples"]) <= 2 for step in removed.values())


def test_same_input_same_output(corpus: Path, tmp_path: Path) -> None:
    build(SAMPLE, tmp_path, "ci")
    for name in ("text.jsonl", "chat.jsonl", "pairs.jsonl"):
        assert (tmp_path / name).read_bytes() == (corpus / name).read_bytes()


def test_absent_sources_are_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    report = build(tmp_path / "in", tmp_path / "out", "ci")
    assert DXFORMER in report["absent"]
    assert report["chat"]["medkqa"]["train"] > 100  # what the project wrote itself


def test_graph_becomes_prose(tmp_path: Path) -> None:
    folder = tmp_path / "t-zhan__MedicalQA" / kg.FOLDER
    folder.mkdir(parents=True)
    facts = {
        "症状": ("疾病症状", ["发热", "口腔溃疡", "用药过程中出现..."]),
        "传染方式": ("传染方式", ["消化道传播"]),
        "科室": ("科室", ["儿科"]),
        "预防措施": ("预防措施", ["勤洗手", "通风"]),
        "治疗方法": ("治疗方法", ["支持治疗"]),
    }
    for relation, (kind, tails) in facts.items():
        body = "".join(f"疾病 小儿测试病 {relation} {kind} {tail}\n" for tail in tails)
        (folder / f"{relation}.txt").write_text(body, "utf-8")
    found = kg.diseases(Library(tmp_path), Ledger())
    assert [d.name for d in found] == ["小儿测试病"] and found[0].pediatric
    page = kg.page(found[0])
    assert "口腔溃疡" in page and "..." not in page and page.endswith("。")
    kinds = {
        chat.id.split("-")[-1]
        for chat in (*kg_talks.knowledge(found, 9), *kg_talks.advice(found, 9))
    }
    assert {"症状", "传染", "治疗", "护理"} <= kinds


def test_speakers_are_merged() -> None:
    raw = [
        {"speaker": "医生", "sentence": "您好"},
        {"speaker": "医生", "sentence": "孩子发烧吗"},
        {"speaker": "患者", "sentence": "嗯"},
        {"speaker": "医生", "sentence": "给个好评吧"},
        {"speaker": "患者", "sentence": "39度"},
        {"speaker": "医生", "sentence": "建议去查血常规"},
    ]
    turns = merged(raw)
    assert [t.role for t in turns] == ["assistant", "user", "assistant"]
    assert turns[0].text == "孩子发烧吗？"
    assert "39度" in turns[1].text and turns[2].text == "建议去查血常规。"


def test_conclusion_names_the_evidence() -> None:
    case = symptoms.Case("x/1", ("咳嗽",), ("发烧",), ("气喘",), "小儿支气管炎", False)
    text = questioning.conclusion(case)
    assert all(word in text for word in ("咳嗽", "发烧", "气喘", "小儿支气管炎"))
    assert count_doses(text) == 0
    chat = questioning.questioning(case)
    assert chat is not None and chat.turns[0].role == "user" and len(chat.turns) >= 4


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("您好,问题分析：孩子感冒了 ，意见建议：多喝水!!祝宝宝早日康复！", "孩子感冒了，多喝水！"),
        ("孩子 发烧 38.5 度。希望我的解释对你有所帮助。", "孩子发烧38.5度。"),
        ("张医生说没事", "医生说没事。"),
        ("&nbsp;要注意休息<br>多喝水", "要注意休息多喝水。"),
    ],
)
def test_cleaning(raw: str, clean: str) -> None:
    assert clean_answer(raw) == clean


def test_tidy_is_idempotent() -> None:
    for text in ("ＡＢＣ，，，１２３...", "你好  , 世界 !", "（ ）空括号"):
        assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("电话13812345678", "phone"),
        ("a.b@c.com", "email"),
        ("加QQ问", "messenger"),
        ("见https://a.cn/x", "url"),
        ("体温38.5，2023年1月", ""),
    ],
)
def test_personal(text: str, kind: str) -> None:
    assert bool(find_personal(text)) == bool(kind)
    assert not find_personal(scrub("多喝水。" + text + "。注意休息。"))


def test_unsafe_advice() -> None:
    assert unsafe("可以用酒精擦身退烧。") and not unsafe("不要用酒精擦身。")


def test_near_duplicates() -> None:
    seen = Seen()
    text = (
        "孩子发热时要多喝水，注意休息，饮食清淡，观察精神状态，"
        "如果持续高热不退或精神变差请及时到医院就诊。"
    )
    assert not seen.nearly(text)
    assert seen.nearly(text.replace("如果", "若"))
    assert not seen.nearly(
        "便秘的孩子要多吃蔬菜水果，养成每天定时排便的习惯，适当增加运动量，必要时请医生评估。"
    )


def test_guard_finds_questions_inside_texts() -> None:
    guard = Guard()
    guard.add("宝宝三个月大最近两天总是咳嗽而且晚上睡不好觉是怎么回事")
    assert guard.shares(
        "问：宝宝三个月大，最近两天总是咳嗽，而且晚上睡不好觉，是怎么回事？答：可能感冒了。"
    )
    assert not guard.shares("宝宝便秘怎么办")


def test_split_drops_training_twins() -> None:
    def chat(name: str, split: str, question: str) -> Chat:
        return Chat(name, DXFORMER, "medkqa", True, dialogue(question, "答案。"), "", split)

    kept, _ = assign(
        [
            chat("a", "test", "什么是黄疸？"),
            chat("b", "train", "请问什么是黄疸"),
            chat("c", "train", "什么是湿疹？"),
        ],
        Ledger(),
    )
    assert {c.id for c in kept} == {"a", "c"}


@pytest.mark.parametrize("kind", KINDS)
def test_worse_answers(kind: str) -> None:
    chat = Chat(
        "q",
        DXFORMER,
        "trerecom",
        False,
        dialogue("孩子发烧怎么办？", "先多喝水，注意休息。观察精神，必要时就医。"),
    )
    other = Chat(
        "o", DXFORMER, "trerecom", False, dialogue("便秘怎么办？", "多吃蔬菜，多喝水，定时排便。")
    )
    assert worse(chat, kind, [other]) not in ("", chat.answer)
