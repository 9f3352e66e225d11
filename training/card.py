"""MODEL_CARD.md from the files of a run: nothing in it is written by hand."""

from collections import Counter

from training.about import TITLES, USE, base_name, data_table, licence_of, limits_of, stage_table
from training.batches import TASKS, read_lines
from training.export import base_parameters
from training.journal import replace_text
from training.metrics.barlist import bars_of_run, bars_table, gates_sentence
from training.metrics.systems import KINDS, SHIPPED
from training.metrics.tables import VARIANTS, gate_matrix, interval, number, read_json, table
from training.stages.common import Run, stage_main

WRITTEN = {"human": "people", "templated": "templates"}
GATES = {
    "router": "`adapter` trains with the token router; `finish` replaces it by gates per task and is "
    "what ships; `twin` goes on with the router for the same steps on the same rows.",
    "task": "`adapter` trains gates per task from its first step and is what ships; `twin` trains "
    "the token router for the same steps on the same rows.",
}


def base_sizes(run: Run) -> list[list[str]]:
    """Rows of the card about the base, from the checkpoint that was exported."""
    checkpoint = run.out / "checkpoint"
    config = read_json(checkpoint / "config.json")
    count = base_parameters(checkpoint)
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    capacity = config.get("max_position_embeddings") or config.get("model_max_length")
    return [
        ["parameters of the base", f"{count:,}"],
        ["width, layers, heads, MLP", ", ".join(str(config.get(key, "-")) for key in keys)],
        ["vocabulary, capacity", f"{config['vocab_size']}, {capacity or '-'}"],
    ]


def about_section(run: Run) -> str:
    adapter = run.preset.adapter
    sizes = [
        *base_sizes(run),
        [
            "adapter",
            f"{adapter.experts} experts (one universal), rank {adapter.rank}, "
            f"alpha {adapter.alpha:g}, on {', '.join(adapter.targets)}",
        ],
    ]
    start = ", small enough for any browser."
    if run.preset.base is not None:
        base = base_name(run.base_folder())
        start = f". It started from {base}; licence of that: {licence_of(run)}."
    limits = limits_of(base_parameters(run.out / "checkpoint"))
    return (
        f"# PediatricsGPT {run.preset.name}: model card\n\n"
        "A Chinese pediatric language model after the four stages of PediatricsGPT (CPT with hybrid "
        f"instructions, SFT, DFPO, MoE-Adapter){start}\n\n"
        f"**Use.** {USE['en']}\n\n**Limits.** {limits['en']}\n\n" + table(["what", "size"], sizes)
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
        [
            s["name"],
            str(s["steps"]),
            f"{s['tokens']:,}",
            f"{s['seconds']:.0f}",
            number(s["loss"], 4),
        ]
        for s in stage_table(run)
    ]
    return (
        "\n## Stages\n\n"
        + table(["stage", "steps", "tokens", "seconds", "training loss at the end"], rows)
        + f"\n{GATES[run.preset.gate_start]} The DFPO number holds the preference term and the "
        "likelihood term.\n"
    )


def bars_section(run: Run) -> str:
    bars = bars_of_run(run.out)
    if bars is None:
        return ""
    said = "\n## Bars\n\nMeasured on the package itself by `training.bars`.\n\n"
    return said + bars_table(bars) + "\n"


def adapter_section(run: Run, evaluation: dict) -> str:
    tasks = evaluation["tasks"]
    losses = [
        [title, *(number(tasks[t]["loss"][name], 4) for t in TASKS)]
        for name, title in VARIANTS.items()
    ]
    problems = evaluation["against_the_adapter"]
    said = (
        "**The training of the adapter is wrong or too short here:**\n\n"
        + "".join(f"- {line}\n" for line in problems)
        if problems
        else f"The adapter helps every task; {gates_sentence(bars_of_run(run.out))}\n"
    )
    tokens = ", ".join(f"{t} {tasks[t]['answer_tokens']:,}" for t in TASKS)
    against = ", ".join(
        f"{t} {tasks[t]['against']['device_kl']:.4f} / "
        f"{100 * tasks[t]['against']['device_top1']:.1f} %"
        for t in TASKS
    )
    return (
        f"\n## The MoE-Adapter, merged per task\n\n{said}\n"
        f"Held-out loss, nats per answer token ({tokens} tokens of the test split):\n\n"
        + table(["variant", *TASKS], losses)
        + f"\nWhat ships against the f32 model, KL in nats per token / same first token: {against}.\n"
        + "\nEach task's text under the gates of the tasks (a row's smallest should be its own), "
        "test:\n\n"
        + gate_matrix(tasks, "gates")
        + "\nvalidation:\n\n"
        + gate_matrix(tasks, "gates_valid")
    )


