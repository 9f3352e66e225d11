"""The whole way in small: every stage, then the files are read again and must agree."""

import json

import pytest
import torch
from safetensors.torch import load_file

from training import card, evaluate, export, golden
from training.batches import TASKS
from training.experts import adapted
from training.golden import Answer
from training.loop import StoppedByTime
from training.stages import adapter, cpt, dfpo, sft
from training.stages.common import summary_of
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


def answers_of(run, folder: str) -> torch.Tensor:
    model = export.device_model(run, folder)
    tokens = torch.arange(3, 43)[None].repeat(3, 1)
    return model(tokens, tasks=torch.tensor([0, 1, 2]))


def test_stages_report_and_the_twin_gets_the_steps_of_the_finish(run):
    for name in export.STAGES:
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
    about = json.loads((run.out / "checkpoint" / "pediatricsgpt.json").read_text(encoding="utf-8"))
    assert set(about["known_answer_prompts"]) == set(TASKS) == {t["id"] for t in about["tasks"]}
    assert [stage["name"] for stage in about["stages"]] == list(export.STAGES)
    assert about["data"] == [{"source": "made", "licence": "MIT", "records": 300}]


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
    assert good.qualifies()
    for chosen, margin, distinct in (
        ([2, *tokens[1:]], 0.5, 32),
        (tokens[:20], 0.5, 20),
        (tokens, 1e-4, 32),
        (tokens, 0.5, 15),
    ):
        assert not Answer("q", [3], chosen, "t", margin, distinct).qualifies()
    assert not Answer("q", [3], tokens, "t\ufffd", 0.5, 32).qualifies()
    bad = Answer("q", [3], [2] * 32, "t", 0.5, 1)
    monkeypatch.setattr(golden, "answer", lambda *_: bad)
    with pytest.raises(ValueError, match="no prompt"):
        golden.golden(run)


def test_evaluation_and_card(run):
    evaluate.evaluate(run)
    result = json.loads((run.out / "evaluation.json").read_text(encoding="utf-8"))
    for task in TASKS:
        numbers = result["tasks"][task]
        assert set(numbers["loss"]) == {"merged", "routed", "universal", "none", "device"}
        assert set(numbers["gates"]) == set(TASKS)
        assert numbers["gates"][task] == pytest.approx(numbers["loss"]["merged"], abs=1e-5)
        assert all(numbers["against"][f"{n}_kl"] >= -1e-6 for n in ("routed", "universal", "none"))
        assert 0 <= numbers["against"]["none_top1"] <= 1
        assert numbers["text"]["answers"] == 2
    card.card(run)
    text = (run.out / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Stages", "## Known failures", "### evidiag"):
        assert heading in text
    assert all(line in text for line in result["against_the_adapter"])
    about = json.loads((run.out / "checkpoint" / "pediatricsgpt.json").read_text(encoding="utf-8"))
    assert about["metrics"]["medkqa.loss.merged"] > 0


def test_evaluation_stops_in_time(run):
    late = make_run(run.out, run.preset, seconds=0.0)
    with pytest.raises(StoppedByTime):
        evaluate.evaluate(late)


def test_verdict_says_when_the_adapter_is_useless():
    losses = {"merged": 2.0, "none": 2.5, "universal": 2.2, "routed": 2.0, "device": 2.0}
    fine = {"loss": losses, "gates": {"medkqa": 2.0, "evidiag": 2.1, "trerecom": 2.1}}
    assert evaluate.verdict({"medkqa": fine}) == []
    same = {"loss": losses, "gates": {"medkqa": 2.0, "evidiag": 2.0, "trerecom": 2.1}}
    assert "gates of evidiag" in evaluate.verdict({"medkqa": same})[0]
    nothing = {"loss": losses | {"merged": 2.5}, "gates": fine["gates"]}
    assert "changes nothing" in evaluate.verdict({"medkqa": nothing})[0]


def test_text_measures():
    assert evaluate.rouge_l("宝宝发热", "宝宝发热") == 1
    assert evaluate.rouge_l("宝发", "宝宝发热") == pytest.approx(2 * 2 / 6)
    assert evaluate.rouge_l("", "宝宝") == 0
    assert evaluate.loops("多喝水多休息" * 3) and not evaluate.loops("多喝水，多休息，按时复诊。")
    assert evaluate.distinct_2(["aaaa"]) == pytest.approx(1 / 3)
