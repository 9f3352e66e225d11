"""Stage 1, continued pre-training with hybrid instructions (here: from scratch, on every token)."""

from training.batches import CHAT_KINDS
from training.loop import make_optimizers
from training.stages.common import (
    Run,
    done,
    mark_done,
    run_stage,
    save_model,
    split_parameters,
    stage_main,
)


def cpt(run: Run) -> None:
    if done(run, "cpt"):
        return
    model = run.new_model()
    preset = run.preset.cpt
    optimizers = make_optimizers(*split_parameters(model), preset, muon=True)
    names = ["text-pediatric.train", "text-general.train"]
    mix = run.mix(names + [f"chat-{task}.train" for task in CHAT_KINDS])
    first, last = run.preset.chat_share

    def share(progress: float) -> dict[str, float]:
        chat = first + (last - first) * progress
        return {"text": 1 - chat, "chat": chat}

    valid = {"text": "text.valid"} | {task: f"chat-{task}.valid" for task in CHAT_KINDS}
    summary = run_stage(run, "cpt", preset, model, optimizers, mix, share, valid)
    save_model(model, run.folder("cpt") / "model.safetensors")
    mark_done(run, "cpt", summary)


if __name__ == "__main__":
    stage_main(cpt, __doc__)
