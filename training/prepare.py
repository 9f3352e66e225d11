"""From corpus records to rows of token ids, out of core: a file is read line by line, never whole.

`prepare` tokenises once and writes plain .npy files that the stages map into memory:

    NAME.tokens.npy    uint16 or, for a vocabulary over 65,536, uint32 (N, T + 1)
    NAME.segments.npy  uint16 (N, T + 1), 1 .. per document, 0 padding   } sets with answers
    NAME.counted.npy   bool   (N, T + 1), token is part of an answer     } only

    text-pediatric.train  text-general.train  text.valid   plain text, documents end with EOS
    chat-TASK.train  .valid          instructions in completion form: every token counts (CPT)
    sft-TASK.train  .valid  .test    dialogues whose answers count (SFT)
    moe-TASK.train                   the reserved dialogues, or all where none are reserved (adapter)
    people-TASK.train                those of moe that people wrote, about children or (`reserve_general`) adults
    human-TASK.valid  .test          those of sft that people wrote
    pairs.train                      rows 2i chosen, 2i + 1 rejected (DFPO)
    own-TASK.train                   those whose rejected answer is the model's own and ends badly (adapter)

The order of records is that of a hash of seed and id, so it depends on neither the order of the file
nor the machine. Only 16 bytes per record are kept: where its line begins and its hash.
"""

import json
import zlib
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np

from training.packing import (
    ChatRows,
    Packed,
    StreamRows,
    Words,
    completion,
    pair_rows,
    token_type,
    windows,
)
from training.pedcorpus.tasks import task_of
from training.presets import Preset

TASKS = ("medkqa", "evidiag", "trerecom")
CHAT_KINDS = (*TASKS, "general")
HELD_OUT = 100  # one text in so many is kept for validation,
MOST_HELD_OUT = 200  # and no more than these
OWN_FAULT = "own-"  # kinds of own pairs with a fault that shows: short, endless, in a loop, a dose
AT_ONCE = 512  # texts that are tokenised together


def hashed(*parts: object) -> int:
    """64 bits of a hash of the parts, the same everywhere."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def served(preset: Preset, record: dict) -> str:
    """The task whose sets a dialogue joins: its own, but for general ones that are kept for the adapter
    stage. These are consultations with one answer, written by people; they join the task that asks so."""
    asked = [turn["text"] for turn in record["turns"] if turn["role"] == "user"]
    if (
        record["task"] != "general"
        or record["split"] != "train"
        or record["templated"]
        or [turn["role"] for turn in record["turns"]].count("assistant") != 1
        or hashed("reserve", record["id"]) >= preset.reserve_general * 2.0**64
    ):
        return record["task"]
    return task_of(asked[0], pediatric=True)


def reserved(preset: Preset, record: dict) -> bool:
    """Whether a training dialogue is kept for the adapter stage alone.

    Of a task's dialogue it reads id, task and split, of a general one also `templated` and turns.
    """
    if record["task"] not in TASKS:
        return preset.reserve_general > 0 and served(preset, record) in TASKS
    return record["split"] == "train" and hashed("reserve", record["id"]) < preset.reserve * 2.0**64


def read_lines(path: Path) -> Iterator[dict]:
    """Records of a JSON lines file. A line that is no JSON raises ValueError with its number."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


class Order:
    """Places of records in a JSON lines file, by group, to be read in hashed order."""

    def __init__(self, path: Path, seed: int, group: Callable[[dict], str | None]):
        """group(record) names the group of a record, or None to leave it out."""
        self.path = path
        self.places: dict[str, np.ndarray] = {}
        places: dict[str, tuple[array, array]] = {}
        with path.open("rb") as file:
            at = 0
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    name = group(record)
                    key = hashed(seed, record["id"])
                except (ValueError, KeyError) as error:
                    raise ValueError(f"{path}, line {number}: {error!r}") from error
                if name is not None:
                    offsets, keys = places.setdefault(name, (array("q"), array("Q")))
                    offsets.append(at)
                    keys.append(key)
                at += len(line)
        for name, (offsets, keys) in places.items():
            where = np.frombuffer(offsets, np.int64)
            self.places[name] = where[np.lexsort((where, np.frombuffer(keys, np.uint64)))]

    def records(self, group: str) -> Iterator[dict]:
        """The records of a group in hashed order, one in memory at a time."""
        with self.path.open("rb") as file:
            for place in self.places.get(group, ()):
                file.seek(place)
                yield json.loads(file.readline())


