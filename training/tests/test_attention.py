"""Documents in a row against one masked pass."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.attention import _documents, document_attention, spans

HEADS, WIDTH = 3, 8


def inputs(segments: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v as a layer makes them: heads split off rows."""
    torch.manual_seed(0)
    rows, length = segments.shape
    packed = torch.randn(rows, length, 3, HEADS, WIDTH, dtype=dtype)
    q, k, v = (part.transpose(1, 2).requires_grad_() for part in packed.unbind(2))
    return q, k, v


def masked(q: Tensor, k: Tensor, v: Tensor, segments: Tensor) -> Tensor:
    mask = (segments[:, :, None] == segments[:, None, :]).tril()[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


LAYOUTS = {
    "one document": [[1] * 150],
    "unlike lengths, padding at the end": [[1] * 70 + [2] * 50 + [0] * 30, [1] * 3 + [2] * 147],
    "documents of one token": [[1, 2, 3, 4, 4, 5], [0] * 6],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_values_and_gradients_equal_those_of_a_masked_pass(layout):
    segments = torch.tensor(layout)
    given = inputs(segments)
    grad = torch.randn_like(given[0])
    found = document_attention(*given, segments)
    expected = masked(*given, segments)
    assert (found - expected).abs().max() < 1e-5
    gradients = torch.autograd.grad(found, given, grad)
    for mine, theirs in zip(gradients, torch.autograd.grad(expected, given, grad), strict=True):
        assert (mine - theirs).abs().max() < 1e-5


def test_bf16_is_computed_in_f32_and_rounded_once():
    segments = torch.tensor([[1] * 40 + [2] * 24])
    given = inputs(segments, torch.bfloat16)
    found = document_attention(*given, segments)
    assert found.dtype == torch.bfloat16
    q, k, v = (x.float() for x in given)
    assert torch.equal(found, document_attention(q, k, v, segments).bfloat16())


def test_spans_are_runs_of_one_number():
    segments = torch.tensor([[1, 1, 2, 1], [3, 3, 3, 3]])
    assert list(spans(segments)) == [(0, 0, 2), (0, 2, 3), (0, 3, 4), (1, 0, 4)]


def test_gradients_are_those_of_finite_differences():
    segments = torch.tensor([[1, 1, 1, 2, 2]])
    given = inputs(segments, torch.float64)
    assert torch.autograd.gradcheck(lambda q, k, v: document_attention(q, k, v, segments), given)


def test_the_operator_keeps_its_promises_to_the_compiler():
    segments = torch.tensor([[1] * 5 + [2] * 3])
    torch.library.opcheck(_documents, (*inputs(segments), segments))
