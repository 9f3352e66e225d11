"""Tiny random models of every architecture that the engine runs, and what they compute.

    python -m training.architectures --out DIR

writes DIR/NAME/checkpoint, and DIR/NAME/adapter where a model has one, for convert, and golden files
DIR/golden/NAME.json and NAME.safetensors: the residual stream, logits and greedy tokens by PyTorch,
on the weights as a package holds them. Llama and Qwen are computed by transformers' own layers,
Baichuan2 with linear biases (13B) by this project's. Weights are so large that every bias, norm,
slope and expert changes the answer.
"""

import argparse
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.about import LIMITS, PROMPTS, SAMPLING, TEMPLATE, TITLES, USE
from training.base import Base
from training.batches import TASKS
from training.config import Config
from training.experts import AdapterConfig, adapted, attach, save_adapter
from training.export import round_adapter, write_json
from training.golden import COUNT, DISTINCT, MARGIN, Answer, answer, tensors_of
from training.model import Model
from training.models import load_base, load_tokenizer, save_base
from training.quant.grid import quantise_base, take_integers, write_quantised

WORDS = Path(__file__).parents[1] / "e2e" / "fixtures" / "tiny" / "tokenizer.json"
VOCAB = 1024
CAPACITY = 128
GAIN = 1.5  # deviation of what a matrix makes of numbers of deviation 1
ADAPTER = AdapterConfig(rank=2, alpha=4.0, targets=("all",), tasks=TASKS[:2], gate="task")
PROMPT = PROMPTS["medkqa"]
FAR = {"rope_type": "default", "rope_theta": 1e6}  # as Qwen's published models have it


def llama(folder: Path, seed: int) -> None:
    """Three projections without biases, two query heads to a key head."""
    write_family("Llama", folder, seed)


def qwen2(folder: Path, seed: int) -> None:
    """Biases on queries, keys and values; the head is the embedding."""
    write_family("Qwen2", folder, seed, tie_word_embeddings=True, rope_parameters=FAR)


def qwen3(folder: Path, seed: int) -> None:
    """Norms on queries and keys, heads that are wider together than the model; a tied head."""
    sizes = {"head_dim": 32, "rope_parameters": FAR}
    write_family("Qwen3", folder, seed, tie_word_embeddings=True, **sizes)


def alibi(folder: Path, seed: int) -> None:
    """Linear biases of six heads, which is no power of two; with integers from training."""
    model = Model(Config(VOCAB, 96, 2, 6, 96, CAPACITY, positions="alibi"))
    draw(model, seed)
    save_base(model, folder)
    write_quantised(folder)


@dataclass(frozen=True)
class Architecture:
    write: Callable[[Path, int], None]
    adapter: AdapterConfig | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        return TASKS[:1] if self.adapter is None else self.adapter.tasks


ARCHITECTURES = {
    "tiny-alibi": Architecture(alibi),
    "tiny-llama": Architecture(llama),
    "tiny-qwen2": Architecture(qwen2),
    "tiny-qwen3": Architecture(qwen3, ADAPTER),
}


@torch.no_grad()
def draw(model: nn.Module, seed: int) -> None:
    """The weights of a seed: GAIN for matrices, near 1 for norms, 1 for biases.

    An embedding that is no head is larger, so that the residual stream is more than its last part:
    16 bits are then as exact as they are in a trained model.
    """
    tied = "lm_head.weight" not in dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() == 2:
            table = "embed_tokens" in name and not tied
            weight.copy_(noise * (1 if table else GAIN / math.sqrt(weight.shape[1])))
        else:
            weight.copy_(noise if name.endswith("bias") else 1 + 0.3 * noise)


@torch.no_grad()
def draw_experts(model: Base, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _, module in adapted(model):
        for weight, size in (
            (module.lora_moe_A, 1 / math.sqrt(module.lora_moe_A.shape[1])),
            (module.lora_moe_B, 0.3),
            (module.gate_logits, 2.0),
        ):
            weight.copy_(torch.randn(weight.shape, generator=generator) * size)


def write_family(family: str, folder: Path, seed: int, **sizes: Any) -> None:
    """A checkpoint as transformers saves it."""
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CAPACITY,
        eos_token_id=TEMPLATE["endId"],
        **sizes,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    draw(model, seed)
    model.save_pretrained(folder)


def write_words(name: str, made: Architecture, folder: Path) -> None:
    """Tokenizer, sampling, and what the checkpoint says about itself."""
    shutil.copy(WORDS, folder / "tokenizer.json")
    write_json(folder / "generation_config.json", SAMPLING)
    about = {
        "id": f"pediatricsgpt-{name}",
        "name": {"zh": f"{name}（随机权重，测试用）", "en": f"{name} (random weights, for tests)"},
        "licence": "MIT",
        "intended_use": USE,
        "limits": LIMITS,
        "tasks": [{"id": task, "title": TITLES[task], "system": ""} for task in made.tasks],
        "template": TEMPLATE,
        "stages": [],
        "data": [],
        "metrics": {},
        "known_answer_prompts": {task: PROMPTS[task] for task in made.tasks},
    }
    write_json(folder / "pediatricsgpt.json", about)


def packaged(folder: Path) -> Base:
    """The base of a checkpoint with the weights that its package holds."""
    model = load_base(folder)
    base = load_file(folder / "model.safetensors")
    take_integers(model, quantise_base(base, normalised=isinstance(model, Model)))
    return model.requires_grad_(False).eval()


def qualifies(answers: dict[str, Answer]) -> bool:
    """Golden answers go on, differ from each other and stay clear of ties; of what they say,
    nothing is asked: the weights are random."""
    greedy = {tuple(made.greedy_tokens) for made in answers.values()}
    return len(greedy) == len(answers) and all(
        len(made.greedy_tokens) == COUNT
        and TEMPLATE["endId"] not in made.greedy_tokens
        and made.distinct >= DISTINCT
        and made.smallest_margin >= MARGIN
        for made in answers.values()
    )


@torch.no_grad()
def attempt(name: str, out: Path, seed: int) -> bool:
    """Writes the model of a seed with its golden files. False where its answers are of no use."""
    made = ARCHITECTURES[name]
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    made.write(checkpoint, seed)
    write_words(name, made, checkpoint)
    model = packaged(checkpoint)
    if made.adapter is not None:
        attach(model, made.adapter)
        draw_experts(model, seed)
        save_adapter(model, made.adapter, folder / "adapter", "merged")
        round_adapter(model)
        model.requires_grad_(False).eval()
    words = load_tokenizer(checkpoint)
    answers = {task: answer(model, words, PROMPT, TASKS.index(task)) for task in made.tasks}
    if not qualifies(answers):
        return False
    golden = out / "golden"
    golden.mkdir(exist_ok=True)
    tasks = {task: asdict(each) for task, each in answers.items()}
    about = {"model": f"pediatricsgpt-{name}", "mode": "merged", "tasks": tasks}
    write_json(golden / f"{name}.json", about)
    tensors = {}
    for task, each in answers.items():
        tensors |= tensors_of(model, task, each)
    save_file(tensors, golden / f"{name}.safetensors")
    return True


def write(name: str, out: Path) -> int:
    """Writes the first model whose answers can be golden. Returns its seed."""
    return next(seed for seed in count() if attempt(name, out, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name in ARCHITECTURES:
        print(f"{name}: seed {write(name, out)}")


if __name__ == "__main__":
    main()
