"""Held-out numbers of the exported model -> evaluation.json and metrics/evaluation.jsonl.

Losses are nats per answer token on test dialogues. KL(p || q) is the mean over the same positions of
sum p log(p / q); top-1 is how often both put the same token first. Text measures are on characters,
so no word segmenter can move them.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from training.batches import TASKS, Batch, fixed_batches, read_lines
from training.experts import set_mode
from training.export import device_model, float_model, write_about, write_json
from training.model import EOS, Model
from training.pedcorpus.doses import count_doses
from training.stages.common import Run
from training.tokenizer import PedTokenizer

SHOWN = 10
BATCH_ROWS = 2


@dataclass
class Sums:
    """Running means over answer tokens."""

    tokens: int = 0
    totals: dict[str, float] = field(default_factory=dict)

    def add(self, count: int, **values: Tensor) -> None:
        self.tokens += count
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(value)

    def means(self) -> dict[str, float]:
        return {name: total / max(1, self.tokens) for name, total in self.totals.items()}


def log_probs(model: Model, batch: Batch, tasks: Tensor) -> Tensor:
    """(N, V) at the answer tokens."""
    hidden = model.hidden(batch.tokens, batch.segments, tasks)[batch.answers]
    return model.lm_head(hidden).float().log_softmax(-1)


def divergence(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """(sum over rows of KL(p || q), rows with the same first token); both log-probs (N, V)."""
    kl = F.kl_div(q, p, log_target=True, reduction="sum")
    return kl, (p.argmax(-1) == q.argmax(-1)).sum()


def compare(run: Run, models: dict[str, Model], task: int) -> dict:
    """Every variant on the test rows of one task: losses, KL and agreement, gates of other tasks."""
    losses, against, gates = Sums(), Sums(), Sums()
    rows = run.preset.test_rows
    for batch in fixed_batches(run.packed, f"sft-{TASKS[task]}.test", BATCH_ROWS, rows):
        run.deadline.check()
        count = int(batch.answers.sum())
        if count == 0:
            continue
        targets = batch.targets[batch.answers]

        def of(model: Model, mode: str, gate_task: int = task, batch: Batch = batch) -> Tensor:
            set_mode(model, mode)
            return log_probs(model, batch, torch.full((len(batch.tokens),), gate_task))

        def loss(p: Tensor, targets: Tensor = targets) -> Tensor:
            return F.nll_loss(p, targets, reduction="sum")

        merged = of(models["merged"], "task")
        others = {
            "routed": of(models["routed"], "token"),
            "universal": of(models["merged"], "universal"),
            "none": of(models["merged"], "none"),
            "device": of(models["device"], "task"),
        }
        losses.add(count, merged=loss(merged), **{k: loss(p) for k, p in others.items()})
        numbers = {}
        for name, other in others.items():
            # the reference comes first: the router that merging replaces, else the merged model
            pair = (other, merged) if name == "routed" else (merged, other)
            numbers[f"{name}_kl"], numbers[f"{name}_top1"] = divergence(*pair)
        against.add(count, **numbers)
        under = {
            name: loss(merged if i == task else of(models["merged"], "task", i))
            for i, name in enumerate(TASKS)
        }
        gates.add(count, **under)
    set_mode(models["merged"], "task")
    set_mode(models["device"], "task")
    return {
        "answer_tokens": losses.tokens,
        "loss": losses.means(),
        "against": against.means(),
        "gates": gates.means(),
    }


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence, on characters without white space."""
    a, b = "".join(answer.split()), "".join(reference.split())
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    common = row[-1]
    return 2 * common / (len(a) + len(b))


def loops(text: str, size: int = 6, times: int = 3) -> bool:
    """Whether some run of `size` characters occurs at least `times` times."""
    counts = Counter(text[i : i + size] for i in range(len(text) - size + 1))
    return any(count >= times for count in counts.values())


def distinct_2(texts: list[str]) -> float:
    """Different pairs of neighbouring characters as a share of all pairs, over all texts."""
    pairs = [text[i : i + 2] for text in texts for i in range(len(text) - 1)]
    return len(set(pairs)) / max(1, len(pairs))


