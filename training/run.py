"""Drives a whole run in one process: `python -m training.run --preset ci --data DIR --out DIR`.

Every step leaves a mark when it is done and is skipped from then on, so the command is safe to
repeat. With --max-seconds it stops cleanly (exit code 3) and a repetition goes on. Stages on several
GPUs are started one by one, such as `torchrun --nproc-per-node 8 -m training.stages.sft`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from training.journal import replace_text
from training.loop import Deadline, StoppedByTime
from training.presets import chosen_preset
from training.runfolder import ChangedSettings
from training.stages.common import Run, add_run_arguments, session

ROOT = Path(__file__).parent.parent


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def tool(run: Run, module: str, *arguments: str) -> None:
    """Runs another module of this package; the deadline ends it (it starts afresh next time)."""
    try:
        subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            check=True,
            timeout=run.deadline.left(),
        )
    except subprocess.TimeoutExpired:
        raise StoppedByTime from None


def corpus(run: Run, data: Path) -> None:
    if not data.is_dir():
        raise FileNotFoundError(f"--data {data}: no such folder of raw sources")
    out = str(run.out / "corpus")
    where = ["--data", str(data.absolute()), "--out", out, "--preset", run.preset.corpus]
    tool(run, "training.pedcorpus.build", *where)


def tokenizer(run: Run, data: Path) -> None:
    if run.preset.base is not None:
        say(f"tokenizer: that of {run.base_folder()}")
        return
    vocab = str(run.preset.config.vocab)
    folders = ["--corpus", str(run.out / "corpus"), "--out", str(run.out / "tokenizer")]
    tool(run, "training.tokenizer", "--vocab", vocab, *folders)


def pack(run: Run, data: Path) -> None:
    from training.prepare import prepare

    words = run.tokenizer()
    if run.preset.base is None and words.vocab_size > run.preset.config.vocab:
        raise ValueError(f"{words.vocab_size} pieces, the model has {run.preset.config.vocab}")
    sizes = prepare(run.out / "corpus", words, run.preset, run.packed)
    for name, size in sizes.items():
        say(f"{name}: {size['rows']} rows, {size['tokens']} tokens")


def own(run: Run, data: Path) -> None:
    """Greedy answers of the SFT model become rejected ones, where the preset wants some."""
    if run.preset.own_rejected == 0:
        say("own: the preset wants none")
        return
    from training.stages.own import own

    own(run)


def stage(name: str) -> Callable[[Run, Path], None]:
    def work(run: Run, data: Path) -> None:
        from training.stages import adapter, cpt, dfpo, sft

        stages = {
            "cpt": cpt.cpt,
            "sft": sft.sft,
            "dfpo": dfpo.dfpo,
            "adapter": adapter.first,
            "finish": adapter.finish,
            "twin": adapter.twin,
        }
        stages[name](run)

    return work


def late(module: str, function: str) -> Callable[[Run, Path], None]:
    """A step whose module is imported when its turn comes."""

    def work(run: Run, data: Path) -> None:
        imported = __import__(f"training.{module}", fromlist=[function])
        getattr(imported, function)(run)

    return work


STEPS: dict[str, Callable[[Run, Path], None]] = {
    "corpus": corpus,
    "tokenizer": tokenizer,
    "pack": pack,
    "cpt": stage("cpt"),
    "sft": stage("sft"),
    "own": own,
    "dfpo": stage("dfpo"),
    "adapter": stage("adapter"),
    "finish": stage("finish"),
    "twin": stage("twin"),
    "export": late("export", "export"),
    "quantise": late("quant.methods", "step"),
    "evaluate": late("evaluate", "evaluate"),
    "report": late("report", "report"),
    "card": late("card", "card"),
    "golden": late("golden", "golden"),
}


def work(run: Run, data: Path, names: list[str]) -> None:
    """The steps of these names that are not marked as done. Raises StoppedByTime."""
    marks = run.out / "done"
    marks.mkdir(parents=True, exist_ok=True)
    for name in names:
        mark = marks / name
        if mark.exists():
            say(f"{name}: done before")
            continue
        run.deadline.check()
        say(f"{name} ...")
        began = time.monotonic()
        STEPS[name](run, data)
        replace_text(mark, f"{time.monotonic() - began:.1f} s\n")
        say(f"{name}: done in {time.monotonic() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="From raw corpora to an exported checkpoint.")
    add_run_arguments(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw sources")
    parser.add_argument("--from", dest="first", choices=STEPS, default="corpus")
    parser.add_argument("--to", dest="last", choices=STEPS, default="golden")
    options = parser.parse_args()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        parser.error("this is one process; torchrun takes a stage, such as training.stages.sft")
    preset = chosen_preset(parser, options)
    names = list(STEPS)
    first, last = names.index(options.first), names.index(options.last)
    if first > last:
        parser.error(f"--from {options.first} comes after --to {options.last}")
    run = Run(preset, options.out.absolute(), Deadline(options.max_seconds))
    try:
        with session(run, options.allow_changes):
            say(f"preset {preset.name} on {run.device}, in {run.out}")
            work(run, options.data, names[first : last + 1])
    except ChangedSettings as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
