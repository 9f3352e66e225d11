"""report.md of a run and its pictures in report/: what was measured, good or bad, in one place.

    python -m training.report --out RUN --preset NAME      (the step `report` of training.run)

Nothing in it is written by hand. What the run does not have (a judge, exams, bars of its package) is
named as missing.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from training.about import stage_table
from training.batches import TASKS, read_lines
from training.journal import read_journal, replace_text
from training.metrics.barlist import bars_of_run, bars_table, gates_sentence
from training.metrics.gates import layer_of, share_apart
from training.metrics.judge import ASPECTS
from training.metrics.systems import KINDS, SHIPPED
from training.metrics.tables import (
    VARIANTS,
    answered,
    counts_table,
    gate_matrix,
    interval,
    method_cells,
    ngram_table,
    number,
    read_json,
    table,
)
from training.plots import plot_bars, plot_corpus, plot_gates, plot_losses
from training.stages.common import Run, stage_main

APART = 0.1
REPEATED = "repeated in its source"


def picture(path: Path | None, out: Path, what: str) -> str:
    return f"\n![{what}]({path.relative_to(out)})\n" if path is not None else ""


def random_lines(evaluation: dict) -> list[str]:
    """How far the shipped model's answers are above random ones, task by task, and on how many."""
    lines = []
    for task, kinds in evaluation["systems"][SHIPPED]["tasks"].items():
        kind = next((k for k in KINDS if kinds[k]["text"]["answers"]), None)
        if kind is None:
            continue
        text = kinds[kind]["text"]
        chance = evaluation["systems"]["random"]["tasks"][task][kind]["text"]["rouge_l"]["value"]
        said = f"{task}: ROUGE-L {text['rouge_l']['value']:.1f} against {chance:.1f} "
        said += f"on {text['answers']} questions"
        apart = text.get("over_random")
        if apart is None:
            lines.append(f"{said}, the difference without an interval")
            continue
        unsure = "; not certain" if apart["low"] <= 0 else ""
        lines.append(f"{said}, difference {interval(apart, 1)}{unsure}")
    return lines


def top_section(run: Run, evaluation: dict) -> str:
    """The verdict first, in plain words."""
    failed, weak = evaluation["failed"], evaluation["against_the_adapter"]
    said = f"# Report of the run `{run.preset.name}`\n\n"
    if failed:
        said += "**This run failed: its answers do not beat random training answers.**\n\n"
        said += "".join(f"- {line}\n" for line in failed) + "\n"
    else:
        said += (
            "The shipped model's answers beat random training answers on every task, by means:\n\n"
        )
        said += "".join(f"- {line}\n" for line in random_lines(evaluation)) + "\n"
    if weak:
        said += "**The adapter does not do its work:**\n\n"
        said += "".join(f"- {line}\n" for line in weak)
    else:
        said += (
            f"The adapter lowers the loss of every task; {gates_sentence(bars_of_run(run.out))}\n"
        )
    return said


def bars_section(run: Run) -> str:
    said = "\n## Bars of the package\n\n"
    bars = bars_of_run(run.out)
    if bars is None:
        return said + (
            "Not measured: `python -m training.bars --package PACKAGE --corpus RUN/corpus "
            "--out RUN/bars.json` does it.\n"
        )
    return said + bars_table(bars) + "\n"


