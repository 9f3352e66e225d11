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


def test_phi_is_a_mean_per_answer_and_then_over_the_pairs():
    chosen = torch.tensor([-2.0, -90.0])
    tokens = torch.tensor([1, 90])
    made = dfpo(chosen, chosen, chosen, chosen, tokens, beta=0.1, mu=1.0)
    assert float(made.nll) == pytest.approx((2 / 1 + 90 / 90) / 2)
    assert float(made.nll) != pytest.approx(92 / 91)  # all tokens alike


def test_without_mu_it_is_plain_dpo_by_hand():
    policy = [(-31.0, -42.5), (-25.0, -18.0), (-7.5, -90.0)]
    reference = [(-30.0, -40.0), (-22.5, -18.5), (-9.0, -80.0)]
    beta = 0.3
    expected = 0.0
    for (w, l), (rw, rl) in zip(policy, reference, strict=True):  # noqa: E741
        expected -= math.log(1 / (1 + math.exp(-(beta * (w - rw) - beta * (l - rl))))) / 3
    chosen, rejected = torch.tensor(policy, dtype=torch.float64).T
    before, before_rejected = torch.tensor(reference, dtype=torch.float64).T
    tokens = torch.tensor([5, 6, 7])
    made = dfpo(chosen, rejected, before, before_rejected, tokens, beta, 0.0)
    assert float(made.loss) == pytest.approx(expected, abs=1e-12)
    assert float(made.accuracy) == pytest.approx(2 / 3)  # all but the second
    margins = [beta * (w - rw - l + rl) for (w, l), (rw, rl) in zip(policy, reference)]  # noqa: E741
    assert float(made.margin) == pytest.approx(sum(margins) / 3)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    targets = torch.randint(0, 6, (11,))
    rows = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3])
    reference = torch.randn(4, dtype=torch.float64) - 5

    def loss(logits: torch.Tensor, mu: float) -> torch.Tensor:
        sums = answer_log_probs(logits, targets, rows, 4)
        lengths = torch.tensor([3, 4])
        made = dfpo(sums[::2], sums[1::2], reference[::2], reference[1::2], lengths, 0.4, mu)
        return made.loss

    logits = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    for mu in (0.0, 0.7):
        assert torch.autograd.gradcheck(lambda x, mu=mu: loss(x, mu), logits, eps=1e-6, atol=1e-8)
