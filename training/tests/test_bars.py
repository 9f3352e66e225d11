"""The bars on the tiny packages: what is measured, what is compared, and what is said about it."""

import json
import shutil

import numpy as np
import pytest

from training import bars
from training.metrics.barlist import BARS, bars_of, bars_table, gates_sentence
from training.metrics.gates import share_apart, total_variation
from training.metrics.items import Item
from training.metrics.judge import read_answers
from training.metrics.likelihood import Scores
from training.package import load_package, package_gates
from training.tests.testing import FIXTURES, TASKS, write_chats


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_chats(folder)
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The tiny packages with a short limit on answers; the manifest has no checksum of its own."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ("tiny", "tiny-routed"):
        shutil.copytree(FIXTURES / name, folder / name)
        path = folder / name / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["sampling"]["maxTokens"] = 24
        path.write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def result(short, corpus):
    return bars.run_bars([short / "tiny", short / "tiny-routed"], corpus)


def test_two_packages_are_measured_on_the_same_items(result):
    first, second = result["packages"]
    assert (first["package"], first["max_tokens"]) == ("pediatricsgpt-tiny", 24)
    for found in (first, second):
        for task in TASKS:
            numbers = found["tasks"][task]
            assert numbers["human"]["items"] == numbers["templated"]["items"] == 4
            assert numbers["human"]["left_out"] == 0
            for kind in ("human", "human_without_penalty", "templated"):
                assert numbers[f"answers_{kind}"]["answers"] == 4
            interval = numbers["human"]["bits_per_character"]
            assert 0 < interval["low"] <= interval["value"] <= interval["high"]
    for task in TASKS:
        a, b = (found["tasks"][task]["human"]["bits_per_character"] for found in (first, second))
        against = second["against_first"][task]
        assert against["value"] == pytest.approx(b["value"] - a["value"], abs=2e-6)
        near = (found["tasks"][task]["answers_human"]["bm25_rouge_l"] for found in (first, second))
        assert len(set(near)) == 1
    assert "against_first" not in first


def test_other_tasks_gates_are_measured_where_there_are_gates(result):
    merged, routed = result["packages"]
    for task in TASKS:
        assert set(merged["tasks"][task]["other_gates"]) == set(TASKS) - {task}
        assert routed["tasks"][task]["other_gates"] == {}
    assert len(merged["total_variation"]) == 3 and routed["total_variation"] == {}
    bars_of_routed = {bar.bar: bar for bar in bars_of(routed)}
    for name in ("gates apart by 0.1", "bits that other gates cost"):
        assert bars_of_routed[name].met is None and "no gates" in bars_of_routed[name].number


def test_all_answers_are_searched_for_doses(result):
    found = result["packages"][0]
    assert found["searched_for_doses"]["answers"] == 24
    assert found["human_answers"]["answers"] == 12
    bar = next(b for b in bars_of(found) if "dose" in b.bar)
    assert bar.met is not True and "of 24 answers" in bar.number


def test_table_shows_every_bar_and_task(result):
    table = bars_table(result)
    assert len(result["bars"]) == 2 * len(BARS)
    for name, wanted, _ in BARS:
        assert table.count(f"| {name} | {wanted} |") == 2
    assert table.count("| evidiag | human |") == 4 and table.count("| evidiag | templated |") == 2


def test_quick_mode_takes_fewer_items(short, corpus):
    package = load_package(short / "tiny")
    items = bars.read_items(corpus, TASKS, "test")
    rivals = bars.Rivals({"all": bars.training_answers(corpus, TASKS)})
    found = bars.measure(package, items, rivals, most=1).numbers
    assert found["human_answers"]["answers"] == 3
    assert found["searched_for_doses"]["answers"] == 6
    nearest, random = rivals.nearest["all"], rivals.random["all"]
    assert set(nearest) == set(random) and len(nearest) == 6


