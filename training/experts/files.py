"""Adapter folders: the layout released with the paper, and ours beside it.

    adapter_config.json         the released keys; ours adds `mode` and how the gates were trained
    adapter_model.safetensors   PREFIX + linear + .lora_moe_A (E, K_in, R), .lora_moe_B (E, R, N_out);
                                ours, in routed mode: .lora_route.weight (S, K_in), .w_noise (K_in, S)
    task_gates.json             ours, in merged mode: {task: {linear: [g_1 ..]}}

The released files hold no router: its code drops the router's tensors when it saves. Such an adapter
is read with uniform gates, the expectation of what a router drawn anew would do.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.distributed import is_main, whole
from training.experts.attach import adapted, attach, set_mode
from training.experts.gates import task_gates
from training.experts.linear import AdapterConfig

PREFIX = "base_model.model."
SAFE, BINARY = "adapter_model.safetensors", "adapter_model.bin"
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FORMS = ("merged", "routed", "released")
LOADED = {"merged": "task", "routed": "token", "uniform": "uniform"}  # form -> mode
# What changes the numbers in a way that the formula does not have, and the value that says it does not
INERT: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (False,),
    "fan_in_fan_out": (False,),
    "alpha_pattern": ({},),
    "rank_pattern": ({},),
    "modules_to_save": (None, []),
}


def about_of(model: nn.Module, config: AdapterConfig, base: str | None = None) -> dict:
    """The released adapter_config.json, with every key of it."""
    targets = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name, _ in adapted(model)))
    return {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "loftq_config": {},
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "lora_nums": config.experts,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": {},
        "revision": None,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": config.rslora,
    }


def adapter_tensors(model: nn.Module, mode: str) -> dict[str, Tensor]:
    """Tensors under their released names, in the dtype of the file they came from (else f32).

    mode: merged, routed or released; the router's only in routed mode.
    """
    tensors = {}
    for name, module in adapted(model):
        key = f"{PREFIX}model.{name}."
        own = {"lora_moe_A": module.lora_moe_A, "lora_moe_B": module.lora_moe_B}
        if mode == "routed":
            own |= {"lora_route.weight": module.lora_route.weight, "w_noise": module.w_noise}
        for part, tensor in own.items():
            tensor = whole(tensor.detach()).to("cpu", module.stored.get(part, torch.float32))
            tensors[key + part] = tensor.clone().contiguous()
    return tensors


def save_adapter(
    model: nn.Module,
    config: AdapterConfig,
    folder: Path,
    mode: str,
    about: dict | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes an adapter folder. mode: merged (gates per task), routed (router) or released.

    `released` is the layout of the paper's code and nothing else, so an adapter that was read from
    such a folder (about: its `read_about`) is written back byte for byte. dtype: f32, f16 or bf16
    instead of what the adapter was read in. Of several processes all call it and the first writes.
    """
    if mode not in FORMS:
        raise ValueError(f"adapter files are {FORMS}, not {mode!r}")
    said = about_of(model, config) | (about or {})
    if mode != "released":
        said |= {"mode": mode, "gate": config.gate, "noise": config.noise}
        said |= {"universal": config.universal, "tasks": list(config.tasks)}
    tensors = adapter_tensors(model, mode)
    gates = task_gates(model, config) if mode == "merged" else None
    if not is_main():
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(said, indent=2, sort_keys=True)  # as the released code writes it: no newline
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save_file(tensors, folder / SAFE, metadata={"format": "pt"})
    (folder / "task_gates.json").unlink(missing_ok=True)
    if gates is not None:
        (folder / "task_gates.json").write_text(json.dumps(gates, indent=1) + "\n")


def read_about(folder: Path) -> dict:
    """adapter_config.json of a MoE-Adapter. Raises ValueError for what the formula does not cover."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: is this an adapter folder?")
    about = json.loads(path.read_text(encoding="utf-8"))
    missing = {"r", "lora_alpha", "lora_nums", "target_modules"} - about.keys()
    if missing:
        raise ValueError(f"{path}: no {sorted(missing)}; a MoE-Adapter has them, a plain LoRA not")
    for key, allowed in INERT.items():
        if key in about and about[key] not in allowed:
            raise ValueError(f"{path}: {key} is {about[key]!r}, which is not supported")
    return about


def config_of(about: dict, tasks: tuple[str, ...] = AdapterConfig.tasks) -> AdapterConfig:
    """The AdapterConfig that an adapter_config.json describes; `tasks` where it does not say."""
    targets = about["target_modules"]
    return AdapterConfig(
        experts=about["lora_nums"],
        rank=about["r"],
        alpha=about["lora_alpha"],
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        tasks=tuple(about.get("tasks", tasks)),
        gate=about.get("gate", "token"),
        universal=about.get("universal", True),
        noise=about.get("noise", "scaled"),
        rslora=about.get("use_rslora", False),
        dropout=about.get("lora_dropout", 0.0),
    )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder under one spelling: the `.default` of the released loader is cut out."""
    if (folder / SAFE).is_file():
        path, raw = folder / SAFE, load_file(folder / SAFE)
    elif (folder / BINARY).is_file():
        path = folder / BINARY
        raw = torch.load(path, weights_only=True, map_location="cpu")
    else:
        raise FileNotFoundError(f"{folder}: neither {SAFE} nor {BINARY}")
    tensors: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        plain = name.replace(".default", "")
        if plain in tensors:
            raise ValueError(f"{path}: {name} is there twice, with and without .default")
        if tensor.dtype not in FLOATS:
            raise ValueError(f"{path}: {name} is {tensor.dtype}, not f32, f16 or bf16")
        tensors[plain] = tensor
    return tensors


