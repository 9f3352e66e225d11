"""Optimisers, learning-rate schedules and averaged weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.distributed import like, reshard, whole
from training.presets import StagePreset


def rate_factor(preset: StagePreset, progress: float) -> float:
    """Factor on the learning rates at a progress of 0 to 1.

    Linear warm-up from `start`; then wsd: 1, and a linear warm-down to `floor` over the last
    `warmdown`; or cosine: half a cosine from 1 to `floor`.
    """
    if progress < preset.warmup:
        return preset.start + (1 - preset.start) * (progress / preset.warmup)
    if preset.schedule == "cosine":
        way = min(1.0, (progress - preset.warmup) / max(1e-12, 1 - preset.warmup))
        return preset.floor + (1 - preset.floor) * (1 + math.cos(math.pi * way)) / 2
    if progress > 1 - preset.warmdown:
        left = max(0.0, 1 - progress) / preset.warmdown
        return preset.floor + (1 - preset.floor) * left
    return 1.0


def make_optimizers(
    matrices: list[nn.Parameter],
    others: list[nn.Parameter],
    preset: StagePreset,
    muon: bool | None = None,
) -> list[torch.optim.Optimizer]:
    """Muon or AdamW for the hidden matrices, AdamW without decay for all other parameters.

    muon: None takes what the preset says. Muon wants 2-D parameters.
    """
    betas = (0.9, 0.95)
    made: list[torch.optim.Optimizer] = []
    if matrices and (preset.optimizer == "muon" if muon is None else muon):
        made.append(
            torch.optim.Muon(
                matrices,
                lr=preset.lr,
                weight_decay=preset.weight_decay,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    elif matrices:
        made.append(
            torch.optim.AdamW(
                matrices, lr=preset.lr, betas=betas, weight_decay=preset.weight_decay, fused=True
            )
        )
    if others:
        made.append(
            torch.optim.AdamW(others, lr=preset.lr_other, betas=betas, weight_decay=0.0, fused=True)
        )
    return made


class Ema:
    """Exponential moving average of the weights that train: m = d m + (1 - d) w after every step.

    d = min(decay, (1 + t) / (10 + t)) after t steps, so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.decay = decay
        self.steps = 0
        self.mean = {name: p.detach().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, p in self.weights.items():
            self.mean[name].lerp_(p.detach(), 1 - decay)

    def keep(self) -> None:
        """The averaged weights become the model's."""
        self._put(self.mean)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        reshard(self.model)
        for name, p in self.weights.items():
            p.copy_(values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside, its own again after."""
        own = {name: p.detach().clone() for name, p in self.weights.items()}
        self.keep()
        try:
            yield
        finally:
            self._put(own)

    def state(self) -> dict:
        """Whole tensors on the CPU. All ranks must call it together."""
        mean = {name: whole(value).cpu() for name, value in self.mean.items()}
        return {"steps": self.steps, "mean": mean}

    def load(self, state: dict) -> None:
        """Raises KeyError when the state is of other weights."""
        self.steps = state["steps"]
        for name, value in self.mean.items():
            value.copy_(like(state["mean"][name], value))
