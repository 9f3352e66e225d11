"""Golden files: what a correct engine must compute from the exported weights.

Greedy is plain argmax. A prompt qualifies when each task's 32 tokens do not end, hold at least 16
different tokens, are whole characters and stay clear of ties, and the three texts differ. In merged
mode one prompt serves all three tasks where there is one, which proves that the gates matter; in
routed mode, where the router does not see the task, every task has a prompt of its own. Of the
prompts that qualify the one with the widest smallest margin wins.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice

import torch
from safetensors.torch import save_file
from torch import Tensor

from training.base import Base
from training.batches import TASKS, read_lines
from training.experts import adapted, watch
from training.export import device_model, write_json
from training.stages.common import Run
from training.tokenizer import PedTokenizer

COUNT = 32
DISTINCT = 16
MARGIN = 1e-3
LONGEST_PROMPT = 64  # tokens
COMMON = 160  # prompts that are tried on all tasks
CANDIDATES = 2500  # prompts that are tried on one task: few answers of evidiag are so long
ENOUGH = 6  # prompts that qualify; more are not looked for


@dataclass(frozen=True)
class Answer:
    prompt: str
    prompt_tokens: list[int]
    greedy_tokens: list[int]
    greedy_text: str
    smallest_margin: float
    distinct: int

    def qualifies(self, end: int) -> bool:
        """end: the token that ends an answer."""
        return (
            end not in self.greedy_tokens
            and len(self.greedy_tokens) == COUNT
            and "\ufffd" not in self.greedy_text  # the 32nd token may end inside a character
            and self.distinct >= DISTINCT
            and self.smallest_margin >= MARGIN
        )


def candidates(run: Run, words: PedTokenizer, task: str | None, limit: int) -> Iterator[str]:
    """At most `limit` short first questions, held-out ones first. task None: of all tasks in turn."""
    if task is None:
        turns = zip(*(candidates(run, words, each, limit) for each in TASKS), strict=False)
        yield from islice(chain.from_iterable(turns), limit)
        return
    chats = [c for c in read_lines(run.out / "corpus" / "chat.jsonl") if c["task"] == task]
    seen: set[str] = set()
    for split in ("test", "valid", "train"):
        for chat in chats:
            question = chat["turns"][0]["text"]
            if chat["split"] != split or question in seen:
                continue
            if len(prompt_tokens(words, question)) <= LONGEST_PROMPT:
                seen.add(question)
                yield question
                if len(seen) == limit:
                    return


def prompt_tokens(words: PedTokenizer, question: str) -> list[int]:
    return words.encode_turns([{"role": "user", "text": question}])[0]


def answer(model: Base, words: PedTokenizer, question: str, task: int) -> Answer:
    prompt = prompt_tokens(words, question)
    tokens, margins = model.generate(prompt, COUNT, task, words.eos)  # one that ends is of no use
    text = words.decode(tokens)
    return Answer(question, prompt, tokens, text, min(margins), len(set(tokens)))


def choose_merged(run: Run, model: Base, words: PedTokenizer) -> dict[str, Answer]:
    """One prompt for the three tasks where there is one; else the best prompt of every task."""
    best: dict[str, Answer] = {}
    good = 0
    for question in candidates(run, words, None, COMMON):
        run.deadline.check()
        answers = {}
        for i, task in enumerate(TASKS):
            answers[task] = answer(model, words, question, i)
            if not answers[task].qualifies(words.eos):
                break
        texts = {a.greedy_text for a in answers.values()}
        if len(answers) < len(TASKS) or len(texts) < len(TASKS):
            continue
        if not all(a.qualifies(words.eos) for a in answers.values()):
            continue
        if not best or smallest(answers) > smallest(best):
            best = answers
        good += 1
        if good == ENOUGH:
            break
    return best or choose_routed(run, model, words)


def choose_routed(run: Run, model: Base, words: PedTokenizer) -> dict[str, Answer]:
    """A prompt of its own for every task. Raises ValueError where a task has none."""
    chosen: dict[str, Answer] = {}
    for i, task in enumerate(TASKS):
        good: list[Answer] = []
        # Where a task's own questions get short answers, others' questions serve.
        for question in chain(
            candidates(run, words, task, CANDIDATES), candidates(run, words, None, COMMON)
        ):
            run.deadline.check()
            made = answer(model, words, question, i)
            if made.qualifies(words.eos) and made.greedy_text not in {
                a.greedy_text for a in chosen.values()
            }:
                good.append(made)
            if len(good) == ENOUGH:
                break
        if not good:
            raise ValueError(f"golden: no prompt of {task} gives {COUNT} usable greedy tokens")
        chosen[task] = max(good, key=lambda a: a.smallest_margin)
    return chosen


def smallest(answers: dict[str, Answer]) -> float:
    return min(a.smallest_margin for a in answers.values())


def tensors_of(model: Base, task: str, made: Answer) -> dict[str, Tensor]:
    """Residual stream (L + 1, T, D), logits (T, V) and, where routed, gates (T, E - 1)."""
    routed = any(module.mode == "token" for _, module in adapted(model))
    watch(model, routed)
    trace: list[Tensor] = []
    tokens = torch.tensor([made.prompt_tokens])
    hidden = model.hidden(tokens, tasks=torch.tensor([TASKS.index(task)]), trace=trace)
    tensors = {
        f"{task}.hidden": torch.stack([x[0] for x in trace]),
        f"{task}.logits": model.lm_head(hidden)[0],
    }
    for name, module in adapted(model):
        if routed:
            tensors[f"{task}.gates.{name}"] = module.seen.pop()[0]
    watch(model, False)
    return {name: tensor.float().contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def golden(run: Run) -> None:
    """Writes golden/NAME.json (and .safetensors), for tiny models also of the routed adapter."""
    words = run.tokenizer()
    folder = run.out / "golden"
    folder.mkdir(exist_ok=True)
    about = json.loads((run.out / "checkpoint" / "pediatricsgpt.json").read_text(encoding="utf-8"))
    files = [(run.preset.golden, "adapter", "merged", choose_merged)]
    if run.preset.golden_tensors:
        files.append((f"{run.preset.golden}-routed", "adapter-routed", "routed", choose_routed))
    for name, adapter, mode, choose in files:
        model = device_model(run, adapter)
        try:
            chosen = choose(run, model, words)
        except ValueError as error:
            if run.preset.base is None:
                raise
            # the run is whole without: only the packages of this repository are tested by it
            print(f"{error}; {name}.json is not written", file=sys.stderr)
            continue
        tasks = {task: asdict(made) for task, made in chosen.items()}
        write_json(folder / f"{name}.json", {"model": about["id"], "mode": mode, "tasks": tasks})
        if run.preset.golden_tensors:
            tensors: dict[str, Tensor] = {}
            for task, made in chosen.items():
                tensors |= tensors_of(model, task, made)
            save_file(tensors, folder / f"{name}.safetensors")