def _form(folder: Path, about: dict, routed: bool) -> str:
    """merged, routed or uniform, from what the folder says and holds."""
    said = about.get("mode")
    if said not in (None, "merged", "routed"):
        raise ValueError(f"{folder}: adapter mode {said!r} is not known")
    if said == "routed" and not routed:
        raise ValueError(f"{folder}: mode is routed, but there is no lora_route.weight")
    gated = (folder / "task_gates.json").is_file()
    if said is None:
        said = "merged" if gated else "routed" if routed else "merged"
    if said == "merged" and not gated:
        if routed:
            raise ValueError(f"{folder}: a router, but mode merged and no task_gates.json")
        print(
            f"{folder}: no router and no gates per task (the paper's code saves neither). Every "
            "specific expert gets the same share, which is what its randomly drawn router does on "
            "average; what routing learned is lost.",
            file=sys.stderr,
        )
        return "uniform"
    return said


def _check(folder: Path, expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise ValueError(f"{folder}: missing {sorted(missing)}, unexpected {sorted(extra)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise ValueError(f"{folder}: {name} is {shapes}")


def _read_gates(folder: Path, model: nn.Module, tasks: tuple[str, ...]) -> dict[str, Tensor]:
    """{linear: (tasks, S)} of task_gates.json."""
    path = folder / "task_gates.json"
    gates = json.loads(path.read_text(encoding="utf-8"))
    if set(gates) != set(tasks):
        raise ValueError(f"{path}: gates for {sorted(gates)}, expected {sorted(tasks)}")
    found = {}
    for name, module in adapted(model):
        rows = [gates[task].get(name, []) for task in tasks]
        if any(len(row) != module.config.specific for row in rows):
            raise ValueError(f"{path}: {name} needs {module.config.specific} gates for every task")
        found[name] = torch.tensor(rows)
    extra = {name for task in gates.values() for name in task} - found.keys()
    if extra:
        raise ValueError(f"{path}: gates for {sorted(extra)}, which have no experts")
    return found


def load_adapter(model: nn.Module, config: AdapterConfig | None, folder: Path) -> str:
    """Attaches the adapter of a folder -> its form: merged, routed, or uniform (no router, no gates).

    config: what is expected (ValueError where the folder differs), or None to take what the folder
    says. Missing or extra tensors and wrong shapes are errors that name them.
    """
    about = read_about(folder)
    found = config_of(about, config.tasks if config else AdapterConfig.tasks)
    config = config or found
    if next(adapted(model), None) is None:
        attach(model, config)
    targets = {name.rsplit(".", 1)[-1] for name, _ in adapted(model)}
    said = (found.rank, found.alpha, found.experts, found.universal, found.rslora)
    wanted = (config.rank, config.alpha, config.experts, config.universal, config.rslora)
    if said != wanted or (set(found.targets) != targets and not {"ffn", "all"} & {*found.targets}):
        raise ValueError(f"{folder}: the adapter is {found}, expected {config}")
    tensors = read_tensors(folder)
    form = _form(folder, about, any("lora_route" in name for name in tensors))
    if form == "merged":  # a router beside gates per task is not used
        router = (".lora_route.weight", ".w_noise")
        tensors = {k: v for k, v in tensors.items() if not k.endswith(router)}
    _check(folder, adapter_tensors(model, form), tensors)
    gates = _read_gates(folder, model, config.tasks) if form == "merged" else None
    with torch.no_grad():
        for name, module in adapted(model):
            key = f"{PREFIX}model.{name}."
            parts = {"lora_moe_A": module.lora_moe_A, "lora_moe_B": module.lora_moe_B}
            if form == "routed":
                parts |= {"lora_route.weight": module.lora_route.weight, "w_noise": module.w_noise}
            module.stored = {part: tensors[key + part].dtype for part in parts}
            for part, weight in parts.items():
                weight.copy_(tensors[key + part])
            if gates is not None:
                module.gate_logits.copy_(gates[name].clamp_min(1e-12).log())
    set_mode(model, LOADED[form])
    return form
