"""What the stages share: devices, compiled forward passes, losses, files."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training import distributed
from training.base import Base
from training.batches import TASKS, Batch, Mix, Pool, fixed_batches, to_batch
from training.journal import replace_text
from training.loop import Deadline, Stage, StoppedByTime, train
from training.losses import cross_entropy
from training.model import Model
from training.presets import Preset, StagePreset, add_preset_arguments, chosen_preset
from training.runfolder import Refused, RunFolder

if TYPE_CHECKING:
    from training.tokenizer import PedTokenizer

STOPPED = 3  # exit code: stopped by time, a rerun resumes


def device_for(wanted: str) -> torch.device:
    """The device of this process: cpu, cuda or auto (CUDA where there is one)."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise Refused("the preset wants CUDA and there is none: --set device=cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


class NoBase(Refused, FileNotFoundError):
    """The checkpoint that the preset starts from is not there."""


class Run:
    """One run of training: a preset, a folder, a device and a deadline."""

    def __init__(self, preset: Preset, out: Path, deadline: Deadline):
        self.preset, self.out, self.deadline = preset, out, deadline
        self.device = device_for(preset.device)
        self.packed = out / "packed"
        torch.manual_seed(preset.seed)
        torch.set_float32_matmul_precision("high")

    def folder(self, stage: str) -> Path:
        return self.out / "stages" / stage

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.preset.bf16)

    def base_folder(self) -> Path:
        """Of the checkpoint that the run starts from. Raises NoBase where it is not there."""
        folder = Path(self.preset.base or "")
        if self.preset.base is None or not (folder / "config.json").is_file():
            raise NoBase(
                f"preset {self.preset.name}: base = {self.preset.base!r} is no folder of a "
                "checkpoint (config.json, weights, tokenizer); --set base=DIR names it"
            )
        return folder

    def new_model(self) -> Base:
        """The base checkpoint where the preset has one, else random weights."""
        if self.preset.base is not None:
            from training.models import load_base

            # many processes shard it layer by layer: no GPU has to hold it whole
            place = self.device if distributed.world() == 1 else "cpu"
            model = load_base(self.base_folder(), place)
        else:
            model = Model(self.preset.config).to(self.device)
        model.checkpointing = self.preset.checkpointing
        return model

    def load_model(self, stage: str) -> Base:
        """The base as a stage left it. Missing or extra tensors are an error."""
        model = self.new_model()
        # the file is mapped: on a GPU there is never a second copy of all weights
        model.load_state_dict(load_file(self.folder(stage) / "model.safetensors"))
        return model

    def shard(self, model: nn.Module) -> None:
        """Spreads a model over the processes, in place, before its optimisers are made."""
        distributed.shard(model, self.device, self.preset.bf16, self.preset.compile)

    def tokenizer(self) -> "PedTokenizer":
        """That of the base checkpoint where the preset has one, else the run's own."""
        if self.preset.base is not None:
            from training.models import load_tokenizer

            return load_tokenizer(self.base_folder())
        from training.tokenizer import PedTokenizer

        return PedTokenizer.load(self.out / "tokenizer")

    def mix(self, names: Iterable[str]) -> Mix:
        pools = [Pool(self.packed, name, self.preset.seed) for name in names]
        return Mix(pools, self.preset.priority, self.preset.seed)


def save_model(model: nn.Module, path: Path) -> None:
    """All weights, written by rank 0; the file is there whole or not at all. All ranks call it."""
    tensors = distributed.gather_weights(model)
    if distributed.is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        partial.replace(path)
    distributed.wait()


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
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

    def __init__(self, run: Run, model: Base):
        self.run, self.model = run, model
        self.hidden: Callable[..., Tensor] = model.hidden
        self.all = self._all
        self.head: Callable[[Tensor, Tensor], Tensor] = self._head
        if run.preset.compile and distributed.world() == 1:
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
            if not batch.counted.any():  # its weight is 0, but every process must go both ways
                return self.model.lm_head(hidden[:, :1]).sum() * 0.0
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
    model: Base,
    optimizers: list[torch.optim.Optimizer],
    mix: Mix,
    share: Callable[[float], dict[str, float]],
    valid: dict[str, str],
    forward: Forward | None = None,
    further: Callable[[int], dict[str, float]] | None = None,
) -> dict:
    """Trains with the ordinary loss on rows drawn from a mix, and with a further one (see `Stage`)."""
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
        further=further or (lambda step: {}),
    )
    return train_stage(run, stage, stage_preset)


def train_stage(run: Run, stage: Stage, preset: StagePreset) -> dict:
    """Trains a stage in its folder, as the run's preset has it logged, saved and seeded."""
    stage.seed = run.preset.seed
    return train(
        stage,
        preset,
        run.folder(stage.name),
        run.deadline,
        run.preset.log_every,
        run.preset.save_seconds,
    )


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
    """The stage is finished and what it wrote is there: its state is not needed any more."""
    distributed.wait()
    if distributed.is_main():
        replace_text(run.folder(name) / "DONE.json", json.dumps(summary, indent=1) + "\n")
        (run.folder(name) / "resume.pt").unlink(missing_ok=True)
    distributed.wait()


def chat_sets(kind: str, split: str, tasks: tuple[str, ...] = TASKS) -> dict[str, str]:
    return {task: f"{kind}-{task}.{split}" for task in tasks}


@contextmanager
def session(run: Run, allow_changes: bool = False) -> Iterator[None]:
    """Keeps run.json while a command works; ends with code 3 where the deadline stopped it."""
    folder = RunFolder(run.out, run.preset, allow_changes) if distributed.is_main() else None
    outcome = "done"
    try:
        yield
    except StoppedByTime:
        outcome = "stopped by time"
        distributed.say("stopped by time; the same command resumes")
        sys.exit(STOPPED)
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
        raise
    finally:
        if folder is not None:
            folder.stop(outcome)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that trains takes."""
    add_preset_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--max-seconds", type=float, help="stop cleanly after so long")
    parser.add_argument(
        "--allow-changes", action="store_true", help="go on in a folder begun with other settings"
    )


def refuse(command: str, error: Refused) -> NoReturn:
    """Ends the command with one line that says what to do, and code 2."""
    print(f"{command}: {error}", file=sys.stderr, flush=True)
    sys.exit(2)


def stage_main(work: Callable[[Run], None], what: str | None) -> None:
    """Command line of one stage, alone or under `torchrun`."""
    parser = argparse.ArgumentParser(description=what)
    add_run_arguments(parser)
    options = parser.parse_args()
    preset = chosen_preset(parser, options)
    distributed.start(preset.device)
    try:
        run = Run(preset, options.out.absolute(), Deadline(options.max_seconds))
        with session(run, options.allow_changes):
            work(run)
    except Refused as error:
        refuse(parser.prog, error)
    finally:
        distributed.stop()
