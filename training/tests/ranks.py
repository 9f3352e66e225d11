"""What test_distributed starts with torchrun: stages in all ranks, stopped after so many steps.

torchrun --nproc-per-node 2 -m training.tests.ranks OUT STAGE[,STAGE] STEPS SETTING ...
"""

import sys
from pathlib import Path

from training import distributed
from training.loop import Deadline, StoppedByTime
from training.presets import load_preset
from training.stages.common import Run
from training.stages.cpt import cpt
from training.stages.dfpo import dfpo
from training.stages.sft import sft

STAGES = {"cpt": cpt, "sft": sft, "dfpo": dfpo}


class StopsAfter(Deadline):
    """Passes for so many steps."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def passed(self) -> bool:
        self.steps -= 1
        return self.steps < 0


def main() -> None:
    out, stages, steps, *settings = sys.argv[1:]
    distributed.start("cpu")
    try:
        run = Run(load_preset("ci", settings), Path(out), StopsAfter(int(steps)))
        for stage in stages.split(","):
            STAGES[stage](run)
    except StoppedByTime:
        distributed.say(f"stopped on {distributed.world()} ranks")
    finally:
        distributed.stop()


if __name__ == "__main__":
    main()
