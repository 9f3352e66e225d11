"""What the four stages share: devices, compiled forward passes, losses, files."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.batches import TASKS, Batch, Mix, Pool, fixed_batches, to_batch
from training.loop import Deadline, Stage, StoppedByTime, train
from training.losses import cross_entropy
from training.model import Model
from training.presets import PRESETS, Preset, StagePreset

STOPPED = 3  # exit code: stopped by time, a rerun resumes


class Run:
    """One run of training: a preset, a folder, a device and a deadline."""

    def __init__(self, preset: Preset, out: Path, deadline: Deadline):
        self.preset, self.out, self.deadline = preset, out, deadline
        cuda = preset.device == "auto" and torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu")
        self.packed = out / "packed"
        torch.manual_seed(preset.seed)
        torch.set_float32_matmul_precision("high")

    def folder(self, stage: str) -> Path:
        return self.out / "stages" / stage

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.preset.bf16)

    def new_model(self) -> Model:
        return Model(self.preset.config).to(self.device)

    def load_model(self, stage: str) -> Model:
        """The base as a stage left it. Missing or extra tensors are an error."""
        model = self.new_model()
        tensors = load_file(self.folder(stage) / "model.safetensors", device=str(self.device))
        model.load_state_dict(tensors)
        return model

    def mix(self, names: Iterable[str]) -> Mix:
        pools = [Pool(self.packed, name, self.preset.seed) for name in names]
        return Mix(pools, self.preset.priority, self.preset.seed)


def save_model(model: nn.Module, path: Path) -> None:
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def split_parameters(model: Model) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(2-D hidden matrices, all others)"""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        hidden = parameter.dim() == 2 and ".layers." in name
        (matrices if hidden else others).append(parameter)
    return matrices, others


class Forward:
    """Losses of a model on batches; compiled where the preset says so.

    The head is computed only where a loss is wanted.
    """

    def __init__(self, run: Run, model: Model):
        self.run, self.model = run, model
        self.hidden: Callable[..., Tensor] = model.hidden
        self.all = self._all
        self.head: Callable[[Tensor, Tensor], Tensor] = self._head
        if run.preset.compile:
            self.hidden = torch.compile(model.hidden)
            self.all = torch.compile(self._all)
            self.head = torch.compile(self._head, dynamic=True)

    def _all(self, tokens: Tensor, targets: Tensor) -> Tensor:
        logits = self.model.lm_head(self.model.hidden(tokens))
        return cross_entropy(logits.flatten(0, 1), targets.flatten())

    def _head(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(self.model.lm_head(hidden), targets)

    def train_loss(self, batch: Batch) -> Tensor:
        with self.run.autocast():
            if batch.counted is None:
                return self.all(batch.tokens, batch.targets)
            hidden = self.hidden(batch.tokens, batch.segments, batch.tasks)
            return self.head(hidden[batch.counted], batch.targets[batch.counted])

    def valid_loss(self, batches: list[Batch]) -> float:
        """Mean nats per counted token, by the plain (uncompiled) model."""
        total, count = 0.0, 0
        for batch in batches:
            counted = batch.counted
            if counted is None:
                counted = torch.ones_like(batch.targets, dtype=torch.bool)
            number = int(counted.sum())
            if number == 0:
                continue
            with self.run.autocast():
                hidden = self.model.hidden(batch.tokens, batch.segments, batch.tasks)[counted]
                total += float(self._head(hidden, batch.targets[counted])) * number
            count += number
        return total / max(1, count)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, float], int]:
        return self.train_loss(batch), {}, batch.tokens.numel()


def held_out(run: Run, names: dict[str, str], rows: int) -> Callable[[Forward], dict[str, float]]:
    """Loss per held-out set: names maps what it is called to the packed set."""
    sets = {
        called: fixed_batches(run.packed, name, rows, run.preset.valid_rows, run.device)
        for called, name in names.items()
    }
    return lambda forward: {
        called: forward.valid_loss(batches) for called, batches in sets.items() if batches
    }


def run_stage(
    run: Run,
    name: str,
    stage_preset: StagePreset,
    model: Model,
    optimizers: list[torch.optim.Optimizer],
    mix: Mix,
    share: Callable[[float], dict[str, float]],
    valid: dict[str, str],
    forward: Forward | None = None,
) -> dict:
    """Trains with the ordinary loss on rows drawn from a mix."""
    forward = forward or Forward(run, model)
    measure = held_out(run, valid, stage_preset.rows)
    stage = Stage(
        name=name,
        model=model,
        optimizers=optimizers,
        batch=lambda step, progress: to_batch(
            mix.draw(step, stage_preset.rows, share(progress)), run.device
        ),
        loss=forward.step,
        valid=lambda: measure(forward),
        data_state=lambda: dict(mix.drawn),
        load_data_state=mix.drawn.update,
    )
    return train(stage, stage_preset, run.folder(name), run.deadline, run.preset.log_every)


def done(run: Run, name: str) -> dict | None:
    """The summary of a finished stage, or None."""
    path = run.folder(name) / "DONE.json"
    return json.loads(path.read_text()) if path.exists() else None


def summary_of(run: Run, name: str) -> dict:
    """The summary of a stage that must be finished."""
    summary = done(run, name)
    if summary is None:
        raise ValueError(f"the {name} stage is not finished")
    return summary


def mark_done(run: Run, name: str, summary: dict) -> None:
    path = run.folder(name) / "DONE.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    (run.folder(name) / "resume.pt").unlink(missing_ok=True)


def chat_sets(kind: str, split: str, tasks: tuple[str, ...] = TASKS) -> dict[str, str]:
    return {task: f"{kind}-{task}.{split}" for task in tasks}


def stage_main(work: Callable[[Run], None], what: str | None) -> None:
    """Command line of one stage."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--max-seconds", type=float, help="stop cleanly after so long")
    options = parser.parse_args()
    run = Run(PRESETS[options.preset], options.out, Deadline(options.max_seconds))
    try:
        work(run)
    except StoppedByTime:
        print("stopped by time; the same command resumes", file=sys.stderr)
        sys.exit(STOPPED)
