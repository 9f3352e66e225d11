"""Held-out numbers of a run -> evaluation.json, answers/, metrics/evaluation.jsonl.

Three questions: what each stage and each baseline makes of the same held-out items (`systems`), what
the adapter's variants lose against each other (`tasks`), and what a judge says, where one is named.
"""

import json
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from training.base import Base
from training.batches import TASKS
from training.export import device_model, float_model, write_about, write_json
from training.metrics import judge, ngram
from training.metrics.answers import Answer, save_answers
from training.metrics.baselines import training_answers
from training.metrics.choice import read_exam
from training.metrics.gates import total_variation
from training.metrics.items import choose, read_items
from training.metrics.systems import (
    KINDS,
    SHIPPED,
    Sets,
    System,
    failures,
    measure_baselines,
    measure_system,
    over_random,
)
from training.metrics.variants import compare, verdict
from training.stages.common import Run

Each = TypeVar("Each", bound=nn.Module)
SHOWN = 10  # answers of each task that go into the card
SCORED = 4  # times as many items are scored as answered,
EXAM = 10  # and this many times as many exam questions
STAGES = {
    "cpt": "after continued pre-training",
    "sft": "after fine-tuning, without DFPO and adapter",
    "dfpo": "after DFPO, without adapter",
}
COUNTS = ("loop_rate", "end_rate", "length_ratio", "doses")


def placed(run: Run, model: Each) -> Each:
    """The model on the run's device, only to be measured."""
    return model.to(run.device).requires_grad_(False).eval()


def held_out_sets(run: Run) -> list[Sets]:
    """Items of every task and kind, as many as the preset asks for."""
    items = read_items(run.out / "corpus", TASKS, "test")
    sets = []
    for number, task in enumerate(TASKS):
        for kind in KINDS:
            scored = choose(items, task, kind == "templated", SCORED * run.preset.answers)
            sets.append(Sets(task, number, kind, scored, scored[: run.preset.answers]))
    return sets


def run_systems(run: Run, models: dict[str, Base]) -> list[System]:
    """The base where the run started from one, every stage without the next, and what ships.

    models: `merged` and `device`; the others are loaded when their turn comes, and forgotten.
    """
    penalty = run.preset.penalty

    def stage(name: str) -> Callable[[], nn.Module]:
        return lambda: placed(run, run.load_model(name))

    systems = []
    if run.preset.base is not None:
        systems.append(
            System(
                "base",
                "base checkpoint",
                lambda: placed(run, run.new_model()),
                False,
                penalty,
            )
        )
    systems += [System(n, title, stage(n), False, penalty) for n, title in STAGES.items()]
    merged, device = (lambda: models["merged"]), (lambda: models["device"])
    systems += [
        System("adapter", "with the adapter, f32", merged, True, penalty),
        System(SHIPPED, "shipped: 4-bit base, f16 adapter", device, True, penalty),
        System("no-penalty", "shipped, repetition penalty 1.0", device, True, 1.0, SHIPPED),
    ]
    return systems


def judged(run: Run, answers: dict[str, list[Answer]]) -> dict[str, dict]:
    """What ships before a judge, against the model before DFPO and the nearest training answers."""
    endpoint = judge.judge_from_environment()
    found = {}
    for rival in ("sft", "bm25"):
        theirs = {a.item.key: a.text for a in answers[rival]}
        contests = [
            judge.Contest(
                a.item.id,
                "\n".join(turn["text"] for turn in a.item.prompt),
                a.text,
                theirs[a.item.key],
                a.item.reference,
            )
            for a in answers[SHIPPED]
            if a.item.key in theirs and not a.item.templated
        ]
        try:
            found[rival] = judge.compare(endpoint, contests, run.out / "judge.jsonl")
        except judge.EndpointError as error:
            found[rival] = {"skipped": f"skipped: the endpoint failed: {error}"}
    return found


