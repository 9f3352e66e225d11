"""The corpus builder on the carried sample: schema, promises, splits, determinism."""

import json
import re
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from training.pedcorpus.archive import Library
from training.pedcorpus.build import build
from training.pedcorpus.clean import clean_answer, key_of, tidy
from training.pedcorpus.doses import count_doses
from training.pedcorpus.ledger import Ledger
from training.pedcorpus.output import JSONL
from training.pedcorpus.pairs import _TERSE, KINDS, RETURNS, _fit, worse
from training.pedcorpus.personal import find_personal, scrub
from training.pedcorpus.pipeline import Pipeline
from training.pedcorpus.quality import unsafe
from training.pedcorpus.readers import kg, kg_talks, questioning, symptoms
from training.pedcorpus.readers.cmdd import merged
from training.pedcorpus.readers.conditions import CONDITIONS
from training.pedcorpus.record import AGE_GROUPS, SPLITS, TASKS, Chat, dialogue
from training.pedcorpus.sources import CHINESEBLUE, DXFORMER, SOURCES
from training.pedcorpus.store import read

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
        assert list(chat) == [
            *("id", "source", "licence", "task", "split", "templated", "built_question"),
            *("department", "age_group", "provenance", "turns"),
        ]
        assert chat["age_group"] in ("", *AGE_GROUPS)
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
        assert list(pair) == [
            "id",
            "source",
            "licence",
            "task",
            "turns",
            "chosen",
            "rejected",
            "kind",
        ]
        assert pair["turns"][-1]["role"] == "user"
        assert pair["chosen"] != pair["rejected"]
        assert count_doses(pair["chosen"]) == 0 and not unsafe(pair["chosen"])
        if pair["kind"] == "dose":
            assert count_doses(pair["rejected"]) > 0
        if pair["kind"] != "ranked" and pair["task"] != "medkqa":
            assert RETURNS.search(pair["chosen"]), pair["chosen"]


def test_completions_are_the_training_dialogues(corpus: Path, chats: list[dict]) -> None:
    completions = {row["id"]: row for row in lines(corpus / "completions.jsonl")}
    train = {chat["id"]: chat for chat in chats if chat["split"] == "train"}
    assert completions.keys() == train.keys()
    for name, row in completions.items():
        assert all(turn["text"] in row["text"] for turn in train[name]["turns"])


def test_parquet_holds_what_the_lines_hold(corpus: Path, chats: list[dict]) -> None:
    records = list(read(corpus / "records" / "chat.parquet"))
    assert [r.id for r in records] == [c["id"] for c in chats]  # type: ignore[union-attr]
    assert all(r.provenance for r in records if r.source == CHINESEBLUE)  # type: ignore[union-attr]
    texts = {r.id for r in read(corpus / "records" / "text.parquet")}  # type: ignore[union-attr]
    assert texts == {t["id"] for t in lines(corpus / "text.jsonl")}


def test_children_come_first_in_the_text(corpus: Path) -> None:
    order = [t["pediatric"] for t in lines(corpus / "text.jsonl")]
    assert order == sorted(order, reverse=True) and len(set(order)) == 2


def test_hashes_are_of_the_files(corpus: Path) -> None:
    hashes = json.loads((corpus / "hashes.json").read_text("utf-8"))
    assert {*JSONL} < set(hashes) and any(name.endswith(".parquet") for name in hashes)
    for name, digest in hashes.items():
        assert sha256((corpus / name).read_bytes()).hexdigest() == digest


def test_report(corpus: Path, chats: list[dict]) -> None:
    report = json.loads((corpus / "report.json").read_text("utf-8"))
    assert sum(sum(row.values()) for row in report["chat"].values()) == len(chats)
    people = sum(not chat["templated"] for chat in chats)
    counted = report["human_and_templated"].values()
    assert sum(split["human"] for row in counted for split in row.values()) == people
    assert "t-zhan__MedicalQA" in report["absent"]
    removed = report["sources"]["SupritYoung__Zhongjing"]["removed"]
    assert removed and all(1 <= len(step["samples"]) <= 3 for step in removed.values())
    assert report["decontamination"]["units"] > 50


def test_data_card(corpus: Path, chats: list[dict]) -> None:
    card = (corpus / "DATA_CARD.md").read_text("utf-8")
    for heading in ("What is in it", "People and templates", "Licences", "Cleaning", "weaknesses"):
        assert heading in card
    row = next(line for line in card.splitlines() if DXFORMER in line and "PedCorpus" in line)
    train = sum(c["source"] == DXFORMER and c["split"] == "train" for c in chats)
    assert f"| {train:,} |" in row
    assert not find_personal(
        re.sub(r"`[^`]*`|\(arXiv [0-9.]+\)", "", card.replace("2405.19266", ""))
    )


def test_human_training_dialogues_are_kept_whole(chats: list[dict]) -> None:
    talks = [c for c in chats if c["source"] == CHINESEBLUE and c["task"] == "evidiag"]
    split = {c["id"].split("-")[1]: c["split"] for c in talks}
    assert all(split[c["id"].split("-")[1]] == c["split"] for c in talks)
    people = {c["id"].split("-")[1] for c in talks if c["split"] == "train" and not c["templated"]}
    made = {c["id"].split("-")[1] for c in talks if c["split"] == "train" and c["templated"]}
    assert len(people) > 10 and made <= people | made


