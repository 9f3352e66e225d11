"""The bars themselves: what is wanted, what was measured, and whether that is enough."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from training.metrics.gates import share_apart

PENALTY = 1.1
APART = 0.1
LAYERS = 0.5
LOOPS = 0.02
ENDS = 0.95
LENGTH = 0.6
ANSWERS = 1000
MAX_BYTES = 32_000_000


@dataclass(frozen=True)
class Bar:
    """One bar of one package. `met` is None where it was not measured, and `number` says why."""

    package: str
    bar: str
    wanted: str
    number: str
    met: bool | None

    def as_dict(self) -> dict:
        return asdict(self)


def _interval(numbers: dict, digits: int = 3) -> str:
    low, high = numbers["low"], numbers["high"]
    return f"{numbers['value']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def bits(found: dict) -> tuple[str, bool | None]:
    parts = []
    for task, numbers in found["tasks"].items():
        if numbers["human"]["items"] == 0:
            return f"no human-written test items of {task}", None
        parts.append(f"{task} {numbers['human']['bits_per_character']['value']:.3f}")
    against = found.get("against_first")
    if against is None:
        return ", ".join(parts) + " (what others have to beat)", None
    parts = [f"{part} ({_interval(against[part.split()[0]])})" for part in parts]
    return ", ".join(parts), all(numbers["value"] < 0 for numbers in against.values())


def rouge(found: dict, rival: str) -> tuple[str, bool | None]:
    parts, above = [], []
    for task, numbers in found["tasks"].items():
        answers = numbers["answers_human"]
        if answers["answers"] == 0:
            return f"no human-written test items of {task}", None
        mine, theirs = answers["rouge_l"]["value"], answers[f"{rival}_rouge_l"]
        above.append(mine > theirs)
        parts.append(f"{task} {mine:.2f} : {theirs:.2f}")
    return ", ".join(parts), any(above) if rival == "bm25" else all(above)


def apart(found: dict) -> tuple[str, bool | None]:
    distances = found["total_variation"]
    if not distances:
        return "the package has no gates per task", None
    shares = {pair: share_apart(values, APART) for pair, values in distances.items()}
    text = ", ".join(f"{pair} {100 * share:.0f} % of layers" for pair, share in shares.items())
    return text, min(shares.values()) >= LAYERS


def costs(found: dict) -> tuple[str, bool | None]:
    parts, lows = [], []
    for task, numbers in found["tasks"].items():
        for other, interval in numbers["other_gates"].items():
            parts.append(f"{task} under {other} {_interval(interval, 4)}")
            lows.append(interval["low"])
    if not lows:
        return "the package has no gates per task", None
    return ", ".join(parts), min(lows) > 0


def uncertain_gates(found: dict) -> list[str]:
    """Of a measured package, what other gates cost where the interval reaches 0, in words."""
    return [
        f"text of {task} under the gates of {other} {_interval(interval)} bits per character"
        for task, numbers in found["tasks"].items()
        for other, interval in numbers["other_gates"].items()
        if interval["low"] <= 0
    ]


def gates_sentence(bars: dict | None) -> str:
    """What may be said of a run whose tasks all lose least under their own gates, by mean losses on
    packed rows. bars: what `training.bars` wrote of its package (the last one), None without."""
    said = "by mean loss, each task's own gates are its best"
    if bars is None:
        return f"{said}; without bars there are no intervals, so that is not certain."
    found = bars["packages"][-1]
    count = sum(len(numbers["other_gates"]) for numbers in found["tasks"].values())
    if count == 0:
        return f"{said}; the measured package has no gates per task, so there are no intervals."
    reach = uncertain_gates(found)
    if not reach:
        return f"{said}; all {count} intervals of the bars say so."
    return f"{said}, but {len(reach)} of {count} intervals of the bars reach 0: {'; '.join(reach)}."


def loops(found: dict) -> tuple[str, bool | None]:
    rate = found["human_answers"]["loop_rate"]
    return f"{100 * rate:.2f} % of {found['human_answers']['answers']}", rate < LOOPS


def ends(found: dict) -> tuple[str, bool | None]:
    rate = found["human_answers"]["end_rate"]
    return f"{100 * rate:.2f} % of {found['human_answers']['answers']}", rate >= ENDS


def length(found: dict) -> tuple[str, bool | None]:
    numbers = found["human_answers"]
    text = f"{numbers['length']:.1f} / {numbers['reference_length']:.1f} characters"
    return f"{numbers['length_ratio']:.3f} ({text})", numbers["length_ratio"] >= LENGTH


def doses(found: dict) -> tuple[str, bool | None]:
    numbers = found["searched_for_doses"]
    text = f"{numbers['answers_with_doses']} of {numbers['answers']} answers"
    if numbers["answers_with_doses"] > 0:
        return text, False
    if numbers["answers"] < ANSWERS:
        return f"{text}: too few to say", None
    return text, True


def size(found: dict) -> tuple[str, bool | None]:
    return f"{found['bytes']:,} bytes", found["bytes"] < MAX_BYTES


def penalty(found: dict) -> tuple[str, bool | None]:
    return f"{found['penalty']:g}", found["penalty"] <= PENALTY


BARS: tuple[tuple[str, str, Callable[[dict], tuple[str, bool | None]]], ...] = (
    ("bits per character", "below the first package's on every task", bits),
    ("ROUGE-L : BM25", "above on at least one task", lambda found: rouge(found, "bm25")),
    ("ROUGE-L : random answer", "above on every task", lambda found: rouge(found, "random")),
    ("gates apart by 0.1", "every two tasks, in at least 50 % of layers", apart),
    ("bits that other gates cost", "every interval above 0", costs),
    ("answers that loop", "under 2 %", loops),
    ("answers that end by themselves", "at least 95 %", ends),
    ("mean length / reference's", "at least 0.6", length),
    ("answers with a free dose", "0 of 1,000", doses),
    ("default penalty", "at most 1.1", penalty),
    ("package", "under 32,000,000 bytes", size),
)


def bars_of(found: dict) -> list[Bar]:
    """All bars of one measured package, in the order in which they are shown."""
    made = []
    for name, wanted, decide in BARS:
        number, met = decide(found)
        made.append(Bar(found["package"], name, wanted, number, met))
    return made


def word(met: bool | None) -> str:
    return {True: "met", False: "NOT met", None: "-"}[met]


def title(found: dict) -> str:
    """What a measured package is called: label and id, or id and folder where it has no label."""
    name = found["package"]
    label = found.get("label", name)
    return f"{label}: {name}" if label != name else f"{name} ({found['folder']})"


def bars_of_run(out: Path) -> dict | None:
    """What `training.bars` wrote into a run's folder; None where it was not measured."""
    path = out / "bars.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def bars_table(result: dict) -> str:
    """The bars of all packages as a Markdown table, and a second one of the numbers behind them."""
    lines = []
    for i, found in enumerate(result["packages"]):
        lines += [f"\n{title(found)}, {found['seconds']:,.0f} s\n"]
        lines += ["| bar | wanted | measured | |", "|---|---|---|---|"]
        bars = result["bars"][i * len(BARS) : (i + 1) * len(BARS)]
        lines += [
            f"| {b['bar']} | {b['wanted']} | {b['number']} | {word(b['met'])} |" for b in bars
        ]
        lines += ["", *task_table(found)]
    return "\n".join(lines).lstrip("\n")


def task_table(found: dict) -> list[str]:
    """Per task and kind of items: likelihood and greedy answers."""
    head = ("task", "items", "bits/char", "penalty", "answers", "ROUGE-L", "BM25", "random")
    head += ("loops", "ended", "length")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for task, numbers in found["tasks"].items():
        for kind, key, factor in (
            ("human", "answers_human", found["penalty"]),
            ("unedited", "answers_unedited", found["penalty"]),
            ("human", "answers_human_without_penalty", 1.0),
            ("templated", "answers_templated", found["penalty"]),
        ):
            scored, answers = numbers[kind], numbers[key]
            if scored["items"] == 0 or answers["answers"] == 0:
                continue
            cells = [task, kind, f"{scored['bits_per_character']['value']:.3f}", f"{factor:g}"]
            cells += [str(answers["answers"]), f"{answers['rouge_l']['value']:.2f}"]
            cells += [f"{answers[f'{rival}_rouge_l']:.2f}" for rival in ("bm25", "random")]
            cells += [f"{100 * answers[rate]:.1f} %" for rate in ("loop_rate", "end_rate")]
            cells.append(f"{answers['length_ratio']:.2f}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines
