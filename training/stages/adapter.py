"""Stage 4, the MoE-Adapter on the frozen base, in one of two ways (`gate_start` of the preset).

    router   `adapter` trains the token router of the paper; the merge-aware `finish` replaces it by
             its mean gates per (task, linear), measured on training data, and trains experts and gate
             logits on; the routed `twin` goes on with the router for the same steps on the same rows
    task     `adapter` trains gates per task from the first step, each task leaning to an expert of
             its own by `gate_spread`; the routed `twin` is trained from scratch with the token
             router for the same steps on the same rows

So there is always an adapter with gates per task, which ships, and a routed one to compare it with.
All of it trains on dialogues that no earlier stage has seen (`reserve` of the preset): on what the
base has read already, the experts only learn it by heart. With `adapter_base = "sft"` they are trained
beside the SFT model and used beside that of DFPO: what DFPO changed, mostly how answers end, they
then cannot learn to undo.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from training.base import Base
from training.batches import TASKS, Batch, Mix, Pool, to_batch
from training.distributed import is_main
from training.experts import (
    AdapterConfig,
    adapted,
    attach,
    load_adapter,
    mean_gates,
    save_adapter,
    set_mode,
    spread_gates,
    start_finish,
)
from training.loop import make_optimizers
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
from training.stages.preference import PreferenceTerm

MEAN_ROWS = 16  # per task, to measure the router's mean gates on


def optimizers_for(model: nn.Module, preset: StagePreset) -> list[torch.optim.Optimizer]:
    """AdamW: experts at `lr`; the router, or the gate logits, at `lr_other`."""
    experts: list[nn.Parameter] = []
    gates: list[nn.Parameter] = []
    for _, module in adapted(model):
        experts += [module.lora_moe_A, module.lora_moe_B]
        gates += [module.lora_route.weight, module.w_noise, module.gate_logits]
    experts = [p for p in experts if p.requires_grad]
    gates = [p for p in gates if p.requires_grad and p.numel()]
    return make_optimizers(experts, gates, preset, muon=False)


def train_sets(run: Run) -> dict[str, str]:
    """{task: packed set}: reserved dialogues, or those of SFT where no such sets were packed."""
    reserve = chat_sets("moe", "train")
    packed = [(run.packed / f"{name}.tokens.npy").exists() for name in reserve.values()]
    return reserve if any(packed) else chat_sets("sft", "train")


@dataclass
class TaskMix(Mix):
    """Draws the pools of a kind by priority times a power of their sizes: 0 takes tasks alike, 1 rows alike.

    Between the two a small pool is read more often than a large one, and still not so often that its
    expert learns it by heart long before the others are trained; multilingual models draw their languages so.
    The ordinary mix draws by priority times rows, as a power of 1 does here.
    """

    power: float = 0.0

    def weights(self, share: dict[str, float]) -> np.ndarray:
        """Chance of every pool: the share of its kind, divided over the pools of that kind."""
        kinds = [pool.kind for pool in self.pools]
        sizes = np.array([len(pool) for pool in self.pools], float) ** self.power
        sizes *= [self.priority.get(pool.name.split(".")[0], 1.0) for pool in self.pools]
        totals = {kind: sizes[[k == kind for k in kinds]].sum() for kind in set(kinds)}
        weights = np.array(
            [
                share.get(kind, 0.0) * size / totals[kind]
                for kind, size in zip(kinds, sizes, strict=True)
            ]
        )
        return weights / weights.sum()


def task_mix(run: Run) -> TaskMix:
    """Rows of the three tasks by the preset's `pool_power` of the sizes of their pools.

    A part of them (`human_share` of the preset) is drawn from human-written dialogues alone: where
    most rows are templated, the experts of a task would else be experts of its templates.
    """
    names = list(train_sets(run).values())
    if run.preset.human_share > 0:
        names += chat_sets("people", "train").values()
    pools = [Pool(run.packed, name, run.preset.seed) for name in names]
    mix = TaskMix(pools, run.preset.priority, run.preset.seed, run.preset.pool_power)
    for kind in shares(run, mix):
        tasks = {pool.task for pool in mix.pools if pool.kind == kind}
        missing = [task for i, task in enumerate(TASKS) if i not in tasks]
        if missing:
            raise ValueError(
                f"no training rows for {missing} in {kind}-TASK.train: a larger `reserve` of the "
                "preset, or reserve = 0, gives the adapter stage some; human_share = 0 does without "
                "human-written ones"
            )
    return mix


def shares(run: Run, mix: Mix) -> dict[str, float]:
    """The share of each kind of rows: `people`, and `moe` or, without it, `sft`."""
    human = run.preset.human_share
    kind = next((pool.kind for pool in mix.pools if pool.kind != "people"), "moe")
    return {name: share for name, share in ((kind, 1 - human), ("people", human)) if share > 0}


def expert_stage(run: Run, name: str, model: Base, preset: StagePreset) -> dict:
    """Trains the parameters of the model's mode, on the same rows for every stage of a seed."""
    run.shard(model)
    optimizers = optimizers_for(model, preset)
    valid = chat_sets("sft", "valid")
    mix = task_mix(run)
    share = shares(run, mix)
    further = None
    if run.preset.preference > 0:
        further = PreferenceTerm(run, model, preset.steps)
    return run_stage(
        run, name, preset, model, optimizers, mix, lambda progress: share, valid, further=further
    )


