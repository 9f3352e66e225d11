"""Stage 4, the MoE-Adapter on the frozen base: first with the token router, then the finish.

The merge-aware finish replaces the router by its mean gates per (task, linear), measured on
training data, and trains experts and gate logits on. The routed twin goes on with the router for the
same number of steps on the same rows, so that the two can be compared fairly.
"""

import json
from dataclasses import replace

import torch
from torch import nn

from training.batches import TASKS, Batch, Mix, Pool, to_batch
from training.experts import (
    adapted,
    attach,
    load_adapter,
    mean_gates,
    save_adapter,
    set_mode,
    start_finish,
)
from training.loop import make_optimizers
from training.model import Model
from training.presets import StagePreset
from training.stages.common import (
    Run,
    chat_sets,
    done,
    mark_done,
    run_stage,
    stage_main,
    summary_of,
)

MEAN_ROWS = 16  # per task, to measure the router's mean gates on


def optimizers_for(model: Model, preset: StagePreset) -> list[torch.optim.Optimizer]:
    """Experts at `lr`; the router, or the gate logits, at `lr_other`."""
    experts: list[nn.Parameter] = []
    gates: list[nn.Parameter] = []
    for _, module in adapted(model):
        experts += [module.lora_moe_A, module.lora_moe_B]
        gates += [module.lora_route.weight, module.w_noise, module.gate_logits]
    gates = [p for p in gates if p.requires_grad]
    return make_optimizers(experts, gates, preset, muon=False)


def task_mix(run: Run) -> Mix:
    mix = run.mix(chat_sets("sft", "train").values())
    missing = set(range(len(TASKS))) - {pool.task for pool in mix.pools}
    if missing:
        raise ValueError(f"no training rows for {[TASKS[i] for i in missing]}")
    # the three tasks get equal shares, whatever the sizes of their pools
    mix.priority = {pool.name.split(".")[0]: 1 / len(pool) for pool in mix.pools}
    return mix


def equal_share(progress: float) -> dict[str, float]:
    return {"sft": 1.0}


def expert_stage(run: Run, name: str, model: Model, preset: StagePreset) -> dict:
    optimizers = optimizers_for(model, preset)
    valid = chat_sets("sft", "valid")
    return run_stage(run, name, preset, model, optimizers, task_mix(run), equal_share, valid)


def routed(run: Run) -> None:
    """The token-router part."""
    if done(run, "adapter"):
        return
    model = run.load_model("dfpo")
    attach(model, run.preset.adapter)
    set_mode(model, "token")
    model.to(run.device)
    summary = expert_stage(run, "adapter", model, run.preset.expert)
    save_adapter(model, run.preset.adapter, run.folder("adapter") / "adapter", "routed")
    mark_done(run, "adapter", summary)


def with_router(run: Run) -> Model:
    model = run.load_model("dfpo")
    load_adapter(model, run.preset.adapter, run.folder("adapter") / "adapter")
    return model.to(run.device)


def finish_preset(run: Run) -> StagePreset:
    steps = max(1, round(summary_of(run, "adapter")["steps"] * run.preset.finish_share))
    return replace(run.preset.finish, steps=steps, seconds=None)


def measured_gates(run: Run, model: Model) -> dict[str, torch.Tensor]:
    def batches():
        for number, task in enumerate(TASKS):
            pool = Pool(run.packed, f"sft-{task}.train", run.preset.seed)
            rows = [(pool, pool.row(i)) for i in range(min(MEAN_ROWS, len(pool)))]
            for start in range(0, len(rows), 4):
                batch: Batch = to_batch(rows[start : start + 4], run.device)
                tasks = torch.full((len(batch.tokens),), number, device=run.device)
                yield batch.tokens, batch.segments, tasks, batch.answers

    with run.autocast():
        return mean_gates(model, batches(), len(TASKS))


def finish(run: Run) -> None:
    """Merge-aware finish: constant gates per task."""
    if done(run, "finish"):
        return
    model = with_router(run)
    means = measured_gates(run, model)
    start_finish(model, means, run.preset.gate_spread)
    folder = run.folder("finish")
    folder.mkdir(parents=True, exist_ok=True)
    named = {name: gates.tolist() for name, gates in means.items()}
    (folder / "mean_gates.json").write_text(json.dumps({"tasks": TASKS, "gates": named}) + "\n")
    summary = expert_stage(run, "finish", model, finish_preset(run))
    save_adapter(model, run.preset.adapter, folder / "adapter", "merged")
    mark_done(run, "finish", summary)


def twin(run: Run) -> None:
    """The routed twin: the same extra steps with the router."""
    if done(run, "twin"):
        return
    model = with_router(run)
    preset = replace(finish_preset(run), lr_other=run.preset.expert.lr_other * 0.5)
    summary = expert_stage(run, "twin", model, preset)
    save_adapter(model, run.preset.adapter, run.folder("twin") / "adapter", "routed")
    mark_done(run, "twin", summary)


def adapter(run: Run) -> None:
    routed(run)
    finish(run)
    twin(run)


if __name__ == "__main__":
    stage_main(adapter, __doc__)