def test_same_input_same_output(corpus: Path, tmp_path: Path) -> None:
    build(SAMPLE, tmp_path, "ci")
    for name in JSONL:
        assert (tmp_path / name).read_bytes() == (corpus / name).read_bytes()


def test_absent_sources_are_said(tmp_path: Path) -> None:
    (tmp_path / "in" / CHINESEBLUE).mkdir(parents=True)
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


@pytest.mark.parametrize("flag", ["大便带脓血", "大便带血", "抽搐", "呼吸费力", "精神不好"])
def test_red_flags_send_to_hospital_first(flag: str) -> None:
    case = symptoms.Case("x/2", ("皮疹",), (flag,), ("咳嗽",), "手足口病", False)
    text = questioning.conclusion(case)
    assert text.startswith(f"出现{flag}，请立即带孩子去医院急诊。")
    condition = CONDITIONS["手足口病"]
    said_at_home = (*condition.care, condition.reason)
    assert not any(s in text for s in said_at_home if s)
    assert "注意休息" not in questioning.conclusion(case, "注意休息。")
    mild = questioning.conclusion(replace(case, present=("流口水",), absent=(flag,)))
    assert "急诊。" not in mild[:30]
    held = questioning.conclusion(replace(case, held_out=True))
    assert not questioning.URGENT.search(held)
    chat = Chat("u", DXFORMER, "evidiag", True, dialogue("孩子怎么了？", text), split="train")
    assert not _fit(chat)


def test_no_referral_is_rejected_as_terse() -> None:
    assert not any(RETURNS.search(answer) for answer in _TERSE)


def test_a_question_is_not_preferred() -> None:
    answer = "多喝温水，注意休息，观察孩子的精神和体温，考虑是普通感冒，保持室内空气流通，饮食清淡"
    for end, fits in (("。", True), ("，现在还发烧吗？", False)):
        chat = Chat(
            "p",
            DXFORMER,
            "trerecom",
            False,
            dialogue("孩子感冒怎么办？", answer + end),
            split="train",
        )
        assert _fit(chat) is fits


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("您好,问题分析：孩子感冒了 ，意见建议：多喝水!!祝宝宝早日康复！", "孩子感冒了，多喝水！"),
        ("孩子 发烧 38.5 度。希望我的解释对你有所帮助。", "孩子发烧38.5度。"),
        ("张医生说没事", "医生说没事。"),
        ("宝宝体温38.5度以上建议口服退热药。", "宝宝体温38.5度以上建议口服退热药。"),
        ("多数患儿在六个月以上建议接种。", "多数患儿在六个月以上建议接种。"),
        (
            "注意观察精神和尿量，如有问题及时就医。",
            "注意观察精神和尿量，如有问题及时就医。",
        ),
        ("多喝水。以上是我的建议。", "多喝水。"),
        ("多喝水。以上建议仅供参考。", "多喝水。"),
        ("多喝水。如有问题可以再问。", "多喝水。"),
        ("由于医生忙，任何医生都可以。", "由于医生忙，任何医生都可以。"),
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


def settled(tmp_path: Path, *chats: Chat) -> set[str]:
    pipeline = Pipeline(tmp_path, Ledger())
    pipeline.take(chats)
    pipeline.settle()
    return {record.id for record in pipeline.kept()}  # type: ignore[union-attr]


def test_split_drops_training_twins(tmp_path: Path) -> None:
    def chat(name: str, split: str, question: str, group: str = "") -> Chat:
        answer = "".join(f"{sign}{name}多见，" for sign in "热咳泻疹吐喘痰晕胀痒") + "要看医生。"
        turns = dialogue(question, answer)
        return Chat(name, DXFORMER, "medkqa", True, turns, group, split, department="儿科")

    assert settled(
        tmp_path,
        chat("b", "train", "请问什么是黄疸"),
        chat("a", "test", "什么是黄疸？"),
        chat("c", "train", "什么是湿疹？"),
        chat("d", "test", "便秘怎么办？", "talk/7"),
        chat("e", "train", "积食怎么办？", "talk/7"),
        chat("f", "train", "腹泻怎么办？", "talk/8"),
    ) == {"a", "c", "d", "f"}


def test_templates_over_the_cap_go_by_hash_and_people_stay(tmp_path: Path) -> None:
    def chat(i: int, templated: bool) -> Chat:
        answer = f"小儿第{i}病的常见表现有第{i}种发热和第{i}种咳嗽，需要到医院检查。"
        turns = dialogue(f"孩子第{i}病有什么表现？", answer)
        name = f"{'made' if templated else 'said'}-{i}"
        return Chat(name, DXFORMER, "medkqa", templated, turns, f"g/{name}", "train")

    pipeline = Pipeline(tmp_path, Ledger())
    pipeline.take([chat(i, i % 2 == 0) for i in range(20)])
    pipeline.settle(cap=4)
    names = [record.id for record in pipeline.kept()]  # type: ignore[union-attr]
    assert sum(n.startswith("made") for n in names) == 4
    assert sum(n.startswith("said") for n in names) == 10


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