def systems_section(evaluation: dict) -> str:
    """Stages and baselines on the same items: likelihood, counts, and n-grams in both modes."""
    systems = evaluation["systems"]
    parts = ["\n## Stages and baselines\n\n"]
    parts.append("Rows are systems on the same held-out items; greedy answers.\n\n")
    rows = [[f"`{n}`", s["title"], number(s.get("penalty"), 1)] for n, s in systems.items()]
    parts.append(table(["row", "what", "repetition penalty"], rows))
    if "base" not in systems:
        parts.append(
            "\nThere is no row of a base: this run trains from scratch, and before `cpt` there are "
            "random weights only.\n"
        )
    for task in TASKS:
        parts.append(f"\n### {task}\n")
        for kind in KINDS:
            found = answered(evaluation, task, kind)
            written = "written by people" if kind == "human" else "put together from templates"
            if not found:
                parts.append(f"\nNo test items {written}.\n")
                continue
            first = next((n for _, n in found if n.get("items")), None)
            scored = first["items"] if first else 0
            asked = found[0][1]["text"]["answers"]
            parts.append(f"\n**Items {written}**: {scored} scored, {asked} answered.\n\n")
            parts.append(counts_table(found) + "\n")
            for mode in ("released", "corrected"):
                parts.append(f"{mode} (`{evaluation['signatures'][mode]}`):\n\n")
                parts.append(ngram_table(found, mode) + "\n")
    return "".join(parts)


def metrics_plot(evaluation: dict, out: Path) -> str:
    """Measures per system and task, on human-written items where there are any."""
    panels: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for task in TASKS:
        kind = "human" if answered(evaluation, task, "human") else "templated"
        for name, numbers in answered(evaluation, task, kind):
            if name == "no-penalty":
                continue
            text = numbers["text"]
            if "bits_per_character" in numbers:
                bits = numbers["bits_per_character"]["value"]
                panels["bits per character"][name][task] = bits
            panels["ROUGE-L, characters"][name][task] = text["rouge_l"]["value"]
            panels["BLEU-4, characters"][name][task] = text["corrected"]["bleu_4"]
            panels["answers that loop, %"][name][task] = 100 * text["loop_rate"]
    best = {name: "higher is better" for name in ("ROUGE-L, characters", "BLEU-4, characters")}
    best |= {name: "lower is better" for name in ("bits per character", "answers that loop, %")}
    path = plot_bars(panels, out / "report" / "metrics.png", best)
    return picture(path, out, "measures per system and task")


def exam_section(evaluation: dict) -> str:
    said = "\n## Exams\n\n"
    found = {n: s["exam"] for n, s in evaluation["systems"].items() if "exam" in s}
    if not any(exam["questions"] for exam in found.values()):
        return said + "Not measured: the corpus has no exam questions in its test split.\n"
    rows = [
        [name, str(e["questions"]), interval(e["accuracy"]), number(e["chance"], 3)]
        + ["above chance" if e["above_chance"] else "not above chance"]
        for name, e in found.items()
        if e["questions"]
    ]
    said += "Right options by likelihood per character; the options are not shown.\n\n"
    said += table(["system", "questions", "accuracy", "chance", ""], rows)
    for group in ("sources", "departments"):
        rows = [
            [name, str(d["questions"]), interval(d["accuracy"]), number(d["chance"], 3)]
            for name, d in found[SHIPPED].get(group, {}).items()
        ]
        said += f"\n`{SHIPPED}`, {group}:\n\n"
        said += table(["", "questions", "accuracy", "chance"], rows)
    return said


def judge_section(evaluation: dict) -> str:
    said = "\n## Judge\n"
    for rival, found in evaluation["judge"].items():
        said += f"\n`{SHIPPED}` against `{rival}`: "
        if "skipped" in found:
            said += found["skipped"] + "\n"
            continue
        said += f"{found['questions']} questions, {found['judge']}, both orders; "
        said += f"{found['unreadable']} could not be read.\n\n"
        rows = [
            [aspect, *(interval(found[aspect][side], 2) for side in ("win", "tie", "loss"))]
            + [f"{100 * found['position_consistency'][aspect]:.0f} %"]
            for aspect in ASPECTS
        ]
        said += table(["", "win", "tie", "loss", "same verdict in both orders"], rows)
    return said


def gates_by_layer(gates: dict[str, dict[str, list[float]]]) -> dict[str, np.ndarray]:
    """{task: (layers, E - 1)}, the mean over the linears of each layer."""
    found = {}
    for task, linears in gates.items():
        layers: defaultdict[int, list[list[float]]] = defaultdict(list)
        for linear, values in linears.items():
            layers[layer_of(linear)].append(values)
        found[task] = np.stack([np.mean(layers[i], 0) for i in sorted(layers)])
    return found