def questions(run: Run, words: PedTokenizer, task: str) -> list[tuple[list[dict], str]]:
    """Held-out dialogues up to their last question, and the answer that followed."""
    room = run.preset.config.capacity - run.preset.answer_tokens
    found = []
    for chat in read_lines(run.out / "corpus" / "chat.jsonl"):
        if chat["task"] != task or chat["split"] != "test":
            continue
        last = max(i for i, turn in enumerate(chat["turns"]) if turn["role"] == "assistant")
        turns = chat["turns"][:last]
        if turns and turns[-1]["role"] == "user" and len(words.encode_turns(turns)[0]) <= room:
            found.append((turns, chat["turns"][last]["text"]))
    step = max(1, len(found) // run.preset.answers)
    return found[::step][: run.preset.answers]


def answers(run: Run, model: Model, words: PedTokenizer, task: int) -> dict:
    """Greedy answers of the device model on held-out questions, measured and some of them shown."""
    rows = []
    for turns, reference in questions(run, words, TASKS[task]):
        run.deadline.check()
        prompt = words.encode_turns(turns)[0]
        tokens, _ = model.generate(prompt, run.preset.answer_tokens, task)
        text = words.decode(tokens)
        rows.append(
            {
                "question": [turn["text"] for turn in turns],
                "answer": text,
                "reference": reference,
                "ended": tokens[-1] == EOS,
                "rouge_l": rouge_l(text, reference),
                "loops": loops(text),
                "doses": count_doses(text),
            }
        )
    count = max(1, len(rows))
    return {
        "answers": len(rows),
        "rouge_l": sum(r["rouge_l"] for r in rows) / count,
        "distinct_2": distinct_2([r["answer"] for r in rows]),
        "loop_rate": sum(r["loops"] for r in rows) / count,
        "end_rate": sum(r["ended"] for r in rows) / count,
        "doses": sum(r["doses"] for r in rows),
        "samples": rows[:SHOWN],
    }


def verdict(tasks: dict[str, dict]) -> list[str]:
    """What the numbers say against the adapter, in plain words. Empty: nothing."""
    found = []
    for task, numbers in tasks.items():
        loss, gates = numbers["loss"], numbers["gates"]
        if loss["merged"] >= loss["none"]:
            found.append(f"{task}: the adapter changes nothing for the better")
        elif loss["merged"] >= loss["universal"]:
            found.append(f"{task}: the universal expert alone does as well")
        for other, value in gates.items():
            if other != task and value <= gates[task]:
                found.append(f"{task}: the gates of {other} do as well or better")
    return found


def flat_metrics(tasks: dict[str, dict]) -> dict[str, float]:
    """The numbers that go into the package, by dotted names."""
    metrics = {}
    for task, numbers in tasks.items():
        for name, value in numbers["loss"].items():
            metrics[f"{task}.loss.{name}"] = value
        for name, value in numbers["against"].items():
            metrics[f"{task}.{name}"] = value
        for name in ("rouge_l", "distinct_2", "loop_rate", "end_rate", "doses"):
            metrics[f"{task}.{name}"] = numbers["text"][name]
    return {name: round(float(value), 5) for name, value in metrics.items()}


@torch.no_grad()
def evaluate(run: Run) -> None:
    began = time.monotonic()
    words = PedTokenizer.load(run.out / "checkpoint")
    models = {
        "merged": float_model(run, "adapter"),
        "routed": float_model(run, "adapter-routed"),
        "device": device_model(run, "adapter"),
    }
    tasks = {}
    for i, task in enumerate(TASKS):
        tasks[task] = compare(run, models, i)
        tasks[task]["text"] = answers(run, models["device"], words, i)
    result = {
        "tasks": tasks,
        "against_the_adapter": verdict(tasks),
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(run.out / "evaluation.json", result)
    metrics = flat_metrics(tasks)
    (run.out / "metrics" / "evaluation.jsonl").write_text(json.dumps(metrics) + "\n")
    write_about(run, metrics)