def test_total_variation_is_half_the_sum_of_differences():
    gates = {
        "a": {"layers.0.mlp.up_proj": [1.0, 0.0], "layers.0.mlp.down_proj": [0.5, 0.5]},
        "b": {"layers.0.mlp.up_proj": [0.0, 1.0], "layers.0.mlp.down_proj": [0.5, 0.5]},
    }
    assert total_variation(gates) == {"a / b": [0.5]}
    assert share_apart([0.05, 0.1, 0.2, 0.0], 0.1) == 0.5
    merged = package_gates(load_package(FIXTURES / "tiny").manifest)
    distances = total_variation(merged)
    assert all(
        len(values) == 2 and 0 <= min(values) <= max(values) <= 1 for values in distances.values()
    )


def made(**changes) -> dict:
    """A measured package that meets every bar, apart from the changes."""
    interval = {"value": 1.0, "low": 0.5, "high": 1.5}
    answers = {
        "answers": 400,
        "rouge_l": interval | {"value": 20.0},
        "bm25_rouge_l": 19.0,
        "random_rouge_l": 10.0,
    }
    task = {
        "human": {"items": 400, "bits_per_character": interval},
        "answers_human": answers,
        "other_gates": {"x": interval},
    }
    counts = {"answers": 1200, "loop_rate": 0.01, "end_rate": 0.97, "length": 60.0}
    counts |= {"reference_length": 100.0, "length_ratio": 0.6}
    found = {
        "package": "p",
        "tasks": {"a": task, "b": task},
        "against_first": {"a": interval | {"value": -0.1}, "b": interval | {"value": -0.1}},
        "total_variation": {"a / b": [0.2, 0.05]},
        "human_answers": counts,
        "searched_for_doses": {"answers": 1000, "answers_with_doses": 0},
        "penalty": 1.1,
        "bytes": 13_000_000,
    }
    return found | changes


def verdicts(found: dict) -> dict[str, bool | None]:
    return {bar.bar: bar.met for bar in bars_of(found)}


def test_a_package_can_meet_every_bar():
    assert set(verdicts(made()).values()) == {True}


@pytest.mark.parametrize(
    ("bar", "changes"),
    [
        ("bits per character", {"against_first": {"a": {"value": 0.0, "low": -1, "high": 1}}}),
        ("gates apart by 0.1", {"total_variation": {"a / b": [0.2, 0.2], "a / c": [0.2, 0, 0]}}),
        ("answers that loop", {"human_answers": made()["human_answers"] | {"loop_rate": 0.02}}),
        (
            "answers that end by themselves",
            {"human_answers": made()["human_answers"] | {"end_rate": 0.94}},
        ),
        (
            "mean length / reference's",
            {"human_answers": made()["human_answers"] | {"length_ratio": 0.59}},
        ),
        (
            "answers with a free dose",
            {"searched_for_doses": {"answers": 9, "answers_with_doses": 1}},
        ),
        ("default penalty", {"penalty": 1.2}),
        ("package", {"bytes": 32_000_000}),
    ],
)
def test_each_bar_can_be_missed(bar, changes):
    if bar == "bits per character":
        changes["against_first"]["b"] = {"value": -1.0, "low": -1, "high": 1}
    met = verdicts(made(**changes))
    assert met.pop(bar) is False
    assert set(met.values()) == {True}


def test_rouge_bars_and_gate_costs_look_at_every_task():
    found = made()
    better, same = found["tasks"]["a"], json.loads(json.dumps(found["tasks"]["b"]))
    same["answers_human"] |= {"bm25_rouge_l": 30.0, "random_rouge_l": 20.0}
    met = verdicts(made(tasks={"a": better, "b": same}))
    assert met["ROUGE-L : BM25"] is True and met["ROUGE-L : random answer"] is False
    assert verdicts(made(tasks={"b": same}))["ROUGE-L : BM25"] is False
    same["other_gates"]["y"] = {"value": 0.1, "low": 0.0, "high": 0.2}
    assert verdicts(made(tasks={"a": better, "b": same}))["bits that other gates cost"] is False


