"""What the machine can do: the best of several large square matrix products."""

import time
from dataclasses import dataclass

import torch

SIZES = {"cpu": (1024, 2048, 3072), "cuda": (4096, 8192)}


@dataclass(frozen=True)
class Peak:
    """FLOP/s of the fastest product: per second that passed, and per second of processor time."""

    wall: float
    busy: float


def best_of(a: Peak, b: Peak) -> Peak:
    return Peak(max(a.wall, b.wall), max(a.busy, b.busy))


def matmul_peak(
    device: torch.device,
    dtype: torch.dtype,
    seconds: float = 1.5,
    sizes: tuple[int, ...] | None = None,
) -> Peak:
    """The fastest square product of this dtype with the current number of threads.

    Processor time is per thread: a product in which every thread is busy all the time has the same
    `busy` as with one thread.
    """
    best = Peak(0.0, 0.0)
    sizes = sizes or SIZES[device.type]
    for size in sizes:
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        torch.mm(a, b)
        end = time.monotonic() + seconds / len(sizes)
        while True:
            best = best_of(best, timed(a, b, device, 1 if device.type == "cpu" else 10))
            if time.monotonic() > end:
                break
    return best


def timed(a: torch.Tensor, b: torch.Tensor, device: torch.device, times: int) -> Peak:
    """FLOP/s over `times` products in a row."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began, busy = time.perf_counter(), time.process_time()
    for _ in range(times):
        torch.mm(a, b)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    work = 2 * len(a) ** 3 * times
    return Peak(
        work / max(1e-9, time.perf_counter() - began),
        work / max(1e-9, time.process_time() - busy),
    )
