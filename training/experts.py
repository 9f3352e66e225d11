"""The MoE-Adapter: one universal and several specific low-rank experts beside frozen linears.

    y = W x + (alpha / r) * ( x A_0 B_0 + sum_{e>=1} g_e x A_e B_e )

E experts (0 is the universal one, always on), R rank, K_in and N_out sizes of the linear.
Where the gates g come from is the mode of the adapter:

    token      a router per linear: g = softmax(x W_g + eps * softplus(x W_n)), eps ~ N(0, 1) and
               only in training; the softmax is f32 (the form of the PediatricsGPT paper)
    task       constants per (task, linear): g = softmax(gate_logits[task]); merges exactly
    uniform    1 / (E - 1) everywhere
    universal  expert 0 alone            } to see what the
    none       the base alone            } experts contribute

W_n starts at zero: the noise then has deviation softplus(0) = 0.69, about that of the router's own
logits at the start. Drawn like the router but over E - 1 instead of K_in inputs, as published, it
would drown them.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.model import Linear, Model

MODES = ("token", "task", "uniform", "universal", "none")
PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterConfig:
    experts: int = 4
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    tasks: tuple[str, ...] = ("medkqa", "evidiag", "trerecom")


class ExpertLinear(nn.Module):
    """A frozen linear with its experts. Takes the place of `training.model.Linear`."""

    def __init__(self, base: Linear, config: AdapterConfig):
        super().__init__()
        outputs, inputs = base.weight.shape
        E, R = config.experts, config.rank
        self.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        self.scale = config.alpha / R
        bound = 1 / math.sqrt(inputs)
        self.lora_moe_A = nn.Parameter(torch.empty(E, inputs, R).uniform_(-bound, bound))
        self.lora_moe_B = nn.Parameter(torch.zeros(E, R, outputs))
        self.lora_route = nn.Linear(inputs, E - 1, bias=False)
        self.w_noise = nn.Parameter(torch.zeros(inputs, E - 1))
        self.gate_logits = nn.Parameter(torch.zeros(len(config.tasks), E - 1))
        self.mode = "token"
        self.watched = False
        self.seen: list[Tensor] = []  # the gates of every pass while it is watched

    def gates(self, x: Tensor, tasks: Tensor | None) -> Tensor:
        """x: (B, T, K_in), tasks: (B,) -> gates of the specific experts, (B, T or 1, E - 1) f32."""
        if self.mode == "uniform":
            specific = self.w_noise.shape[1]
            return x.new_full((x.shape[0], 1, specific), 1 / specific, dtype=torch.float32)
        if self.mode == "task":
            if tasks is None:
                raise ValueError("an adapter with gates per task needs the task of every row")
            return self.gate_logits.float().softmax(-1)[tasks][:, None]
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            logits = F.linear(x, self.lora_route.weight.float())
            if self.training:
                logits = logits + torch.randn_like(logits) * F.softplus(x @ self.w_noise.float())
            return logits.softmax(-1)

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """(B, T, K_in) -> (B, T, N_out)"""
        y = F.linear(x, self.weight)
        if self.mode == "none":
            return y
        E, inputs, R = self.lora_moe_A.shape
        a, b = self.lora_moe_A, self.lora_moe_B
        if self.mode == "universal":
            return y + (x @ a[0]) @ b[0] * self.scale
        g = self.gates(x, tasks)
        if self.watched:
            self.seen.append(g.detach())
        g = torch.cat((torch.ones_like(g[..., :1]), g), -1) * self.scale  # (B, T or 1, E)
        inner = x @ a.permute(1, 0, 2).reshape(inputs, E * R)  # (B, T, E R)
        inner = inner.unflatten(-1, (E, R)) * g[..., None].to(inner.dtype)
        return y + inner.flatten(-2) @ b.reshape(E * R, -1)


def attach(model: Model, config: AdapterConfig) -> None:
    """Freezes the base and puts experts beside every linear named in `config.targets`."""
    model.requires_grad_(False)
    found = 0
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for target in config.targets:
                linear = getattr(part, target, None)
                if linear is not None:
                    setattr(part, target, ExpertLinear(linear, config))
                    found += 1
    if found != len(config.targets) * model.config.layers:
        raise ValueError(f"{config.targets} are not all linears of this model")


def adapted(model: Model) -> Iterator[tuple[str, ExpertLinear]]:
    """(`layers.0.mlp.gate_proj`, module) for every adapted linear."""
    for name, module in model.model.named_modules():
        if isinstance(module, ExpertLinear):
            yield name, module


def set_mode(model: Model, mode: str) -> None:
    """Switches every adapted linear, and lets exactly the parameters train that the mode uses."""
    if mode not in MODES:
        raise ValueError(f"no such adapter mode: {mode}")
    for _, module in adapted(model):
        module.mode = mode
        experts = mode not in ("none",)
        module.lora_moe_A.requires_grad_(experts)
        module.lora_moe_B.requires_grad_(experts)
        module.lora_route.weight.requires_grad_(mode == "token")
        module.w_noise.requires_grad_(mode == "token")
        module.gate_logits.requires_grad_(mode == "task")


def watch(model: Model, on: bool) -> None:
    """Lets every adapted linear keep the gates it uses, in `seen`, or forgets them."""
    for _, module in adapted(model):
        module.watched, module.seen = on, []


@torch.no_grad()
def mean_gates(
    model: Model, batches: Iterable[tuple[Tensor, Tensor | None, Tensor, Tensor]], tasks: int
) -> dict[str, Tensor]:
    """Mean of the router's gates per task: {linear: (tasks, E - 1)}.

    batches: (tokens (B, T), segments (B, T) or None, tasks (B,), counted (B, T) bool).
    """
    was_training = model.training
    model.eval()
    sums = {name: torch.zeros(tasks, m.w_noise.shape[1]) for name, m in adapted(model)}
    counts = torch.zeros(tasks)
    watch(model, True)
    for tokens, segments, rows, counted in batches:
        model.hidden(tokens, segments, rows)
        for name, module in adapted(model):
            g = module.seen.pop()
            for row, task in enumerate(rows.tolist()):
                sums[name][task] += g[row, counted[row]].sum(0).cpu()
        for row, task in enumerate(rows.tolist()):
            counts[task] += counted[row].sum().item()
    watch(model, False)
    model.train(was_training)
    if (counts == 0).any():
        raise ValueError("no tokens of some task to measure its gates on")
    return {name: total / counts[:, None] for name, total in sums.items()}


@torch.no_grad()
def start_finish(model: Model, means: dict[str, Tensor], spread: float = 0.0) -> None:
    """Replaces the router by constant gates per task that start at the measured means.

    The means hardly differ between tasks. `spread` is added to one gate logit of every task, a
    different one for each while there are enough experts, so that the experts have a reason to part.
    """
    for name, module in adapted(model):
        logits = means[name].clamp_min(1e-6).log()
        for task, row in enumerate(logits):
            row[task % len(row)] += spread
        module.gate_logits.copy_(logits)
    set_mode(model, "task")


def adapter_tensors(model: Model, mode: str) -> dict[str, Tensor]:
    """f32 tensors under their released names; the router's only in routed mode."""
    tensors = {}
    for name, module in adapted(model):
        key = f"{PREFIX}model.{name}."
        tensors[key + "lora_moe_A"] = module.lora_moe_A
        tensors[key + "lora_moe_B"] = module.lora_moe_B
        if mode == "routed":
            tensors[key + "lora_route.weight"] = module.lora_route.weight
            tensors[key + "w_noise"] = module.w_noise
    return {k: v.detach().float().cpu().clone().contiguous() for k, v in tensors.items()}


