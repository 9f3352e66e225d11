"""What a small model of an ablation is measured by: held-out answers that people wrote."""

from pathlib import Path

import torch

from training.batches import TASKS
from training.experts import adapted, load_adapter
from training.metrics.answers import answer_items, text_counts
from training.metrics.items import Item, choose, read_items
from training.metrics.likelihood import score_items
from training.stages.common import Run

LOSS_ITEMS = 240  # per task
ANSWERS = 40  # per task


def held_out(corpus: Path) -> dict[str, list[Item]]:
    """Human-written items of the valid split per task, and the general ones. Never the test split:
    what is compared here decides recipes."""
    kinds = (*TASKS, "general")
    items = read_items(corpus, kinds, "valid")
    return {task: choose(items, task, False, LOSS_ITEMS) for task in kinds}


def model_of(run: Run, stage: str) -> tuple[torch.nn.Module, bool]:
    """The model as a stage left it, and whether it has gates per task or a router."""
    folder = run.folder(stage)
    if (folder / "adapter").is_dir():
        model = run.load_model("dfpo")
        load_adapter(model, run.preset.adapter, folder / "adapter")
        return model.eval(), True
    return run.load_model(stage).eval(), False


def measure(run: Run, stage: str) -> dict[str, float]:
    """Nats per answer token by task (`human` is their mean), what the wrong gates cost, and how
    greedy answers end. Held-out items are the same for all models of a corpus."""
    model, adapter = model_of(run, stage)
    words = run.tokenizer()
    items = held_out(run.out / "corpus")
    torch.manual_seed(run.preset.seed)  # noise as released is drawn in evaluation too
    numbers: dict[str, float] = {}
    wrong: list[float] = []
    for number, task in enumerate(TASKS):
        own = score_items(model, words, items[task], number if adapter else None).loss
        numbers[task] = own
        if adapter and next(adapted(model))[1].mode == "task":
            others = [i for i in range(len(TASKS)) if i != number]
            wrong += [score_items(model, words, items[task], i).loss - own for i in others]
    numbers["human"] = sum(numbers[task] for task in TASKS) / len(TASKS)
    # without a task of their own, general dialogues are read under the gates of the first
    numbers["general"] = score_items(model, words, items["general"], 0 if adapter else None).loss
    if wrong:
        numbers["wrong_gates"] = sum(wrong) / len(wrong)
    answers = [
        answer
        for number, task in enumerate(TASKS)
        for answer in answer_items(
            model,
            words,
            items[task][:ANSWERS],
            number if adapter else None,
            run.preset.answer_tokens,
            penalty=1.0,
        )
    ]
    counts = text_counts(answers)
    numbers["loops"] = 100 * counts["loop_rate"]
    numbers["ends"] = 100 * counts["end_rate"]
    if adapter:
        numbers["parameters"] = sum(
            m.lora_moe_A.numel() + m.lora_moe_B.numel() for _, m in adapted(model)
        )
    return numbers