def adapter_section(run: Run, evaluation: dict) -> str:
    tasks = evaluation["tasks"]
    losses = [
        [title, *(number(tasks[t]["loss"].get(name), 4) for t in TASKS)]
        for name, title in VARIANTS.items()
    ]

    def agreement(name: str) -> list[str]:
        return [
            f"{tasks[t]['against'][f'{name}_kl']:.4f} / "
            f"{100 * tasks[t]['against'][f'{name}_top1']:.1f} %"
            for t in TASKS
        ]

    against = [[VARIANTS[name], *agreement(name)] for name in VARIANTS if name != "merged"]
    routed = [
        [VARIANTS["merged"], *agreement("routed")],
        [VARIANTS["device"], *agreement("device_routed")],
    ]
    distances = evaluation["total_variation"]
    rows = [
        [pair, f"{100 * share_apart(values, APART):.0f} %", *(number(v) for v in values)]
        for pair, values in distances.items()
    ]
    layers = len(next(iter(distances.values()), []))
    gates = gates_by_layer(read_json(run.out / "adapter" / "task_gates.json"))
    path = plot_gates(gates, run.out / "report" / "gates.png", "Gates per task and layer")
    said = "\n## The MoE-Adapter\n\nLoss on packed test rows, nats per answer token:\n\n"
    said += table(["variant", *TASKS], losses)
    said += "\nKL in nats per token / same first token, each against the merged model:\n\n"
    said += table(["variant", *TASKS], against)
    said += "\nand against the token router in f32:\n\n" + table(["variant", *TASKS], routed)
    said += "\nEach task under the gates of each (a row's smallest should be its own), test:\n\n"
    said += gate_matrix(tasks, "gates") + "\nvalidation:\n\n" + gate_matrix(tasks, "gates_valid")
    said += f"\nTotal variation of the gates per layer, and layers that are {APART} apart:\n\n"
    head = ["tasks", f">= {APART}", *(f"layer {i}" for i in range(layers))]
    return said + table(head, rows) + picture(path, run.out, "gates per expert, task and layer")


def quantisation_section(run: Run, evaluation: dict) -> str:
    """What 4 bits cost; and what the quantizer itself wrote about its work, where it did."""
    rows = []
    for task in TASKS:
        found = evaluation["tasks"][task]
        delta = found["loss"]["device"] - found["loss"]["merged"]
        top = 100 * found["against"]["device_top1"]
        rows.append(
            [task, f"{delta:+.4f}", number(found["against"]["device_kl"], 4), f"{top:.1f} %"]
        )
    said = "\n## Quantization\n\nThe shipped weights against f32, on packed test rows:\n\n"
    said += table(["task", "loss", "KL, nats per token", "same first token"], rows)
    path = run.out / "quantization.json"
    if not path.is_file():
        return said + "\nHow other methods would have done was not measured.\n"
    about = read_json(path)
    methods = {name: found["tasks"] for name, found in about["methods"].items()}
    rows = [[name, *method_cells(numbers)] for name, numbers in methods.items()]
    said += f"\nMethods on validation rows, means over tasks; `{about['chosen']}` was taken:\n\n"
    said += table(["method", "loss", "KL, nats per token", "same first token"], rows)
    after = about.get("finish")
    if after is not None:
        kept = "kept" if after["kept"] else "not kept: it did not lower the loss"
        said += f"\nA quantization-aware finish of {after['steps']} steps followed ({kept}):\n\n"
        rows = [[when, *method_cells(after[when])] for when in ("before", "after")]
        said += table(["", "loss", "KL, nats per token", "same first token"], rows)
    return said


