"""A task's merged pair as a stock LoRA, so that the peft library and all that reads its files can
load it.

With constant gates the mixture is one low-rank pair of rank E R:

    s * sum_e g_e A_e B_e  =  [A_0 .. A_E] @ [s g_0 B_0; .. ; s g_E B_E]

Shares and scale are folded into B, and lora_alpha = r, so that the reader multiplies by exactly 1.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.experts.attach import adapted
from training.experts.files import PREFIX, about_of
from training.experts.linear import AdapterConfig, ExpertLinear


@torch.no_grad()
def merged_pair(module: ExpertLinear, task: int) -> tuple[Tensor, Tensor]:
    """(A (K_in, E R), B (E R, N_out)) f32 with x A B = what the experts add under the task's gates."""
    E, inputs, R = module.lora_moe_A.shape
    gates = module.gate_logits[task].float().softmax(-1)
    if module.mode == "uniform":
        gates = torch.full_like(gates, 1 / max(1, len(gates)))
    b = module.lora_moe_B.float() * module.shares(gates)[:, None, None]
    a = module.lora_moe_A.float().permute(1, 0, 2).reshape(inputs, E * R)
    return a, b.reshape(E * R, -1)


def write_peft(
    model: nn.Module, config: AdapterConfig, folder: Path, base: str | None = None
) -> list[Path]:
    """Writes TASK/adapter_model.safetensors and TASK/adapter_config.json for every task.

    Needs gates per task (or uniform ones); a token router is no constant and raises ValueError.
    base: the name or path of the base checkpoint, which the reader may look up.
    """
    modes = {module.mode for _, module in adapted(model)}
    if modes not in ({"task"}, {"uniform"}):
        raise ValueError(f"a plain LoRA needs gates per task, this adapter is in mode {modes}")
    rank = config.experts * config.rank
    said = {k: v for k, v in about_of(model, config, base).items() if k != "lora_nums"}
    said |= {"r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "use_rslora": False}
    written = []
    for number, task in enumerate(config.tasks):
        tensors = {}
        for name, module in adapted(model):
            a, b = merged_pair(module, number)
            key = f"{PREFIX}model.{name}."
            tensors[key + "lora_A.weight"] = a.T.cpu().contiguous()
            tensors[key + "lora_B.weight"] = b.T.cpu().contiguous()
        out = folder / task
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(said, indent=2, sort_keys=True)
        (out / "adapter_config.json").write_text(text, encoding="utf-8")
        save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
        written.append(out)
    return written
