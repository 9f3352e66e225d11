"""A short quantisation-aware finish, with the unquantised model as teacher.

The base matrices compute with their 4-bit values while f32 values behind them are trained: rounding
lets gradients through (straight-through estimator), scales are trained as well (LSQ, arXiv:1902.08153)
and are f16 numbers at every step. The loss is KL(teacher || student) at the answer tokens of training
rows, so the finish teaches nothing new, it only takes back what rounding cost. Embedding, head, norms
and the adapter stay as they are: the package's other files do not change.

The f32 values start inside the rounding interval of the integers they belong to, so the first loss is
that of the integers given, and a value that GPTQ had rounded the other way sits at the border, ready to
flip. What comes out are again integers and scales; nothing is searched anew.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from training.base import Base
from training.batches import TASKS, Batch, Pool, to_batch
from training.quant.calibrate import layers_of, linears
from training.quant.fidelity import mean, measure
from training.quant.grid import GROUP, dequantise, pack_q4, unpack_nibbles
from training.stages.common import Run

BORDER = 0.49  # of a step: how far from its grid point a value may start


@dataclass(frozen=True)
class Finish:
    """steps of `rows` rows each; rates are shares of a matrix's mean scale that a step may move."""

    steps: int = 150
    rows: int = 4
    rate: float = 0.01
    scale_rate: float = 0.001
    log_every: int = 25

    def factor(self, step: int) -> float:
        """Cosine from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * step / self.steps))


class FakeQuantised(nn.Module):
    """W (N, K) -> its 4-bit values, with gradients for W and for the scales (N, K/32)."""

    def __init__(self, scale: Tensor):
        super().__init__()
        self.scale = nn.Parameter(scale.float())

    def half_scale(self) -> Tensor:
        """The scales as f16 stores them; the gradient passes through."""
        return self.scale + (self.scale.half().float() - self.scale).detach()

    def forward(self, weight: Tensor) -> Tensor:
        integers, scale = self.integers(weight)
        return (integers * scale[..., None]).reshape(weight.shape)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(N, G, 32) of -8 .. 7 and the scales (N, G) as they are stored."""
        scale = self.half_scale()
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)[..., None]
        inside = (weight.reshape(len(weight), -1, GROUP) / safe).clamp(-8, 7)
        inside = torch.where(scale[..., None] == 0, torch.zeros_like(inside), inside)
        return inside + (inside.round() - inside).detach(), scale


def base_linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(`model.layers.0.mlp.up_proj`, module)"""
    for number, layer in enumerate(layers_of(model)):
        for name, module in linears(layer):
            yield f"model.layers.{number}.{name}", module


def start_from(model: Base, reference: Base, packed: dict[str, Tensor]) -> list[tuple[str, Any]]:
    """Makes the model's base matrices fake-quantised, on the integers of `packed`.

    -> (name, module) of each; `module.parametrizations.weight` holds the values behind them.
    """
    model.requires_grad_(False)
    originals = dict(reference.named_parameters())
    made: list[tuple[str, Any]] = []
    for name, module in list(base_linears(model)):
        held: Any = module.weight
        q, scale = (packed[f"{name}.weight.{part}"].to(held.device) for part in ("q", "scale"))
        step = scale.float().repeat_interleave(GROUP, 1)
        z = unpack_nibbles(q).float() - 8
        wanted = originals[f"{name}.weight"].detach().float() / torch.where(step == 0, 1.0, step)
        with torch.no_grad():
            held.copy_((z + (wanted - z).clamp(-BORDER, BORDER)) * step)
        parametrize.register_parametrization(module, "weight", FakeQuantised(scale))
        held.requires_grad_(True)
        made.append((name, module))
    return made


def freeze(made: list[tuple[str, Any]], packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The integers and scales that the fake-quantised matrices compute with, beside the others."""
    result = dict(packed)
    with torch.no_grad():
        for name, module in made:
            held = module.parametrizations.weight
            z, scale = held[0].integers(held.original)
            q, stored = pack_q4(z.flatten(1), scale)
            result[f"{name}.weight.q"], result[f"{name}.weight.scale"] = q.cpu(), stored.cpu()
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
            module.weight.copy_(dequantise(q, stored))
    return result


def optimizer_for(made: list[tuple[str, Any]], settings: Finish) -> torch.optim.Optimizer:
    groups = []
    for _, module in made:
        held = module.parametrizations.weight
        mean = float(held[0].scale.detach().abs().mean())
        groups.append({"params": [held.original], "lr": settings.rate * mean})
        groups.append({"params": [held[0].scale], "lr": settings.scale_rate * mean})
    return torch.optim.Adam(groups, betas=(0.9, 0.99))


def training_batches(run: Run, settings: Finish) -> Iterator[Batch]:
    """Endless batches of training rows; the tasks take turns row by row."""
    pools = [Pool(run.packed, f"sft-{task}.train", run.preset.seed) for task in TASKS]
    number = 0
    while True:
        rows = []
        for _ in range(settings.rows):
            pool = pools[number % len(pools)]
            rows.append((pool, pool.row(number // len(pools))))
            number += 1
        yield to_batch(rows, run.device)


def divergence(run: Run, teacher: Base, student: Base, batch: Batch) -> Tensor:
    """Mean KL(teacher || student) over the answer tokens, nats."""
    with run.autocast():
        with torch.no_grad():
            seen = teacher.hidden(batch.tokens, batch.segments, batch.tasks)[batch.answers]
            p = teacher.lm_head(seen).float().log_softmax(-1)
        hidden = student.hidden(batch.tokens, batch.segments, batch.tasks)[batch.answers]
        q = student.lm_head(hidden).float().log_softmax(-1)
    return F.kl_div(q, p, log_target=True, reduction="sum") / max(1, len(p))


def distil(
    run: Run,
    teacher: Base,
    student: Base,
    packed: dict[str, Tensor],
    settings: Finish = Finish(),  # noqa: B008 - frozen
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Trains the student in place -> its integers, and the loss on its way.

    FloatingPointError where the loss is no number; stops at the run's deadline as every stage does.
    """
    made = start_from(student, teacher, packed)
    optimizer = optimizer_for(made, settings)
    rates = [group["lr"] for group in optimizer.param_groups]
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    batches = training_batches(run, settings)
    log: list[dict[str, float]] = []
    since = 0.0
    for step in range(settings.steps):
        run.deadline.check()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * settings.factor(step)
        loss = divergence(run, teacher, student, next(batches))
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(f"quantisation-aware finish: the loss is {float(loss)}")
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        since += float(loss.detach())
        if (step + 1) % settings.log_every == 0 or step + 1 == settings.steps:
            count = (step % settings.log_every) + 1
            log.append({"step": step + 1, "kl": round(since / count, 6)})
            since = 0.0
    return freeze(made, packed), log


def finish(
    run: Run,
    reference: Base,
    model: Base,
    packed: dict[str, Tensor],
    valid: dict[str, list[Batch]],
    settings: Finish = Finish(),  # noqa: B008 - frozen
) -> tuple[Base, dict[str, Tensor], dict]:
    """The finish, kept only if it lowers the loss on the held-out rows.

    model: on the dequantised weights of `packed`, left as it is. -> (model, integers, what happened).
    """
    before = measure(run, reference, model, valid)
    student = copy.deepcopy(model).eval()
    made, log = distil(run, reference, student, packed, settings)
    after = measure(run, reference, student, valid)
    better = mean(after, "delta_loss") < mean(before, "delta_loss")
    report = {"steps": settings.steps, "log": log, "before": before, "after": after, "kept": better}
    return (student, made, report) if better else (model, packed, report)
