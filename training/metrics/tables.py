"""Tables that the report and the model card share, in Markdown."""

import json
from pathlib import Path

from training.batches import TASKS
from training.metrics.ngram import NAMES

VARIANTS = {
    "merged": "merged (f32)",
    "routed": "token router, same steps",
    "universal": "universal expert alone",
    "none": "no adapter",
    "device": "merged, 4-bit base, f16 adapter",
}


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def interval(found: dict, digits: int = 3) -> str:
    low, high = found["low"], found["high"]
    return f"{found['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def answered(evaluation: dict, task: str, kind: str) -> list[tuple[str, dict]]:
    """(title, numbers) of every system that gave answers."""
    found = []
    for name, system in evaluation["systems"].items():
        numbers = system["tasks"].get(task, {}).get(kind)
        if numbers is not None and numbers["text"]["answers"]:
            found.append((name, numbers))
    return found


def counts_table(found: list[tuple[str, dict]]) -> str:
    head = ["system", "bits per character", "perplexity per token", "ROUGE-L", "loops", "ended"]
    head += ["length / reference's", "doses"]
    rows = []
    for name, numbers in found:
        text = numbers["text"]
        bits = numbers.get("bits_per_character")
        rows.append(
            [
                name,
                interval(bits) if bits else "-",
                number(numbers.get("perplexity"), 1),
                interval(text["rouge_l"], 1),
                f"{100 * text['loop_rate']:.0f} %",
                f"{100 * text['end_rate']:.0f} %",
                number(text["length_ratio"]),
                str(text["doses"]),
            ]
        )
    return table(head, rows)


def ngram_table(found: list[tuple[str, dict]], mode: str) -> str:
    """The columns of the paper's Table 2."""
    head = ["system", *(name.replace("_", "-").upper() for name in NAMES)]
    rows = [[name, *(number(n["text"][mode][key]) for key in NAMES)] for name, n in found]
    if mode == "corrected":
        head.append("sacreBLEU zh")
        for row, (_, numbers) in zip(rows, found, strict=True):
            row.append(number(numbers["text"]["sacrebleu_zh"]))
    return table(head, rows)


def gate_matrix(tasks: dict[str, dict], key: str) -> str:
    rows = [
        [f"text of {task}", *(number(tasks[task][key].get(other), 4) for other in TASKS)]
        for task in TASKS
    ]
    return table(["", *(f"gates of {task}" for task in TASKS)], rows)


def method_cells(tasks: dict[str, dict[str, float]]) -> list[str]:
    """Means over tasks of what a quantizer's comparison holds; `-` for what it lacks."""

    def mean(name: str) -> float | None:
        values = [numbers[name] for numbers in tasks.values() if name in numbers]
        return sum(values) / len(values) if values else None

    delta, top = mean("delta_loss"), mean("top1")
    return [
        "-" if delta is None else f"{delta:+.4f}",
        number(mean("kl"), 4),
        "-" if top is None else f"{100 * top:.1f} %",
    ]
