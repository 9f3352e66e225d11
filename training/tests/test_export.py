"""The whole way in small: every stage, then the files are read again and must agree."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training import about, card, evaluate, export, golden
from training.batches import TASKS, prepare
from training.config import EOS
from training.experts import adapted, gate_statistics, task_gate_means
from training.golden import Answer
from training.loop import Deadline
from training.stages import adapter, cpt, dfpo, sft
from training.stages.common import Run, done, summary_of
from training.tests.testing import CONFIG, make_run, preset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), preset())
    cpt.cpt(made)
    sft.sft(made)
    dfpo.dfpo(made)
    adapter.adapter(made)
    export.export(made)
    return made


@pytest.fixture(scope="module")
def from_start(run, tmp_path_factory):
    """The same base with gates per task from the first step, exported."""
    out = tmp_path_factory.mktemp("from-start")
    shutil.copytree(run.out, out, dirs_exist_ok=True)
    for name in ("adapter", "finish", "twin"):
        shutil.rmtree(out / "stages" / name)
    made = make_run(out, preset(gate_start="task", gate_spread=2.0, penalty=1.05))
    adapter.adapter(made)
    export.export(made)
    return made


def answers_of(run, folder: str) -> torch.Tensor:
    model = export.device_model(run, folder)
    tokens = torch.arange(3, 43)[None].repeat(3, 1)
    return model(tokens, tasks=torch.tensor([0, 1, 2]))


def test_stages_report_and_the_twin_gets_the_steps_of_the_finish(run):
    for name in about.STAGES:
        summary = summary_of(run, name)
        assert summary["tokens"] > 0 and summary["valid"]
    assert summary_of(run, "finish")["steps"] == summary_of(run, "twin")["steps"] == 4


def test_dfpo_raises_the_margin(run):
    rows = (run.folder("dfpo") / "metrics.jsonl").read_text().splitlines()
    logged = [row for row in map(json.loads, rows) if "chosen" in row]
    assert logged[0]["preference"] == pytest.approx(0.6931, abs=1e-3)
    assert logged[-1]["chosen"] - logged[-1]["rejected"] > 0


def test_checkpoint_has_the_agreed_names_and_shapes(run):
    tensors = load_file(run.out / "checkpoint" / "model.safetensors")
    D, F, V = CONFIG.width, CONFIG.mlp_width, CONFIG.vocab
    expected = {
        "model.embed_tokens.weight": (V, D),
        "model.norm.weight": (D,),
        "lm_head.weight": (V, D),
    }
    for i in range(CONFIG.layers):
        for name, shape in {
            "self_attn.W_pack": (3 * D, D),
            "self_attn.o_proj": (D, D),
            "mlp.gate_proj": (F, D),
            "mlp.up_proj": (F, D),
            "mlp.down_proj": (D, F),
            "input_layernorm": (D,),
            "post_attention_layernorm": (D,),
        }.items():
            expected[f"model.layers.{i}.{name}.weight"] = shape
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    packed = load_file(run.out / "checkpoint" / "quantized.safetensors")
    matrices = [name for name, shape in expected.items() if len(shape) == 2]
    assert set(packed) == {f"{name}.{part}" for name in matrices for part in ("q", "scale")}
    said = json.loads((run.out / "checkpoint" / "pediatricsgpt.json").read_text(encoding="utf-8"))
    assert set(said["known_answer_prompts"]) == set(TASKS) == {t["id"] for t in said["tasks"]}
    assert [stage["name"] for stage in said["stages"]] == list(about.STAGES)
    assert said["template"] == about.TEMPLATE and said["licence"] == "MIT"
    assert said["limits"] == about.LIMITS and said["name"]["en"] == "PediatricsGPT tiny (for tests)"
    assert said["data"] == [{"source": "made", "licence": "MIT", "records": 300}]


@torch.no_grad()
def test_quantised_and_float_models_are_near_and_tasks_differ(run):
    tokens = torch.arange(3, 43)[None].repeat(3, 1)
    plain = export.float_model(run, "adapter")(tokens, tasks=torch.tensor([0, 1, 2]))
    device = answers_of(run, "adapter")
    assert (plain - device).abs().mean() < 0.1 * plain.std()
    assert (device[0] - device[1]).abs().max() > 0
    routed = answers_of(run, "adapter-routed")
    assert torch.equal(routed[0], routed[1])


@torch.no_grad()
def test_gates_from_the_start_need_no_finish_and_have_a_routed_twin(run, from_start):
    assert done(from_start, "finish") is None
    ours, twin = (summary_of(from_start, name) for name in ("adapter", "twin"))
    assert ours["steps"] == twin["steps"] == run.preset.expert.steps
    assert ours["tokens"] == twin["tokens"]
    model = export.float_model(from_start, "adapter")
    apart = gate_statistics(task_gate_means(model))
    assert apart.layers_apart(0.1) == 1
    tokens = torch.arange(3, 43)[None].repeat(3, 1)
    plain = model(tokens, tasks=torch.tensor([0, 1, 2]))
    assert (plain[0] - plain[1]).abs().max() > 0
    assert all(
        m.mode == "token" for _, m in adapted(export.float_model(from_start, "adapter-routed"))
    )
    sampling = json.loads((from_start.out / "checkpoint" / "generation_config.json").read_text())
    assert sampling == about.SAMPLING | {"repetition_penalty": 1.05}


def test_the_adapter_trains_on_the_reserve_where_there_is_one(run, tmp_path):
    names = adapter.train_sets(run)
    assert names == {task: f"moe-{task}.train" for task in TASKS}
    shutil.copytree(run.packed, tmp_path / "packed")
    shutil.copytree(run.out / "corpus", tmp_path / "corpus")
    other = make_run(tmp_path, run.preset)
    for path in other.packed.glob("moe-*"):
        path.unlink()
    assert adapter.train_sets(other) == {task: f"sft-{task}.train" for task in TASKS}
    assert adapter.shares(other, adapter.task_mix(other)) == {"sft": 1}


def test_tasks_and_people_get_their_shares_of_the_rows(run, tmp_path):
    shutil.copytree(run.packed, tmp_path / "packed")
    other = make_run(tmp_path, replace(run.preset, human_share=0.25))
    for path in other.packed.glob("moe-medkqa.train.*"):
        np.save(path, np.load(path)[:2])  # a small pool
    with pytest.raises(ValueError, match="no training rows for .*medkqa.*people-TASK"):
        adapter.task_mix(other)  # nobody wrote any of the sample
    for task in TASKS:
        for path in other.packed.glob(f"moe-{task}.train.*"):
            shutil.copy(path, path.with_name(path.name.replace("moe-", "people-")))
    mix = adapter.task_mix(other)
    share = adapter.shares(other, mix)
    assert share == {"moe": 0.75, "people": 0.25}
    drawn: dict[tuple[str, int | None], int] = {}
    for step in range(150):
        for pool, _ in mix.draw(step, 8, share):
            drawn[pool.kind, pool.task] = drawn.get((pool.kind, pool.task), 0) + 1
    for (kind, _), count in drawn.items():
        assert count == pytest.approx(1200 * share[kind] / 3, rel=0.25)
    assert len(drawn) == 6

    other = make_run(tmp_path, replace(other.preset, pool_power=0.5))
    mix = adapter.task_mix(other)
    roots = {pool.task: len(pool) ** 0.5 for pool in mix.pools if pool.kind == "moe"}
    assert roots[0] < roots[1]
    for pool, weight in zip(mix.pools, mix.weights(share), strict=True):
        if pool.kind == "moe":
            assert weight == pytest.approx(0.75 * roots[pool.task] / sum(roots.values()))

    more = {"moe-evidiag": 2.0, "people-evidiag": 2.0}
    other = make_run(tmp_path, replace(other.preset, pool_power=0.0, priority=more))
    mix = adapter.task_mix(other)
    for pool, weight in zip(mix.pools, mix.weights(share), strict=True):
        part = (2 if pool.task == TASKS.index("evidiag") else 1) / 4
        assert weight == pytest.approx(share[pool.kind] * part)


def test_every_task_has_a_plain_lora(run):
    config = run.preset.adapter
    for task in TASKS:
        folder = run.out / "peft" / task
        lora = json.loads((folder / "adapter_config.json").read_text())
        assert lora["r"] == lora["lora_alpha"] == config.experts * config.rank
        tensors = load_file(folder / "adapter_model.safetensors")
        assert len(tensors) == 2 * 3 * CONFIG.layers


@torch.no_grad()
def test_golden_tensors_are_those_of_the_exported_files(run):
    model = export.device_model(run, "adapter-routed")
    prompt = list(range(3, 12))
    tokens, margins = model.generate(prompt, 4, 1, stop=None)
    made = Answer("q", prompt, tokens, "", min(margins), len(set(tokens)))
    tensors = golden.tensors_of(model, "evidiag", made)
    assert tensors["evidiag.hidden"].shape == (CONFIG.layers + 1, 9, CONFIG.width)
    assert tensors["evidiag.logits"].shape == (9, CONFIG.vocab)
    assert int(tensors["evidiag.logits"][-1].argmax()) == tokens[0]
    embedded = model.model.embed_tokens(torch.tensor(prompt))
    assert torch.equal(tensors["evidiag.hidden"][0], embedded)
    for name, _ in adapted(model):
        gates = tensors[f"evidiag.gates.{name}"]
        assert gates.shape == (9, 3)
        assert torch.allclose(gates.sum(-1), torch.ones(9), atol=1e-6)


def test_golden_refuses_what_cannot_be_compared(run, monkeypatch):
    tokens = list(range(3, 35))
    good = Answer("q", [3], tokens, "t", 0.5, 32)
    assert good.qualifies(EOS)
    for chosen, margin, distinct in (
        ([2, *tokens[1:]], 0.5, 32),
        (tokens[:20], 0.5, 20),
        (tokens, 1e-4, 32),
        (tokens, 0.5, 15),
    ):
        assert not Answer("q", [3], chosen, "t", margin, distinct).qualifies(EOS)
    assert not Answer("q", [3], tokens, "t\ufffd", 0.5, 32).qualifies(EOS)
    bad = Answer("q", [3], [2] * 32, "t", 0.5, 1)
    monkeypatch.setattr(golden, "answer", lambda *_: bad)
    with pytest.raises(ValueError, match="no prompt"):
        golden.golden(run)


README = """---
license: other
license_name: tongyi-qianwen
---
<div>logo</div>

