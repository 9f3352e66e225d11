"""From corpus records to rows of token ids, and from rows to batches.

`prepare` tokenises once and writes plain .npy files that the stages map into memory:

    NAME.tokens.npy    uint16 (N, T + 1)
    NAME.segments.npy  uint16 (N, T + 1), 1 .. per document, 0 padding   } chat sets with answers
    NAME.counted.npy   bool   (N, T + 1), token is part of an answer     } only

For CPT every document becomes completion-style text (a chat: its rendered template), ends with EOS
and is concatenated with the others: the hybrid instruction pre-training of the paper. `Mix` draws
rows from several pools: it starts rich in text and drifts into instructions, and inside a kind it
draws by priority times what is left of the pool (priority sampling, as in HuatuoGPT-II).
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.model import EOS
from training.presets import Preset
from training.tokenizer import PedTokenizer

TASKS = ("medkqa", "evidiag", "trerecom")
CHAT_KINDS = (*TASKS, "general")
Chat = tuple[list[int], list[int]]  # tokens, 1 where a token is part of an answer
HELD_OUT = 100  # one text in so many is kept for validation,
MOST_HELD_OUT = 200  # and no more than these


class Batch(NamedTuple):
    tokens: Tensor  # (B, T)
    targets: Tensor  # (B, T), the next token
    counted: Tensor | None  # (B, T) bool, or None: every position counts
    segments: Tensor | None  # (B, T)
    tasks: Tensor | None  # (B,)

    @property
    def answers(self) -> Tensor:
        """(B, T) bool, of a batch of chats."""
        if self.counted is None:
            raise ValueError("a batch of plain text has no answers")
        return self.counted


def read_lines(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def fit_chat(tokenizer: PedTokenizer, turns: list[dict], length: int) -> Chat | None:
    """Renders as many whole exchanges as fit into `length` tokens; a single answer is cut.

    None where not even half of it is left for an answer.
    """
    ends = [i + 1 for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    for end in reversed(ends):
        tokens, answer = tokenizer.encode_turns(turns[:end])
        if len(tokens) <= length:
            return tokens, answer
        if end == ends[0] and any(answer[: length // 2]):
            return tokens[:length], answer[:length]
    return None


def pack_stream(documents: Iterable[list[int]], context: int) -> np.ndarray:
    """Concatenates documents (each with its EOS) -> (N, T + 1), neighbours share one token."""
    parts = [np.asarray(d, dtype=np.uint16) for d in documents]
    stream = np.concatenate(parts) if parts else np.zeros(0, np.uint16)
    count = max(0, (len(stream) - 1) // context)
    if count == 0:
        return np.zeros((0, context + 1), np.uint16)
    rows = np.lib.stride_tricks.sliding_window_view(stream, context + 1)
    return np.ascontiguousarray(rows[: count * context : context])


def pack_chats(chats: Iterable[Chat], context: int, open_rows: int = 16) -> dict[str, np.ndarray]:
    """First-fit packing of whole chats into rows of T + 1 -> tokens, segments, counted."""
    rows: list[list[Chat]] = []
    room: list[int] = []
    waiting: list[int] = []
    for chat in chats:
        size = len(chat[0])
        place = next((i for i in waiting if room[i] >= size), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room.append(context + 1)
            waiting.append(place)
            if len(waiting) > open_rows:
                waiting.remove(min(waiting, key=room.__getitem__))
        rows[place].append(chat)
        room[place] -= size
    packed = {
        "tokens": np.zeros((len(rows), context + 1), np.uint16),
        "segments": np.zeros((len(rows), context + 1), np.uint16),
        "counted": np.zeros((len(rows), context + 1), np.bool_),
    }
    for i, row in enumerate(rows):
        at = 0
        for number, (tokens, answer) in enumerate(row, 1):
            end = at + len(tokens)
            packed["tokens"][i, at:end] = tokens
            packed["segments"][i, at:end] = number
            packed["counted"][i, at:end] = answer
            at = end
    return packed


def pack_pairs(
    tokenizer: PedTokenizer, pairs: Iterable[dict], context: int
) -> dict[str, np.ndarray]:
    """DFPO pairs -> rows 2i (chosen) and 2i + 1 (rejected); a pair that does not fit is left out."""
    tokens, counted = [], []
    for pair in pairs:
        both = []
        for answer in (pair["chosen"], pair["rejected"]):
            turns = [*pair["turns"], {"role": "assistant", "text": answer}]
            ids, is_answer = tokenizer.encode_turns(turns)
            last = len(is_answer) - 1
            while last > 0 and is_answer[last - 1]:
                last -= 1
            both.append((ids, last))
        if all(len(ids) <= context + 1 for ids, _ in both):
            for ids, start in both:
                pad = context + 1 - len(ids)
                tokens.append(ids + [0] * pad)
                counted.append([False] * start + [True] * (len(ids) - start) + [False] * pad)
    return {
        "tokens": np.asarray(tokens, np.uint16).reshape(-1, context + 1),
        "counted": np.asarray(counted, np.bool_).reshape(-1, context + 1),
    }


def shuffled(items: list, seed: int) -> list:
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]


def save_arrays(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    for part, array in arrays.items():
        np.save(folder / f"{name}.{part}.npy", array)


def take_tokens(tokenizer: PedTokenizer, texts: list[str], limit: int) -> Iterator[list[int]]:
    total = 0
    for start in range(0, len(texts), 512):
        for ids in tokenizer.encode_many(texts[start : start + 512]):
            yield [*ids, EOS]
            total += len(ids) + 1
            if total >= limit:
                return


def prepare(corpus: Path, tokenizer: PedTokenizer, preset: Preset, out: Path) -> dict:
    """Tokenises the corpus into `out`; returns rows and tokens per set."""
    out.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, dict[str, int]] = {}

    def put(name: str, arrays: dict[str, np.ndarray]) -> None:
        save_arrays(out, name, arrays)
        counted = arrays.get("counted")
        sizes[name] = {
            "rows": len(arrays["tokens"]),
            "tokens": int(np.count_nonzero(arrays["tokens"])),
            "answer_tokens": int(counted.sum()) if counted is not None else 0,
        }

    texts: dict[str, list[str]] = {"text-pediatric": [], "text-general": [], "valid": []}
    ids = [record["id"] for record in read_lines(corpus / "text.jsonl")]
    few = min(MOST_HELD_OUT, -(-len(ids) // HELD_OUT))
    held_out = set(sorted(ids, key=lambda name: zlib.crc32(name.encode()))[:few])
    for record in read_lines(corpus / "text.jsonl"):
        kind = "text-pediatric" if record["pediatric"] else "text-general"
        texts["valid" if record["id"] in held_out else kind].append(record["text"])
    context = preset.cpt.context
    for kind in ("text-pediatric", "text-general"):
        documents = take_tokens(tokenizer, shuffled(texts[kind], preset.seed), preset.max_tokens)
        put(f"{kind}.train", {"tokens": pack_stream(documents, context)})
    wanted = preset.valid_rows * context * 2
    documents = take_tokens(tokenizer, shuffled(texts["valid"], preset.seed), wanted)
    put("text.valid", {"tokens": pack_stream(documents, context)})

    chats: dict[tuple[str, str], list[list[dict]]] = {}
    for record in read_lines(corpus / "chat.jsonl"):
        chats.setdefault((record["task"], record["split"]), []).append(record["turns"])
    for task in CHAT_KINDS:
        for split in ("train", "valid", "test"):
            turns = shuffled(chats.get((task, split), []), preset.seed)
            fitted = []
            budget = preset.max_tokens
            for chat in turns:
                fit = fit_chat(tokenizer, chat, preset.sft.context + 1)
                if fit is not None:
                    fitted.append(fit)
                    budget -= len(fit[0])
                if budget <= 0:
                    break
            put(f"sft-{task}.{split}", pack_chats(fitted, preset.sft.context))
            if split != "test":
                put(
                    f"chat-{task}.{split}", {"tokens": pack_stream((f[0] for f in fitted), context)}
                )
    pairs = shuffled(list(read_lines(corpus / "pairs.jsonl")), preset.seed)
    put("pairs.train", pack_pairs(tokenizer, pairs, preset.dfpo.context))
    (out / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")
    return sizes


class Pool:
    """One packed set, in an order that depends on seed, name and epoch only."""

    def __init__(self, folder: Path, name: str, seed: int):
        self.name = name
        self.kind = name.split("-")[0]
        self.seed = (seed, zlib.crc32(name.encode()))
        self.arrays = {
            part: np.load(path, mmap_mode="r")
            for part in ("tokens", "segments", "counted")
            if (path := folder / f"{name}.{part}.npy").exists()
        }
        self.epoch = -1
        self.order = np.zeros(0, np.int64)
        task = name.split("-", 1)[-1].split(".")[0]
        self.task = TASKS.index(task) if task in TASKS else None

    def __len__(self) -> int:
        return len(self.arrays["tokens"])

    def row(self, number: int) -> int:
        """Index of the number-th row ever drawn from this pool."""
        epoch, place = divmod(number, len(self))
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng((*self.seed, epoch)).permutation(len(self))
        return int(self.order[place])


@dataclass
class Mix:
    """Draws rows from pools; its whole state is how many each pool has given."""

    pools: list[Pool]
    priority: dict[str, float]
    seed: int

    def __post_init__(self) -> None:
        self.pools = [pool for pool in self.pools if len(pool) > 0]
        if not self.pools:
            raise ValueError("no training rows: the corpus is empty")
        self.drawn = {pool.name: 0 for pool in self.pools}

    def weights(self, share: dict[str, float]) -> np.ndarray:
        """Chance of every pool. share: of each kind; within a kind priority times rows left."""
        weights = np.zeros(len(self.pools))
        for kind, part in share.items():
            members = [i for i, pool in enumerate(self.pools) if pool.kind == kind]
            raw = np.array(
                [
                    self.priority.get(self.pools[i].name.split(".")[0], 1.0)
                    * (len(self.pools[i]) - self.drawn[self.pools[i].name] % len(self.pools[i]))
                    for i in members
                ]
            )
            if len(members):
                weights[members] = part * raw / raw.sum()
        return weights / weights.sum()

    def draw(self, step: int, rows: int, share: dict[str, float]) -> list[tuple[Pool, int]]:
        random = np.random.default_rng((self.seed, step))
        chosen = []
        for _ in range(rows):
            pool = self.pools[random.choice(len(self.pools), p=self.weights(share))]
            chosen.append((pool, pool.row(self.drawn[pool.name])))
            self.drawn[pool.name] += 1
        return chosen


def to_batch(rows: list[tuple[Pool, int]], device: torch.device | str = "cpu") -> Batch:
    """Stacks rows of T + 1 tokens into a batch of T positions."""

    def stack(part: str, dtype) -> np.ndarray:
        return np.stack([pool.arrays[part][i] for pool, i in rows]).astype(dtype)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    parts = rows[0][0].arrays
    tokens = stack("tokens", np.int64)
    segments = stack("segments", np.int32) if "segments" in parts else None
    counted = stack("counted", np.bool_) if "counted" in parts else None
    if segments is not None and counted is not None:
        # the answer's first token is predicted by a position of the same document
        counted[:, 1:] &= segments[:, 1:] == segments[:, :-1]
    tasks = [pool.task for pool, _ in rows]
    return Batch(
        tensor(tokens[:, :-1]),
        tensor(tokens[:, 1:]),
        None if counted is None else tensor(counted[:, 1:]),
        None if segments is None else tensor(segments[:, :-1]),
        None if None in tasks else torch.tensor(tasks, device=device),
    )


def trim(batch: Batch) -> Batch:
    """Cuts the padding that all rows share (rows with one document each)."""
    last = int(batch.answers.any(0).nonzero().max()) + 1
    return Batch(
        batch.tokens[:, :last], batch.targets[:, :last], batch.answers[:, :last], None, batch.tasks
    )


def fixed_batches(
    folder: Path, name: str, rows: int, limit: int, device: torch.device | str = "cpu"
) -> list[Batch]:
    """The first `limit` rows of a held-out set in batches of `rows`; the rest of a batch is short."""
    pool = Pool(folder, name, 0)
    order = [(pool, i) for i in range(min(limit, len(pool)))]
    return [to_batch(order[i : i + rows], device) for i in range(0, len(order), rows)]
