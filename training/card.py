"""MODEL_CARD.md from the files of a run: nothing in it is written by hand."""

import json
from collections import Counter
from pathlib import Path

from training.batches import TASKS, read_lines
from training.export import LIMITS, TITLES, USE, data_table, stage_table
from training.model import Model, parameters
from training.plots import plot_losses
from training.stages.common import Run

VARIANTS = {
    "merged": "merged (shipped)",
    "routed": "token router, same extra steps",
    "universal": "universal expert alone",
    "none": "no adapter",
    "device": "merged, 4-bit base, f16 adapter",
}


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}"


def about_section(run: Run) -> str:
    config, adapter = run.preset.config, run.preset.adapter
    sizes = [
        ["parameters of the base", f"{parameters(Model(config)):,}"],
        [
            "width, layers, heads, MLP",
            f"{config.width}, {config.layers}, {config.heads}, {config.mlp_width}",
        ],
        ["vocabulary, capacity", f"{config.vocab}, {config.capacity}"],
        [
            "adapter",
            f"{adapter.experts} experts (one universal), rank {adapter.rank}, "
            f"alpha {adapter.alpha:g}, on {', '.join(adapter.targets)}",
        ],
    ]
    return (
        f"# PediatricsGPT {run.preset.name}: model card\n\n"
        "A Chinese pediatric language model after the four stages of PediatricsGPT (CPT with hybrid "
        "instructions, SFT, DFPO, MoE-Adapter), small enough for any browser.\n\n"
        f"**Use.** {USE['en']}\n\n**Limits.** {LIMITS['en']}\n\n" + table(["what", "size"], sizes)
    )


def data_section(run: Run) -> str:
    report = read_json(run.out / "corpus" / "report.json")
    rows = [[d["source"], d["licence"], f"{d['records']:,}"] for d in data_table(run)]
    chats = report.get("chat", {})
    made: Counter[str] = Counter()
    for chat in read_lines(run.out / "corpus" / "chat.jsonl"):
        made[chat["task"]] += chat["split"] == "train" and chat["templated"]
    counts = [
        [task, *(str(chats[task].get(s, 0)) for s in ("train", "valid", "test")), str(made[task])]
        for task in chats
    ]
    absent = report.get("absent", [])
    note = f"\nNot at hand in this run: {', '.join(absent)}.\n" if absent else ""
    sizes = read_json(run.packed / "sizes.json")
    tokens = sum(s["tokens"] for n, s in sizes.items() if n.startswith(("text-", "chat-")))
    return (
        "\n## Data\n\n"
        + table(["source", "licence", "records kept"], rows)
        + note
        + f"\nDialogues per task and split; {tokens:,} tokens are packed for CPT:\n\n"
        + table(["task", "train", "valid", "test", "of train: built from templates"], counts)
        + "\nEvery answer is free of doses: a sentence with an amount of a medicine became "
        "`剂量请遵医嘱或说明书。` What each cleaning step removed is in corpus/report.json.\n"
    )


def stages_section(run: Run) -> str:
    rows = [
        [s["name"], str(s["steps"]), f"{s['tokens']:,}", f"{s['seconds']:.0f}", number(s["loss"])]
        for s in stage_table(run)
    ]
    return (
        "\n## Stages\n\n"
        + table(["stage", "steps", "tokens", "seconds", "training loss at the end"], rows)
        + "\n`adapter` trains with the token router; `finish` replaces it by gates per task and is "
        "what ships; `twin` goes on with the router for the same steps on the same rows. The DFPO "
        "number holds the preference term and the likelihood term. Curves: metrics/*.jsonl.\n"
    )


