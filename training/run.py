"""Drives a whole run in one process: `python -m training.run --preset ci --data DIR --out DIR`.

Every step leaves a mark when it is done and is skipped from then on, so the command is safe to
repeat. With --max-seconds it stops cleanly (exit code 3) and a repetition goes on.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from training.loop import Deadline, StoppedByTime
from training.presets import PRESETS
from training.stages.common import STOPPED, Run

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
    out = str(run.out / "corpus")
    where = ["--data", str(data.absolute()), "--out", out, "--preset", run.preset.name]
    tool(run, "training.pedcorpus.build", *where)


def tokenizer(run: Run, data: Path) -> None:
    vocab = str(run.preset.config.vocab)
    folders = ["--corpus", str(run.out / "corpus"), "--out", str(run.out / "tokenizer")]
    tool(run, "training.tokenizer", "--vocab", vocab, *folders)


def pack(run: Run, data: Path) -> None:
    from training.batches import prepare
    from training.tokenizer import PedTokenizer

    words = PedTokenizer.load(run.out / "tokenizer")
    if words.vocab_size > run.preset.config.vocab:
        raise ValueError(f"{words.vocab_size} pieces, the model has {run.preset.config.vocab}")
    sizes = prepare(run.out / "corpus", words, run.preset, run.packed)
    for name, size in sizes.items():
        say(f"{name}: {size['rows']} rows, {size['tokens']} tokens")


def stage(name: str) -> Callable[[Run, Path], None]:
    def work(run: Run, data: Path) -> None:
        from training.stages import adapter, cpt, dfpo, sft

        stages = {
            "cpt": cpt.cpt,
            "sft": sft.sft,
            "dfpo": dfpo.dfpo,
            "adapter": adapter.routed,
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
    "dfpo": stage("dfpo"),
    "adapter": stage("adapter"),
    "finish": stage("finish"),
    "twin": stage("twin"),
    "export": late("export", "export"),
    "golden": late("golden", "golden"),
    "evaluate": late("evaluate", "evaluate"),
    "card": late("card", "card"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="From raw corpora to an exported checkpoint.")
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw sources")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--max-seconds", type=float, help="stop cleanly after so long")
    parser.add_argument("--from", dest="first", choices=STEPS, default="corpus")
    parser.add_argument("--to", dest="last", choices=STEPS, default="card")
    options = parser.parse_args()
    out = options.out.absolute()
    run = Run(PRESETS[options.preset], out, Deadline(options.max_seconds))
    say(f"preset {run.preset.name} on {run.device}, in {out}")
    names = list(STEPS)
    marks = out / "done"
    marks.mkdir(parents=True, exist_ok=True)
    try:
        for name in names[names.index(options.first) : names.index(options.last) + 1]:
            mark = marks / name
            if mark.exists():
                say(f"{name}: done before")
                continue
            run.deadline.check()
            say(f"{name} ...")
            began = time.monotonic()
            STEPS[name](run, options.data)
            mark.write_text(f"{time.monotonic() - began:.1f} s\n")
            say(f"{name}: done in {time.monotonic() - began:.1f} s")
    except StoppedByTime:
        say("stopped by time; the same command resumes")
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
