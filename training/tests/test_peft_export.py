"""A task's merged pair, loaded by the peft library onto the same base, must compute what we do."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from training.experts import AdapterConfig, adapted, attach, load_adapter, save_adapter, write_peft
from training.experts.attach import set_mode, set_tasks
from training.model import Config, Model

SIZES: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
TOKENS = torch.arange(3, 35).view(2, 16)


class Wrapped(nn.Module):
    """A transformers model that says where experts can go."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.inner = model

    def adaptable(self, targets) -> Iterator[tuple[str, nn.Module, str]]:
        for name, module in self.inner.named_modules():
            for attribute, child in module.named_children():
                if attribute in targets and isinstance(child, nn.Linear):
                    yield f"{name.removeprefix('model.')}.{attribute}", module, attribute


def llama() -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def qwen() -> nn.Module:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES)).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # born as zeros
            nn.init.normal_(weight)
    return model


def fill(model: nn.Module) -> None:
    torch.manual_seed(1)
    for _, module in adapted(model):
        nn.init.normal_(module.lora_moe_B, std=0.1)
        nn.init.normal_(module.gate_logits)


@torch.no_grad()
@pytest.mark.parametrize("make", [llama, qwen])
@pytest.mark.parametrize("rslora", [False, True])
def test_stock_peft_computes_what_every_task_computes(tmp_path, make, rslora):
    config = AdapterConfig(
        experts=3,
        rank=4,
        alpha=12.0,
        targets=("all",),
        tasks=("a", "b"),
        gate="task",
        rslora=rslora,
        dropout=0.1,
    )
    plain = make()(TOKENS).logits
    ours = Wrapped(make())
    attach(ours, config)
    assert {name.rsplit(".", 1)[1] for name, _ in adapted(ours)} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    fill(ours)
    write_peft(ours, config, tmp_path)
    seen = []
    for number, task in enumerate(config.tasks):
        set_tasks(ours, torch.full((len(TOKENS),), number))
        expected = ours.inner(TOKENS).logits
        stock = PeftModel.from_pretrained(make(), str(tmp_path / task)).eval()
        got = stock(input_ids=TOKENS).logits
        assert (got - expected).abs().max() < 1e-5
        merged = stock.merge_and_unload()(TOKENS).logits
        assert (merged - expected).abs().max() < 1e-5
        seen.append(expected)
    assert (seen[0] - seen[1]).abs().max() > 1e-3
    assert (seen[0] - plain).abs().max() > 1e-3


@torch.no_grad()
def test_stock_peft_computes_the_same_on_fused_projections(tmp_path):
    def make() -> Model:
        torch.manual_seed(0)
        sizes = Config(vocab=90, width=32, layers=2, heads=2, mlp_width=64, capacity=32)
        return Model(sizes).eval()

    config = AdapterConfig(experts=4, rank=2, targets=("all",), universal=False, gate="task")
    ours = make()
    attach(ours, config)
    fill(ours)
    write_peft(ours, config, tmp_path, base="somewhere")
    for number, task in enumerate(config.tasks):
        settings = LoraConfig.from_pretrained(str(tmp_path / task))
        assert isinstance(settings, LoraConfig)
        assert settings.base_model_name_or_path == "somewhere"
        assert settings.r == settings.lora_alpha == 8
        settings.task_type = None  # that of a model with transformers' generation
        stock = get_peft_model(make(), settings).eval()  # type: ignore[arg-type]
        file = load_file(tmp_path / task / "adapter_model.safetensors")
        report = set_peft_model_state_dict(stock, file)
        assert report.unexpected_keys == []
        expected = ours(TOKENS, tasks=torch.full((len(TOKENS),), number))
        assert (stock(TOKENS) - expected).abs().max() < 1e-5


@torch.no_grad()
def test_an_adapter_without_a_router_is_exported_with_uniform_gates(tmp_path):
    config = AdapterConfig(experts=3, rank=2)
    ours = Wrapped(llama())
    attach(ours, config)
    fill(ours)
    save_adapter(ours, config, tmp_path / "released", "released")
    other = Wrapped(llama())
    load_adapter(other, config, tmp_path / "released")
    write_peft(other, config, tmp_path / "peft")
    stock = PeftModel.from_pretrained(llama(), str(tmp_path / "peft" / "evidiag"))
    assert (stock(input_ids=TOKENS).logits - other.inner(TOKENS).logits).abs().max() < 1e-5


def test_a_token_router_is_no_plain_lora(tmp_path):
    ours = Wrapped(llama())
    attach(ours, AdapterConfig(gate="token"))
    with pytest.raises(ValueError, match="gates per task"):
        write_peft(ours, AdapterConfig(), tmp_path)
    set_mode(ours, "universal")
    with pytest.raises(ValueError, match="gates per task"):
        write_peft(ours, AdapterConfig(), tmp_path)
