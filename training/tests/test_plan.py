"""Memory plans: counts of the published models, measured activations, and what a plan advises."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from training.config import BAICHUAN2_7B, BAICHUAN2_13B, Config
from training.experts import AdapterConfig
from training.model import Model, parameters
from training.models import plan as command
from training.models.memory import Activations, activations, builder, count, saved_bytes
from training.models.plan import CONTEXT, GIB, Job, Planner, Sizes

TINY = Config(vocab=96, width=32, layers=3, heads=2, mlp_width=64, capacity=64)
ADAPTER = AdapterConfig(rank=2)


def planner(config: Config) -> Planner:
    sizes = Sizes(config.layers, config.width, config.mlp_width, config.vocab)
    return Planner(builder(config), AdapterConfig(), sizes)


@pytest.fixture(scope="module")
def seven() -> Planner:
    return planner(BAICHUAN2_7B)


def test_published_models_have_their_published_sizes():
    for config, expected in ((BAICHUAN2_7B, 7_505_973_248), (BAICHUAN2_13B, 13_896_668_160)):
        model = builder(config)(None)
        assert all(p.is_meta for p in model.parameters())
        counts = count(model)
        assert counts.total == parameters(model) == expected
        assert counts.root == 2 * config.vocab * config.width + config.width
        assert counts.layer * config.layers == counts.layers


@pytest.mark.parametrize("config", [TINY, replace(TINY, positions="alibi")], ids=["rope", "alibi"])
@pytest.mark.parametrize("adapter", [None, ADAPTER], ids=["full", "adapter"])
def test_what_is_measured_without_memory_is_what_a_real_pass_keeps(config, adapter):
    measured = activations(builder(config), 2, 40, adapter, sharded=False)
    from training.experts import attach

    model = Model(config).train()
    if adapter is not None:
        attach(model, adapter)
    saved, stream = saved_bytes(model, 2, 40, adapter is not None)
    assert measured.stream == stream == 2 * 40 * 32 * 4
    assert measured.kept(3, checkpointing=False) == saved


def test_activations_grow_with_rows_and_shrink_by_checkpointing():
    one = activations(builder(TINY), 1, 64, None, sharded=True)
    two = activations(builder(TINY), 2, 64, None, sharded=True)
    assert 1.8 < two.layer / one.layer < 2.1
    assert one.kept(30, True) < one.kept(30, False) / 4
    made = Activations(fixed=7, layer=100, stream=3)
    assert (made.kept(10, False), made.kept(10, True)) == (1007, 7 + 30 + 100)


def test_one_gpu_holds_what_a_real_optimiser_holds():
    model = Model(TINY)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 8, dtype=torch.long)).logsumexp(-1).mean().backward()
    optimizer.step()

    def size(tensors) -> int:
        return sum(t.numel() * t.element_size() for t in tensors if t.dim() > 0)

    states = [t for state in optimizer.state.values() for t in state.values()]
    held = planner(TINY).plan(Job("sft", 1, 1, 8, False)).held
    assert held["weights, f32 shards"] == size(model.parameters())
    assert held["gradients, f32 shards"] == size(p.grad for p in model.parameters())
    assert held["optimiser (adamw)"] == size(states)


def test_shards_divide_and_muon_halves_the_states_of_matrices(seven):
    P = 7_505_973_248
    eight = seven.plan(Job("cpt", 8, 1, 2048, True))
    assert eight.held["weights, f32 shards"] == 4 * P // 8
    assert eight.held["optimiser (adamw)"] == P
    muon = seven.plan(Job("cpt", 8, 1, 2048, True, "muon", ema=True))
    assert muon.held["optimiser (muon)"] == (8 * P - 4 * seven.base.matrices) // 8
    assert muon.held["averaged weights"] == 4 * P // 8
    adapter = seven.plan(Job("adapter", 8, 1, 2048, True))
    assert adapter.held["optimiser (adamw)"] == seven.adapted.trained == 8 * (50_085_888 // 8)
    assert seven.plan(Job("cpt", 16, 1, 2048, True)).total < eight.total


def test_a_plan_counts_the_largest_moment_once(seven):
    plan = seven.plan(Job("dfpo", 8, 2, 1024, True))
    step, reference = plan.moments
    most = max(sum(step.parts.values()), sum(reference.parts.values()))
    expected = (sum(plan.held.values()) + most) * 1.05 + CONTEXT
    assert plan.total == pytest.approx(expected, abs=2)
    assert plan.fits(plan.total / GIB) and not plan.fits(plan.total / GIB - 0.01)


@pytest.mark.parametrize("stage", ["cpt", "dfpo", "adapter"])
def test_advice_fits_when_it_is_followed(seven, stage):
    job = Job(stage, 1, 4, 4096, False)
    assert not seven.plan(job).fits(40)
    ways = list(seven.remedies(job, 40))
    assert ways
    for way in ways:
        words = way.split()
        said = {
            w: int(words[i + 1])
            for i, w in enumerate(words)
            if w in ("--rows", "--context", "--gpus")
        }
        followed = replace(
            job,
            checkpointing="--checkpointing" in words,
            rows=said.get("--rows", job.rows),
            context=said.get("--context", job.context),
            gpus=said.get("--gpus", job.gpus),
            optimizer="muon" if "optimizer=muon" in way else job.optimizer,
        )
        assert followed != job and seven.plan(followed).fits(40), way


def run(monkeypatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["plan", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code


def test_the_command_prints_the_plan_and_says_by_its_exit_code_whether_it_fits(monkeypatch, capsys):
    assert run(monkeypatch, "--preset", "ci", "--gpus", "1", "--memory", "8") == 0
    text = capsys.readouterr().out
    assert "parameters" in text and "fits" in text and "TOO MUCH" not in text
    assert run(monkeypatch, "--preset", "ci", "--gpus", "1", "--memory", "1.9") == 1
    text = capsys.readouterr().out
    assert "TOO MUCH" in text and "would fit with" in text
    assert run(monkeypatch, "--preset", "nowhere", "--gpus", "1") == (f"plan: {unknown_preset()}")
    assert run(monkeypatch, "--preset", "ci", "--gpus", "0") == 2


def unknown_preset() -> str:
    from training.presets import load_preset

    with pytest.raises(ValueError) as error:
        load_preset("nowhere")
    return str(error.value)


def test_a_base_of_another_library_is_counted_from_its_config(monkeypatch, capsys, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen2Config(
        vocab_size=150,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    expected = sum(p.numel() for p in transformers.Qwen2ForCausalLM(config).parameters())
    code = run(
        monkeypatch, "--preset", "ci", "--gpus", "2", "--memory", "8", "--set", f"base={tmp_path}"
    )
    text = capsys.readouterr().out
    assert code == 0 and f"{expected:,} parameters" in text and str(tmp_path) in text


def test_a_model_for_phones_is_trained_on_one_gpu_of_24_gb(monkeypatch, capsys, tmp_path):
    preset = ("--preset", "qwen2.5-0.5b", "--gpus", "1", "--memory", "24")
    assert run(monkeypatch, *preset) == 0
    # The base's own sizes, as its config.json has them: shared key heads, no head of its own.
    sizes = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    heads = {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
    base = {"model_type": "qwen2", "vocab_size": 151_936, "rms_norm_eps": 1e-6} | sizes | heads
    (tmp_path / "config.json").write_text(json.dumps(base), encoding="utf-8")
    assert run(monkeypatch, *preset, "--set", f"base={tmp_path}") == 0
    assert "494,032,768 parameters" in capsys.readouterr().out
