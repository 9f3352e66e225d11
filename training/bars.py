"""Measures model packages against the bars of the nano model.

    python -m training.bars --package OLD --package NEW --corpus DIR --out FILE.json [--items N]

It reads packages only, what people download, so every edition is measured by the same script. The
first package is the one that others have to beat. Items are the held-out test dialogues of the corpus:
those written by people decide, those put together from templates stand in a column of their own.
Answers are greedy, with the package's own repetition penalty and with none. --items takes so many of
each task and kind; a bar that needs more then says that it was not measured. --answers DIR keeps the
answers at the package's penalty, DIR/0.jsonl for the first package, to be read or to be judged. With
--cache DIR a package that was measured on the same dialogues is not measured again. --label says what
a package is called in the tables (all editions have one id), once for each --package and in their order.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.metrics import keep as measurements
from training.metrics.answers import Answer, answer_items, save_answers, text_counts
from training.metrics.barlist import bars_of, bars_table
from training.metrics.baselines import TrainingAnswers, training_answers
from training.metrics.bootstrap import mean_interval, ratio_interval
from training.metrics.gates import total_variation
from training.metrics.items import Item, choose, read_items
from training.metrics.keep import Measurement
from training.metrics.likelihood import Scores, score_items
from training.metrics.ngram import corrected, rouge_l, signature
from training.metrics.published import weights_digest
from training.package import PackageModel, load_package, package_gates

ANSWERS = 1000  # so many answers are searched for doses
KINDS = ("human", "templated")
AGAIN = "mend that and run the command again (with --cache, what was measured before is kept)"


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


@dataclass
class Rivals:
    """ROUGE-L of the baselines, per item and times 100. The same for every package.

    Each is measured with two pools of training answers, all of a task and those of people alone
    (most are templated), and the stronger one on the items at hand is the rival.
    """

    pools: dict[str, dict[str, TrainingAnswers]]  # {pool: {task: answers}}
    nearest: dict[str, dict[tuple, float]] = field(default_factory=dict)
    random: dict[str, dict[tuple, float]] = field(default_factory=dict)

    def add(self, items: Sequence[Item]) -> None:
        """Measures the baselines on items of one task."""
        for name, pools in self.pools.items():
            nearest = self.nearest.setdefault(name, {})
            random = self.random.setdefault(name, {})
            new = [item for item in items if item.key not in nearest]
            if not new:
                continue
            pool = pools[new[0].task]
            for item, text in zip(new, pool.nearest(new), strict=True):
                nearest[item.key] = 100 * rouge_l(text, item.reference)
                drawn = [rouge_l(text, item.reference) for text in pool.drawn(item)]
                random[item.key] = 100 * float(np.mean(drawn))

    @staticmethod
    def stronger(found: dict[str, dict[tuple, float]], items: Sequence[Item]) -> np.ndarray:
        """Per item the numbers of the pool whose mean over these items is the highest."""
        pools = [np.array([numbers[item.key] for item in items]) for numbers in found.values()]
        return max(pools, key=lambda numbers: float(numbers.mean()))


def likelihood(scores: Scores, items: int) -> dict:
    """Bits per character with its interval, and what it stands on."""
    if scores.characters.sum() == 0:
        return {"items": 0}
    return {
        "items": items,
        "left_out": scores.left_out,
        "characters": int(scores.characters.sum()),
        "bits_per_character": ratio_interval(scores.nats / np.log(2), scores.characters).as_dict(),
        "loss": round(scores.loss, 6),
    }


def gate_costs(own: Scores, others: dict[str, Scores]) -> dict[str, dict]:
    """Bits per character that other tasks' gates cost, with intervals over items."""
    return {
        name: ratio_interval((other.nats - own.nats) / np.log(2), own.characters).as_dict()
        for name, other in others.items()
    }


