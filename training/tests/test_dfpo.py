"""DFPO as a stage: its first loss, its order of pairs, the reference on disk, and its warning."""

import json
import math
from dataclasses import replace

import pytest
import torch

from training.batches import Pool, to_batch, trim
from training.stages import dfpo, reference
from training.stages.common import save_model
from training.stages.dfpo import Pairs, Preference, log_probs, open_reference
from training.stages.reference import Reference, pass_tokens, passes, row_keys
from training.tests.testing import make_run, preset


def made_run(folder, **changes):
    run = make_run(folder, preset(**changes))
    if not (run.folder("sft") / "model.safetensors").exists():
        torch.manual_seed(5)
        save_model(run.new_model(), run.folder("sft") / "model.safetensors")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("run"))


def pool_of(run) -> Pool:
    return Pool(run.packed, "pairs.train", run.preset.seed)


def journal(run) -> list[dict]:
    text = (run.folder("dfpo") / "metrics.jsonl").read_text()
    return [row for row in map(json.loads, text.splitlines()) if "preference" in row]


def test_the_stage_starts_at_ln_2_plus_mu_times_nll_and_logs_what_it_does(run):
    dfpo.dfpo(run)
    rows = journal(run)
    first, last = rows[0], rows[-1]
    assert first["preference"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["loss"] == pytest.approx(math.log(2) + run.preset.mu * first["nll"], abs=1e-4)
    assert first["chosen"] == pytest.approx(0, abs=1e-3)
    assert first["chosen_log_prob"] < 0 and first["rejected_log_prob"] < 0
    assert last["margin"] == pytest.approx(last["chosen"] - last["rejected"], abs=1e-5)
    assert last["margin"] > 0 and last["accuracy"] > 0.5


def test_without_mu_the_loss_is_the_preference_alone(tmp_path):
    run = made_run(tmp_path, mu=0.0)
    dfpo.dfpo(run)
    assert all(row["loss"] == pytest.approx(row["preference"], abs=1e-6) for row in journal(run))


def test_reference_sums_are_those_of_the_sft_model_and_are_computed_once(run, tmp_path):
    calls = 0
    model = run.load_model("sft").eval()

    def open_model():
        def compute(batch):
            nonlocal calls
            calls += len(batch.tokens)
            return log_probs(run, model, batch)

        return compute, model.config.vocab

    pool = pool_of(run)
    rows = [(pool, i) for i in range(10)]
    made = Reference(tmp_path / "sums.json", open_model)
    asked = len({row_keys(to_batch([row]))[0] for row in rows})
    assert made.add(rows) == calls == asked
    made.save()
    again = Reference(tmp_path / "sums.json", lambda: pytest.fail("the file was not used"))
    assert again.add(rows) == 0
    for start, stop in ((0, 4), (4, 10)):
        batch = trim(to_batch(rows[start:stop]))
        with torch.no_grad():
            expected = log_probs(run, model, batch)
        assert torch.allclose(again.of(batch), expected, atol=1e-4)
    with pytest.raises(KeyError):
        Reference(tmp_path / "none.json", open_model).of(to_batch(rows))


@pytest.mark.parametrize(
    "lengths, tokens, expected",
    [
        ([], 100, []),
        ([5], 1, [1]),
        ([1] * 40, 10_000, [16, 16, 8]),
        ([10, 20, 30, 40, 50], 60, [2, 1, 1, 1]),
        ([10, 20, 30, 40, 50], 90, [3, 1, 1]),
    ],
)
def test_a_pass_of_the_reference_is_bounded_with_its_padding(lengths, tokens, expected):
    parts = list(passes(lengths, tokens))
    assert [part.stop - part.start for part in parts] == expected
    assert [i for part in parts for i in range(len(lengths))[part]] == list(range(len(lengths)))
    for part in parts:
        rows = lengths[part]
        assert len(rows) == 1 or len(rows) * max(rows) <= tokens


def test_what_a_pass_may_hold_follows_from_the_vocabulary():
    assert pass_tokens(8192) > 16 * 1024  # the nano model's passes are full
    assert pass_tokens(151_936) == (4 << 30) // 1_519_360


def test_rows_are_known_by_content_whatever_their_padding_and_batch(run):
    pool = pool_of(run)
    rows = [(pool, i) for i in range(6)]
    keys = row_keys(to_batch(rows))
    assert row_keys(trim(to_batch(rows))) == keys
    assert [row_keys(trim(to_batch([row])))[0] for row in rows] == keys
    whole = to_batch(rows)
    for piece, at in zip(whole.split(3), (0, 2, 4), strict=True):
        assert row_keys(piece) == keys[at : at + 2]
    changed = whole.tokens.clone()
    changed[0, 0] += 1
    assert row_keys(whole._replace(tokens=changed))[0] != keys[0]
    counted = whole.answers.clone()
    counted[0, int(counted[0].nonzero()[0])] = False
    assert row_keys(whole._replace(counted=counted))[0] != keys[0]


def test_another_reference_has_a_file_of_its_own(run, tmp_path):
    other = made_run(tmp_path)
    same = open_reference(run).path.name
    assert open_reference(other).path.name == same  # the same weights in another folder
    bf16 = made_run(tmp_path, bf16=True)
    assert open_reference(bf16).path.name != same
    torch.manual_seed(6)
    save_model(other.new_model(), other.folder("sft") / "model.safetensors")
    assert open_reference(other).path.name != same


def test_the_reference_is_read_from_disk_when_the_stage_is_done_again(tmp_path, monkeypatch):
    run = made_run(tmp_path)
    dfpo.dfpo(run)
    before = [row["loss"] for row in journal(run)]
    (run.folder("dfpo") / "DONE.json").unlink()
    monkeypatch.setattr(reference, "trim", lambda batch: pytest.fail("computed again"))
    dfpo.dfpo(run)
    assert [row["loss"] for row in journal(run)] == before


def test_pieces_of_a_batch_add_up_to_the_whole(tmp_path):
    whole = made_run(tmp_path / "a")
    pieces = made_run(tmp_path / "b", dfpo=replace(whole.preset.dfpo, accumulate=2))
    for run in (whole, pieces):
        dfpo.dfpo(run)
    one, two = ([row["loss"] for row in journal(run)] for run in (whole, pieces))
    assert one == pytest.approx(two, abs=1e-5)


def test_every_pair_comes_once_per_epoch_chosen_before_rejected(run):
    pool = pool_of(run)
    count = len(pool) // 2
    order = Pairs(pool, 3)
    drawn = [i for step in range(count) for _, i in order.rows(step, 2)]
    assert all(b == a + 1 and a % 2 == 0 for a, b in zip(drawn[::2], drawn[1::2], strict=True))
    first, second = drawn[: 2 * count : 2], drawn[2 * count :: 2]
    assert sorted(first) == sorted(second) == list(range(0, 2 * count, 2))
    assert first != second
    assert Pairs(pool, 3).rows(5, 2) == [(pool, i) for i in drawn[20:24]]


def test_no_pairs_are_an_error(run):
    pool = pool_of(run)
    pool.arrays = {name: array[:0] for name, array in pool.arrays.items()}
    with pytest.raises(ValueError, match="no DFPO pairs"):
        Pairs(pool, 1)


@pytest.mark.parametrize(("shift", "warns"), [(-0.5, 1), (0.5, 0)])
def test_it_warns_once_when_chosen_answers_become_rarer(run, capsys, shift, warns):
    preference = Preference(run, run.load_model("sft"), open_reference(run))
    for i in range(60):
        preference.watch(shift + (-1) ** i)  # batches scatter on both sides of the mean
    assert capsys.readouterr().err.count("less likely than under the reference") == warns