def test_what_was_not_measured_is_not_called_met():
    few = {"searched_for_doses": {"answers": 999, "answers_with_doses": 0}}
    assert verdicts(made(**few))["answers with a free dose"] is None
    first = made()
    del first["against_first"]
    assert verdicts(first)["bits per character"] is None


def test_packages_scored_on_different_answers_are_not_compared():
    def scores(characters: list[float]) -> bars.Scores:
        ones = np.ones(len(characters))
        return bars.Scores(ones, ones, np.array(characters), 0)

    first = bars.Measurement({}, {"a": scores([3.0, 4.0])}, [])
    with pytest.raises(ValueError, match="not scored on the same"):
        bars.compare(first, bars.Measurement({}, {"a": scores([3.0])}, []))


def test_command_line(short, corpus, tmp_path, monkeypatch, capsys):
    out = tmp_path / "deep" / "bars.json"
    arguments = ["bars", "--package", str(short / "tiny"), "--corpus", str(corpus)]
    arguments += ["--out", str(out), "--items", "1", "--answers", str(tmp_path / "kept")]
    monkeypatch.setattr("sys.argv", arguments)
    bars.main()
    assert "| answers that loop | under 2 % |" in capsys.readouterr().out
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["items_per_task_and_kind"] == 1 and len(written["bars"]) == len(BARS)
    kept = read_answers(tmp_path / "kept" / "0.jsonl")
    assert len(kept) == written["packages"][0]["searched_for_doses"]["answers"] == 6
    assert all({"question", "answer", "reference"} <= row.keys() for row in kept.values())


def test_items_with_one_id_keep_baselines_of_their_own():
    def item(question: str, answer: str) -> Item:
        turns = ({"role": "user", "text": question}, {"role": "assistant", "text": answer})
        return Item("same", "medkqa", False, turns)

    pool = bars.TrainingAnswers([item("宝宝发热怎么办", "多喝水"), item("宝宝腹泻怎么办", "补液")])
    rivals = bars.Rivals({"all": {"medkqa": pool}})
    fever, other = item("发热", "多喝水"), item("腹泻", "多喝水")
    rivals.add([fever, other])
    nearest = rivals.nearest["all"]
    assert nearest[fever.key] == 100 and nearest[other.key] == 0


def test_the_stronger_pool_of_training_answers_is_the_rival():
    turns = ({"role": "user", "text": "发热"}, {"role": "assistant", "text": "多喝水"})
    items = [Item(str(i), "medkqa", False, turns) for i in range(2)]
    numbers = {
        "all": {items[0].key: 10.0, items[1].key: 30.0},
        "human": {items[0].key: 50.0, items[1].key: 0.0},
    }
    assert bars.Rivals.stronger(numbers, items).tolist() == [50.0, 0.0]
    assert bars.Rivals.stronger(numbers, items[1:]).tolist() == [30.0]


def test_unedited_items() -> None:
    def item(name: str, templated: bool = False) -> Item:
        turns = ({"role": "user", "text": "问"}, {"role": "assistant", "text": "答"})
        return Item(name, "medkqa", templated, turns)

    assert item("huatuo-1").unedited and item("cmdd-17-n").unedited
    assert not item("cmtmedqa-3").unedited and not item("cmdd-17-t").unedited
    assert not item("huatuo-1", templated=True).unedited


def test_scores_of_some_items() -> None:
    scores = Scores(np.array([1.0, 2.0, 4.0]), np.array([1, 2, 3]), np.array([2, 2, 4]), 5)
    some = scores.only(np.array([True, False, True]))
    assert some.loss == 5 / 4 and some.characters.sum() == 6 and some.left_out == 5


