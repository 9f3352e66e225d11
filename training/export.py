"""Writes what convert reads: checkpoint/, adapter/ (merged), adapter-routed/ (the routed twin); and
peft/TASK/, each task's merged pair as a stock LoRA for everybody else."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.base import Base
from training.batches import TASKS
from training.experts import adapted, load_adapter, write_peft
from training.model import Model
from training.quant.grid import quantise_base, take_integers, write_quantised
from training.stages.adapter import shipped
from training.stages.common import Run, done

STAGES = ("cpt", "sft", "dfpo", "adapter", "finish", "twin")
TITLES = {
    "medkqa": {"zh": "知识问答", "en": "Knowledge Q&A"},
    "evidiag": {"zh": "循证诊断", "en": "Evidence-based diagnosis"},
    "trerecom": {"zh": "治疗推荐", "en": "Treatment recommendation"},
}
TEMPLATE = {
    "system": {"prefix": "", "suffix": "\n"},
    "user": {"prefix": "Human: ", "suffix": "\nAssistant: "},
    "assistant": {"prefix": "", "suffix": ""},
    "separator": "\n",
    "endId": 2,
    "stopIds": [2],
}
PROMPTS = {
    "medkqa": "什么是小儿肺炎？",
    "evidiag": "宝宝发烧两天，还咳嗽。",
    "trerecom": "孩子感冒了怎么治疗？",
}
SAMPLING = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "repetition_penalty": 1.1,  # the preset's `penalty` takes its place
    "max_new_tokens": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
USE = {
    "zh": "研究与技术演示：在浏览器中离线运行的儿科语言模型。不是医疗器械，不能代替医生。",
    "en": "Research and demonstration of a pediatric language model that runs offline in a browser. "
    "No medical device, no substitute for a doctor.",
}
LIMITS = {
    "zh": "模型非常小，会编造事实、药名和因果；不得用于诊断或用药决定。紧急情况请立即拨打120。",
    "en": "A very small model that invents facts, names of medicines and causes. Never decide on "
    "diagnosis or medication with it. In an emergency call 120 (or your local number).",
}


def write_json(path, value) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def data_table(run: Run) -> list[dict]:
    """Source, licence and kept records of everything that went into the corpus."""
    report = json.loads((run.out / "corpus" / "report.json").read_text(encoding="utf-8"))
    licences = report.get("licences", {})
    table = []
    for source, counts in sorted(report["sources"].items()):
        licence = licences.get(source, {})
        name = licence.get("licence", "unknown") if isinstance(licence, dict) else str(licence)
        if counts["kept"] > 0:
            table.append({"source": source, "licence": name, "records": counts["kept"]})
    return table


def stage_table(run: Run) -> list[dict]:
    fields = ("name", "steps", "tokens", "seconds", "loss")
    summaries = [done(run, name) for name in STAGES]
    return [{key: s[key] for key in fields} for s in summaries if s is not None]


def write_about(run: Run, metrics: dict[str, float]) -> None:
    """pediatricsgpt.json: what the checkpoint says about itself."""
    name = run.preset.name
    tiny = name == "ci"
    about = {
        "id": "pediatricsgpt-" + ("tiny" if tiny else name),
        "name": {
            "zh": "PediatricsGPT " + ("微型（测试用）" if tiny else "nano"),
            "en": "PediatricsGPT " + ("tiny (for tests)" if tiny else "nano"),
        },
        "licence": "MIT",
        "intended_use": USE,
        "limits": LIMITS,
        "tasks": [{"id": task, "title": TITLES[task], "system": ""} for task in TASKS],
        "template": TEMPLATE,
        "stages": stage_table(run),
        "data": data_table(run),
        "metrics": metrics,
        "known_answer_prompts": PROMPTS,
    }
    write_json(run.out / "checkpoint" / "pediatricsgpt.json", about)


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
    sampling = SAMPLING | {"repetition_penalty": run.preset.penalty}
    write_json(checkpoint / "generation_config.json", sampling)
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
