"""Attention of documents that share a row, each by itself.

A mask says the same to any kernel, but on a CPU a masked kernel computes all T x T scores of a row and
throws most of them away: of three equal documents in a row five of six. Here every document is a
causal pass of its own. The operators are opaque to the compiler, so that a model that uses them is
still one graph.

B rows, H heads, T positions, Dh width of one head.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def document_attention(q: Tensor, k: Tensor, v: Tensor, segments: Tensor) -> Tensor:
    """q, k, v: (B, H, T, Dh) on a CPU, segments: (B, T) -> (B, H, T, Dh) of q's dtype.

    A position sees itself and those before it in its document, which is as far as the number in
    `segments` stays the same: scaled dot-product attention under that mask. Computed in f32 (f64 stays
    what it is): on documents of some hundred tokens, turning bf16 to and fro costs more than its products
    save.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    y, _ = _documents(q.to(wide), k.to(wide), v.to(wide), segments)
    return y.to(q.dtype)


def spans(segments: Tensor) -> Iterator[tuple[int, int, int]]:
    """(row, first position, position after the last) of every document."""
    T = segments.shape[1]
    changes = segments[:, 1:] != segments[:, :-1]
    for row, change in enumerate(changes):
        borders = [0, *(change.nonzero().flatten() + 1).tolist(), T]
        for start, end in zip(borders, borders[1:], strict=False):
            yield row, start, end


def _room(like: Tensor) -> Tensor:
    """For (B, H, T, Dh) in the order (B, T, H, Dh), in which heads are put together again."""
    B, H, T, width = like.shape
    return like.new_empty(B, T, H, width).transpose(1, 2)


@torch.library.custom_op("pediatricsgpt::documents", mutates_args=())
def _documents(q: Tensor, k: Tensor, v: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """-> y, and the logarithms of the softmax's sums, (B, T, H)."""
    B, H, T, _ = q.shape
    y, sums = _room(q), q.new_empty(B, T, H)
    for row, start, end in spans(segments):
        part = (slice(row, row + 1), slice(None), slice(start, end))
        mixed, logarithms = _forward(q[part], k[part], v[part], 0.0, True)
        y[part] = mixed
        sums[row, start:end] = logarithms[0].T
    return y, sums


@_documents.register_fake
def _(q, k, v, segments):
    B, H, T, _ = q.shape
    return _room(q), q.new_empty(B, T, H)


@torch.library.custom_op("pediatricsgpt::documents_backward", mutates_args=())
def _documents_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, sums: Tensor, segments: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    made = _room(q), _room(k), _room(v)
    for row, start, end in spans(segments):
        part = (slice(row, row + 1), slice(None), slice(start, end))
        logarithms = sums[row : row + 1, start:end].transpose(1, 2)
        parts = [x[part] for x in (grad, q, k, v, y)]
        found = _backward(*parts, logarithms, 0.0, True)
        for whole, piece in zip(made, found, strict=True):
            whole[part] = piece
    return made


@_documents_backward.register_fake
def _(grad, q, k, v, y, sums, segments):
    return _room(q), _room(k), _room(v)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs, *output)


def _gradients(ctx, grad, _):
    q, k, v, segments, y, sums = ctx.saved_tensors
    return *_documents_backward(grad, q, k, v, y, sums, segments), None


_documents.register_autograd(_gradients, setup_context=_keep)
