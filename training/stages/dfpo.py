"""Stage 3, direct following preference optimisation against the frozen SFT model."""

import torch
from torch import Tensor

from training.batches import CHAT_KINDS, Batch, Pool, to_batch, trim
from training.loop import Stage, make_optimizers, train
from training.losses import answer_log_probs
from training.losses import dfpo as dfpo_loss
from training.model import Model
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
)


class Preference:
    """DFPO on batches whose rows are chosen, rejected, chosen, rejected ...

    Not compiled: answers are short, and rows trimmed to the longest are worth more than a kernel
    compiled for one length.
    """

    def __init__(self, run: Run, model: Model, reference: Model):
        self.run = run
        self.policy = Forward(run, model)
        self.reference = Forward(run, reference)

    def log_probs(self, forward: Forward, batch: Batch) -> Tensor:
        """(B,) sums over the answers."""
        with self.run.autocast():
            hidden = forward.model.hidden(batch.tokens)[batch.answers]
            logits = forward.model.lm_head(hidden)
        rows = batch.answers.nonzero()[:, 0]
        return answer_log_probs(logits, batch.targets[batch.answers], rows, len(batch.tokens))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float], int]:
        with torch.no_grad():
            reference = self.log_probs(self.reference, batch)
        policy = self.log_probs(self.policy, batch)
        lengths = batch.answers[::2].sum(-1)
        preset = self.run.preset
        made = dfpo_loss(
            policy[::2],
            policy[1::2],
            reference[::2],
            reference[1::2],
            lengths,
            preset.beta,
            preset.mu,
        )
        better = (made.reward_chosen > made.reward_rejected).float().mean()
        numbers = {
            "preference": made.preference,
            "nll": made.nll,
            "chosen": made.reward_chosen.mean(),
            "rejected": made.reward_rejected.mean(),
            "accuracy": better,
        }
        return made.loss, {k: float(v.detach()) for k, v in numbers.items()}, batch.tokens.numel()


def dfpo(run: Run) -> None:
    if done(run, "dfpo"):
        return
    model, reference = run.load_model("sft"), run.load_model("sft")
    reference.requires_grad_(False)
    preset = run.preset.dfpo
    optimizers = make_optimizers(*split_parameters(model), preset, muon=False)
    pool = Pool(run.packed, "pairs.train", run.preset.seed)
    pairs = preset.rows // 2
    order = Pairs(pool, run.preset.seed)
    preference = Preference(run, model, reference)
    measure = held_out(run, chat_sets("sft", "valid", CHAT_KINDS), preset.rows)
    stage = Stage(
        name="dfpo",
        model=model,
        optimizers=optimizers,
        batch=lambda step, progress: trim(to_batch(order.rows(step, pairs), run.device)),
        loss=preference.loss,
        valid=lambda: measure(preference.policy),
    )
    summary = train(stage, preset, run.folder("dfpo"), run.deadline, run.preset.log_every)
    save_model(model, run.folder("dfpo") / "model.safetensors")
    mark_done(run, "dfpo", summary)


class Pairs:
    """Pairs in an order that depends on seed and step only."""

    def __init__(self, pool: Pool, seed: int):
        if len(pool) == 0:
            raise ValueError("no DFPO pairs fit into the context")
        self.pool, self.count = pool, len(pool) // 2
        self.seed = seed

    def rows(self, step: int, pairs: int) -> list[tuple[Pool, int]]:
        chosen = []
        for number in range(step * pairs, (step + 1) * pairs):
            epoch, place = divmod(number, self.count)
            generator = torch.Generator().manual_seed(self.seed * 1000 + epoch)
            pair = int(torch.randperm(self.count, generator=generator)[place])
            chosen += [(self.pool, 2 * pair), (self.pool, 2 * pair + 1)]
        return chosen


if __name__ == "__main__":
    stage_main(dfpo, __doc__)
