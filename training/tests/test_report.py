"""A whole run in small, evaluated, reported and described; and what is said when it failed."""

import json
import re

import numpy as np
import pytest

from training import card, evaluate, export, plots, report
from training.batches import TASKS
from training.loop import StoppedByTime
from training.metrics import systems as table_of_systems
from training.metrics.tables import method_cells
from training.metrics.variants import Sums, verdict
from training.package import load_package, package_gates
from training.stages import adapter, cpt, dfpo, sft
from training.tests.testing import FIXTURES, make_run, preset, write_chats

KL = ("routed", "universal", "none", "device", "device_routed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Evaluated. A third of the dialogues are said to be of people; there are exams."""
    made = make_run(tmp_path_factory.mktemp("run"), preset())
    chats = made.out / "corpus" / "chat.jsonl"
    rows = [json.loads(line) for line in chats.read_text(encoding="utf-8").splitlines()]
    for i, row in enumerate(rows):
        row["templated"] = i % 3 > 0 or row["task"] == "trerecom"
    chats.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    write_chats(made.out / "other")
    (made.out / "other" / "exam.jsonl").rename(made.out / "corpus" / "exam.jsonl")
    for stage in (cpt.cpt, sft.sft, dfpo.dfpo, adapter.adapter, export.export, evaluate.evaluate):
        stage(made)
    return made


@pytest.fixture(scope="module")
def result(run):
    return json.loads((run.out / "evaluation.json").read_text(encoding="utf-8"))


def test_variants_are_compared_on_packed_rows(result):
    for task in TASKS:
        numbers = result["tasks"][task]
        assert set(numbers["loss"]) == {"merged", "routed", "universal", "none", "device"}
        assert set(numbers["gates"]) == set(numbers["gates_valid"]) == set(TASKS)
        assert numbers["gates"][task] == pytest.approx(numbers["loss"]["merged"], abs=1e-5)
        assert numbers["gates_valid"][task] != pytest.approx(numbers["gates"][task], abs=1e-5)
        assert all(numbers["against"][f"{n}_kl"] >= -1e-6 for n in KL)
        assert 0 <= numbers["against"]["none_top1"] <= 1


def test_every_system_answers_the_same_items(run, result):
    names = {"cpt", "sft", "dfpo", "adapter", "shipped", "no-penalty", "bm25", "random"}
    assert set(result["systems"]) == names
    ids = {
        name: [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]
        for name in names
        for path in [run.out / "answers" / f"{name}.jsonl"]
    }
    assert len(ids["shipped"]) > 0 and all(found == ids["shipped"] for found in ids.values())
    for name, system in result["systems"].items():
        human = system["tasks"]["trerecom"]["human"]
        assert human["items"] == human["text"]["answers"] == 0
        built = system["tasks"]["trerecom"]["templated"]
        assert built["text"]["answers"] == run.preset.answers
        assert ("bits_per_character" in built) is (name not in ("bm25", "random"))
    assert result["systems"]["no-penalty"]["penalty"] == 1.0


def test_merged_and_scored_losses_are_of_one_model(result):
    """The adapter's own gates lower the loss of unpacked items too."""
    merged = result["systems"]["adapter"]["tasks"]["evidiag"]["templated"]
    without = result["systems"]["dfpo"]["tasks"]["evidiag"]["templated"]
    assert merged["loss"] < without["loss"]
    assert merged["perplexity"] == pytest.approx(np.exp(merged["loss"]))


def test_a_run_that_random_answers_beat_has_failed_and_says_so_first(run, result):
    assert any("do not beat random" in line for line in result["failed"])
    report.report(run)
    text = (run.out / "report.md").read_text(encoding="utf-8")
    top = text[: text.index("\n## ")]
    assert "This run failed" in top and all(line in top for line in result["failed"])
    card.card(run)
    assert "This run failed" in (run.out / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_failures_look_at_people_s_items_first():
    def system(human: float | None, built: float) -> dict:
        kinds = {
            kind: {"text": {"answers": 0 if v is None else 4, "rouge_l": {"value": v}}}
            for kind, v in (("human", human), ("templated", built))
        }
        return {"tasks": {"medkqa": kinds}}

    def found(mine: tuple, theirs: tuple) -> list[str]:
        both = {"shipped": system(*mine), "random": system(*theirs)}
        return table_of_systems.failures(both)

    assert found((20.0, 1.0), (10.0, 9.0)) == []
    assert "human items" in found((10.0, 50.0), (10.0, 9.0))[0]
    assert "templated items" in found((None, 5.0), (None, 9.0))[0]
    assert found((None, 9.5), (None, 9.0)) == []


def test_report_has_every_part_and_its_pictures_exist(run, result):
    (run.out / "bars.json").unlink(missing_ok=True)
    report.report(run)
    text = (run.out / "report.md").read_text(encoding="utf-8")
    for heading in ("Bars", "Stages and baselines", "Exams", "Judge", "The MoE-Adapter"):
        assert f"\n## {heading}" in text
    assert "skipped: no judge" in text and "Not measured: `python -m training.bars" in text
    for mode in ("released", "corrected"):
        assert result["signatures"][mode] in text
    pictures = re.findall(r"\]\((report/[a-z]+\.png)\)", text)
    assert set(pictures) == {f"report/{n}.png" for n in ("losses", "metrics", "gates", "corpus")}
    for name in pictures:
        assert (run.out / name).read_bytes().startswith(b"\x89PNG")
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_exams_are_reported_with_chance_and_departments(run, result):
    exam = result["systems"]["shipped"]["exam"]
    assert exam["questions"] == 6 and set(exam["departments"]) == {"儿科", "内科"}
    assert "above chance" in report.exam_section(result)
    nothing = {"systems": {"shipped": {"exam": {"questions": 0, "left_out": 0}}}}
    assert "no exam questions" in report.exam_section(nothing)


def test_card_shows_people_and_templates_apart(run, result):
    card.card(run)
    text = (run.out / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Stages", "## Known failures", "### evidiag"):
        assert heading in text
    assert "medkqa, people | medkqa, templates" in text and "trerecom, people" not in text
    assert all(line in text for line in result["against_the_adapter"])
    about = json.loads((run.out / "checkpoint" / "pediatricsgpt.json").read_text(encoding="utf-8"))
    assert about["metrics"]["medkqa.loss.merged"] > 0
    assert about["metrics"]["medkqa.human.bits_per_character"] > 0


def test_evaluation_stops_in_time(run):
    late = make_run(run.out, run.preset, seconds=0.0)
    with pytest.raises(StoppedByTime):
        evaluate.evaluate(late)


def test_verdict_says_when_the_adapter_is_useless():
    losses = {"merged": 2.0, "none": 2.5, "universal": 2.2, "routed": 2.0, "device": 2.0}
    fine = {"loss": losses, "gates": {"medkqa": 2.0, "evidiag": 2.1, "trerecom": 2.1}}
    assert verdict({"medkqa": fine}) == []
    same = {"loss": losses, "gates": {"medkqa": 2.0, "evidiag": 2.0, "trerecom": 2.1}}
    assert "gates of evidiag" in verdict({"medkqa": same})[0]
    nothing = {"loss": losses | {"merged": 2.5}, "gates": fine["gates"]}
    assert "changes nothing" in verdict({"medkqa": nothing})[0]


def test_sums_are_means_over_tokens():
    sums = Sums()
    sums.add(2, loss=4.0)
    sums.add(1, loss=5.0)
    assert sums.means() == {"loss": 3.0}


def test_judged_results_become_a_table():
    half = {"value": 0.5, "low": 0.4, "high": 0.6}
    sides = {"win": half, "tie": half, "loss": half}
    found = dict.fromkeys(report.ASPECTS, sides) | {
        "questions": 3,
        "judge": "m",
        "unreadable": 1,
        "position_consistency": dict.fromkeys(report.ASPECTS, 0.75),
    }
    text = report.judge_section({"judge": {"sft": found, "bm25": {"skipped": "skipped: why"}}})
    assert "| safety | 0.50 (0.40 to 0.60) |" in text and "75 %" in text and "skipped: why" in text


def test_gates_by_layer_are_means_over_linears():
    gates = {"a": {"layers.1.mlp.x": [1.0, 0.0], "layers.0.mlp.x": [0.2, 0.8]}}
    gates["a"]["layers.1.mlp.y"] = [0.5, 0.5]
    assert report.gates_by_layer(gates)["a"].tolist() == [[0.2, 0.8], [0.75, 0.25]]


def test_duplicates_are_shares_of_what_was_read():
    sources = {
        "a": {
            "read": 10,
            "kept": 5,
            "removed": {"near duplicate": {"count": 2, "samples": []}, "advertisement": 3},
        },
        "b": {"kept": 3, "removed": {"exact duplicate": 1}},
        "c": {"read": 4, "kept": 4},
    }
    found = report.duplicate_shares({"sources": sources})
    assert found == {"b": {"exact duplicate": 0.25}, "a": {"near duplicate": 0.2}}
    assert report.duplicate_shares({}) == {}


def test_quantizers_numbers_are_means_over_tasks():
    tasks = {"a": {"delta_loss": 0.01, "kl": 0.02, "top1": 0.9}, "b": {"delta_loss": 0.03}}
    assert method_cells(tasks) == ["+0.0200", "0.0200", "90.0 %"]
    assert method_cells({}) == ["-", "-", "-"]


def test_pictures_are_drawn_or_said_to_be_missing(tmp_path, monkeypatch, capsys):
    gates = report.gates_by_layer(package_gates(load_package(FIXTURES / "tiny").manifest))
    assert plots.plot_gates(gates, tmp_path / "g.png", "gates") == tmp_path / "g.png"
    assert plots.plot_losses({"cpt": []}, tmp_path / "l.png") is None
    assert plots.plot_bars({}, tmp_path / "b.png", {}) is None
    assert plots.plot_corpus({}, {}, tmp_path / "c.png") is None
    plots.pyplot.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert plots.plot_gates(gates, tmp_path / "h.png", "gates") is None
    assert plots.plot_gates(gates, tmp_path / "h.png", "gates") is None
    assert capsys.readouterr().err.count("matplotlib is not installed") == 1
    plots.pyplot.cache_clear()


def test_running_mean():
    assert plots.smoothed([1.0, 3.0, 5.0], 2).tolist() == [1.0, 2.0, 4.0]


def test_shipped_weights_are_scored_once_and_answer_twice(result):
    shipped, bare = (result["systems"][name] for name in ("shipped", "no-penalty"))
    for task in TASKS:
        mine, theirs = (s["tasks"][task]["templated"] for s in (shipped, bare))
        assert mine["bits_per_character"] == theirs["bits_per_character"]
        assert mine["text"]["answers"] == theirs["text"]["answers"] > 0
        before = result["systems"]["cpt"]["tasks"][task]["templated"]["bits_per_character"]
        assert mine["bits_per_character"] != before
    assert shipped["exam"] == bare["exam"]


def test_the_top_says_on_how_many_answers_and_how_surely_random_ones_are_beaten(run, result):
    for kinds in result["systems"]["shipped"]["tasks"].values():
        kind = next(k for k in ("human", "templated") if kinds[k]["text"]["answers"])
        text = kinds[kind]["text"]
        assert text["over_random"]["low"] <= text["over_random"]["value"]
    task = TASKS[0]
    numbers = {"answers": 30, "rouge_l": {"value": 16.0}}
    numbers["over_random"] = {"value": 3.5, "low": 1.0, "high": 6.0}
    chance = {"human": {"text": {"rouge_l": {"value": 12.5}}}}

    def said(**changes) -> str:
        shipped = {"human": {"text": {**numbers, **changes}}}
        systems = {"shipped": {"tasks": {task: shipped}}, "random": {"tasks": {task: chance}}}
        fine = {"failed": [], "against_the_adapter": [], "systems": systems}
        return report.top_section(run, fine)

    (run.out / "bars.json").unlink(missing_ok=True)
    assert (
        f"{task}: ROUGE-L 16.0 against 12.5 on 30 questions, difference 3.5 (1.0 to 6.0)" in said()
    )
    assert "not certain" in said(over_random={"value": 1.0, "low": -0.5, "high": 2.0})
    assert "on 30 questions, the difference without an interval" in said(over_random=None)


def test_own_gates_are_called_best_only_as_far_as_the_intervals_of_the_bars_reach(run, result):
    fine = result | {"failed": [], "against_the_adapter": []}
    costs = {"medkqa": {"value": 0.01, "low": -0.005, "high": 0.024}}
    bars = {"packages": [{"tasks": {"trerecom": {"other_gates": costs}}}]}
    path = run.out / "bars.json"
    try:
        path.write_text(json.dumps(bars))
        for text in (report.top_section(run, fine), card.adapter_section(run, fine)):
            assert "1 of 1 intervals of the bars reach 0: text of trerecom under" in text
        costs["medkqa"]["low"] = 0.001
        path.write_text(json.dumps(bars))
        for text in (report.top_section(run, fine), card.adapter_section(run, fine)):
            assert "all 1 intervals of the bars say so" in text
    finally:
        path.unlink()
    for text in (report.top_section(run, fine), card.adapter_section(run, fine)):
        assert "without bars there are no intervals" in text


def test_the_table_says_why_it_has_no_row_of_a_base(result):
    assert "this run trains from scratch" in report.systems_section(result)
    systems = result["systems"] | {"base": result["systems"]["cpt"]}
    assert "from scratch" not in report.systems_section(result | {"systems": systems})


def test_a_running_mean_takes_a_share_of_the_rows_and_at_least_five():
    assert [plots.window_of(rows) for rows in (9, 15, 100, 400)] == [5, 5, 5, 20]


def test_dfpo_is_not_drawn_as_a_loss_per_token(monkeypatch, tmp_path):
    likelihood, both = {"loss": 2.0, "tokens": 1}, {"loss": 2.0, "tokens": 1, "nll": 1.4}
    drawn = {}

    def keep(figure, path):
        drawn.update({ax.get_title(): ax.get_ylabel() for ax in figure.axes})
        drawn["legend"] = [text.get_text() for text in figure.legends[0].get_texts()]

    monkeypatch.setattr(plots, "_save", keep)
    adapter_rows = [likelihood | {"preference": 0.7}]
    plots.plot_losses({"sft": [likelihood], "dfpo": [both], "adapter": adapter_rows}, tmp_path)
    assert drawn["sft"] == drawn["adapter"] == "loss, nats per token"
    assert drawn["dfpo"].startswith("training: preference + likelihood")
    assert drawn["legend"] == [
        "training, mean of the last 1/20 of its logged steps, at least 5 of them"
    ]


def test_legends_of_the_corpus_cover_nothing_and_a_reason_stands_once(monkeypatch, tmp_path):
    counts = {"duplicate": 2, "duplicate or loop": 1, "near duplicate": 3, "exact duplicate": 4}
    shares = report.duplicate_shares({"sources": {"a": {"read": 100, "removed": counts}}})
    expected = {"repeated in its source": 0.03, "near duplicate": 0.03, "exact duplicate": 0.04}
    assert shares == {"a": expected}
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.plot_corpus({"medkqa, human": [10, 20]}, shares, tmp_path)
    figures[0].canvas.draw()
    for ax in figures[0].axes:
        assert ax.get_legend().get_window_extent().y1 < ax.get_window_extent().y0
