"""Building with one's own books: nothing is cut without a word, one cost, one answer per question."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from training.pedcorpus.archive import Library
from training.pedcorpus.build import build, main
from training.pedcorpus.construct import Job, Options, in_turn
from training.pedcorpus.construct.endpoint import Endpoint, EndpointError
from training.pedcorpus.ledger import Ledger
from training.pedcorpus.readers.more import PAIR_READERS
from training.pedcorpus.reading import PRESETS, Reading
from training.pedcorpus.sources import CAREGPT, OWN, folders, table
from training.tests.test_construct import Server
from training.tests.test_construct import serve as serve

README = Path(__file__).parents[1] / "README.md"
SIGNS = "热咳泻疹吐喘痰晕胀痒"
DISEASES = ("肺炎", "腹泻", "湿疹", "便秘", "贫血", "哮喘")


def put(path: Path, *rows: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")


def book(at: int) -> dict:
    name = f"小儿{DISEASES[at % 6]}{SIGNS[at % 10]}{at}型"
    body = "".join(f"{name}可有{sign}{at}样的表现，需要观察。" for sign in SIGNS)
    return {"id": f"book{at}", "text": f"{name}是一种儿童常见的疾病。{body}"}


def talk(at: int) -> dict:
    sign = SIGNS[at % 10]
    turns = [
        {"role": "user", "text": f"宝宝{sign}了{at}天，是{DISEASES[at % 6]}吗？"},
        {
            "role": "assistant",
            "text": f"嗯嗯，多半是{DISEASES[at % 6]}引起的{sign}，因该先观察，注意休息",
        },
    ]
    return {"id": f"talk{at}", "turns": turns, "task": "trerecom", "split": "train"}


def triples(at: int) -> list[dict]:
    head, tails = (
        f"小儿{SIGNS[at]}病",
        ("反复发热", "夜间咳嗽", "食欲不好", "精神不好", "面色苍白", "睡眠不安"),
    )
    return [{"head": head, "relation": "症状", "tail": f"{SIGNS[at]}时{tail}"} for tail in tails]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of sources with one that gives nothing but a medicine's name."""
    folder = tmp_path / "data" / CAREGPT / "data"
    folder.mkdir(parents=True)
    (folder / "drug.json").write_text(json.dumps(["蒙脱石散\n药品类型:片"]), "utf-8")
    return tmp_path / "data"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    put(tmp_path / "mine" / "books.jsonl", *(book(at) for at in range(90)))
    put(tmp_path / "mine" / "kg.jsonl", *(row for at in range(9) for row in triples(at)))
    (tmp_path / "mine" / "licence.txt").write_text("CC0-1.0")
    return tmp_path / "mine"


def chats(out: Path, source: str = "user__mine") -> list[dict]:
    rows = [json.loads(line) for line in (out / "chat.jsonl").read_text("utf-8").splitlines()]
    return [row for row in rows if row["source"] == source]


def test_own_books_are_not_cut_by_the_presets_number(
    data: Path, mine: Path, tmp_path: Path
) -> None:
    assert PRESETS["ci"].constructed == 60
    report = build(data, tmp_path / "out", "ci", mine)
    made = chats(tmp_path / "out")
    books = {re.match(r"book\d+", chat["id"]) for chat in made}
    assert len({found[0] for found in books if found}) > 70  # some are of held-out facts
    assert any(chat["id"].startswith("triples-") for chat in made)
    assert "cut" not in report and report["own"][0]["licence"] == "CC0-1.0"


