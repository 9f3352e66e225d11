"""The tiny models of every architecture: what their golden files say is computed here once more."""

import json

import pytest
import torch
from safetensors.torch import load_file

from training import architectures
from training.architectures import ADAPTER, ARCHITECTURES, VOCAB, packaged, write
from training.batches import TASKS
from training.experts import adapted, load_adapter
from training.export import round_adapter
from training.golden import COUNT, Answer
from training.model import Model
from training.positions import alibi_slopes

pytest.importorskip("transformers")
FIXTURES = architectures.WORDS.parents[1]
NAMES = sorted(ARCHITECTURES)


@pytest.fixture(scope="module", params=NAMES)
def made(request, tmp_path_factory):
    """(name, folder with everything that belongs to it)"""
    out = tmp_path_factory.mktemp(request.param)
    write(request.param, out)
    return request.param, out


def golden(out, name):
    text = (out / "golden" / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text), load_file(out / "golden" / f"{name}.safetensors")


def device(name, out):
    """The model as a package holds it, read again from its files."""
    model = packaged(out / name / "checkpoint")
    if ARCHITECTURES[name].adapter is not None:
        load_adapter(model, ADAPTER, out / name / "adapter")
        round_adapter(model)
    return model.requires_grad_(False).eval()


@torch.no_grad()
def test_golden_files_hold_what_the_files_compute_without_a_cache(made):
    name, out = made
    about, tensors = golden(out, name)
    model = device(name, out)
    assert list(about["tasks"]) == list(ARCHITECTURES[name].tasks)
    for task, answer in about["tasks"].items():
        prompt, greedy = answer["prompt_tokens"], answer["greedy_tokens"]
        row = torch.tensor([TASKS.index(task)])
        trace: list[torch.Tensor] = []
        model.hidden(torch.tensor([prompt]), tasks=row, trace=trace)
        stored = tensors[f"{task}.hidden"]
        assert stored.shape == (3, len(prompt), model.config.width)
        for layer, x in enumerate(trace):
            assert (x[0] - stored[layer]).abs().max() < 5e-6 * stored[layer].abs().max()
        logits = model(torch.tensor([prompt + greedy]), tasks=row)[0]
        assert tensors[f"{task}.logits"].shape == (len(prompt), VOCAB)
        assert (logits[: len(prompt)] - tensors[f"{task}.logits"]).abs().max() < 1e-4
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == greedy


@torch.no_grad()
@pytest.mark.parametrize("name", sorted({*NAMES} - {"tiny-alibi"}))
def test_llama_and_qwen_are_transformers_own(name, tmp_path):
    from transformers import AutoModelForCausalLM

    ARCHITECTURES[name].write(tmp_path, 3)
    model = packaged(tmp_path)
    oracle = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert oracle.config.model_type == name.removeprefix("tiny-")
    own = dict(oracle.named_parameters())
    for key, weight in model.named_parameters():
        assert weight.dim() == 1 or not torch.equal(own[key], weight)  # it is dequantised
        own[key].copy_(weight)
    tokens = torch.arange(40, 60)[None]
    trace: list[torch.Tensor] = []
    model.hidden(tokens, trace=trace)
    result = oracle(tokens, output_hidden_states=True)
    assert (result.logits - model(tokens)).abs().max() < 1e-4
    for ours, theirs in zip(trace[:-1], result.hidden_states[:-1], strict=True):
        assert (ours - theirs).abs().max() < 1e-5  # the last of theirs is normed


@torch.no_grad()
def test_what_an_architecture_has_of_its_own_changes_its_answers(made):
    name, out = made
    about, tensors = golden(out, name)
    prompt = torch.tensor([about["tasks"]["medkqa"]["prompt_tokens"]])
    row = torch.tensor([0])
    model = device(name, out)

    def moved() -> float:
        return float((model(prompt, tasks=row)[0] - tensors["medkqa.logits"]).abs().max())

    assert moved() < 1e-4
    if isinstance(model, Model):
        assert torch.equal(model.slopes, alibi_slopes(6))
        model.slopes.mul_(0.5)
    elif name == "tiny-llama":
        for layer in model.model.layers:
            layer.self_attn.v_proj.weight[:16] = 0  # the values of the first key head
    elif name == "tiny-qwen2":
        for layer in model.model.layers:
            layer.self_attn.k_proj.bias.zero_()
    else:
        assert len(list(adapted(model))) == 14
        for layer in model.model.layers:
            layer.self_attn.k_norm.weight.fill_(1)
    assert moved() > 0.05


def test_the_fixtures_of_the_repository_are_of_this_script(made):
    name, out = made
    kept, _ = golden(FIXTURES, name)
    made_now, _ = golden(out, name)
    for tasks in (kept["tasks"], made_now["tasks"]):
        for answer in tasks.values():
            answer.pop("smallest_margin")  # its last digits belong to the machine
    assert kept == made_now
    size = sum(path.stat().st_size for path in (FIXTURES / name).iterdir())
    size += sum(path.stat().st_size for path in (FIXTURES / "golden").glob(f"{name}.*"))
    assert size < 400_000


def test_answers_that_are_of_no_use_are_told_apart():
    def made(**changes):
        tokens = changes.pop("tokens", list(range(10, 10 + COUNT)))
        return Answer("?", [5], tokens, "", changes.pop("margin", 0.1), len(set(tokens)))

    good = made()
    assert architectures.qualifies({"a": good})
    assert not architectures.qualifies({"a": good, "b": good})
    assert not architectures.qualifies({"a": made(margin=5e-4)})
    assert not architectures.qualifies({"a": made(tokens=[7, 8] * 16)})
    assert not architectures.qualifies({"a": made(tokens=list(range(10, 30)))})
    assert not architectures.qualifies({"a": made(tokens=[*range(10, 41), 2])})