# Qwen-Tiny

Words.
"""


@pytest.fixture
def foreign(tmp_path):
    """A run from a Qwen3 checkpoint whose tokenizer ends a turn with a token of its own."""
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "run"
    words = make_run(out, preset()).tokenizer()
    sizes = transformers.Qwen3Config(
        vocab_size=words.vocab_size + 2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    base = tmp_path / "base"
    transformers.AutoModelForCausalLM.from_config(sizes).save_pretrained(base)
    made = json.loads((out / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    like = made["added_tokens"][0]
    ends = {words.vocab_size: "<|im_end|>", words.vocab_size + 1: "<|endoftext|>"}
    made["added_tokens"] += [like | {"id": i, "content": text} for i, text in ends.items()]
    (base / "tokenizer.json").write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    (base / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    settings = {"eos_token_id": [*reversed(ends)], "pad_token_id": words.vocab_size + 1}
    (base / "generation_config.json").write_text(json.dumps(settings))
    (base / "README.md").write_text(README)
    run = make_run(out, preset(base=str(base)))
    shutil.rmtree(run.packed)
    prepare(out / "corpus", run.tokenizer(), run.preset, run.packed)
    return run


def test_a_foreign_base_ends_its_answers_as_its_own_tokenizer_does(foreign):
    base = foreign.base_folder()
    end = foreign.tokenizer().eos
    assert end > 2 and end in np.load(foreign.packed / "sft-medkqa.train.tokens.npy")
    made = about.template_of(foreign)
    assert (made["endId"], made["stopIds"]) == (end, [end, end + 1])
    assert {**made, "endId": 2, "stopIds": [2]} == about.TEMPLATE
    sampling = about.sampling_of(foreign)
    assert (sampling["eos_token_id"], sampling["pad_token_id"]) == ([end, end + 1], end + 1)
    assert "bos_token_id" not in sampling and sampling["temperature"] == 0.7
    (base / "generation_config.json").unlink()  # config.json names none
    assert about.template_of(foreign)["stopIds"] == [end]
    assert about.sampling_of(foreign)["eos_token_id"] == end
    (base / "generation_config.json").write_text('{"eos_token_id": "</s>"}')
    with pytest.raises(ValueError, match="expected one id or several"):
        about.template_of(foreign)


def test_a_foreign_base_keeps_its_name_and_licence(foreign):
    base = foreign.base_folder()
    assert about.name_of(foreign)["en"] == "PediatricsGPT on Qwen-Tiny"
    assert about.licence_of(foreign) == "tongyi-qianwen"
    (base / "README.md").write_text("---\nlicense:\n- apache-2.0\n- mit\nlanguage: zh\n---\n")
    assert about.name_of(foreign)["zh"] == "PediatricsGPT（基于 base）"
    assert about.licence_of(foreign) == "apache-2.0, mit"
    (base / "README.md").unlink()
    assert about.licence_of(foreign) == "not stated: that of the base model base"


def test_only_a_small_model_is_called_very_small():
    assert about.limits_of(15_160_640) is about.LIMITS
    large = about.limits_of(7_505_973_248)
    assert large["en"].startswith("A model of 7.5 billion parameters that invents facts")
    assert "7.5B" in large["zh"] and "非常小" not in large["zh"]


def test_a_model_from_nothing_is_named_after_its_preset(tmp_path):
    for name in ("nano", "nano-gpu"):
        run = Run(preset(name=name), tmp_path, Deadline())
        assert about.name_of(run) == dict.fromkeys(("zh", "en"), f"PediatricsGPT {name}")
        assert about.licence_of(run) == "MIT" and about.template_of(run) == about.TEMPLATE


def test_a_foreign_base_is_rounded_as_convert_rounds_it(foreign):
    """A Qwen3 base from the tokenizer to the evaluation: what the bases of others have to go through."""
    run, out = foreign, foreign.out
    for stage in (cpt.cpt, sft.sft, dfpo.dfpo, adapter.first, adapter.finish, adapter.twin):
        stage(run)
    export.export(run)
    assert not (out / "checkpoint" / "quantized.safetensors").exists()
    plain, rounded = export.float_model(run, "adapter"), export.device_model(run, "adapter")
    before, after = dict(plain.named_parameters()), dict(rounded.named_parameters())
    name = "model.layers.0.mlp.gate_proj.weight"
    step = before[name].abs().amax() / 7
    assert 0 < (before[name] - after[name]).abs().max() <= step
    head = after["model.embed_tokens.weight"]  # 8 bits: the rows keep their length
    assert torch.allclose(
        head, before["model.embed_tokens.weight"], atol=float(head.abs().max()) / 100
    )
    evaluate.evaluate(run)
    found = json.loads((out / "evaluation.json").read_text())
    assert found["systems"]["base"]["title"] == "base checkpoint"
    card.card(run)
    assert "| width, layers, heads, MLP | 32, 2, 2, 64 |" in (out / "MODEL_CARD.md").read_text()
    said = json.loads((out / "checkpoint" / "pediatricsgpt.json").read_text(encoding="utf-8"))
    assert said["template"] == about.template_of(run) and said["licence"] == "tongyi-qianwen"
    assert "It started from Qwen-Tiny" in (out / "MODEL_CARD.md").read_text(encoding="utf-8")