def answer_rows(evaluation: dict, columns: list[tuple[str, str]]) -> list[list[str]]:
    """Measures of what ships, and ROUGE-L of the baselines, one cell per (task, kind)."""
    systems = evaluation["systems"]

    def cells(of, name: str = SHIPPED) -> list[str]:
        return [of(systems[name]["tasks"][task][kind]) for task, kind in columns]

    def bits(found: dict) -> str:
        return interval(found["bits_per_character"], 2) if found["items"] else "-"

    return [
        ["bits per character of all answers", *cells(bits)],
        ["greedy answers", *cells(lambda f: str(f["text"]["answers"]))],
        ["ROUGE-L (characters, F1)", *cells(lambda f: interval(f["text"]["rouge_l"], 1))],
        [
            "... nearest training answer",
            *cells(lambda f: interval(f["text"]["rouge_l"], 1), "bm25"),
        ],
        [
            "... random training answer",
            *cells(lambda f: interval(f["text"]["rouge_l"], 1), "random"),
        ],
        [
            "distinct-2 (characters)",
            *cells(lambda f: number(f["text"]["corrected"]["distinct_2"], 1)),
        ],
        ["loop rate (an 8-gram three times)", *cells(lambda f: number(f["text"]["loop_rate"]))],
        ["end rate (stops by itself)", *cells(lambda f: number(f["text"]["end_rate"]))],
        ["length / reference's", *cells(lambda f: number(f["text"]["length_ratio"]))],
        ["free doses in all answers", *cells(lambda f: str(f["text"]["doses"]))],
    ]


def text_section(run: Run, evaluation: dict) -> str:
    shipped = evaluation["systems"][SHIPPED]["tasks"]
    columns = [(t, k) for t in TASKS for k in KINDS if shipped[t][k]["text"]["answers"]]
    failed = "".join(f"- **{line}**\n" for line in evaluation["failed"])
    return (
        "\n## Answers\n\n"
        + (f"This run failed:\n\n{failed}\n" if failed else "")
        + f"Greedy, repetition penalty {run.preset.penalty:g}, at most {run.preset.answer_tokens} "
        "tokens, 4-bit base and f16 adapter, on held-out questions; dialogues written by people and "
        "dialogues put together from templates apart. Everything else is in the run's report.\n\n"
        + table(
            ["measure", *(f"{task}, {WRITTEN[kind]}" for task, kind in columns)],
            answer_rows(evaluation, columns),
        )
    )


def failures_section(evaluation: dict) -> str:
    texts = {t: evaluation["tasks"][t]["text"] for t in TASKS}
    looping = ", ".join(f"{t} {100 * x['loop_rate']:.0f} %" for t, x in texts.items())
    endless = ", ".join(f"{t} {100 * (1 - x['end_rate']):.0f} %" for t, x in texts.items())
    shipped = evaluation["systems"][SHIPPED]["tasks"].values()
    given = [found["text"] for kinds in shipped for found in kinds.values()]
    doses = sum(text.get("doses", 0) for text in given)
    count = sum(text["answers"] for text in given)
    return (
        "\n## Known failures\n\n"
        "- Facts are not reliable: names, causes and advice are often invented or belong to another "
        "disease. A model of this size has the tone of a doctor and not the knowledge.\n"
        f"- Greedy answers that loop: {looping}. Answers without an end within the limit: "
        f"{endless}.\n"
        f"- Free doses in {count} evaluated answers: {doses}. The count is by pattern and is no "
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
    """Writes MODEL_CARD.md from the files of an evaluated run."""
    evaluation = read_json(run.out / "evaluation.json")
    text = (
        about_section(run)
        + data_section(run)
        + stages_section(run)
        + bars_section(run)
        + adapter_section(run, evaluation)
        + text_section(run, evaluation)
        + failures_section(evaluation)
        + samples_section(evaluation)
    )
    replace_text(run.out / "MODEL_CARD.md", text)


if __name__ == "__main__":
    stage_main(card, __doc__)