def adapter_section(evaluation: dict) -> str:
    tasks = evaluation["tasks"]
    losses = [
        [title, *(number(tasks[t]["loss"][name]) for t in TASKS)]
        for name, title in VARIANTS.items()
    ]
    against = [
        [
            VARIANTS[name],
            *(
                f"{number(tasks[t]['against'][f'{name}_kl'])} / "
                f"{100 * tasks[t]['against'][f'{name}_top1']:.1f} %"
                for t in TASKS
            ),
        ]
        for name in VARIANTS
        if name != "merged"
    ]
    gates = [
        [f"text of {t}", *(number(tasks[t]["gates"][other]) for other in TASKS)] for t in TASKS
    ]
    problems = evaluation["against_the_adapter"]
    said = (
        "**The training of the adapter is wrong or too short here:**\n\n"
        + "".join(f"- {line}\n" for line in problems)
        if problems
        else "The adapter helps every task, and no other task's gates do as well as its own.\n"
    )
    tokens = ", ".join(f"{t} {tasks[t]['answer_tokens']:,}" for t in TASKS)
    return (
        f"\n## The MoE-Adapter, merged per task\n\n{said}\n"
        f"Held-out loss, nats per answer token ({tokens} tokens):\n\n"
        + table(["variant", *TASKS], losses)
        + "\nKL in nats per token and agreement of the first token, each against the merged model "
        "(KL(router ‖ merged) for the router, KL(merged ‖ other) for the rest):\n\n"
        + table(["variant", *TASKS], against)
        + "\nEach task's text under the gates of the tasks (a row's smallest should be its own):\n\n"
        + table(["", *(f"gates of {t}" for t in TASKS)], gates)
    )


def text_section(evaluation: dict) -> str:
    fields = {
        "answers": ("answers", 0),
        "rouge_l": ("ROUGE-L (characters, F1)", 3),
        "distinct_2": ("distinct-2 (characters)", 3),
        "loop_rate": ("loop rate (a 6-gram three times)", 2),
        "end_rate": ("end rate (stops by itself)", 2),
        "doses": ("free doses in all answers", 0),
    }
    rows = [
        [title, *(number(evaluation["tasks"][t]["text"][name], digits) for t in TASKS)]
        for name, (title, digits) in fields.items()
    ]
    return (
        "\n## Greedy answers to held-out questions\n\nBy the 4-bit model with the merged adapter, "
        "plain argmax without a repetition penalty.\n\n" + table(["measure", *TASKS], rows)
    )


def failures_section(evaluation: dict) -> str:
    texts = {t: evaluation["tasks"][t]["text"] for t in TASKS}
    looping = ", ".join(f"{t} {100 * x['loop_rate']:.0f} %" for t, x in texts.items())
    endless = ", ".join(f"{t} {100 * (1 - x['end_rate']):.0f} %" for t, x in texts.items())
    doses = sum(x["doses"] for x in texts.values())
    return (
        "\n## Known failures\n\n"
        "- Facts are not reliable: names, causes and advice are often invented or belong to another "
        "disease. A model of this size has the tone of a doctor and not the knowledge.\n"
        f"- Greedy answers that loop: {looping}. Answers without an end within the limit: "
        f"{endless}.\n"
        f"- Free doses counted in the evaluated answers: {doses}. The count is by pattern and is no "
        "proof of absence.\n"
        "- Later turns of a dialogue are weakly tied to earlier ones.\n"
        "- Many training dialogues are built from templates or tables (see Data): their fixed "
        "phrases come back in answers to questions that they do not fit.\n"
        "- No clinician has judged any answer.\n"
    )


def samples_section(evaluation: dict) -> str:
    parts = ["\n## Unedited samples\n\nThe first held-out questions of every task, good or bad.\n"]
    for task in TASKS:
        parts.append(f"\n### {task} {TITLES[task]['zh']}\n")
        for i, row in enumerate(evaluation["tasks"][task]["text"]["samples"], 1):
            asked = " ⏎ ".join(" ".join(turn.split()) for turn in row["question"])
            said = " ".join(row["answer"].split()) or "(empty)"
            end = "" if row["ended"] else " …(cut)"
            parts.append(f"\n{i}. **问** {asked}\n   **答** {said}{end}\n")
    return "".join(parts)


def card(run: Run) -> None:
    """Writes MODEL_CARD.md, and the loss curves where they can be drawn."""
    evaluation = read_json(run.out / "evaluation.json")
    plot_losses(run.out / "metrics", run.out / "plots")
    text = (
        about_section(run)
        + data_section(run)
        + stages_section(run)
        + adapter_section(evaluation)
        + text_section(evaluation)
        + failures_section(evaluation)
        + samples_section(evaluation)
    )
    (run.out / "MODEL_CARD.md").write_text(text, encoding="utf-8")
