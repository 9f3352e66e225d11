"""GPTQ for one matrix: 4-bit integers and f16 scales that know what flows through the matrix.

A linear y = W x with W (N, K) is given x from calibration rows only through H = sum x x^T (K, K). For
quantised weights Q the squared error of its outputs is sum_n (W - Q)_n H (W - Q)_n^T. GPTQ (Frantar et
al. 2022, arXiv:2210.17323) rounds one column after the other and lets the columns still to come make
up for its error, by the Cholesky factor U of H^-1 = U^T U: after column j is rounded,
W[:, j:] -= (W[:, j] - Q[:, j]) / U[j, j] * U[j, j:].

A group is 32 neighbouring columns with one scale per row, as the package lays them out, so an order of
columns may move whole groups but not tear them. `refine` then walks over the columns again and puts
each where the quadratic error is least given all others (as QuantEase, arXiv:2309.01885), scales
included; it can only lower the error.

All of it is f64 on the device of H. Memory: a few matrices of N x K and K x K.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.quant.grid import GROUP, best_scales, levels, round_to_half, to_groups

LOW, HIGH = -8, 7
HALVINGS = 12  # of the damping's distance to what a Cholesky factor exists for


@dataclass(frozen=True)
class Quantised:
    """integers: (N, K) f64 of -8 .. 7; scale: (N, K/32) f64 numbers that f16 holds exactly."""

    integers: Tensor
    scale: Tensor

    @property
    def weight(self) -> Tensor:
        """(N, K) f64"""
        return self.integers * self.scale.repeat_interleave(GROUP, 1)


def damped(hessian: Tensor, damping: float) -> Tensor:
    """H + damping * mean(diag H) * I in f64. Inputs that were always 0 get a 1 instead.

    ValueError where H is not square, not finite, or 0 everywhere.
    """
    h = hessian.double()
    if h.dim() != 2 or h.shape[0] != h.shape[1]:
        raise ValueError(f"H is {tuple(hessian.shape)}, not square")
    if not torch.isfinite(h).all():
        raise ValueError("H has values that are no numbers: look at the calibration activations")
    diagonal = h.diagonal()
    if not (diagonal > 0).any():
        raise ValueError("H is 0: no calibration tokens reached this matrix")
    dead = (diagonal <= 0).double()
    return h + torch.diag(dead + damping * diagonal.mean())


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """Upper U (K, K) with H^-1 = U^T U. More damping, doubled each time, where H needs it."""
    for _ in range(HALVINGS):
        lower, failed = torch.linalg.cholesky_ex(damped(hessian, damping))
        if not int(failed):
            factor, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not int(failed):
                return factor
        damping = max(2 * damping, 1e-6)
    raise ValueError(f"H has no Cholesky factor, even with a damping of {damping}")


def rounded(weight: Tensor, weights: Tensor | None = None) -> Quantised:
    """Every group by itself: the search of `quantise_q4`. weights: (K,) of the columns' errors."""
    groups = to_groups(weight)
    shaped = None if weights is None else weights.double().reshape(-1, GROUP)
    scale = best_scales(groups, shaped)
    return Quantised(levels(groups, scale, LOW, HIGH).flatten(1), scale)


def group_order(hessian: Tensor, by_energy: bool) -> list[int]:
    """Groups as they lie, or those with the largest inputs first (act-order for whole groups)."""
    energy = hessian.diagonal().double().reshape(-1, GROUP).sum(-1)
    if not by_energy:
        return list(range(len(energy)))
    return torch.argsort(energy, descending=True, stable=True).tolist()


def gptq(
    weight: Tensor, hessian: Tensor, damping: float = 0.01, by_energy: bool = False
) -> Quantised:
    """Rounds W (N, K) column by column; each group's scale is searched when its turn comes.

    The scale search weighs the columns of a group by 1 / U[j, j]^2, as the error that rounding them
    leaves in the end is weighted. ValueError as `damped`.
    """
    rows, columns = weight.shape
    order = group_order(hessian, by_energy)
    places = torch.arange(columns).reshape(-1, GROUP)[order].flatten().to(weight.device)
    factor = inverse_factor(hessian.double()[places][:, places], damping)
    left = weight.double()[:, places]
    dead = hessian.diagonal()[places] <= 0
    left[:, dead] = 0
    integers = torch.empty_like(left)
    scales = torch.empty(rows, columns // GROUP, dtype=torch.float64, device=weight.device)
    for number, group in enumerate(order):
        start, end = number * GROUP, (number + 1) * GROUP
        block = factor[start:end, start:end]
        scale = best_scales(left[:, None, start:end], block.diagonal().square().reciprocal()[None])
        errors = torch.empty(rows, GROUP, dtype=torch.float64, device=weight.device)
        part = left[:, start:end].clone()
        for j in range(GROUP):
            value = part[:, j : j + 1]
            q = levels(value[:, None], scale, LOW, HIGH)[:, 0]
            errors[:, j : j + 1] = (value - q * scale) / block[j, j]
            integers[:, start + j : start + j + 1] = q
            part[:, j:] -= errors[:, j : j + 1] * block[j, j:]
        left[:, end:] -= errors @ factor[start:end, end:]
        scales[:, group] = scale[:, 0]
    back = torch.empty_like(integers)
    back[:, places] = integers
    return Quantised(back, scales)


def output_error(weight: Tensor, hessian: Tensor, made: Quantised) -> float:
    """sum over calibration tokens and outputs of ((W - Q) x)^2."""
    difference = weight.double() - made.weight
    return float(((difference @ hessian.double()) * difference).sum())


def refine(
    weight: Tensor, hessian: Tensor, made: Quantised, sweeps: int = 2, damping: float = 0.01
) -> Quantised:
    """Coordinate descent on the (damped) output error, group by group: scales, then integers.

    For a group with columns S, residual R = W - Q and G = R H, the best change of the row's scale with
    its integers z fixed is (G_S . z) / (z H_SS z); it is rounded to f16 and taken where that lowers
    the error. Then every column moves to the grid point nearest to its optimum Q_j + G_j / H_jj.
    """
    h = damped(hessian, damping)
    integers, scales = made.integers.clone(), made.scale.clone()
    gradient = (weight.double() - made.weight) @ h  # (N, K)
    for _ in range(sweeps):
        for group in range(scales.shape[1]):
            part = slice(group * GROUP, (group + 1) * GROUP)
            inner = h[part, part]
            z, scale = integers[:, part], scales[:, group]
            slope, curve = (gradient[:, part] * z).sum(-1), ((z @ inner) * z).sum(-1)
            best = round_to_half(scale + torch.where(curve > 0, slope / curve, 0.0))
            change = best - scale
            lower = curve * change.square() - 2 * slope * change < 0
            change = torch.where(lower & (best != 0), change, 0.0)
            scales[:, group] = scale = scale + change
            moved = change[:, None] * z  # of the weights in this group, (N, 32)
            local = gradient[:, part] - moved @ inner
            inverse = torch.where(scale == 0, 0.0, 1 / scale)
            for j in range(GROUP):
                wanted = z[:, j] + local[:, j] / inner[j, j] * inverse
                step = (wanted.round().clamp(LOW, HIGH) - z[:, j]) * (scale != 0)
                shift = step * scale
                z[:, j] += step
                moved[:, j] += shift
                local -= shift[:, None] * inner[j]
            gradient -= moved @ h[part]
    return Quantised(integers, scales)
