"""Stage 3, direct following preference optimisation against the frozen SFT model."""

from collections import deque

import torch
from torch import Tensor

from training.base import Base
from training.batches import CHAT_KINDS, Batch, Pool, to_batch, trim
from training.distributed import say
from training.loop import Stage, make_optimizers
from training.losses import answer_log_probs
from training.losses import dfpo as dfpo_loss
from training.stages.common import (
    Forward,
    Run,
    chat_sets,
    done,
    held_out,
    mark_done,
    save_model,
    split_parameters,
    stage_main,
    train_stage,
)
from training.stages.own import own
from training.stages.reference import Ahead, Reference, file_digest

WATCHED = 20  # pieces of a batch over which the shift of the chosen answers is averaged


def log_probs(run: Run, model: Base, batch: Batch) -> Tensor:
    """(B,) sums over the answers."""
    with run.autocast():
        hidden = model.hidden(batch.tokens, None, batch.tasks)[batch.answers]
        logits = model.lm_head(hidden)
    rows = batch.answers.nonzero()[:, 0]
    return answer_log_probs(logits, batch.targets[batch.answers], rows, len(batch.tokens))


class Preference:
    """DFPO on batches whose rows are chosen, rejected, chosen, rejected ...

    Not compiled: answers are short, and rows trimmed to the longest are worth more than a kernel
    compiled for one length.
    """

    def __init__(self, run: Run, model: Base, reference: Reference):
        self.run, self.model, self.reference = run, model, reference
        self.shifts: deque[float] = deque(maxlen=WATCHED)
        self.warned = False

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float], int]:
        """A piece of whole pairs -> (loss, numbers to log, tokens)."""
        reference = self.reference.of(batch)
        policy = log_probs(self.run, self.model, batch)
        chosen, rejected = policy[::2], policy[1::2]
        made = dfpo_loss(
            chosen,
            rejected,
            reference[::2],
            reference[1::2],
            batch.answers[::2].sum(-1),
            self.run.preset.beta,
            self.run.preset.mu,
        )
        numbers = {
            "preference": made.preference,
            "nll": made.nll,
            "chosen": made.reward_chosen.mean(),
            "rejected": made.reward_rejected.mean(),
            "margin": made.margin,
            "accuracy": made.accuracy,
            "chosen_log_prob": chosen.mean(),
            "rejected_log_prob": rejected.mean(),
        }
        self.watch(float((chosen.detach() - reference[::2]).mean()))
        return made.loss, {k: float(v.detach()) for k, v in numbers.items()}, batch.tokens.numel()

    def watch(self, shift: float) -> None:
        """Says once that chosen answers became less likely than they were before the stage.

        DPO pushes two answers apart; it may do so by making both rarer, and then the model drifts to
        what neither of them says. shift: mean log p - log p_ref of the chosen answers of a piece.
        """
        self.shifts.append(shift)
        mean = sum(self.shifts) / len(self.shifts)
        if not self.warned and len(self.shifts) == WATCHED and mean < 0:
            self.warned = True
            say(
                f"dfpo: chosen answers are {-mean:.2f} nats less likely than under the reference, "
                f"on average over {WATCHED} batches; a larger mu or a lower learning rate holds them"
            )


class Pairs:
    """Pairs in an order that depends on seed and step only."""

    def __init__(self, pool: Pool, seed: int):
        if len(pool) == 0:
            raise ValueError("no DFPO pairs fit into the context")
        self.pool, self.count = pool, len(pool) // 2
        self.seed, self.epoch = seed, -1
        self.order: list[int] = []

    def rows(self, step: int, pairs: int) -> list[tuple[Pool, int]]:
        """The rows of a step: chosen, rejected, chosen, rejected ..."""
        numbers = range(step * pairs, (step + 1) * pairs)
        return [row for number in numbers for row in self.pair(number)]

    def pair(self, number: int) -> list[tuple[Pool, int]]:
        """The two rows of the number-th pair ever drawn."""
        epoch, place = divmod(number, self.count)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(self.seed * 1000 + epoch)
            self.order = torch.randperm(self.count, generator=generator).tolist()
            self.epoch = epoch
        pair = self.order[place]
        return [(self.pool, 2 * pair), (self.pool, 2 * pair + 1)]


def open_reference(run: Run) -> Reference:
    """The SFT model's sums; their file is named by its weights and the precision they are made in."""
    digest = file_digest(run.folder("sft") / "model.safetensors")[:16]
    precision = "bf16" if run.preset.bf16 else "f32"

    def open_model():
        model = run.load_model("sft").requires_grad_(False).eval()
        run.shard(model)
        return lambda batch: log_probs(run, model, batch), model.config.vocab

    path = run.folder("dfpo") / f"reference-{digest}-{precision}.json"
    return Reference(path, open_model, run.device)


def dfpo(run: Run) -> None:
    if done(run, "dfpo"):
        return
    own(run)
    model = run.load_model("sft")
    run.shard(model)
    preset = run.preset.dfpo
    optimizers = make_optimizers(*split_parameters(model), preset)
    order = Pairs(Pool(run.packed, "pairs.train", run.preset.seed), run.preset.seed)
    reference = open_reference(run)
    ahead = Ahead(reference, order, preset.rows // 2, preset.steps)
    preference = Preference(run, model, reference)
    forward = Forward(run, model)
    measure = held_out(run, chat_sets("sft", "valid", CHAT_KINDS), preset.rows)
    stage = Stage(
        name="dfpo",
        model=model,
        optimizers=optimizers,
        batch=lambda step, progress: trim(to_batch(ahead.rows(step), run.device)),
        loss=preference.loss,
        valid=lambda: measure(forward),
        weight=lambda piece: len(piece.tokens) / 2,
        unit=2,
    )
    summary = train_stage(run, stage, preset)
    save_model(model, run.folder("dfpo") / "model.safetensors")
    mark_done(run, "dfpo", summary)


if __name__ == "__main__":
    stage_main(dfpo, __doc__)
