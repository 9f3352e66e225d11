"""Tokens per second, model FLOPs utilisation and peak memory of each stage on this machine.

    python -m training.bench --preset nano [--stage all] [--seconds 20] [--json FILE]
    python -m training.bench --preset nano-gpu --batch-sweep 16,32,64,128

Steps are those of the real stages, on made-up rows of the preset's shapes; no corpus is needed. The
adapter's are without the preference term, which needs the model's own answers. Every
measurement is a process of its own, with the matmul peak measured right before and after its steps.
MFU is by the clock; "MFU busy" (CPU) per second of processor time, of steps and of the peak, for a
machine that other programs use as well.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from training.bench.work import STAGES, measure
from training.presets import add_preset_arguments, chosen_preset

ROOT = Path(__file__).parent.parent.parent
HEADER = (
    "stage",
    "rows",
    "compiled",
    "tok/s",
    "GFLOP/s",
    "peak",
    "MFU",
    "MFU busy",
    "memory",
    "first step",
)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_preset_arguments(parser)
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=20.0, help="of steps per measurement")
    parser.add_argument(
        "--compile", choices=["on", "off", "both", "preset"], default="preset", dest="compiled"
    )
    parser.add_argument("--batch-sweep", metavar="ROWS,ROWS", help="rows per batch to try")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def line(row: dict) -> str:
    values = (
        row["stage"],
        row["rows"],
        "yes" if row["compiled"] else "no",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['flops_per_second'] / 1e9:,.0f}",
        f"{row['peak'] / 1e9:,.0f}",
        f"{row['utilisation']:.1%}",
        "-" if row["busy_utilisation"] is None else f"{row['busy_utilisation']:.1%}",
        f"{row['memory_bytes'] / 2**20:,.0f} MiB",
        f"{row['first_step_seconds']:.1f} s",
    )
    return "".join(f"{value!s:>11}" for value in values)


def one(options: argparse.Namespace, stage: str, rows: int | None, compiled: bool | None) -> dict:
    """A measurement in a process of its own -> its numbers, or {"error": why there are none}."""
    command = [sys.executable, "-m", "training.bench", "--preset", options.preset]
    for assignment in options.overrides:
        command += ["--set", assignment]
    request = {"stage": stage, "rows": rows, "compiled": compiled}
    command += ["--seconds", str(options.seconds), "--worker", json.dumps(request)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return request | {"error": last}
    return json.loads(done.stdout.splitlines()[-1])


def work(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    request = json.loads(options.worker)
    preset = chosen_preset(parser, options)
    if request["compiled"] is not None:
        preset = replace(preset, compile=request["compiled"])
    print(json.dumps(asdict(measure(preset, request["stage"], options.seconds, request["rows"]))))


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if options.worker:
        work(parser, options)
        return
    chosen_preset(parser, options)  # a wrong one ends here
    stages = STAGES if options.stage == "all" else (options.stage,)
    compiled = {"on": [True], "off": [False], "both": [True, False], "preset": [None]}
    try:
        sweep = [int(n) for n in options.batch_sweep.split(",")] if options.batch_sweep else [None]
    except ValueError:
        parser.error(f"--batch-sweep {options.batch_sweep}: expected numbers such as 8,16,32")
    print("".join(f"{title:>11}" for title in HEADER), flush=True)
    found = []
    for stage in stages:
        for rows in sweep:
            for mode in compiled[options.compiled]:
                row = one(options, stage, rows, mode)
                found.append(row)
                failed = f"{stage:>11}{rows or '':>11}  {row.get('error')}"
                print(failed if "error" in row else line(row), flush=True)
                if options.json:  # each time: a command that is cut short has told something
                    told = {"preset": options.preset, "measured": found}
                    options.json.write_text(json.dumps(told, indent=1) + "\n")
    if all("error" in row for row in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
