"""Writes what convert reads: checkpoint/, adapter/ (merged), adapter-routed/ (the routed twin); and
peft/TASK/, each task's merged pair as a stock LoRA for everybody else."""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training.about import STAGES, about, sampling_of
from training.base import Base
from training.experts import adapted, load_adapter, write_peft
from training.model import Model
from training.quant.grid import quantise_base, take_integers, write_quantised
from training.stages.adapter import shipped
from training.stages.common import Run


def write_json(path, value) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def base_parameters(checkpoint: Path) -> int:
    """How many values the base of an exported checkpoint has; its tensors are not read."""
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping


def write_about(run: Run, metrics: dict[str, float]) -> None:
    """pediatricsgpt.json: what the checkpoint says about itself."""
    checkpoint = run.out / "checkpoint"
    made = about(run, base_parameters(checkpoint), metrics)
    write_json(checkpoint / "pediatricsgpt.json", made)


TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


def write_words(run: Run, checkpoint: Path) -> None:
    """Sizes and tokenizer: the run's own, or those of the checkpoint that it started from."""
    if run.preset.base is not None:
        base = run.base_folder()
        for name in ("config.json", *TOKENIZER_FILES):
            if (base / name).is_file():
                shutil.copy(base / name, checkpoint / name)
        return
    write_json(checkpoint / "config.json", run.preset.config.to_hf())
    shutil.copy(run.out / "tokenizer" / "tokenizer.json", checkpoint / "tokenizer.json")
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": run.preset.config.capacity,
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<unk>",
        "add_bos_token": False,
        "add_eos_token": False,
    }
    write_json(checkpoint / "tokenizer_config.json", words)


def write_integers(run: Run, checkpoint: Path) -> None:
    """quantized.safetensors by rounding; a base of another's is left to convert."""
    if run.preset.base is None:
        write_quantised(checkpoint)


def export(run: Run) -> None:
    """The checkpoint with its integers, the adapters, and the journals of the stages."""
    checkpoint = run.out / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    tensors = load_file(run.folder("dfpo") / "model.safetensors")
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    write_words(run, checkpoint)
    write_integers(run, checkpoint)
    write_json(checkpoint / "generation_config.json", sampling_of(run))
    for name, stage in (("adapter", shipped(run)), ("adapter-routed", "twin")):
        shutil.rmtree(run.out / name, ignore_errors=True)
        shutil.copytree(run.folder(stage) / "adapter", run.out / name)
    shutil.rmtree(run.out / "peft", ignore_errors=True)
    write_peft(float_model(run, "adapter"), run.preset.adapter, run.out / "peft", run.preset.base)
    write_about(run, {})
    journals = run.out / "metrics"
    journals.mkdir(exist_ok=True)
    for stage in STAGES:
        journal = run.folder(stage) / "metrics.jsonl"
        if journal.exists():
            shutil.copy(journal, journals / f"{stage}.jsonl")


@torch.no_grad()
def round_adapter(model: Base) -> None:
    """Experts and routers as the package stores them: f16."""
    for _, module in adapted(model):
        for weight in (module.lora_moe_A, module.lora_moe_B, module.lora_route.weight):
            weight.copy_(weight.half().float())


def device_model(run: Run, adapter: str) -> Base:
    """The exported model as a device computes it: dequantised base, f16 adapter, f32 arithmetic.

    A base of another's that has no integers yet is rounded here as convert rounds it.
    """
    model = float_model(run, adapter)
    path = run.out / "checkpoint" / "quantized.safetensors"
    if path.is_file():
        packed = load_file(path)
    else:
        base = load_file(run.out / "checkpoint" / "model.safetensors")
        packed = quantise_base(base, normalised=isinstance(model, Model))
    take_integers(model, packed)
    round_adapter(model)
    return model


def float_model(run: Run, adapter: str) -> Base:
    """The exported model before quantisation."""
    model = Model(run.preset.config) if run.preset.base is None else run.new_model().cpu()
    model.load_state_dict(load_file(run.out / "checkpoint" / "model.safetensors"))
    load_adapter(model, run.preset.adapter, run.out / adapter)
    return model.requires_grad_(False).eval()
