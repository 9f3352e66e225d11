"""Stage 1, continued pre-training on every token: plain text and, in completion form, instructions.

The hybrid mix begins rich in text and drifts into instructions. `ablation.hybrid = false` leaves the
instructions out. Without a base checkpoint it starts from random weights.
"""

from training.batches import CHAT_KINDS, Mix
from training.loop import make_optimizers
from training.presets import Preset
from training.stages.common import (
    Run,
    done,
    mark_done,
    run_stage,
    save_model,
    split_parameters,
    stage_main,
)


def is_hybrid(preset: Preset) -> bool:
    return preset.ablation.get("hybrid", True)


def mix_of(run: Run) -> Mix:
    names = ["text-pediatric.train", "text-general.train"]
    if is_hybrid(run.preset):
        names += [f"chat-{task}.train" for task in CHAT_KINDS]
    return run.mix(names)


def share(preset: Preset, progress: float) -> dict[str, float]:
    """How much of the rows is plain text and how much are instructions."""
    if not is_hybrid(preset):
        return {"text": 1.0}
    first, last = preset.chat_share
    chat = first + (last - first) * progress
    return {"text": 1 - chat, "chat": chat}


def cpt(run: Run) -> None:
    if done(run, "cpt"):
        return
    model = run.new_model()
    run.shard(model)
    preset = run.preset.cpt
    optimizers = make_optimizers(*split_parameters(model), preset)
    valid = {"text": "text.valid"} | {task: f"chat-{task}.valid" for task in CHAT_KINDS}
    summary = run_stage(
        run,
        "cpt",
        preset,
        model,
        optimizers,
        mix_of(run),
        lambda progress: share(run.preset, progress),
        valid,
    )
    save_model(model, run.folder("cpt") / "model.safetensors")
    mark_done(run, "cpt", summary)


if __name__ == "__main__":
    stage_main(cpt, __doc__)
