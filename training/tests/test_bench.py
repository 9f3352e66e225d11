"""The benchmark: its formula against what torch counts, its rows, and one measurement."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from training.batches import Pool, to_batch, trim
from training.bench import __main__ as command
from training.bench.flops import Rows, adapter_flops, forward_flops, full_flops
from training.bench.peak import Peak, best_of, matmul_peak
from training.bench.rows import documents, rows_of, write_rows
from training.bench.work import WARM, flops_of, measure
from training.experts import AdapterConfig, attach, set_mode
from training.model import Config, Model
from training.stages import dfpo
from training.stages.common import save_model
from training.stages.reference import Ahead
from training.tests.testing import CONFIG as CONFIG_OF_PRESET
from training.tests.testing import make_run, preset

CONFIG = Config(vocab=64, width=32, layers=3, heads=2, mlp_width=96, capacity=64)
B, T = 2, 16
ALL = ("W_pack", "o_proj", "gate_proj", "up_proj", "down_proj")


def counted_by_torch(model: Model, backward: bool = True) -> int:
    """Without the hidden half of causal attention left out: torch counts all T x T pairs."""
    tokens = torch.randint(0, CONFIG.vocab, (B, T))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        tasks = torch.zeros(B, dtype=torch.long)
        logits = model.lm_head(model.hidden(tokens, tasks=tasks))
        if backward:
            F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    return counter.get_total_flops()


def test_the_formula_for_full_training_is_what_torch_counts():
    rows = Rows(B * T, B * T, B * T * T)
    assert counted_by_torch(Model(CONFIG)) == full_flops(CONFIG, rows)
    with torch.no_grad():
        assert counted_by_torch(Model(CONFIG), backward=False) == forward_flops(CONFIG, rows)


def test_a_step_of_dfpo_computes_what_is_counted_for_it_and_no_reference(tmp_path, monkeypatch):
    """The share of the peak is overstated by a third where a forward pass is counted that none does."""
    chosen = preset()
    run = make_run(tmp_path, chosen)
    write_rows(chosen, run.packed)
    save_model(run.new_model(), run.folder("sft") / "model.safetensors")
    pairs = dfpo.Pairs(Pool(run.packed, "pairs.train", 0), 0)
    reference = dfpo.open_reference(run)
    ahead = Ahead(reference, pairs, chosen.dfpo.rows // 2)
    ahead.rows(0)
    monkeypatch.setattr(reference, "open_model", lambda: pytest.fail("a reference was computed"))
    model = run.load_model("sft")
    term = dfpo.Preference(run, model, reference)
    for step in (WARM, WARM + 20):
        batch = trim(to_batch(ahead.rows(step)))
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            term.loss(batch)[0].backward()
        rows = rows_of(chosen, "dfpo")
        length = rows.positions // chosen.dfpo.rows
        hidden = rows.positions * length - rows.pairs  # torch counts what the mask hides as well
        more = 3 * 4 * CONFIG_OF_PRESET.width * CONFIG_OF_PRESET.layers * hidden
        assert counter.get_total_flops() == flops_of(chosen, "dfpo") + more


@pytest.mark.parametrize("targets", [ALL[2:], ALL, ("gate_proj",), ("down_proj",), ("o_proj",)])
@pytest.mark.parametrize("mode", ["token", "task"])
def test_the_formula_for_the_adapter_is_what_torch_counts(targets, mode):
    model, config = Model(CONFIG), AdapterConfig(rank=2, targets=targets)
    attach(model, config)
    set_mode(model, mode)
    expected = adapter_flops(CONFIG, Rows(B * T, B * T, B * T * T), config, mode == "token")
    assert counted_by_torch(model.train()) == expected


def test_pairs_are_those_that_a_causal_mask_of_documents_shows():
    rows = Rows.of(2, 11, 3, 5)
    segments = torch.tensor([1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 0])
    visible = (segments[:, None] == segments).tril().sum()
    assert rows == Rows(22, 10, 2 * int(visible))


def test_made_up_rows_have_the_geometry_that_is_counted(tmp_path):
    chosen = preset()
    write_rows(chosen, tmp_path)
    for stage, name, part in (
        ("sft", "sft-medkqa.train", chosen.sft),
        ("dfpo", "pairs.train", chosen.dfpo),
    ):
        pool = Pool(tmp_path, name, 0)
        batch = to_batch([(pool, i) for i in range(part.rows)])
        batch = trim(batch) if stage == "dfpo" else batch
        expected = rows_of(chosen, stage)
        assert batch.tokens.numel() == expected.positions
        assert int(batch.answers.sum()) == expected.counted
    segments, counted = documents(64)
    assert len(segments) == len(counted) == 65 and counted[segments > 0].any()
    assert not counted[segments == 0].any()


def test_peak_is_the_best_of_both():
    assert best_of(Peak(1.0, 5.0), Peak(2.0, 3.0)) == Peak(2.0, 5.0)
    peak = matmul_peak(torch.device("cpu"), torch.float32, 0.01, (256,))
    assert peak.wall > 1e8 and peak.busy > 1e8


@pytest.mark.parametrize("stage", ["cpt", "sft", "dfpo", "adapter"])
def test_every_stage_is_measured(stage):
    made = measure(preset(), stage, 0.05, rows=2, sizes=(256,))
    assert made.stage == stage and made.rows == 2 and made.steps >= 1
    assert made.flops_per_second == pytest.approx(made.flops_per_token * made.tokens_per_second)
    assert made.utilisation == pytest.approx(made.flops_per_second / made.peak)
    assert made.memory_bytes > 10_000_000
    positions = rows_of(preset(), stage).positions // 2  # the test's preset has 4 rows
    read = made.seconds_per_step * made.tokens_per_second
    assert read == pytest.approx(positions) and WARM > 0


def test_the_adapter_of_the_shipped_recipe_is_measured():
    shipped = preset(human_share=0.5, preference=0.4, gate_start="task")
    made = measure(shipped, "adapter", 0.05, rows=2, sizes=(256,))
    assert made.steps >= 1 and made.utilisation > 0


def test_a_stage_that_is_none_and_numbers_that_are_none_are_refused(monkeypatch, capsys):
    with pytest.raises(ValueError, match="no stage ppo"):
        measure(preset(), "ppo", 1.0)
    monkeypatch.setattr("sys.argv", ["bench", "--preset", "ci", "--batch-sweep", "8,x"])
    with pytest.raises(SystemExit):
        command.main()
    assert "expected numbers" in capsys.readouterr().err


def test_the_command_prints_a_line_per_measurement_and_writes_json(monkeypatch, capsys, tmp_path):
    row = {
        "stage": "cpt", "rows": 8, "compiled": True, "tokens_per_second": 1234.5,
        "flops_per_second": 4e11, "peak": 1e12, "utilisation": 0.4, "busy_utilisation": None,
        "memory_bytes": 3 << 20, "first_step_seconds": 1.25,
    }  # fmt: skip
    answers = iter([row, {"stage": "cpt", "rows": 16, "compiled": True, "error": "out of memory"}])
    monkeypatch.setattr(command, "one", lambda *_: next(answers))
    out = tmp_path / "bench.json"
    words = [
        "bench",
        "--preset",
        "ci",
        "--stage",
        "cpt",
        "--batch-sweep",
        "8,16",
        "--json",
        str(out),
    ]
    monkeypatch.setattr("sys.argv", words)
    command.main()
    printed = capsys.readouterr().out
    assert "1,234" in printed and "40.0%" in printed and "out of memory" in printed
    assert [m["rows"] for m in json.loads(out.read_text())["measured"]] == [8, 16]