def stages_section(run: Run) -> str:
    rows = [
        [s["name"], str(s["steps"]), f"{s['tokens']:,}", f"{s['seconds']:.0f}"]
        + [number(s["loss"], 4)]
        for s in stage_table(run)
    ]
    journals = {
        path.stem: read_journal(path)
        for path in sorted((run.out / "metrics").glob("*.jsonl"))
        if path.stem != "evaluation"
    }
    order = [row[0] for row in rows]
    ordered = {name: journals[name] for name in order if name in journals}
    path = plot_losses(ordered, run.out / "report" / "losses.png")
    head = ["stage", "steps", "tokens", "seconds", "training loss at the end"]
    return "\n## Stages\n\n" + table(head, rows) + picture(path, run.out, "loss per stage")


def merged_reasons(removed: dict[str, int]) -> dict[str, int]:
    """Counts by reason; readers drop a repeated record as `duplicate` or `duplicate or loop`, which is
    one thing to a reader of the report."""
    found: dict[str, int] = {}
    for reason, count in removed.items():
        name = REPEATED if reason.startswith("duplicate") else reason
        found[name] = found.get(name, 0) + count
    return found


def duplicate_shares(report: dict) -> dict[str, dict[str, float]]:
    """{source: {reason: share of what was read}} of the sources that lost duplicates, most first."""
    found = {}
    for source, counts in report.get("sources", {}).items():
        removed = {
            reason: entry["count"] if isinstance(entry, dict) else entry
            for reason, entry in counts.get("removed", {}).items()
        }
        removed = merged_reasons(removed)
        read = counts.get("read") or counts.get("kept", 0) + sum(removed.values())
        kinds = {r: n for r, n in removed.items() if "duplicate" in r or r == REPEATED}
        shares = {reason: n / read for reason, n in kinds.items() if read and n}
        if shares:
            found[source] = shares
    return dict(sorted(found.items(), key=lambda entry: -sum(entry[1].values())))


def answer_lengths(chats: Path) -> dict[str, list[int]]:
    """Characters of every training answer, by task and kind."""
    lengths: dict[str, list[int]] = {f"{task}, {kind}": [] for task in TASKS for kind in KINDS}
    for chat in read_lines(chats):
        if chat["split"] != "train" or chat["task"] not in TASKS:
            continue
        name = f"{chat['task']}, {KINDS[bool(chat['templated'])]}"
        lengths[name] += [len(t["text"]) for t in chat["turns"] if t["role"] == "assistant"]
    return {name: values for name, values in lengths.items() if values}


def corpus_section(run: Run) -> str:
    corpus = run.out / "corpus"
    lengths = answer_lengths(corpus / "chat.jsonl")
    removed = duplicate_shares(read_json(corpus / "report.json"))
    path = plot_corpus(lengths, removed, run.out / "report" / "corpus.png")
    rows = []
    for name, values in lengths.items():
        low, middle, high = np.percentile(values, [10, 50, 90])
        rows.append([name, f"{len(values):,}", *(f"{v:.0f}" for v in (low, middle, high))])
    said = "\n## Corpus\n\nCharacters of training answers:\n\n"
    said += table(["task, kind", "answers", "10 %", "median", "90 %"], rows)
    if not removed:
        said += "\nThe corpus report names no duplicates.\n"
    return said + picture(path, run.out, "lengths of answers and duplicates by source")


def report(run: Run) -> None:
    """Writes report.md and report/*.png from the files of an evaluated run."""
    evaluation = read_json(run.out / "evaluation.json")
    parts = [
        top_section(run, evaluation),
        bars_section(run),
        systems_section(evaluation),
        metrics_plot(evaluation, run.out),
        exam_section(evaluation),
        judge_section(evaluation),
        adapter_section(run, evaluation),
        quantisation_section(run, evaluation),
        stages_section(run),
        corpus_section(run),
        f"\nThe evaluation took {evaluation['seconds']:.0f} s.\n",
    ]
    replace_text(run.out / "report.md", "".join(parts))


if __name__ == "__main__":
    stage_main(report, __doc__)