def answer_numbers(answers: Sequence[Answer], rivals: Rivals) -> dict:
    """Counts, ROUGE-L with intervals against the baselines, and all corrected measures."""
    if not answers:
        return {"answers": 0}
    mine = np.array([100 * rouge_l(*answer.pair) for answer in answers])
    items = [answer.item for answer in answers]
    near = rivals.stronger(rivals.nearest, items)
    chance = rivals.stronger(rivals.random, items)
    return text_counts(answers) | {
        "rouge_l": mean_interval(mine).as_dict(),
        "bm25_rouge_l": round(float(near.mean()), 6),
        "random_rouge_l": round(float(chance.mean()), 6),
        "over_bm25": mean_interval(mine - near).as_dict(),
        "over_random": mean_interval(mine - chance).as_dict(),
        "corrected": corrected([answer.pair for answer in answers]),
    }


def measure(
    package: PackageModel, items: Sequence[Item], rivals: Rivals, most: int = 0
) -> Measurement:
    """Everything about one package. most: items of each task and kind, 0 for all."""
    began = time.monotonic()
    model, words = package.model, package.tokenizer
    gates = package_gates(package.manifest)
    penalty = float(package.sampling["repetitionPenalty"])
    count = int(package.sampling["maxTokens"])
    human_answers: list[Answer] = []
    searched: list[Answer] = []
    tasks: dict[str, dict] = {}
    human_scores: dict[str, Scores] = {}
    human_total = sum(len(choose(items, task, False, most)) for task in package.tasks)
    extra = most or -(-max(0, ANSWERS - human_total) // len(package.tasks))
    for number, task in enumerate(package.tasks):
        row = number if gates else None
        human = choose(items, task, False, most)
        built = choose(items, task, True, most)
        say(f"{package.name}, {task}: likelihood of {len(human)} + {len(built)} dialogues")
        own = score_items(model, words, human, row)
        human_scores[task] = own
        others = {
            other: score_items(model, words, human, i)
            for i, other in enumerate(package.tasks)
            if gates and other != task
        }
        plain = np.array([item.unedited for item in human], bool)
        numbers = {
            "human": likelihood(own, len(human)),
            "unedited": likelihood(own.only(plain), int(plain.sum())),
            "templated": likelihood(score_items(model, words, built, row), len(built)),
            "other_gates": gate_costs(own, others),
        }
        rivals.add(human)
        rivals.add(built[:extra])
        for name, chosen, factor in (
            ("human", human, penalty),
            ("human_without_penalty", human, 1.0),
            ("templated", built[:extra], penalty),
        ):
            say(f"{package.name}, {task}: {len(chosen)} answers ({name})")
            answers = answer_items(model, words, chosen, row, count, factor)
            left_out = {"left_out": len(chosen) - len(answers)}
            numbers[f"answers_{name}"] = answer_numbers(answers, rivals) | left_out
            if name == "human":
                human_answers += answers
                unedited = [answer for answer in answers if answer.item.unedited]
                numbers["answers_unedited"] = answer_numbers(unedited, rivals)
            if name != "human_without_penalty":
                searched += answers
        tasks[task] = numbers
    found = {
        "package": package.name,
        "folder": str(package.folder),
        "bytes": package.bytes,
        "checkpoint": package.manifest["provenance"]["checkpointSha256"],
        "penalty": penalty,
        "max_tokens": count,
        "tasks": tasks,
        "total_variation": total_variation(gates),
        "human_answers": text_counts(human_answers),
        "searched_for_doses": text_counts(searched),
        "seconds": round(time.monotonic() - began, 1),
    }
    return Measurement(found, human_scores, searched)


def compare(first: Measurement, other: Measurement) -> dict[str, dict]:
    """Per task the bits per character of the other package minus the first one's, same items."""
    found = {}
    for task, theirs in other.scores.items():
        mine = first.scores.get(task)
        if mine is None or not np.array_equal(mine.characters, theirs.characters):
            raise ValueError(f"{task}: the packages were not scored on the same answers")
        difference = (theirs.nats - mine.nats) / np.log(2)
        found[task] = ratio_interval(difference, mine.characters).as_dict()
    return found


class NotMeasurable(ValueError):
    """A package or the corpus is not there or not what it should be; nothing was measured."""


def read_inputs(
    folders: Sequence[Path], corpus: Path
) -> tuple[list[PackageModel], list[Item], Rivals]:
    """Packages, the items they are measured on, and the baselines. Raises OSError and ValueError."""
    packages = [load_package(folder) for folder in folders]
    known = packages[0].tasks
    odd = [package.name for package in packages if set(package.tasks) != set(known)]
    if odd:
        raise ValueError(f"{odd} do not have the tasks of {packages[0].name}: {known}")
    if not (corpus / "chat.jsonl").is_file():
        raise FileNotFoundError(
            f"{corpus / 'chat.jsonl'}: a corpus is RUN/corpus of a training run"
        )
    items = read_items(corpus, known, "test")
    rivals = Rivals({pool: training_answers(corpus, known, pool) for pool in ("all", "human")})
    return packages, items, rivals


def run_bars(
    folders: Iterable[Path],
    corpus: Path,
    most: int = 0,
    keep: Path | None = None,
    cache: Path | None = None,
    labels: Sequence[str] = (),
) -> dict:
    """Measures packages one after the other -> what goes into the file.

    keep: folder for the answers; cache: folder of measurements (`training.metrics.keep`), which are
    taken over where nothing has changed. labels: one per package, or none: then their ids. Raises
    NotMeasurable for packages or a corpus that cannot be read, and ValueError for another number of
    labels.
    """
    folders = list(folders)
    if labels and len(labels) != len(folders):
        raise ValueError(f"{len(labels)} labels for {len(folders)} packages: one --label for each")
    try:
        packages, items, rivals = read_inputs(folders, corpus)
    except (OSError, ValueError) as error:
        raise NotMeasurable(str(error)) from error
    measured: list[Measurement] = []
    for folder, package in zip(folders, packages, strict=True):
        path = cache / f"{measurements.key_of(folder, corpus, most)}.json" if cache else None
        found = measurements.read(path, items) if path else None
        if found is None:
            found = measure(package, items, rivals, most)
            if path:
                measurements.write(path, found, items)
        measured.append(found)
    if keep is not None:
        for i, one in enumerate(measured):
            save_answers(keep / f"{i}.jsonl", one.answers)
    names = labels or [package.name for package in packages]
    results = [
        one.numbers | {"label": name, "weights": weights_digest(package.manifest)}
        for one, name, package in zip(measured, names, packages, strict=True)
    ]
    for one, numbers in zip(measured[1:], results[1:], strict=True):
        numbers["against_first"] = compare(measured[0], one)
    return {
        "corpus": str(corpus),
        "items_per_task_and_kind": most or "all",
        "signature": signature("corrected"),
        "packages": results,
        "bars": [bar.as_dict() for numbers in results for bar in bars_of(numbers)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--package", type=Path, action="append", required=True)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with chat.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--items", type=int, default=0, help="most items per task and kind")
    parser.add_argument("--answers", type=Path, help="folder to keep the answers in")
    parser.add_argument("--cache", type=Path, help="folder of measurements made before")
    parser.add_argument("--label", action="append", help="what a package is called in the tables")
    options = parser.parse_args()
    labels = options.label or []
    if labels and len(labels) != len(options.package):
        parser.error(f"{len(labels)} --label for {len(options.package)} --package: one for each")
    try:
        result = run_bars(
            options.package, options.corpus, options.items, options.answers, options.cache, labels
        )
    except NotMeasurable as error:
        print(f"bars: {error}. Nothing was measured; {AGAIN}", file=sys.stderr)
        sys.exit(2)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(bars_table(result))


if __name__ == "__main__":
    main()
