"""Answers to many prompts at once, chosen as the engine of the page chooses them.

B prompts of a batch, T tokens of the longest, V vocabulary, W tokens that the penalty looks back on.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.base import Base
from training.config import EOS

PENALTY_WINDOW = 256  # src/engine/sampler.ts
UNIT = 2.0**24  # the weight of the likeliest token, src/engine/sampler.ts
CROWDED = 0.75  # finished rows are dropped when less than this share is still at work


def random_at(seed: int, position: int) -> float:
    """The engine's random number in [0, 1) for a seed and a position, 24 bits.

    The two-word hash `pcg2d` of Jarzynski and Olano, "Hash Functions for GPU Rendering" (JCGT 9.3,
    2020), as in src/engine/random.ts: the same tokens come out of both.
    """
    full, multiplier = 0xFFFFFFFF, 1664525
    x = (seed * multiplier + 1013904223) & full
    y = (position * multiplier + 1013904223) & full
    for turn in range(2):
        if turn:
            x, y = x ^ (x >> 16), y ^ (y >> 16)
        x = (x + y * multiplier) & full
        y = (y + x * multiplier) & full
    return ((x ^ (x >> 16)) >> 8) / 2**24


def penalised(logits: Tensor, penalty: float, recent: Tensor) -> Tensor:
    """Logits (B, V) after the repetition penalty for the recent tokens (B, W) of each answer.

    A logit above 0 is divided by the penalty, another multiplied, however often its token occurs.
    In f32, as the engine does it on a GPU.
    """
    if penalty == 1 or recent.shape[1] == 0:
        return logits
    held = logits.gather(1, recent).float()
    rounded = torch.tensor(penalty, dtype=torch.float32, device=logits.device)
    held = torch.where(held > 0, held / rounded, held * rounded)
    return logits.scatter(1, recent, held.to(logits.dtype))


def chosen(
    logits: Tensor, temperature: float, top_k: int, top_p: float, randoms: Sequence[float]
) -> Tensor:
    """Tokens (B,) from logits (B, V): the highest, or for temperature > 0 a draw.

    The top_k highest (0: all), softmax with temperature, of these the fewest whose sum reaches top_p,
    at least one, and the one on which the row's random number falls. Equal logits: lower id first.
    """
    if temperature == 0 or top_k == 1:
        return logits.argmax(-1)
    scores, ids = logits.sort(dim=-1, descending=True, stable=True)
    scores, ids = scores[:, : top_k or None].float(), ids[:, : top_k or None]
    # Exponents in f32, weights in whole units of 2^-24: their sums do not depend on the order.
    heat, share = (torch.tensor(v, dtype=torch.float32) for v in (temperature, top_p))
    exponents = (scores - scores[:, :1]) / heat.to(logits.device)
    weights = (exponents.double().exp() * UNIT + 0.5).floor()
    mass = weights.cumsum(-1)
    before = F.pad(mass, (1, 0))[:, :-1]
    kept = (before < share.item() * mass[:, -1:]).sum(-1, keepdim=True).clamp_min(1)  # (B, 1)
    drawn = torch.tensor(randoms, dtype=torch.float64, device=logits.device)[:, None]
    passed = (mass <= drawn * mass.gather(1, kept - 1)).sum(-1, keepdim=True)
    return ids.gather(1, torch.minimum(passed, kept - 1))[:, 0]


def checked(model: Base, prompts: list[list[int]], tasks: list[int] | None) -> None:
    """Raises ValueError for a prompt that the model cannot continue."""
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {i} is empty: there is nothing to continue")
        if len(prompt) > model.config.capacity:
            sizes = f"{len(prompt)} tokens, the model holds {model.config.capacity}"
            raise ValueError(f"prompt {i} is too long: {sizes}")
    if tasks is not None and len(tasks) != len(prompts):
        raise ValueError(f"{len(tasks)} tasks for {len(prompts)} prompts")


@torch.no_grad()
def generate_many(
    model: Base,
    prompts: list[list[int]],
    count: int,
    *,
    tasks: list[int] | None = None,
    penalty: float = 1.0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    stop: int | None = EOS,
    batch: int = 32,
) -> list[list[int]]:
    """Continues every prompt by at most `count` tokens; the answers, in the order of the prompts.

    An answer ends with `stop` where that is reached, and at the model's capacity. The settings mean
    what they mean on the page: penalty 1 is none, temperature 0 is greedy, top_k 0 and top_p 1 cut
    nothing. tasks: one per prompt, for adapters with gates per task. Prompt i draws with seed + i, so
    an answer does not depend on what else is in its batch; seed None takes one from torch's generator.

    Raises ValueError for an empty prompt, one beyond the capacity, senseless settings, and logits
    that are not finite.
    """
    if temperature < 0 or top_k < 0 or not 0 <= top_p <= 1 or penalty <= 0 or batch < 1:
        raise ValueError(
            f"settings out of range: temperature {temperature}, top_k {top_k}, top_p {top_p}, "
            f"penalty {penalty}, batch {batch}"
        )
    checked(model, prompts, tasks)
    if seed is None:
        seed = int(torch.randint(2**31, ())) if temperature else 0
    answers: list[list[int]] = [[] for _ in prompts]
    was_training = model.training
    model.eval()  # a router's noise is for training
    try:
        # rows of like length share a batch: little padding; the largest batch comes first
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            work = _Batch(model, [prompts[i] for i in rows], rows, count, tasks)
            while work.rows:
                logits = penalised(work.logits(), penalty, work.recent())
                randoms = [random_at(seed + i, at) for i, at in work.places()]
                work.put(chosen(logits, temperature, top_k, top_p, randoms), answers, stop)
    finally:
        model.train(was_training)
    return answers


class _Batch:
    """Prompts on their way, padded on the left so that all go on at the same slot of the cache."""

    def __init__(
        self,
        model: Base,
        prompts: list[list[int]],
        rows: list[int],
        count: int,
        tasks: list[int] | None,
    ):
        device = model.lm_head.weight.device
        longest = max(map(len, prompts))
        room = [min(count, model.config.capacity - len(prompt)) for prompt in prompts]
        self.model = model
        self.rows = rows if max(room) > 0 else []  # numbers of the prompts, row by row
        self.limits = room
        self.lengths = [len(prompt) for prompt in prompts]
        self.new = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in zip(self.new, prompts, strict=True):
            row[longest - len(prompt) :] = torch.tensor(prompt)
        self.new = self.new.to(device)
        first = None
        if min(self.lengths) < longest:
            first = torch.tensor([longest - length for length in self.lengths], device=device)
        self.cache = model.new_cache(len(prompts), longest + max(0, *room), first)
        self.tasks = None if tasks is None else torch.tensor([tasks[i] for i in rows]).to(device)
        self.made = torch.zeros(len(prompts), max(0, *room), dtype=torch.long, device=device)
        self.count = 0  # tokens made in every row
        self.done = [limit <= 0 for limit in room]

    def logits(self) -> Tensor:
        """(B, V) f32 of the next token."""
        hidden = self.model.hidden(self.new, tasks=self.tasks, cache=self.cache)
        logits = self.model.lm_head(hidden[:, -1]).float()
        if not bool(logits.isfinite().all()):
            bad = (~logits.isfinite().all(-1)).nonzero()[0, 0]
            raise ValueError(f"prompt {self.rows[int(bad)]}: the model's logits are not finite")
        return logits

    def recent(self) -> Tensor:
        """(B, W) tokens that the penalty looks at."""
        return self.made[:, max(0, self.count - PENALTY_WINDOW) : self.count]

    def places(self) -> list[tuple[int, int]]:
        """(number of the prompt, position of the next token) of every row."""
        return [(i, n + self.count) for i, n in zip(self.rows, self.lengths, strict=True)]

    def put(self, tokens: Tensor, answers: list[list[int]], stop: int | None) -> None:
        """Appends a token to every row; finished rows go to `answers` and later away."""
        self.made[:, self.count] = tokens
        self.count += 1
        for row, token in enumerate(tokens.tolist()):
            if self.done[row]:
                continue
            answers[self.rows[row]].append(token)
            self.done[row] = token == stop or self.count >= self.limits[row]
        self.new = tokens[:, None]
        left = [row for row, done in enumerate(self.done) if not done]
        if len(left) <= CROWDED * len(self.rows):
            self._keep(left)

    def _keep(self, left: list[int]) -> None:
        self.rows = [self.rows[row] for row in left]
        self.lengths = [self.lengths[row] for row in left]
        self.limits = [self.limits[row] for row in left]
        self.done = [False] * len(left)
        if not left:
            return
        keep = torch.tensor(left, device=self.made.device)
        self.cache.select(keep)
        self.made, self.new = self.made[keep], self.new[keep]
        self.tasks = None if self.tasks is None else self.tasks[keep]
