"""The preference term of the adapter stage: whom it moves, where it starts, on which pairs."""

import json
import math
from dataclasses import replace

import pytest
import torch

from training.batches import TASKS, to_batch
from training.experts import adapted, attach, set_mode, universal_learns
from training.prepare import prepare_pairs
from training.stages import adapter
from training.stages.common import save_model
from training.stages.preference import PreferenceTerm, TaskPairs
from training.tests.testing import make_run, preset


def made_run(folder, **changes):
    """A run after DFPO, with own pairs of two tasks."""
    run = make_run(folder, preset(preference=0.5, preference_pairs=4, **changes))
    torch.manual_seed(5)
    save_model(run.new_model(), run.folder("dfpo") / "model.safetensors")
    turns = [{"role": "user", "text": "宝宝发热怎么办？"}]
    pairs = [
        {
            "id": f"own{i}",
            "task": TASKS[i % 2],
            "turns": turns,
            "chosen": f"多喝水{i}",
            "rejected": "好",
            "kind": ("own-short", "own-loop")[i % 2] if i < 6 else "own",
        }
        for i in range(12)
    ]
    own = run.packed / "own_pairs.jsonl"
    own.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    prepare_pairs(run.out / "corpus", run.tokenizer(), run.preset, run.packed, own)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("run"), gate_start="task", gate_spread=1.0)


def task_numbers(rows) -> list[int]:
    tasks = to_batch(rows).tasks
    assert tasks is not None
    return tasks.tolist()


def model_of(run):
    model = adapter.fresh(run, lambda model: adapter.start_gates(run, model))
    with torch.no_grad():
        for _, module in adapted(model):
            module.lora_moe_B.normal_(std=0.02)
    return model


def test_pairs_come_from_the_tasks_in_turn_and_know_their_task(run):
    order = TaskPairs(run)
    assert [order.pool.task for order in order.orders] == [0, 1]  # trerecom has none
    rows = [row for step in range(3) for row in order.rows(step, 2)]
    assert task_numbers(rows) == [0, 0, 1, 1] * 3
    assert sorted(rows[:2] + rows[4:6] + rows[8:10], key=lambda row: row[1]) == [
        (order.orders[0].pool, i) for i in range(6)
    ]


def test_a_new_adapter_starts_at_ln_2_without_a_margin(run):
    term = PreferenceTerm(run, adapter.fresh(run, lambda model: adapter.start_gates(run, model)))
    numbers = term(0)
    assert numbers["preference"] == pytest.approx(math.log(2), abs=1e-4)
    assert numbers["margin"] == pytest.approx(0, abs=1e-3)


def test_the_term_is_the_sigmoid_of_the_margin(run):
    term = PreferenceTerm(run, model_of(run))
    whole = term.batch(0)
    loss, numbers = term.loss(whole)
    assert numbers["margin"] != 0
    pairs = [term.loss(piece) for piece in whole.split(4)]
    expected = sum(math.log1p(math.exp(-each["margin"])) for _, each in pairs) / 4
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)


def test_only_the_universal_expert_gets_gradients_and_nothing_else_changes(run):
    model = model_of(run)
    tokens = torch.randint(4, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    tasks = torch.tensor([0, 1])
    with torch.no_grad():
        before = model(tokens, None, tasks)
        with universal_learns(model):
            assert torch.equal(model(tokens, None, tasks), before)
    PreferenceTerm(run, model)(0)
    for _, module in adapted(model):
        for part in (module.lora_moe_A, module.lora_moe_B):
            assert part.grad is not None
            assert part.grad[0].abs().max() > 0 and part.grad[1:].abs().max() == 0
        assert module.gate_logits.grad is None
    assert not any(module.universal_learns for _, module in adapted(model))


def test_it_needs_a_universal_expert(run):
    model = run.load_model("dfpo")
    attach(model, run.preset.adapter.__class__(rank=2, experts=3, universal=False))
    set_mode(model, "task")
    with pytest.raises(ValueError, match="no universal expert"), universal_learns(model):
        pass


def test_the_adapter_stage_logs_it_and_its_margin_grows(run):
    adapter.first(run)
    text = (run.folder("adapter") / "metrics.jsonl").read_text()
    rows = [row for row in map(json.loads, text.splitlines()) if "preference" in row]
    assert rows[0]["preference"] == pytest.approx(math.log(2), abs=1e-4)
    assert rows[-1]["margin"] > rows[0]["margin"]


def test_without_own_pairs_it_says_what_makes_some(tmp_path):
    run = make_run(tmp_path, preset(preference=0.5))
    with pytest.raises(ValueError, match="own_rejected"):
        TaskPairs(run)


def test_the_adapter_may_be_trained_beside_the_sft_model(run, tmp_path):
    other = made_run(tmp_path, gate_start="task", adapter_base="sft")
    torch.manual_seed(6)
    save_model(other.new_model(), other.folder("sft") / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    for changed, source in (("sft", "sft"), ("dfpo", "dfpo")):
        run_of = replace(other.preset, adapter_base=changed)
        other.preset = run_of
        model = adapter.fresh(other, lambda model: adapter.start_gates(other, model))
        expected = other.load_model(source).state_dict()[name]
        assert torch.equal(model.state_dict()[name], expected)
    assert not torch.equal(
        other.load_model("sft").state_dict()[name], other.load_model("dfpo").state_dict()[name]
    )