def task_gates(model: Model, config: AdapterConfig) -> dict[str, dict[str, list[float]]]:
    """{task: {linear: [g_1 ..]}}, each list summing to 1."""
    return {
        task: {
            name: module.gate_logits[i].detach().double().softmax(-1).tolist()
            for name, module in adapted(model)
        }
        for i, task in enumerate(config.tasks)
    }


def save_adapter(model: Model, config: AdapterConfig, folder: Path, mode: str) -> None:
    """Writes the adapter folder that convert reads. mode: merged or routed."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_nums": config.experts,
        "lora_dropout": 0,
        "target_modules": list(config.targets),
        "mode": mode,
    }
    (folder / "adapter_config.json").write_text(json.dumps(about, indent=2) + "\n")
    save_file(adapter_tensors(model, mode), folder / "adapter_model.safetensors")
    if mode == "merged":
        gates = json.dumps(task_gates(model, config), indent=1)
        (folder / "task_gates.json").write_text(gates + "\n")


def load_adapter(model: Model, config: AdapterConfig, folder: Path) -> str:
    """Attaches the adapter of a folder and returns its mode. Missing or extra keys are an error."""
    about = json.loads((folder / "adapter_config.json").read_text())
    mode = about["mode"]
    said = (about["r"], about["lora_alpha"], about["lora_nums"], tuple(about["target_modules"]))
    if said != (config.rank, config.alpha, config.experts, config.targets):
        raise ValueError(f"{folder}: the adapter is {said}, expected {config}")
    tensors = load_file(folder / "adapter_model.safetensors")
    if not any(True for _ in adapted(model)):
        attach(model, config)
    expected = adapter_tensors(model, mode)
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise ValueError(f"{folder}: missing {sorted(missing)}, unexpected {sorted(extra)}")
    gates = None
    if mode == "merged":
        gates = json.loads((folder / "task_gates.json").read_text())
        if set(gates) != set(config.tasks):
            raise ValueError(f"{folder}: gates for {sorted(gates)}, expected {config.tasks}")
    with torch.no_grad():
        for name, module in adapted(model):
            key = f"{PREFIX}model.{name}."
            module.lora_moe_A.copy_(tensors[key + "lora_moe_A"])
            module.lora_moe_B.copy_(tensors[key + "lora_moe_B"])
            if gates is None:
                module.lora_route.weight.copy_(tensors[key + "lora_route.weight"])
                module.w_noise.copy_(tensors[key + "w_noise"])
            else:
                rows = torch.tensor([gates[task][name] for task in config.tasks])
                module.gate_logits.copy_(rows.clamp_min(1e-12).log())
    set_mode(model, "token" if mode == "routed" else "task")
    return mode
