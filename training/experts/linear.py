"""One adapted linear.

    y = W x + b + s * ( x A_0 B_0 + sum_{e>=1} g_e x A_e B_e )

E experts (0 is the universal one, always on), R rank, K_in and N_out sizes of the linear, S = E - 1
specific experts (S = E without a universal one). s = alpha / R, or alpha / sqrt(R) with rank-
stabilised scaling (Kalajdzievski 2023). Where the gates g come from is the mode:

    token      a router per linear: g = softmax(x W_g + eps * softplus(x W_n)), eps ~ N(0, 1)
    task       constants per (task, linear): g = softmax(gate_logits[task]); merges exactly
    uniform    1 / S everywhere
    universal  expert 0 alone            } to see what the
    none       the base alone            } experts contribute
    released   the router as the paper's released code runs it: see below

and what the noise eps does in mode `token` is `AdapterConfig.noise`:

    scaled     in training only, W_n trained from zero, f32 softmax (the form of the paper). At zero
               the noise has deviation softplus(0) = 0.69, about that of the router's own logits.
    none       no noise
    released   drawn in evaluation too, W_n kaiming over S as published (deviation 0.33 per entry,
               whatever K_in is, so that it drowns the router) and frozen, f16 softmax
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MODES = ("token", "task", "uniform", "universal", "none", "released")
GATES = ("token", "task")
NOISES = ("scaled", "released", "none")
FFN = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class AdapterConfig:
    """What decides an adapter. `targets` are names of linears, or `ffn` or `all`."""

    experts: int = 4  # E, the universal one among them
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = FFN
    tasks: tuple[str, ...] = ("medkqa", "evidiag", "trerecom")
    gate: str = "token"  # what it is trained with first: token (router) or task
    universal: bool = True
    noise: str = "scaled"
    rslora: bool = False
    dropout: float = 0.0  # on the experts' input, in training
    expert_dropout: float = 0.0  # chance that a row of task gates keeps its largest gate only

    def __post_init__(self) -> None:
        if self.gate not in GATES:
            raise ValueError(f"adapter gate is {self.gate!r}, one of {GATES} is needed")
        if self.noise not in NOISES:
            raise ValueError(f"adapter noise is {self.noise!r}, one of {NOISES} is needed")
        if self.experts < 1 or self.rank < 1:
            raise ValueError(f"{self.experts} experts of rank {self.rank}: both must be positive")
        if not self.targets or not self.tasks:
            raise ValueError("an adapter needs targets and tasks")
        for name in ("dropout", "expert_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"adapter {name} is {getattr(self, name)}, not in [0, 1)")

    @property
    def specific(self) -> int:
        """S: how many experts have a gate."""
        return self.experts - int(self.universal)

    @property
    def scale(self) -> float:
        """s, the factor on what the experts add."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class ExpertLinear(nn.Module):
    """A frozen linear with its experts, in the place of the linear that it was made from.

    `current_tasks` (B,) serves where the caller cannot pass the tasks of the rows (models of other
    libraries); an argument to `forward` goes before it.
    """

    def __init__(self, base: nn.Linear, config: AdapterConfig, path: str = ""):
        super().__init__()
        outputs, inputs = base.weight.shape
        E, R, S = config.experts, config.rank, config.specific
        self.path = path  # the linear's name, `layers.0.mlp.gate_proj`
        self.config = config
        self.scale = config.scale
        self.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        bias = cast("Tensor | None", base.bias)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        # the experts are f32 even where the base is not: they are what trains
        where = {"device": base.weight.device, "dtype": torch.float32}
        bound = 1 / math.sqrt(inputs)
        self.lora_moe_A = nn.Parameter(torch.empty(E, inputs, R, **where).uniform_(-bound, bound))
        self.lora_moe_B = nn.Parameter(torch.zeros(E, R, outputs, **where))
        # W_g is drawn by hand: nn.Linear warns about the router of no specific expert
        self.lora_route = nn.Linear(1, 1, bias=False)
        self.lora_route.weight = nn.Parameter(
            torch.empty(S, inputs, **where).uniform_(-bound, bound)
        )
        self.w_noise = nn.Parameter(torch.zeros(inputs, S, **where))
        if config.noise == "released":
            released_bounds(self.w_noise)
        self.gate_logits = nn.Parameter(torch.zeros(len(config.tasks), S, **where))
        self.mode = config.gate
        self.stored: dict[str, torch.dtype] = {}  # of its tensors in the file it came from
        self.generator: torch.Generator | None = None  # of the noise in mode released
        self.current_tasks: Tensor | None = None
        self.universal_learns = False  # no gradient to specific experts and gates
        self.watched = False
        self.seen: list[Tensor] = []  # the gates of every pass while it is watched

    def gates(self, x: Tensor, tasks: Tensor | None) -> Tensor:
        """x: (B, T, K_in), tasks: (B,) -> gates of the specific experts, (B, T or 1, S) f32."""
        S = self.config.specific
        if self.mode == "uniform" or S == 0:
            return x.new_full((x.shape[0], 1, S), 1 / max(1, S), dtype=torch.float32)
        if self.mode == "task":
            return self._task_gates(self.current_tasks if tasks is None else tasks)
        with torch.autocast(x.device.type, enabled=False):
            return self._router_gates(x.float())

    def _task_gates(self, tasks: Tensor | None) -> Tensor:
        """(B,) -> (B, 1, S)"""
        if tasks is None:
            raise ValueError("an adapter with gates per task needs the task of every row")
        g = self.gate_logits.float().softmax(-1)[tasks]
        if self.training and self.config.expert_dropout > 0:
            alone = torch.rand(len(g), 1, device=g.device) < self.config.expert_dropout
            g = torch.where(alone & (g < g.amax(-1, keepdim=True)), 0.0, g)
        return g[:, None]

    def _router_gates(self, x: Tensor) -> Tensor:
        """(B, T, K_in) f32 -> (B, T, S) f32"""
        logits = F.linear(x, self.lora_route.weight.float())
        released = self.mode == "released" or self.config.noise == "released"
        if released or (self.training and self.config.noise == "scaled"):
            deviation = F.softplus(x @ self.w_noise.float())
            if self.generator is None:
                drawn = torch.randn_like(logits)
            else:
                drawn = torch.randn(logits.shape, generator=self.generator).to(logits.device)
            logits = logits + drawn * deviation
        if released:
            return logits.softmax(-1, dtype=torch.float16).float()
        return logits.softmax(-1)

    def shares(self, g: Tensor) -> Tensor:
        """Gates (..., S) -> what every expert is multiplied by, (..., E), s among it."""
        if self.config.universal:
            g = torch.cat((g.new_ones((*g.shape[:-1], 1)), g), -1)
        return g * self.scale

    def thinned(self, x: Tensor) -> Tensor:
        """Dropout of the experts' input: F.dropout with a chance of 1 to 255 in 256."""
        if not self.training or self.config.dropout == 0:
            return x
        chance = min(255, max(1, round(self.config.dropout * 256)))
        # Eight draws at a time: one by one they take a quarter of an adapter step on a CPU. No `where`
        # for the same reason: the compiler makes loops over bytes and bools without vectors.
        words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),), device=x.device)
        draws = words.view(torch.uint8)[: x.numel()].view(x.shape).float()
        keeps = (draws - (chance - 1)).clamp(0, 1)  # 0 or 1
        return (x * (keeps * (256 / (256 - chance)))).to(x.dtype)

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """(B, T, K_in) -> (B, T, N_out)"""
        y = F.linear(x, self.weight, self.bias)
        if self.mode == "none":
            return y
        a, b = self.lora_moe_A, self.lora_moe_B
        if x.dtype != a.dtype and not torch.is_autocast_enabled(x.device.type):
            x = x.to(a.dtype)
        if self.mode == "universal":
            inner = self.thinned(x) @ a[0]
            return y + (inner @ b[0] * self.scale).to(y.dtype)
        g = self.gates(x, tasks)
        if self.watched:
            self.seen.append(g.detach())
        if self.universal_learns:
            a, b = (torch.cat((part[:1], part[1:].detach())) for part in (a, b))
            g = g.detach()
        E, inputs, R = a.shape
        x = self.thinned(x)
        inner = x @ a.permute(1, 0, 2).reshape(inputs, E * R)  # (B, T, E R)
        inner = inner.unflatten(-1, (E, R)) * self.shares(g)[..., None].to(inner.dtype)
        return y + (inner.flatten(-2) @ b.reshape(E * R, -1)).to(y.dtype)


@torch.no_grad()
def released_bounds(w_noise: Tensor, generator: torch.Generator | None = None) -> None:
    """Draws W_n (K_in, S) as the released code does: kaiming with a = sqrt(5) takes S for the fan."""
    if w_noise.shape[1]:
        bound = 1 / math.sqrt(w_noise.shape[1])
        w_noise.uniform_(-bound, bound, generator=generator)
