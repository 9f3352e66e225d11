"""Presets: everything that decides a run, in one frozen object read from a TOML file.

A stage has `steps` (exact and repeatable) or `seconds` (its schedule follows the clock, so that it
always finishes its warm-down inside its budget, whatever the machine does besides).
"""

import argparse
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from training.experts import AdapterConfig
from training.model import Config
from training.settings import SettingsError, from_table, override

CONFIGS = Path(__file__).parent / "configs"
TASKS = AdapterConfig.tasks
# Pools of training rows that `priority` weighs; training.prepare writes them.
POOLS = (
    *("text-pediatric", "text-general"),
    *(f"{kind}-{task}" for kind in ("chat", "sft") for task in (*TASKS, "general")),
    *(f"{kind}-{task}" for kind in ("moe", "people") for task in TASKS),
)
ABLATIONS = {"hybrid": bool}  # what `ablation` may say: CPT with instructions, or plain text only


@dataclass(frozen=True)
class StagePreset:
    """One stage: its rows, its learning rates and their schedule, its end."""

    context: int  # T
    rows: int  # sequences in a batch, over all processes and pieces
    lr: float  # 2-D hidden matrices; in the adapter stages: the experts
    lr_other: float  # embedding, head, norms; in the adapter stages: router or gate logits
    steps: int | None = None
    seconds: float | None = None
    warmup: float = 0.02  # shares of the stage
    warmdown: float = 0.6  # of wsd; cosine falls from the warm-up on
    floor: float = 0.05  # factor on the learning rate at the end
    start: float = 0.0  # factor at the very beginning of the warm-up
    weight_decay: float = 0.1
    valid_times: int = 8
    accumulate: int = 1  # pieces that a process works through for one update: less memory, same sum
    schedule: Literal["wsd", "cosine"] = "wsd"
    optimizer: Literal["muon", "adamw"] = "muon"  # of the hidden matrices of CPT and SFT
    clip: float = 1.0  # largest norm of the whole gradient; 0: not clipped
    ema: float = 0.0  # decay per step of the averaged weights that are evaluated and kept; 0: none

    def __post_init__(self) -> None:
        if self.steps is not None and self.seconds is not None:
            raise ValueError("a stage has either steps or seconds, not both")
        for name in ("context", "rows", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        if self.rows % self.accumulate:
            raise ValueError(f"{self.rows} rows are no multiple of accumulate = {self.accumulate}")
        for name in ("warmup", "warmdown", "floor", "start"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected 0 to 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema = {self.ema}, expected 0 (none) to less than 1")
        if self.clip < 0:
            raise ValueError(f"clip = {self.clip}, expected 0 (not clipped) or more")


@dataclass(frozen=True)
class Preset:
    """A whole run. `config` describes the model that is trained from scratch; with `base` it is that
    of the checkpoint, and only says what plans of memory need before the checkpoint is there."""

    name: str
    config: Config
    adapter: AdapterConfig
    cpt: StagePreset
    sft: StagePreset
    dfpo: StagePreset
    expert: StagePreset  # MoE-Adapter with the token router
    finish: StagePreset  # merge-aware finish; its routed twin gets the same number of steps
    finish_share: float  # steps of the finish as a share of the router stage's steps
    base: str | None = None  # folder of a checkpoint to start from; its tokenizer is used
    gate_start: Literal["router", "task"] = "router"  # where the finish takes its gates from
    gate_spread: float = 0.0  # added to one gate logit per task when the finish starts
    beta: float = 0.1  # DFPO
    mu: float = 1.0
    own_rejected: int = 0  # prompts whose greedy answers by the SFT model become rejected answers
    corpus: str = "nano"  # size of the corpus that pedcorpus builds
    chat_share: tuple[float, float] = (0.25, 0.75)  # of instructions in CPT, at start and end
    instructions: Literal["template", "text"] = "template"  # how CPT has them: as a dialogue in the
    # chat template, or as the running text of the corpus's completions.jsonl
    max_tokens: int = 24_000_000  # of each kind that are packed for CPT
    reserve: float = 0.0  # share of a task's training dialogues that only the adapter stage sees
    reserve_general: float = 0.0  # the same of general consultations by people; they join the tasks
    valid_rows: int = 16  # per held-out set, in the stages
    test_rows: int = 16  # per task, in the evaluation
    answers: int = 30  # greedy answers per task in the evaluation
    answer_tokens: int = 128
    human_share: float = 0.0  # of the adapter stage's rows that are drawn from human-written ones
    adapter_base: Literal["dfpo", "sft"] = (
        "dfpo"  # the model that the adapter is trained beside; it
    )
    # always works beside that of DFPO. sft: it cannot learn to undo what DFPO changed
    pool_power: float = (
        0.0  # how far sizes of pools count in the adapter stage: 0 tasks alike, 1 rows alike
    )
    preference: float = (
        0.0  # weight of a preference term on own answers in the adapter stage; 0: none
    )
    preference_pairs: int = 8  # of each of its steps, over all processes
    penalty: float = 1.1  # repetition penalty of generated answers
    quant: Literal["rtn", "gptq"] = "rtn"
    compile: bool = False
    checkpointing: bool = False  # layers are computed again in the backward pass: less memory
    bf16: bool = True
    device: Literal["cpu", "cuda", "auto"] = "cpu"  # auto: CUDA where there is one
    seed: int = 1
    golden: str = "tiny"  # name of the golden files
    golden_tensors: bool = True
    log_every: int = 10
    save_seconds: float = (
        300.0  # between two states that a killed run can go on from; 0: every step
    )
    priority: dict[str, float] = field(default_factory=dict)  # of pools, 1 where unnamed
    ablation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.reserve < 1:
            raise ValueError(f"reserve = {self.reserve}, expected 0 to less than 1")
        if not 0 <= self.reserve_general < 1:
            raise ValueError(f"reserve_general = {self.reserve_general}, expected 0 to less than 1")
        if self.reserve_general > 0 and self.reserve == 0:
            raise ValueError(
                "reserve_general needs a reserve: without one experts train on SFT's rows"
            )
        if not 0 <= self.human_share <= 1:
            raise ValueError(f"human_share = {self.human_share}, expected a share from 0 to 1")
        if not all(0 <= share <= 1 for share in self.chat_share):
            raise ValueError(f"chat_share = {self.chat_share}, expected shares from 0 to 1")
        for key in self.priority:
            if key not in POOLS:
                raise ValueError(f"unknown key priority.{key}; known: {', '.join(POOLS)}")
        for key in ("steps", "seconds"):
            if getattr(self.finish, key) is not None:
                raise ValueError(
                    f"finish.{key} does nothing: the finish has finish_share of the adapter's steps"
                )
        if self.adapter.gate == "task" and self.gate_start == "router":
            raise ValueError(GATES_DISAGREE.format("task", "router"))
        for key, value in self.ablation.items():
            if key not in ABLATIONS:
                raise ValueError(f"unknown key ablation.{key}; known: {', '.join(ABLATIONS)}")
            if type(value) is not ABLATIONS[key]:
                raise ValueError(f"ablation.{key} = {value!r} is no {ABLATIONS[key].__name__}")


GATES_DISAGREE = (
    "adapter.gate = {0!r} and gate_start = {1!r} disagree: gate_start decides (router: adapter.gate is "
    "token; task: it is task), and adapter.gate may be left out"
)


def check_stated(table: Mapping[str, Any], where: str) -> None:
    """Settings that are stated and would do nothing. Raises SettingsError that names them.

    Only what a file or `--set` says is looked at: the defaults of these fields stand for nothing.
    """
    start = table.get("gate_start", "router")
    gate = _stated(table, "adapter", "gate")
    if gate in ("token", "task") and (gate == "task") != (start == "task"):
        raise SettingsError(f"{where}: {GATES_DISAGREE.format(gate, start)}")
    for stage in ("expert", "finish"):
        optimizer = _stated(table, stage, "optimizer")
        if optimizer not in (None, "adamw"):
            raise SettingsError(
                f"{where}: {stage}.optimizer = {optimizer!r}: the adapter trains with adamw only"
            )


def _stated(table: Mapping[str, Any], section: str, key: str) -> Any:
    part = table.get(section)
    return part.get(key) if isinstance(part, Mapping) else None


def preset_names() -> list[str]:
    """Names of the presets that come with the project."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def load_preset(name_or_path: str | Path, overrides: list[str] | None = None) -> Preset:
    """A preset by name (`nano`) or from a file (`my.toml`), with `a.b=value` applied to it.

    Its name is that of the file. Raises SettingsError for a file, key or value that will not do.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else CONFIGS / f"{text}.toml"
    if not path.is_file():
        known = ", ".join(preset_names())
        raise SettingsError(f"no preset {text}: give one of {known}, or a .toml file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    if "name" in table:
        raise SettingsError(f"{path}: unknown key name; a preset is called like its file")
    table = override(table, overrides or [])
    check_stated(table, path.name)
    return from_table(Preset, {"name": path.stem, **table}, path.name)


def add_preset_arguments(parser: argparse.ArgumentParser) -> None:
    """`--preset NAME|FILE.toml` and `--set KEY=VALUE`, for every command that needs a preset."""
    parser.add_argument(
        "--preset", required=True, help=f"{' | '.join(preset_names())}, or a .toml file"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change the preset, such as cpt.lr=1e-3 or seed=2; may be given again",
    )


def chosen_preset(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Preset:
    """The preset that the arguments name; a wrong one ends the command with its error."""
    try:
        return load_preset(options.preset, options.overrides)
    except SettingsError as error:
        parser.error(str(error))


class _Presets(Mapping[str, Preset]):
    """The project's presets by name, each read when it is first asked for."""

    def __init__(self) -> None:
        self._read: dict[str, Preset] = {}

    def __getitem__(self, name: str) -> Preset:
        if name not in self._read:
            if name not in preset_names():
                raise KeyError(name)
            self._read[name] = load_preset(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(preset_names())

    def __len__(self) -> int:
        return len(preset_names())


PRESETS = _Presets()
CI, NANO = PRESETS["ci"], PRESETS["nano"]
