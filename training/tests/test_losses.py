"""Losses against their formulas, written out number by number."""

import math

import pytest
import torch

from training.losses import answer_log_probs, cross_entropy, dfpo


def test_cross_entropy_is_the_mean_negative_log_likelihood():
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    targets = torch.tensor([2, 1])
    rows = [math.log(sum(math.exp(v) for v in row)) for row in logits.tolist()]
    expected = ((rows[0] - 2.0) + (rows[1] - 0.0)) / 2
    assert float(cross_entropy(logits, targets)) == pytest.approx(expected, abs=1e-6)


def test_half_precision_logits_are_summed_in_f32():
    logits = torch.randn(50, 100)
    targets = torch.randint(0, 100, (50,))
    assert cross_entropy(logits.bfloat16(), targets).dtype == torch.float32


def test_log_probs_are_summed_per_answer():
    logits = torch.randn(5, 7)
    targets = torch.tensor([1, 2, 3, 4, 5])
    rows = torch.tensor([0, 0, 2, 2, 2])
    each = logits.log_softmax(-1)[range(5), targets]
    expected = torch.stack((each[:2].sum(), torch.tensor(0.0), each[2:].sum()))
    assert torch.allclose(answer_log_probs(logits, targets, rows, 3), expected, atol=1e-6)


def test_dfpo_before_the_first_step_is_ln_2_plus_mu_times_nll():
    chosen, rejected = torch.tensor([-30.0, -8.0]), torch.tensor([-50.0, -9.0])
    made = dfpo(chosen, rejected, chosen, rejected, torch.tensor([10, 4]), beta=0.1, mu=0.5)
    nll = (30 / 10 + 8 / 4) / 2
    assert float(made.loss) == pytest.approx(math.log(2) + 0.5 * nll, abs=1e-6)
    assert float(made.nll) == pytest.approx(nll)


def test_dfpo_number_by_number():
    made = dfpo(
        chosen=torch.tensor([-20.0]),
        rejected=torch.tensor([-60.0]),
        reference_chosen=torch.tensor([-25.0]),
        reference_rejected=torch.tensor([-50.0]),
        chosen_tokens=torch.tensor([8]),
        beta=0.1,
        mu=1.0,
    )
    margin = 0.1 * (-20 + 25) - 0.1 * (-60 + 50)
    preference = math.log(1 + math.exp(-margin))
    assert float(made.preference) == pytest.approx(preference, abs=1e-6)
    assert float(made.loss) == pytest.approx(preference + 20 / 8, abs=1e-6)
    assert float(made.reward_chosen) == pytest.approx(0.5)
    assert float(made.reward_rejected) == pytest.approx(-1.0)


def test_without_mu_it_is_plain_dpo_and_pushes_the_answers_apart():
    chosen = torch.tensor([-20.0], requires_grad=True)
    rejected = torch.tensor([-20.0], requires_grad=True)
    made = dfpo(chosen, rejected, chosen.detach(), rejected.detach(), torch.tensor([5]), 0.1, 0.0)
    made.loss.backward()
    assert made.loss.item() == pytest.approx(math.log(2))
    assert chosen.grad is not None and rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.05)
    assert rejected.grad.item() == pytest.approx(0.05)
