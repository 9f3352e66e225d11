"""Made-up packed rows of a preset's shapes, so that a stage can run without a corpus."""

from pathlib import Path

import numpy as np

from training.batches import CHAT_KINDS, TASKS
from training.bench.flops import Rows
from training.presets import Preset

DOCUMENTS = 3  # dialogues in a row of SFT
ANSWER = 0.5  # share of a document that is answer
PAIR_LENGTH = 0.75  # share of the context that a pair fills


def row_count(preset: Preset) -> int:
    return max(32, *(s.rows for s in (preset.cpt, preset.sft, preset.dfpo, preset.expert)))


def write_rows(preset: Preset, folder: Path) -> None:
    """All packed sets that the stages read. Tokens are random; every row has the same geometry."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(preset.seed)
    count = row_count(preset)

    def tokens(rows: int, length: int) -> np.ndarray:
        return random.integers(3, preset.config.vocab, (rows, length), dtype=np.uint16)

    def put(name: str, length: int, segments: np.ndarray | None, counted: np.ndarray | None):
        rows = count if name.endswith("train") else 1
        made = tokens(rows, length)
        if segments is not None and counted is not None:
            made[:, segments == 0] = 0
            np.save(folder / f"{name}.segments.npy", np.tile(segments, (rows, 1)))
            np.save(folder / f"{name}.counted.npy", np.tile(counted, (rows, 1)))
        np.save(folder / f"{name}.tokens.npy", made)

    for name in ("text-pediatric.train", "text-general.train", "text.valid"):
        put(name, preset.cpt.context + 1, None, None)
    for split in ("train", "valid"):
        for kind in CHAT_KINDS:
            put(f"chat-{kind}.{split}", preset.cpt.context + 1, None, None)
            put(f"sft-{kind}.{split}", preset.sft.context + 1, *documents(preset.sft.context))
        for task in TASKS:
            put(f"human-{task}.{split}", preset.sft.context + 1, *documents(preset.sft.context))
            for kind in ("moe", "people"):
                packed = documents(preset.expert.context)
                put(f"{kind}-{task}.{split}", preset.expert.context + 1, *packed)
    length = preset.dfpo.context + 1
    made = tokens(2 * count, length)
    filled = int(length * PAIR_LENGTH)
    made[:, filled:] = 0
    counted = np.zeros((2 * count, length), np.bool_)
    counted[:, int(filled * (1 - ANSWER)) : filled] = True
    np.save(folder / "pairs.train.tokens.npy", made)
    np.save(folder / "pairs.train.counted.npy", counted)


def documents(context: int) -> tuple[np.ndarray, np.ndarray]:
    """(segments, counted) of a row of context + 1 tokens: equal documents, each half an answer."""
    segments = np.zeros(context + 1, np.uint16)
    counted = np.zeros(context + 1, np.bool_)
    each = context // DOCUMENTS
    for number in range(DOCUMENTS):
        start, end = number * each, (number + 1) * each
        segments[start:end] = number + 1
        counted[start + int(each * (1 - ANSWER)) : end] = True
    return segments, counted


def rows_of(preset: Preset, stage: str) -> Rows:
    """The work in a batch of such rows. A stage is cpt, sft, dfpo or adapter."""
    if stage == "cpt":
        return Rows.of(preset.cpt.rows, preset.cpt.context, 1, preset.cpt.context)
    if stage == "dfpo":
        filled = int((preset.dfpo.context + 1) * PAIR_LENGTH)
        return Rows.of(preset.dfpo.rows, filled - 1, 1, filled - int(filled * (1 - ANSWER)))
    part = preset.sft if stage == "sft" else preset.expert
    segments, counted = documents(part.context)
    # position t predicts token t + 1, and counts where that one belongs to an answer
    made = Rows.of(part.rows, part.context, DOCUMENTS, int(counted[1:].sum()))
    return made
