"""One table for all that can answer: the stages one after the other, what ships, and baselines.

Every system gets the same held-out items, human-written and templated ones apart.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.metrics.answers import Answer, answer_items, text_counts
from training.metrics.baselines import DRAWS, TrainingAnswers
from training.metrics.bootstrap import mean_interval, ratio_interval
from training.metrics.choice import Question, measure_exam
from training.metrics.items import Item
from training.metrics.likelihood import score_items
from training.metrics.ngram import measure, rouge_l

KINDS = ("human", "templated")
SHIPPED = "shipped"  # the 4-bit model with the repetition penalty that it ships with


@dataclass(frozen=True)
class System:
    """A model to measure, loaded when its turn comes. `gated`: it has gates per task.

    `same_as` names a system measured before with the same weights: only the answers are new.
    """

    name: str
    title: str
    load: Callable[[], object]
    gated: bool
    penalty: float
    same_as: str = ""


@dataclass(frozen=True)
class Sets:
    """Items of one task and kind: those that are scored, and of these the first that are answered."""

    task: str
    number: int
    kind: str
    scored: Sequence[Item]
    answered: Sequence[Item]


def likelihood(model, tokenizer, sets: Sets, gated: bool) -> dict:
    """Loss, perplexity per token and bits per character with its interval."""
    if not sets.scored:
        return {"items": 0}
    scores = score_items(model, tokenizer, sets.scored, sets.number if gated else None)
    if scores.characters.sum() == 0:
        return {"items": 0, "left_out": scores.left_out}
    return {
        "items": len(sets.scored),
        "left_out": scores.left_out,
        "loss": scores.loss,
        "perplexity": math.exp(min(scores.loss, 50.0)),
        "bits_per_character": ratio_interval(
            scores.nats / math.log(2), scores.characters
        ).as_dict(),
    }


def text_measures(answers: Sequence[Answer]) -> dict:
    """n-gram measures in both modes, counts, and ROUGE-L (corrected, times 100) with its interval."""
    if not answers:
        return {"answers": 0}
    each = [100 * rouge_l(*answer.pair) for answer in answers]
    return (
        text_counts(answers)
        | {"rouge_l": mean_interval(each).as_dict()}
        | measure([answer.pair for answer in answers])
    )


def measure_system(
    system: System,
    tokenizer,
    sets: Sequence[Sets],
    count: int,
    questions: Sequence[Question],
    check: Callable[[], None],
    known: dict | None = None,
) -> tuple[dict, list[Answer]]:
    """Numbers of one model per task and kind, and its answers.

    count: most tokens of an answer. check is called between the parts and may stop the work. known:
    what was found of the same weights before; its likelihoods and exam are taken over.
    """
    model = system.load()
    tasks: dict[str, dict] = {}
    answers: list[Answer] = []
    for part in sets:
        check()
        if known is not None:
            numbers = known["tasks"][part.task][part.kind]
        else:
            numbers = likelihood(model, tokenizer, part, system.gated)
        task = part.number if system.gated else None
        made = answer_items(model, tokenizer, part.answered, task, count, system.penalty)
        tasks.setdefault(part.task, {})[part.kind] = numbers | {"text": text_measures(made)}
        answers += made
    check()
    if known is not None:
        exam = known["exam"]
    else:
        exam = measure_exam(model, tokenizer, questions, 0 if system.gated else None)
    found = {"title": system.title, "penalty": system.penalty, "tasks": tasks, "exam": exam}
    return found, answers


def mean_of(measured: Sequence[dict]) -> dict:
    """The mean of numbers at the same place in nested dicts; other values as in the first."""
    found: dict = {}
    for key, first in measured[0].items():
        values = [one[key] for one in measured]
        if isinstance(first, dict):
            found[key] = mean_of(values)
        else:
            found[key] = sum(values) / len(values) if isinstance(first, float) else first
    return found


def measure_baselines(
    sets: Sequence[Sets], pools: dict[str, dict[str, TrainingAnswers]]
) -> tuple[dict[str, dict], dict[str, list[Answer]]]:
    """The nearest and random training answers of the items' kind, as two more systems.

    pools: {kind: {task: answers}}. To a person's question a person's answer is the harder rival.

    Numbers of random answers are means over draws; the answers given back are the first draw.
    """
    systems: dict[str, dict] = {
        "bm25": {"title": "BM25: nearest training answer", "tasks": {}},
        "random": {"title": f"random training answer, mean of {DRAWS} draws", "tasks": {}},
    }
    answers: dict[str, list[Answer]] = {"bm25": [], "random": []}
    for part in sets:
        pool = pools[part.kind][part.task]
        near = pool.nearest(part.answered)
        drawn = [pool.drawn(item) for item in part.answered]
        draws = {
            "bm25": [[Answer(i, text, True) for i, text in zip(part.answered, near, strict=True)]],
            "random": [
                [Answer(i, texts[n], True) for i, texts in zip(part.answered, drawn, strict=True)]
                for n in range(DRAWS)
            ],
        }
        for name, given in draws.items():
            measured = mean_of([text_measures(one) for one in given])
            systems[name]["tasks"].setdefault(part.task, {})
            systems[name]["tasks"][part.task][part.kind] = {"items": 0, "text": measured}
            answers[name] += given[0]
    return systems, answers


def over_random(
    answers: Sequence[Answer], pools: dict[str, dict[str, TrainingAnswers]]
) -> dict[str, dict[str, dict]]:
    """{task: {kind: interval}}: ROUGE-L above the mean of the random answers to the same question."""
    found: dict[tuple[str, str], list[float]] = {}
    for answer in answers:
        kind = KINDS[answer.item.templated]
        drawn = pools[kind][answer.item.task].drawn(answer.item)
        chance = sum(rouge_l(text, answer.item.reference) for text in drawn) / len(drawn)
        apart = found.setdefault((answer.item.task, kind), [])
        apart.append(100 * (rouge_l(*answer.pair) - chance))
    tasks: dict[str, dict[str, dict]] = {}
    for (task, kind), apart in found.items():
        tasks.setdefault(task, {})[kind] = mean_interval(apart).as_dict()
    return tasks


def failures(systems: dict[str, dict], name: str = SHIPPED) -> list[str]:
    """Where a system's answers do not beat random training answers, in plain words.

    A task whose answers could not be measured is named too: it has not beaten anything.
    """
    found = []
    for task in systems[name]["tasks"]:
        for kind in KINDS:
            mine, theirs = (
                s["tasks"][task].get(kind, {}).get("text", {"answers": 0})
                for s in (systems[name], systems["random"])
            )
            if not mine["answers"] or not theirs["answers"]:
                continue
            a, b = mine["rouge_l"]["value"], theirs["rouge_l"]["value"]
            if a <= b:
                found.append(
                    f"{task}, {kind} items: generated answers do not beat random training answers "
                    f"(ROUGE-L {a:.2f} against {b:.2f})"
                )
            break  # human-written items decide where there are any
        else:
            found.append(f"{task}: no answers to held-out questions were measured")
    return found
