"""The ways to quantise, held against each other on held-out rows -> quantized.safetensors, quantization.json.

The reference is the exported model in f32 with its merged adapter. Per method and task: loss in nats per
answer token, its difference to the reference, KL(reference || quantised), and how often both put the same
token first. Methods are compared on the `valid` rows; the one that is shipped is then measured on `test`.
Calibration rows are training rows, the same number of tokens of each task.
"""

import copy
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from safetensors.torch import save_file
from torch import Tensor

from training.base import Base
from training.batches import TASKS, Batch, Pool, to_batch
from training.export import float_model, round_adapter, write_json
from training.model import Model
from training.quant.calibrate import Calibration
from training.quant.fidelity import ROWS, choose, held_out, mean, measure, needed
from training.quant.gptq import Quantised, gptq, refine, rounded
from training.quant.grid import GROUP, levels, round_to_half, take_integers, to_groups
from training.quant.qat import Finish, finish
from training.stages.common import Run

TOKENS_PER_TASK = 8192


def signed_extreme(weight: Tensor, hessian: Tensor) -> Quantised:
    """Round to nearest with the value of largest size on -8 (Q4_0)."""
    groups = to_groups(weight)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))[..., 0]
    scale = round_to_half(largest / -8)
    return Quantised(levels(groups, scale, -8, 7).flatten(1), scale)


def searched(weight: Tensor, hessian: Tensor) -> Quantised:
    return rounded(weight)


def weighted(weight: Tensor, hessian: Tensor) -> Quantised:
    return rounded(weight, hessian.diagonal().clamp_min(1e-12))


def descended(
    weight: Tensor,
    hessian: Tensor,
    start: Callable[[Tensor, Tensor], Quantised] = gptq,
    sweeps: int = 3,
) -> Quantised:
    return refine(weight, hessian, start(weight, hessian), sweeps)


@dataclass(frozen=True)
class Method:
    """quantise: one matrix with its H; correct: see `Calibration`."""

    what: str
    quantise: Callable[[Tensor, Tensor], Quantised]
    correct: float = 0.0


by_energy = partial(gptq, by_energy=True)
METHODS = {
    "rtn": Method("nearest, largest value on -8", signed_extreme),
    "rtn-mse": Method("nearest, searched scales (what convert does)", searched),
    "weighted": Method("nearest, scales searched under the inputs' energy", weighted),
    "gptq": Method("GPTQ", gptq),
    "gptq-order": Method("GPTQ, groups with the largest inputs first", by_energy),
    "descent": Method(
        "searched scales, then coordinate descent", partial(descended, start=searched)
    ),
    "gptq-descent": Method("GPTQ, then coordinate descent", partial(descended, start=by_energy)),
    "gptq-descent-correct": Method(
        "the same, aiming at the float model's outputs", partial(descended, start=by_energy), 0.1
    ),
}


def rows_of(run: Run, task: str, tokens: int) -> list[Batch]:
    """Training rows of a task with at least `tokens` tokens, or all there are."""
    pool = Pool(run.packed, f"sft-{task}.train", run.preset.seed)
    chosen: list[tuple[Pool, int]] = []
    found = 0
    for number in range(len(pool)):
        if found >= tokens:
            break
        row = pool.row(number)
        chosen.append((pool, row))
        found += int((pool.arrays["tokens"][row] != 0).sum())
    if not chosen:
        raise ValueError(f"sft-{task}.train is empty: no rows to calibrate on")
    return [to_batch(chosen[i : i + ROWS], run.device) for i in range(0, len(chosen), ROWS)]


def calibration_rows(run: Run, tokens: int = TOKENS_PER_TASK) -> list[Batch]:
    return [batch for task in TASKS for batch in rows_of(run, task, tokens)]


def quantise_with(method: Method, model: Base, batches: list[Batch]) -> tuple[Base, dict]:
    """A copy of the model on its quantised weights, and the packed integers."""
    made = copy.deepcopy(model)
    packed = Calibration(method.quantise, method.correct).run(made, batches)
    return made, packed


def packed_bytes(packed: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in packed.values())


def compare_methods(
    run: Run,
    reference: Base,
    start: Base,
    names: Iterable[str],
    calibration: list[Batch],
    rows: dict[str, list[Batch]],
) -> tuple[dict, str, dict[str, Tensor]]:
    """(table of every method, the name of the best, its integers); `start` is left as it is."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    seconds: dict[str, float] = {}
    packed: dict[str, dict[str, Tensor]] = {}
    for name in names:
        run.deadline.check()
        began = time.monotonic()
        model, packed[name] = quantise_with(METHODS[name], start, calibration)
        seconds[name] = round(time.monotonic() - began, 2)
        table[name] = measure(run, reference, model, rows)
        del model  # one copy at a time; integers are small
    shown = {
        name: {"what": METHODS[name].what, "seconds": seconds[name], "tasks": numbers}
        for name, numbers in table.items()
    }
    best = choose(table)
    return shown, best, packed[best]


def with_integers(start: Base, packed: dict[str, Tensor]) -> Base:
    """A copy of the model on the dequantised weights."""
    model = copy.deepcopy(start)
    take_integers(model, packed)
    return model.eval()


def quantise(
    run: Run,
    names: Iterable[str] | None = None,
    reference: Base | None = None,
    settings: Finish = Finish(),  # noqa: B008 - frozen
) -> dict:
    """Replaces the checkpoint's quantized.safetensors by the best method's -> what was written to
    quantization.json. names: the methods to try, all without; reference: the exported model, where it
    is loaded already. Needs an exported run."""
    checkpoint = run.out / "checkpoint"
    reference = (reference or float_model(run, "adapter")).to(run.device)
    calibration = calibration_rows(run)
    valid = held_out(run, "valid", run.preset.valid_rows)
    test = held_out(run, "test", run.preset.test_rows)
    chosen = tuple(names or METHODS)
    start = copy.deepcopy(reference)
    round_adapter(start)  # as the package stores it
    table, best, packed = compare_methods(run, reference, start, chosen, calibration, valid)
    model = with_integers(start, packed)
    report = {
        "group": GROUP,
        "calibration_tokens": sum(int((b.tokens != 0).sum()) for b in calibration),
        "methods": table,
        "chosen": best,
        "bytes": packed_bytes(packed),
        "test": measure(run, reference, model, test),
    }
    if needed(table[best]["tasks"]):
        model, packed, log = finish(run, reference, model, packed, valid, settings)
        report["finish"] = log
        report["bytes"] = packed_bytes(packed)
        report["test_after_finish"] = measure(run, reference, model, test)
    save_file(packed, checkpoint / "quantized.safetensors")
    write_json(run.out / "quantization.json", report)
    return report


def step(run: Run) -> None:
    """What the preset wants: with `quant = "rtn"` the export's rounded integers stay."""
    if run.preset.quant == "rtn":
        print("quantise: the preset keeps the rounded weights", file=sys.stderr)
        return
    reference = float_model(run, "adapter")
    if not isinstance(reference, Model):
        print("quantise: a base of another kind is rounded matrix by matrix", file=sys.stderr)
        return
    # a large base is quantised once, with what is best on small ones; each try takes a copy of it
    names = None if run.preset.base is None else ("gptq-descent",)
    report = quantise(run, names, reference)
    for name, found in report["methods"].items():
        numbers = found["tasks"]
        means = " ".join(
            f"{what} {mean(numbers, what):.5f}" for what in ("delta_loss", "kl", "top1")
        )
        taken = " (taken)" if name == report["chosen"] else ""
        print(f"quantise: {name}: {means}{taken}", file=sys.stderr)
