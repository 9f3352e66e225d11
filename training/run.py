"""Drives a whole run in one process: `python -m training.run --preset ci --data DIR --out DIR`.

`--extra DIR ...` adds one's own books to the corpus, and the construction's options (`--engine` ...)
go to its builder as they are.

Every step leaves a mark when it is done and is skipped from then on, so the command is safe to
repeat. With --max-seconds it stops cleanly (exit code 3) and a repetition goes on. Stages on several
GPUs are started one by one, such as `torchrun --nproc-per-node 8 -m training.stages.sft`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from training.journal import replace_text
from training.loop import Deadline, StoppedByTime
from training.pedcorpus.options import (
    BUILD_LIMIT,
    Options,
    add_arguments,
    as_arguments,
    options_from,
)
from training.presets import chosen_preset
from training.runfolder import Refused
from training.stages.common import Run, add_run_arguments, refuse, session

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
    except subprocess.CalledProcessError as error:
        raise Refused(
            f"{module} failed (code {error.returncode}), it says why above; mended, the same command "
            "goes on"
        ) from None


def corpus(run: Run, data: Path, more: Sequence[str] = ()) -> None:
    """Builds the corpus. more: further arguments of the builder."""
    if not data.is_dir():
        raise Refused(
            f"--data {data}: no such folder of raw sources; training/README.md lists their names, "
            "and training/sample is a small one"
        )
    out = str(run.out / "corpus")
    where = ["--data", str(data.absolute()), "--out", out, "--preset", run.preset.corpus]
    tool(run, "training.pedcorpus.build", *where, *more)


def builder_arguments(extra: Sequence[Path], options: Options) -> list[str]:
    """What the builder is told besides folders and preset. It runs in another folder: paths are
    made absolute. Raises Refused for a folder of one's own that is not there."""
    for folder in extra:
        if not folder.is_dir():
            raise Refused(f"--extra {folder}: no such folder of your own books")
    if options.cache:
        options = replace(options, cache=str(Path(options.cache).absolute()))
    given = ["--extra", *(str(folder.absolute()) for folder in extra)] if extra else []
    return [*given, *as_arguments(options)]


def check_extra(run: Run, extra: Sequence[Path]) -> None:
    """Raises Refused where the corpus is there already and was built without these folders."""
    report = run.out / "corpus" / "report.json"
    if not report.is_file():
        return
    own = json.loads(report.read_text(encoding="utf-8")).get("own", [])
    read = {folder["source"] for folder in own}
    for folder in extra:
        if f"user__{folder.resolve().name}" not in read:
            raise Refused(
                f"--extra {folder}: the corpus in {report.parent} was built without it. Give "
                "another --out, or remove it and begin again"
            )


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


def work(run: Run, data: Path, names: list[str], built_with: Sequence[str] = ()) -> None:
    """The steps of these names that are not marked as done. built_with: further arguments of the
    corpus builder. Raises StoppedByTime, and Refused where something is not there."""
    steps = STEPS | {"corpus": partial(corpus, more=built_with)}
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
        steps[name](run, data)
        replace_text(mark, f"{time.monotonic() - began:.1f} s\n")
        say(f"{name}: done in {time.monotonic() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="From raw corpora to an exported checkpoint.")
    add_run_arguments(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw sources")
    parser.add_argument("--from", dest="first", choices=STEPS, default="corpus")
    parser.add_argument("--to", dest="last", choices=STEPS, default="golden")
    parser.add_argument(
        "--extra", type=Path, nargs="+", default=[], help="folders of your own books for the corpus"
    )
    add_arguments(parser, BUILD_LIMIT)
    options = parser.parse_args()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        parser.error("this is one process; torchrun takes a stage, such as training.stages.sft")
    preset = chosen_preset(parser, options)
    names = list(STEPS)
    first, last = names.index(options.first), names.index(options.last)
    if first > last:
        parser.error(f"--from {options.first} comes after --to {options.last}")
    try:
        built_with = builder_arguments(options.extra, options_from(options))
    except ValueError as error:
        refuse(parser.prog, Refused(error))
    try:
        run = Run(preset, options.out.absolute(), Deadline(options.max_seconds))
        check_extra(run, options.extra)
        with session(run, options.allow_changes):
            say(f"preset {preset.name} on {run.device}, in {run.out}")
            work(run, options.data, names[first : last + 1], built_with)
    except Refused as error:
        refuse(parser.prog, error)


if __name__ == "__main__":
    main()