def questions(turns: list[dict]) -> Iterator[int]:
    """A hash of the dialogue up to each of its questions."""
    for end, turn in enumerate(turns, 1):
        if turn["role"] == "user":
            yield hashed(*(turn[key] for turn in turns[:end] for key in ("role", "text")))


def prepare(corpus: Path, tokenizer: Words, preset: Preset, out: Path) -> dict:
    """Tokenises the corpus into `out`; returns rows and tokens per set.

    Own pairs, of the trained model's answers, are added by `prepare_pairs` when they are there.
    """
    out.mkdir(parents=True, exist_ok=True)
    sizes = _texts(corpus / "text.jsonl", tokenizer, preset, out)
    sizes |= _chats(corpus / "chat.jsonl", tokenizer, preset, out)
    sizes |= prepare_pairs(corpus, tokenizer, preset, out)
    (out / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")
    return sizes


def _texts(path: Path, words: Words, preset: Preset, out: Path) -> dict[str, dict[str, int]]:
    checks = array("Q", (zlib.crc32(record["id"].encode()) for record in read_lines(path)))
    few = min(MOST_HELD_OUT, -(-len(checks) // HELD_OUT))
    held_out = set(np.argsort(np.frombuffer(checks, np.uint64), kind="stable")[:few].tolist())
    seen = iter(range(len(checks)))

    def group(record: dict) -> str:
        if next(seen) in held_out:
            return "text.valid"
        return "text-pediatric.train" if record["pediatric"] else "text-general.train"

    order = Order(path, preset.seed, group)
    limits = {
        "text-pediatric.train": preset.max_tokens,
        "text-general.train": preset.max_tokens,
        "text.valid": preset.valid_rows * preset.cpt.context * 2,
    }
    return {
        name: _text_set(order, name, name, limit, words, preset, out)
        for name, limit in limits.items()
    }


def _text_set(
    order: Order, group: str, name: str, limit: int, words: Words, preset: Preset, out: Path
) -> dict[str, int]:
    """Rows of the texts of a group, up to `limit` tokens."""
    context, dtype = preset.cpt.context, token_type(words)
    packed, rows = Packed(out, name, context, tokens=dtype), StreamRows(context, dtype)
    texts = (record["text"] for record in order.records(group))
    for document in _documents(words, texts, limit):
        packed.add_all(rows.add(document))
    return packed.close()


def _documents(words: Words, texts: Iterator[str], limit: int) -> Iterator[list[int]]:
    """Tokens of texts, each with its EOS, until there are `limit`."""
    total = 0
    while batch := [text for _, text in zip(range(AT_ONCE), texts, strict=False)]:
        for tokens in words.encode_many(batch):
            yield [*tokens, words.eos]
            total += len(tokens) + 1
            if total >= limit:
                return


def _chats(path: Path, words: Words, preset: Preset, out: Path) -> dict[str, dict[str, int]]:
    order = Order(path, preset.seed, lambda record: f"{served(preset, record)}.{record['split']}")
    sizes = {}
    for task in CHAT_KINDS:
        for split in ("train", "valid", "test"):
            sizes |= _chat_sets(order.records(f"{task}.{split}"), task, split, words, preset, out)
    if preset.instructions == "text":
        sizes |= _completions(path.with_name("completions.jsonl"), words, preset, out)
    return sizes


def _completions(path: Path, words: Words, preset: Preset, out: Path) -> dict[str, dict[str, int]]:
    """Training instructions as running text. Held-out ones stay dialogues, to be compared."""

    chats = read_lines(path.with_name("chat.jsonl")) if preset.reserve_general > 0 else ()
    apart = {chat["id"] for chat in chats if reserved(preset, chat)}

    def group(record: dict) -> str | None:
        if record["task"] in TASKS and reserved(preset, record | {"split": "train"}):
            return None
        return None if record["id"] in apart else record["task"]

    order = Order(path, preset.seed, group)
    return {
        f"chat-{task}.train": _text_set(
            order, task, f"chat-{task}.train", preset.max_tokens, words, preset, out
        )
        for task in CHAT_KINDS
    }


def _chat_sets(
    records: Iterator[dict], task: str, split: str, words: Words, preset: Preset, out: Path
) -> dict[str, dict[str, int]]:
    """All sets of the dialogues of one task and split."""
    dtype, context = token_type(words), preset.sft.context
    parts = {"tokens": dtype, "segments": np.uint16, "counted": np.bool_}
    wanted = ["sft"]
    if task in TASKS:
        wanted += ["moe", "people"] if split == "train" else ["human"]
    packed = {kind: Packed(out, f"{kind}-{task}.{split}", context, **parts) for kind in wanted}
    rows = {kind: ChatRows(context, dtype) for kind in wanted}
    stream = None
    if split != "test":
        stream = Packed(out, f"chat-{task}.{split}", preset.cpt.context, tokens=dtype)
        streamed = StreamRows(preset.cpt.context, dtype)
    budget = preset.max_tokens
    for record in records:
        into = ["sft"]
        if split == "train" and task in TASKS:
            apart = reserved(preset, record)
            into = ["moe"] if apart else ["sft"] if preset.reserve > 0 else ["sft", "moe"]
            if "moe" in into and not record["templated"]:
                into.append("people")
        elif task in TASKS and not record["templated"]:
            into.append("human")
        for chat in windows(words, record["turns"], context + 1):
            for kind in into:
                packed[kind].add_all(rows[kind].add(chat))
            budget -= len(chat[0])
        if stream is not None and "sft" in into:
            stream.add_all(streamed.add(completion(words, record["turns"])))
        if budget <= 0:
            break
    for kind in wanted:
        packed[kind].add_all(rows[kind].close())
    sets = [*packed.values(), *([stream] if stream is not None else [])]
    return {made.name: made.close() for made in sets}


def prepare_pairs(
    corpus: Path, tokenizer: Words, preset: Preset, out: Path, own: Path | None = None
) -> dict[str, dict[str, int]]:
    """Writes pairs.train from pairs.jsonl and, where it is there, own_pairs.jsonl. Those of the latter
    with a fault that shows also make own-TASK.train.

    own: that file, else it is looked for beside pairs.jsonl. Pairs that ask what a reserved dialogue
    asks, or that say one of its answers, are left out, and so are those that do not fit into a row.
    """
    apart: set[int] = set()
    answers: set[str] = set()
    some = preset.reserve > 0 or preset.reserve_general > 0
    for record in read_lines(corpus / "chat.jsonl") if some else ():
        if reserved(preset, record):
            apart.update(questions(record["turns"]))
            answers.update(t["text"] for t in record["turns"] if t["role"] == "assistant")
    dtype, context = token_type(tokenizer), preset.dfpo.context
    parts = {"tokens": dtype, "counted": np.bool_}
    names = ["pairs.train", *(f"own-{task}.train" for task in TASKS)]
    packed = {name: Packed(out, name, context, **parts) for name in names}
    for path in (corpus / "pairs.jsonl", own or corpus / "own_pairs.jsonl"):
        if path.exists() or path.name == "pairs.jsonl":
            for pair in Order(path, preset.seed, lambda record: "pair").records("pair"):
                # the whole prompt: openings of dialogues are alike without being the same dialogue
                if apart.intersection(list(questions(pair["turns"]))[-1:]):
                    continue
                if not answers.isdisjoint((pair["chosen"], pair["rejected"])):
                    continue
                rows = pair_rows(tokenizer, pair, context, dtype) or ()
                packed["pairs.train"].add_all(rows)
                if pair["task"] in TASKS and pair.get("kind", "own").startswith(OWN_FAULT):
                    packed[f"own-{pair['task']}.train"].add_all(rows)
    return {name: made.close() for name, made in packed.items()}
