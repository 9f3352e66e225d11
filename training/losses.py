"""The two losses. Log-probabilities are f32 (or wider) whatever the model computed in."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def _wide(logits: Tensor) -> Tensor:
    """At least f32; f64 stays f64, which finite differences need."""
    return logits if logits.dtype == torch.float64 else logits.float()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood. logits: (N, V), targets: (N,) -> scalar, nats per token."""
    return F.cross_entropy(_wide(logits), targets)


def answer_log_probs(logits: Tensor, targets: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sums the log-probabilities of the targets of each row.

    logits: (N, V), targets: (N,), rows: (N,) which answer a position belongs to -> (count,)
    """
    each = -F.cross_entropy(_wide(logits), targets, reduction="none")
    return each.new_zeros(count).index_add(0, rows, each)


@dataclass(frozen=True)
class Dfpo:
    loss: Tensor  # scalar
    preference: Tensor  # scalar, the DPO part
    nll: Tensor  # scalar, mean over pairs of the mean-token NLL of the chosen answer
    reward_chosen: Tensor  # (n,) beta * log-ratio
    reward_rejected: Tensor  # (n,)

    @property
    def accuracy(self) -> Tensor:
        """Share of the pairs whose chosen answer has the larger reward."""
        return (self.reward_chosen > self.reward_rejected).float().mean()

    @property
    def margin(self) -> Tensor:
        """Mean reward of the chosen answers above that of the rejected ones."""
        return (self.reward_chosen - self.reward_rejected).mean()


def dfpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    chosen_tokens: Tensor,
    beta: float,
    mu: float,
) -> Dfpo:
    """Direct following preference optimisation (PediatricsGPT, section 3.4).

    -log sigmoid(beta * ((log p/p_ref)(chosen) - (log p/p_ref)(rejected))) + mu * Phi(chosen), where
    the log-probabilities are sums over the answer (n,) and chosen_tokens (n,) counts the tokens of
    the chosen ones. Phi is taken as the paper's released code does: the mean-token negative
    log-likelihood of each chosen answer, averaged over the pairs, so that a long answer counts no
    more than a short one. mu = 0 is plain DPO (Rafailov et al. 2023, equation 7).
    """
    reward_chosen = beta * (chosen - reference_chosen)
    reward_rejected = beta * (rejected - reference_rejected)
    preference = -F.logsigmoid(reward_chosen - reward_rejected).mean()
    nll = (-chosen / chosen_tokens).mean()
    return Dfpo(preference + mu * nll, preference, nll, reward_chosen, reward_rejected)