def test_a_measurement_is_taken_over_where_nothing_has_changed(
    short, corpus, result, tmp_path, monkeypatch
):
    folders = [short / "tiny", short / "tiny-routed"]
    assert bars.run_bars(folders[:1], corpus, cache=tmp_path)["packages"][0]["bytes"] > 0
    monkeypatch.setattr(bars, "measure", lambda *_: pytest.fail("measured again"))
    again = bars.run_bars(
        [folders[0], folders[0]], corpus, keep=tmp_path / "answers", cache=tmp_path
    )
    assert again["packages"][1].pop("against_first").keys() == set(TASKS)
    for found in again["packages"]:
        old = result["packages"][0]
        assert {**found, "seconds": 0} == {**old, "seconds": 0}
    assert (tmp_path / "answers" / "0.jsonl").read_text().count("\n") > 0
    with pytest.raises(pytest.fail.Exception):  # other items
        bars.run_bars(folders[:1], corpus, most=2, cache=tmp_path)


def test_labels_tell_editions_of_one_id_apart(short, corpus, result, tmp_path):
    assert [found["label"] for found in result["packages"]] == [
        found["package"] for found in result["packages"]
    ]
    assert f"pediatricsgpt-tiny ({short / 'tiny'}), " in bars_table(result)
    folders = [short / "tiny", short / "tiny"]
    labels = ["first edition", "second edition"]
    made = bars.run_bars(folders, corpus, most=1, cache=tmp_path, labels=labels)
    assert [found["label"] for found in made["packages"]] == labels
    table = bars_table(made)
    assert "first edition: pediatricsgpt-tiny, " in table and "second edition: pedi" in table
    kept = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.json"))
    assert "edition" not in kept  # a label belongs to a comparison, not to a measurement
    with pytest.raises(ValueError, match="1 labels for 2 packages"):
        bars.run_bars(folders, corpus, labels=labels[:1])


@pytest.mark.parametrize("missing", ["package", "corpus", "broken"])
def test_what_cannot_be_measured_is_told_in_a_line(
    missing, short, corpus, tmp_path, monkeypatch, capsys
):
    package, dialogues = short / "tiny", corpus
    if missing == "package":
        package = tmp_path / "none"
    elif missing == "corpus":
        dialogues = tmp_path
    else:
        package = tmp_path / "broken"
        shutil.copytree(short / "tiny", package)
        (package / "shard-00000.bin").write_bytes(b"")
    out = tmp_path / "bars.json"
    words = ["bars", "--package", str(package), "--corpus", str(dialogues), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stopped:
        bars.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.count("\n") == 1 and not out.exists()
    assert str(dialogues / "chat.jsonl" if missing == "corpus" else package) in said
    assert "run the command again" in said


def test_a_label_for_each_package_or_none(short, corpus, monkeypatch, capsys):
    words = ["bars", "--package", str(short / "tiny"), "--corpus", str(corpus), "--out", "x"]
    monkeypatch.setattr("sys.argv", [*words, "--label", "a", "--label", "b"])
    with pytest.raises(SystemExit) as stopped:
        bars.main()
    assert stopped.value.code == 2 and "2 --label for 1 --package" in capsys.readouterr().err


def test_a_bug_while_measuring_is_shown_as_one(short, corpus, tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(bars, "measure", broken)
    words = ["bars", "--package", str(short / "tiny"), "--corpus", str(corpus)]
    monkeypatch.setattr("sys.argv", [*words, "--out", str(tmp_path / "x")])
    with pytest.raises(ValueError, match="a bug"):
        bars.main()


def test_what_is_said_of_the_gates_follows_the_intervals():
    def package(*lows: float) -> dict:
        costs = {str(i): {"value": 0.01, "low": low, "high": 0.024} for i, low in enumerate(lows)}
        return {"packages": [{}, {"tasks": {"trerecom": {"other_gates": costs}}}]}

    assert gates_sentence(package(0.001, 0.002)).endswith("all 2 intervals of the bars say so.")
    said = gates_sentence(package(0.001, -0.005))
    assert "1 of 2 intervals of the bars reach 0" in said
    assert "trerecom under the gates of 1 +0.010 [-0.005, +0.024]" in said
    assert "no intervals" in gates_sentence(None) and "not certain" in gates_sentence(None)
    assert "no gates per task" in gates_sentence(package())
