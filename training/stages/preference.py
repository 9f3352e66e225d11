"""The preference term of the adapter stage: what DFPO taught about endings is not unlearnt there.

The likelihood of the reference answers alone pulls the adapted model back to greedy answers that stop
too soon or repeat themselves. So every step also compares some references with the model's own
answers to the same questions, by the preference of DFPO against the model that the stage starts from.
Its gradient reaches the universal expert alone: endings are every task's, and specific experts stay
what their task's text makes them.
"""

from torch import Tensor

from training import distributed
from training.base import Base
from training.batches import TASKS, Batch, Pool, to_batch, trim
from training.experts import universal_learns
from training.losses import dfpo as dfpo_loss
from training.stages.common import Run
from training.stages.dfpo import Pairs, log_probs
from training.stages.reference import Ahead, Reference, file_digest

Row = tuple[Pool, int]


class TaskPairs:
    """Pairs with own answers, the tasks in turn, in an order that depends on seed and step only."""

    def __init__(self, run: Run):
        pools = [Pool(run.packed, f"own-{task}.train", run.preset.seed) for task in TASKS]
        self.orders = [Pairs(pool, run.preset.seed) for pool in pools if len(pool) > 0]
        if not self.orders:
            raise ValueError(
                "preference > 0 and no pairs with the model's own answers: own_rejected of the "
                "preset makes some"
            )

    def rows(self, step: int, pairs: int) -> list[Row]:
        """The rows of a step: chosen, rejected, chosen, rejected ..."""
        drawn: list[Row] = []
        for number in range(step * pairs, (step + 1) * pairs):
            turn, task = divmod(number, len(self.orders))
            drawn += self.orders[task].pair(turn)
        return drawn


class PreferenceTerm:
    """`further` of the adapter stages. The reference is the model that the adapter is trained beside,
    which a new adapter equals. steps: of the stage, None where it ends by the clock."""

    def __init__(self, run: Run, model: Base, steps: int | None = None):
        self.run, self.model = run, model
        pairs, ranks = run.preset.preference_pairs, distributed.world()
        if pairs < 1 or pairs % ranks:
            raise ValueError(f"preference_pairs = {pairs} do not divide into {ranks} processes")
        precision = "bf16" if run.preset.bf16 else "f32"
        digest = file_digest(run.folder(run.preset.adapter_base) / "model.safetensors")[:16]
        path = run.folder("adapter") / f"reference-{digest}-{precision}.json"
        self.reference = Reference(path, self._open, run.device)
        self.ahead = Ahead(self.reference, TaskPairs(run), pairs, steps)

    def _open(self):
        model = self.run.load_model(self.run.preset.adapter_base).requires_grad_(False).eval()
        self.run.shard(model)
        return lambda batch: log_probs(self.run, model, batch), model.config.vocab

    def batch(self, step: int) -> Batch:
        """This rank's rows of a step."""
        rows = self.ahead.rows(step)
        size = len(rows) // distributed.world()
        first = distributed.rank() * size
        return trim(to_batch(rows[first : first + size], self.run.device))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """-log sigmoid(beta (chosen - rejected)) of the log-ratios to the reference, and its numbers."""
        reference = self.reference.of(batch)
        with universal_learns(self.model):
            policy = log_probs(self.run, self.model, batch)
        lengths = batch.answers[::2].sum(-1)
        sums = (policy[::2], policy[1::2], reference[::2], reference[1::2], lengths)
        made = dfpo_loss(*sums, self.run.preset.beta, mu=0.0)
        numbers = {"preference": made.preference, "accuracy": made.accuracy, "margin": made.margin}
        return made.loss, {name: float(value.detach()) for name, value in numbers.items()}

    def __call__(self, step: int) -> dict[str, float]:
        """Adds the gradients of this rank's pairs of a step -> numbers to log."""
        loss, numbers = self.loss(self.batch(step))
        (self.run.preset.preference * loss).backward()
        return numbers