def fresh(run: Run, start: Callable[[Base], None]) -> Base:
    """The model that the adapter is trained beside, with a new one; `start` sets its gates. The same
    draw for every caller."""
    model = run.load_model(run.preset.adapter_base)
    torch.manual_seed(run.preset.seed)
    attach(model, run.preset.adapter)
    start(model)
    return model.to(run.device)


def start_gates(run: Run, model: Base) -> None:
    spread_gates(model, run.preset.gate_spread)


def start_router(model: Base) -> None:
    set_mode(model, "token")


def from_start(run: Run) -> bool:
    """Whether gates per task are trained from the first step."""
    return run.preset.gate_start == "task"


def first(run: Run) -> None:
    """The `adapter` stage: with the token router, or with gates per task from the start."""
    if done(run, "adapter"):
        return
    preset = run.preset.expert
    if from_start(run):
        model = fresh(run, lambda model: start_gates(run, model))
        # the rate of gate logits is that of the finish: one for a router would not move them
        preset = replace(preset, lr_other=run.preset.finish.lr_other)
    else:
        model = fresh(run, start_router)
    summary = expert_stage(run, "adapter", model, preset)
    form = "merged" if from_start(run) else "routed"
    save_adapter(model, adapter_config(run), run.folder("adapter") / "adapter", form)
    mark_done(run, "adapter", summary)


def adapter_config(run: Run) -> AdapterConfig:
    """The preset's adapter; its file says what its gates were trained as first."""
    return replace(run.preset.adapter, gate="task" if from_start(run) else "token")


def with_router(run: Run) -> Base:
    """What `finish` and `twin` go on with."""
    model = run.load_model(run.preset.adapter_base)
    load_adapter(model, run.preset.adapter, run.folder("adapter") / "adapter")
    return model.to(run.device)


def finish_preset(run: Run) -> StagePreset:
    steps = max(1, round(summary_of(run, "adapter")["steps"] * run.preset.finish_share))
    return replace(run.preset.finish, steps=steps, seconds=None)


def measured_gates(run: Run, model: Base) -> dict[str, torch.Tensor]:
    def batches():
        for number, name in enumerate(train_sets(run).values()):
            pool = Pool(run.packed, name, run.preset.seed)
            rows = [(pool, pool.row(i)) for i in range(min(MEAN_ROWS, len(pool)))]
            for start in range(0, len(rows), 4):
                batch: Batch = to_batch(rows[start : start + 4], run.device)
                tasks = torch.full((len(batch.tokens),), number, device=run.device)
                yield batch.tokens, batch.segments, tasks, batch.answers

    with run.autocast():
        return mean_gates(model, batches(), len(TASKS))


def finish(run: Run) -> None:
    """Merge-aware finish: constant gates per task. Nothing to do where they were there all along."""
    if from_start(run) or done(run, "finish"):
        return
    model = with_router(run)
    means = measured_gates(run, model)
    start_finish(model, means, run.preset.gate_spread)
    folder = run.folder("finish")
    folder.mkdir(parents=True, exist_ok=True)
    if is_main():
        named = {name: gates.tolist() for name, gates in means.items()}
        (folder / "mean_gates.json").write_text(json.dumps({"tasks": TASKS, "gates": named}) + "\n")
    summary = expert_stage(run, "finish", model, finish_preset(run))
    save_adapter(model, adapter_config(run), folder / "adapter", "merged")
    mark_done(run, "finish", summary)


def twin(run: Run) -> None:
    """The routed twin: as many steps with the router as the shipped adapter had, on the same rows."""
    if done(run, "twin"):
        return
    if from_start(run):
        model = fresh(run, start_router)
        steps = summary_of(run, "adapter")["steps"]
        preset = replace(run.preset.expert, steps=steps, seconds=None)
    else:
        model = with_router(run)
        preset = replace(finish_preset(run), lr_other=run.preset.expert.lr_other * 0.5)
    summary = expert_stage(run, "twin", model, preset)
    save_adapter(
        model, replace(run.preset.adapter, gate="token"), run.folder("twin") / "adapter", "routed"
    )
    mark_done(run, "twin", summary)


def shipped(run: Run) -> str:
    """The stage whose adapter has gates per task and is exported."""
    return "adapter" if from_start(run) else "finish"


def adapter(run: Run) -> None:
    first(run)
    finish(run)
    twin(run)


if __name__ == "__main__":
    stage_main(adapter, __doc__)
