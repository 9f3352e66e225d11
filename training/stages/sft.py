"""Stage 2, full-parameter supervised fine-tuning: loss on the answers only."""

from training.batches import CHAT_KINDS
from training.loop import make_optimizers
from training.stages.common import (
    Run,
    chat_sets,
    done,
    mark_done,
    run_stage,
    save_model,
    split_parameters,
    stage_main,
)


def sft(run: Run) -> None:
    if done(run, "sft"):
        return
    model = run.load_model("cpt")
    run.shard(model)
    preset = run.preset.sft
    optimizers = make_optimizers(*split_parameters(model), preset)
    mix = run.mix(chat_sets("sft", "train", CHAT_KINDS).values())
    valid = chat_sets("sft", "valid", CHAT_KINDS)
    summary = run_stage(
        run, "sft", preset, model, optimizers, mix, lambda progress: {"sft": 1.0}, valid
    )
    save_model(model, run.folder("sft") / "model.safetensors")
    mark_done(run, "sft", summary)


if __name__ == "__main__":
    stage_main(sft, __doc__)
