"""Between SFT and DFPO: answers of the SFT model itself become the rejected halves of pairs.

Invented bad answers teach a model to avoid what it would not say. Its own greedy answers show what it
does say: it repeats itself, does not stop, stops too soon, names a dose. For each of the chosen
training questions the reference answer is preferred to the model's own, unless both are much alike.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from training.batches import TASKS
from training.distributed import is_main, say
from training.generate import generate_many
from training.journal import read_journal, replace_text
from training.metrics.answers import loops
from training.metrics.items import Item, Turn, read_items
from training.metrics.ngram import rouge_l
from training.packing import Words
from training.pedcorpus.doses import count_doses
from training.pedcorpus.pairs import safe
from training.prepare import hashed, prepare_pairs, reserved
from training.stages.common import Run, done, mark_done, stage_main

OWN_FILE = "own_pairs.jsonl"  # in the folder of packed rows; the fields of pairs.jsonl and `ended`
ALIKE = 0.6  # ROUGE-L from which an own answer is too good to be rejected
SHORT = 0.6  # of the reference's characters: less is too short
AT_ONCE = 64  # prompts between two writes to disk


class Tokenizer(Words, Protocol):
    """A tokenizer that also reads what a model says."""

    def decode(self, ids: list[int]) -> str: ...


@dataclass(frozen=True)
class Own:
    """The model's answer to an item. ended: by itself, before the limit."""

    item: Item
    turns: tuple[Turn, ...]  # what it was asked: the end of the item's prompt that fits
    text: str
    ended: bool


def kind_of(own: Own) -> str:
    """What is wrong with an own answer, the worst first; `own` where nothing shows."""
    if count_doses(own.text):
        return "own-dose"
    if loops(own.text):
        return "own-loop"
    if not own.ended:
        return "own-endless"
    if len(own.text) < SHORT * len(own.item.reference):
        return "own-short"
    return "own"


def own_pair(own: Own) -> dict | None:
    """The pair in the form of pairs.jsonl; None for an answer that is empty or alike the reference,
    that was cut off before it was longer than the reference, and where the reference names a dose."""
    reference = own.item.reference
    if not own.ended and len(own.text) <= len(reference):
        return None
    if not own.text.strip() or not safe(reference) or rouge_l(own.text, reference) > ALIKE:
        return None
    return {
        "id": f"own-{own.item.id}",
        "source": "own",
        "task": own.item.task,
        "turns": list(own.turns),
        "chosen": reference,
        "rejected": own.text,
        "kind": kind_of(own),
        "ended": own.ended,
    }


def choose_items(run: Run) -> list[Item]:
    """`own_rejected` training dialogues, a third of each task, human-written ones first, by hash.

    Reserved ones are not taken: DFPO would show them to the base that the adapter stage trains on.
    """
    preset = run.preset
    items = [
        item
        for item in read_items(run.out / "corpus", TASKS, "train")
        if not reserved(preset, {"id": item.id, "task": item.task, "split": "train"})
    ]
    items.sort(key=lambda item: (item.templated, hashed("own", preset.seed, item.id)))
    by_task = {task: [item for item in items if item.task == task] for task in TASKS}
    chosen: list[Item] = []
    left = preset.own_rejected
    # the smallest task first, so that what it lacks falls to the others
    for number, task in enumerate(sorted(TASKS, key=lambda task: len(by_task[task]))):
        chosen += by_task[task][: -(-left // (len(TASKS) - number))]
        left = preset.own_rejected - len(chosen)
    return chosen


def name_of(item: Item) -> str:
    """An item's name on disk: an id alone may occur in two tasks."""
    return f"{item.task} {item.id}"


def limits(run: Run) -> tuple[int, int]:
    """(most tokens of a prompt, most tokens of an answer): half of a row of DFPO each."""
    room = min(run.preset.dfpo.context, run.preset.config.capacity)
    answer = max(1, room // 2)
    return room - answer, answer


def fitting_turns(words: Words, item: Item, room: int) -> tuple[Turn, ...] | None:
    """The item's prompt without its oldest exchanges, so that it fits into `room` ids; None where
    the last question alone does not."""
    for start, turn in enumerate(item.prompt):
        if turn["role"] == "user" and len(words.encode_turns(list(item.prompt[start:]))[0]) <= room:
            return item.prompt[start:]
    return None


def cut(words: Words, turns: Sequence[Turn], text: str, length: int) -> str:
    """The start of an endless answer, so that dialogue and answer fit into `length` ids: a decoded
    text may take more ids than it was made of."""
    while text:
        answer = {"role": "assistant", "text": text}
        size = len(words.encode_turns([*turns, answer])[0]) - 1  # it has no end
        if size <= length:
            break
        text = text[: len(text) * length // size]
    return text


def answers(run: Run, items: Sequence[Item], path: Path) -> list[Own]:
    """Greedy answers of the SFT model, read back from `path` where they are there already."""
    before = {row["id"]: row for row in read_journal(path)} if path.exists() else {}
    words = cast(Tokenizer, run.tokenizer())
    most_prompt, most_answer = limits(run)
    fitted = ((item, fitting_turns(words, item, most_prompt)) for item in items)
    asked = [(item, turns) for item, turns in fitted if turns is not None]
    todo = [(item, turns) for item, turns in asked if name_of(item) not in before]
    if todo:
        model = run.load_model("sft").eval()
    for start in range(0, len(todo), AT_ONCE):
        run.deadline.check()
        part = todo[start : start + AT_ONCE]
        prompts = [words.encode_turns(list(turns))[0] for _, turns in part]
        with run.autocast():
            made = generate_many(model, prompts, most_answer, stop=words.eos)
        for (item, turns), ids in zip(part, made, strict=True):
            ended = bool(ids) and ids[-1] == words.eos
            text = words.decode(ids)
            if not ended:
                text = cut(words, turns, text, run.preset.dfpo.context)
            before[name_of(item)] = {"id": name_of(item), "text": text, "ended": ended}
        if is_main():
            rows = (json.dumps(row, ensure_ascii=False) + "\n" for row in before.values())
            replace_text(path, "".join(rows))
        say(f"own: {start + len(part)} of {len(todo)} answers")
    found = [(i, turns, before[name_of(i)]) for i, turns in asked]
    return [Own(i, turns, row["text"], row["ended"]) for i, turns, row in found]


def own(run: Run) -> None:
    """Answers, pairs, packed rows. Nothing is done where the preset asks for none."""
    if run.preset.own_rejected == 0 or done(run, "own"):
        return
    folder = run.folder("own")
    folder.mkdir(parents=True, exist_ok=True)
    items = choose_items(run)
    made = answers(run, items, folder / "answers.jsonl")
    pairs = [pair for each in made if (pair := own_pair(each)) is not None]
    kinds: dict[str, int] = {}
    for pair in pairs:
        kinds[pair["kind"]] = kinds.get(pair["kind"], 0) + 1
    path = run.packed / OWN_FILE
    if is_main():
        lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        replace_text(path, "".join(lines))
        prepare_pairs(run.out / "corpus", run.tokenizer(), run.preset, run.packed, path)
    summary = {"name": "own", "asked": len(items), "answers": len(made), "pairs": len(pairs)}
    mark_done(run, "own", summary | {"kinds": kinds})
    say(f"own: {len(pairs)} pairs of {len(made)} answers: {kinds}")


if __name__ == "__main__":
    stage_main(own, __doc__)