def test_a_limit_takes_kinds_in_turn_and_says_what_it_cut(
    data: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = build(data, tmp_path / "out", "ci", mine, Options(limit=12))
    found = re.fullmatch(r"cut by --limit at 12 of (\d+) passages", report["cut"])
    assert found and int(found[1]) >= 99
    assert report["cut"] in capsys.readouterr().err
    assert report["cut"] in (tmp_path / "out" / "DATA_CARD.md").read_text("utf-8")
    names = {chat["id"].split("-role")[0] for chat in chats(tmp_path / "out")}
    assert any(n.startswith("triples-") for n in names) and any(n.startswith("book") for n in names)


def test_jobs_take_turns_until_the_last_is_out() -> None:
    def jobs(name: str, count: int) -> list[Job]:
        return [Job("role_play", f"{name}{i}", "s", (), "", True, "", "") for i in range(count)]

    order = in_turn(jobs("a", 3), jobs("b", 1), jobs("c", 2))
    assert [job.id for job in order] == ["a0", "b0", "c0", "a1", "c1", "a2"]


def options(server: Server, folder: Path, **more: object) -> Options:
    chosen = {"endpoint": server.url, "model": "m", "yes": True, "cache": str(folder / "c")} | more
    return Options("endpoint", **chosen)  # type: ignore[arg-type]


def polished(request: dict, place: int) -> str:
    asked = request["messages"][1]["content"]
    if not asked.startswith("对话"):
        return json.dumps({"items": []})
    turns = re.findall(r"医生\[\d+\]：(.+)", asked)
    told = [said.replace("因该先", "应该先").rstrip("。") + "，好好休息。" for said in turns]
    if "9天" in asked:
        told[-1] = told[-1].replace("好好休息", "可用蒙脱石散")
    return json.dumps({"answers": told}, ensure_ascii=False)


def test_what_was_regularised_replaces_what_it_was_made_of(
    data: Path, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    put(tmp_path / "mine" / "talks.jsonl", *(talk(at) for at in range(10)))
    asked = options(serve(polished), tmp_path, rule="regularise", attempts=1)
    report = build(data, tmp_path / "out", "ci", tmp_path / "mine", asked)
    made = {chat["id"]: chat for chat in chats(tmp_path / "out")}
    removed = report["sources"]["user__mine"]["removed"]
    better = {name for name in made if name.endswith("-regularise")}
    assert len(better) >= 5
    assert not {name.removesuffix("-regularise") for name in better} & set(made)
    assert removed["replaced by what was constructed of it"]["count"] >= len(better)
    # the answer that names a medicine of its own is refused, and its dialogue stays as it was
    assert removed["construct: names a medicine that the source does not"]["count"] == 1
    assert "talk9" in made and "蒙脱石" not in json.dumps(list(made.values()), ensure_ascii=False)


def test_a_dialogue_that_rules_leave_as_it_is_stays_once(data: Path, tmp_path: Path) -> None:
    put(tmp_path / "mine" / "talks.jsonl", *(talk(at) for at in range(10)))
    build(data, tmp_path / "out", "ci", tmp_path / "mine", Options(rule="regularise"))
    made = [chat["id"].removesuffix("-regularise") for chat in chats(tmp_path / "out")]
    assert len(made) == len(set(made)) >= 9


def test_the_cost_of_all_is_asked_for_once(
    data: Path,
    mine: Path,
    tmp_path: Path,
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(lambda request, place: json.dumps({"items": []}))
    before: list[int] = []

    def agree(said: str) -> bool:
        before.append(len(server.requests))
        return True

    monkeypatch.setattr(Endpoint.__init__, "__defaults__", (None, agree))
    build(data, tmp_path / "out", "ci", mine, options(server, tmp_path, yes=False))
    estimates = re.findall(r"requests +([\d,]+) ", capsys.readouterr().err)
    assert before == [0] and len(estimates) == 1
    assert int(estimates[0]) >= 99 + 10  # one's own and the project's
    with pytest.raises(EndpointError, match="give --yes"):
        monkeypatch.undo()
        build(data, tmp_path / "out", "ci", mine, options(server, tmp_path, yes=False, items=2))


def test_the_table_of_sources_is_that_of_the_readers() -> None:
    reading = Reading(Library(Path("nowhere")), PRESETS["ci"], Ledger())
    named = {source for source, _ in reading._sources()} | {source for source, _ in PAIR_READERS}
    toyhom = {"Toyhom__Chinese-medical-dialogue-data"}  # no preset reads it
    assert set(folders()) == (named | toyhom) - {OWN}
    assert table() in README.read_text("utf-8")
    for row in table().splitlines()[2:]:
        assert all(cell.strip() for cell in row.split("|")[1:-1]), row


def test_unknown_folders_are_named_and_no_source_at_all_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MedicalQA", ".hidden", "licences"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "KdConv.tar.xz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data: no source in this folder.*README"):
        build(tmp_path / "data", tmp_path / "out", "ci")
    said = capsys.readouterr().err
    assert "MedicalQA: no reader knows" in said and "KdConv: no reader knows" in said
    assert "hidden" not in said and "licences" not in said
    command = ["build", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command, "--extra", str(tmp_path)])
    with pytest.raises(SystemExit, match="no source in this folder"):
        main()


def test_two_folders_are_read_and_two_of_a_name_refused(
    data: Path, mine: Path, tmp_path: Path
) -> None:
    put(tmp_path / "more" / "books.jsonl", *(book(at) for at in range(100, 112)))
    report = build(data, tmp_path / "out", "ci", [mine, tmp_path / "more"])
    assert [own["source"] for own in report["own"]] == ["user__mine", "user__more"]
    assert chats(tmp_path / "out", "user__more")
    (tmp_path / "deep" / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match="two folders of this name"):
        build(data, tmp_path / "out", "ci", [mine, tmp_path / "deep" / "mine"])