def text_section(system: dict, answers: list[Answer], task: str) -> dict:
    """What the card shows of one task's answers: people's questions where there are any."""
    mine = [a for a in answers if a.item.task == task]
    kind = "human" if any(not a.item.templated for a in mine) else "templated"
    numbers = system["tasks"][task][kind]["text"]
    shown = [a for a in mine if a.item.templated is (kind == "templated")][:SHOWN]
    found: dict = {"kind": kind, "answers": numbers["answers"]}
    found |= {name: numbers.get(name, 0) for name in COUNTS}
    found["samples"] = [
        {
            "question": [turn["text"] for turn in a.item.prompt],
            "answer": a.text,
            "reference": a.item.reference,
            "ended": a.ended,
        }
        for a in shown
    ]
    return found


def flat_metrics(tasks: dict[str, dict], systems: dict[str, dict]) -> dict[str, float]:
    """The numbers that go into the package, by dotted names."""
    metrics: dict[str, float] = {}
    for task, numbers in tasks.items():
        for name, value in numbers["loss"].items():
            metrics[f"{task}.loss.{name}"] = value
        for name, value in numbers["against"].items():
            metrics[f"{task}.{name}"] = value
        for kind in KINDS:
            mine = systems[SHIPPED]["tasks"][task][kind]
            if mine["items"]:
                bits = mine["bits_per_character"]["value"]
                metrics[f"{task}.{kind}.bits_per_character"] = bits
            if not mine["text"]["answers"]:
                continue
            for name in COUNTS:
                metrics[f"{task}.{kind}.{name}"] = mine["text"][name]
            for rival, called in ((SHIPPED, ""), ("bm25", "bm25_"), ("random", "random_")):
                value = systems[rival]["tasks"][task][kind]["text"]["rouge_l"]["value"]
                metrics[f"{task}.{kind}.{called}rouge_l"] = value
    return {name: round(float(value), 5) for name, value in metrics.items()}


@torch.no_grad()
def evaluate(run: Run) -> None:
    """Measures an exported run. Raises StoppedByTime; nothing is written before all is measured."""
    began = time.monotonic()
    words = run.tokenizer()
    models = {
        "merged": placed(run, float_model(run, "adapter")),
        "routed": placed(run, float_model(run, "adapter-routed")),
        "device": placed(run, device_model(run, "adapter")),
    }
    run.deadline.check()
    sets = held_out_sets(run)
    pools = {kind: training_answers(run.out / "corpus", TASKS, kind) for kind in KINDS}
    questions = read_exam(run.out / "corpus")[: EXAM * run.preset.answers]
    systems: dict[str, dict] = {}
    answers: dict[str, list[Answer]] = {}
    for system in run_systems(run, models):
        systems[system.name], answers[system.name] = measure_system(
            system,
            words,
            sets,
            run.preset.answer_tokens,
            questions,
            run.deadline.check,
            systems.get(system.same_as),
        )
    baselines, theirs = measure_baselines(sets, pools)
    systems |= baselines
    answers |= theirs
    for task, kinds in over_random(answers[SHIPPED], pools).items():
        for kind, apart in kinds.items():
            systems[SHIPPED]["tasks"][task][kind]["text"]["over_random"] = apart
    tasks = {}
    for i, task in enumerate(TASKS):
        tasks[task] = compare(run, models, i)
        tasks[task]["text"] = text_section(systems[SHIPPED], answers[SHIPPED], task)
    gates = json.loads((run.out / "adapter" / "task_gates.json").read_text(encoding="utf-8"))
    result = {
        "tasks": tasks,
        "systems": systems,
        "failed": failures(systems),
        "against_the_adapter": verdict(tasks),
        "total_variation": total_variation(gates),
        "judge": {},
        "signatures": {mode: ngram.signature(mode) for mode in ("released", "corrected")},
        "seconds": round(time.monotonic() - began, 1),
    }
    for name, given in answers.items():
        save_answers(run.out / "answers" / f"{name}.jsonl", given)
    # first to disk, then to the judge: an endpoint that fails must not take the rest with it
    write_json(run.out / "evaluation.json", result)
    result["judge"] = judged(run, answers)
    write_json(run.out / "evaluation.json", result)
    metrics = flat_metrics(tasks, systems)
    (run.out / "metrics" / "evaluation.jsonl").write_text(json.dumps(metrics) + "\n")
    write_about(run, metrics)
