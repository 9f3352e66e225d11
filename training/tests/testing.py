"""A run that takes seconds: a corpus of a few invented dialogues and the smallest model."""

import json
import random
from dataclasses import replace
from pathlib import Path

from training.batches import TASKS, prepare
from training.experts import AdapterConfig
from training.loop import Deadline
from training.model import Config
from training.presets import CI, Preset, StagePreset
from training.stages.common import Run
from training.tokenizer import PedTokenizer, train

CONFIG = Config(vocab=400, width=32, layers=2, heads=2, mlp_width=64, capacity=128)
SIGNS = ("发热", "咳嗽", "腹泻", "皮疹", "呕吐", "鼻塞")
ADVICE = {
    "medkqa": "是儿童常见的表现，多由病毒感染引起，一般数天好转。",
    "evidiag": "请问孩子多大了？持续几天了？精神和食欲怎么样？",
    "trerecom": "注意休息，多喝温水，饮食清淡，必要时到医院就诊。",
    "general": "谢谢提问，祝您健康。",
}


def preset(**changes) -> Preset:
    quick = StagePreset(64, 4, 4e-3, 4e-3, steps=8, valid_times=2)
    base = replace(
        CI,
        config=CONFIG,
        adapter=AdapterConfig(rank=2, alpha=4.0),
        cpt=quick,
        sft=quick,
        dfpo=replace(quick, lr=1e-4, lr_other=1e-4, steps=4),
        expert=quick,
        finish=replace(CI.finish, context=64, rows=4),
        finish_share=0.5,
        test_rows=2,
        answers=2,
        answer_tokens=12,
        log_every=1,
    )
    return replace(base, **changes)


def write_corpus(folder: Path) -> None:
    """text.jsonl, chat.jsonl, pairs.jsonl and report.json in the agreed form."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    texts, chats, pairs = [], [], []
    for i in range(60):
        sign = rng.choice(SIGNS)
        text = f"小儿{sign}{ADVICE['medkqa']}若{sign}加重，应及时就医。"
        texts.append(
            {
                "id": f"t{i}",
                "source": "made",
                "licence": "MIT",
                "kind": "text",
                "pediatric": i % 2 == 0,
                "text": text,
            }
        )
        for task in (*TASKS, "general"):
            split = ("train", "train", "train", "valid", "test")[i % 5]
            turns = [
                {"role": "user", "text": f"宝宝{sign}{i}天怎么办？"},
                {"role": "assistant", "text": f"{sign}{ADVICE[task]}"},
            ]
            chats.append(
                {
                    "id": f"{task}{i}",
                    "source": "made",
                    "licence": "MIT",
                    "task": task,
                    "split": split,
                    "templated": True,
                    "turns": turns,
                }
            )
            if split == "train":
                pairs.append(
                    {
                        "id": f"p{task}{i}",
                        "source": "made",
                        "task": task,
                        "turns": turns[:1],
                        "chosen": turns[1]["text"],
                        "rejected": "不知道。",
                        "kind": "terse",
                    }
                )
    for name, rows in (("text", texts), ("chat", chats), ("pairs", pairs)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    counts = {
        task: {
            s: sum(c["task"] == task and c["split"] == s for c in chats)
            for s in ("train", "valid", "test")
        }
        for task in ADVICE
    }
    report = {
        "chat": counts,
        "absent": [],
        "licences": {"made": {"licence": "MIT", "tier": "A"}},
        "sources": {"made": {"read": 300, "kept": 300, "removed": {}}},
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def make_run(out: Path, chosen: Preset, seconds: float | None = None) -> Run:
    """A run whose corpus, tokenizer and packed rows are there."""
    if not (out / "packed").exists():
        write_corpus(out / "corpus")
        texts = []
        for name in ("text", "chat"):
            for line in (out / "corpus" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                texts += [row["text"]] if name == "text" else [t["text"] for t in row["turns"]]
        model = train(iter(texts), chosen.config.vocab, 100)
        (out / "tokenizer").mkdir()
        text = json.dumps(model, ensure_ascii=False)
        (out / "tokenizer" / "tokenizer.json").write_text(text, encoding="utf-8")
        prepare(out / "corpus", PedTokenizer.load(out / "tokenizer"), chosen, out / "packed")
    return Run(chosen, out, Deadline(seconds))


FIXTURES = Path(__file__).parents[2] / "e2e" / "fixtures"


def write_chats(folder: Path, per_kind: int = 4) -> None:
    """chat.jsonl and exam.jsonl with training and test dialogues of every task, of people and built."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    rows = []
    for task in TASKS:
        for split in ("train", "test"):
            for templated in (False, True):
                for i in range(per_kind):
                    sign, other = rng.sample(SIGNS, 2)
                    turns = [
                        {"role": "user", "text": f"宝宝{sign}{i}天了怎么办？"},
                        {"role": "assistant", "text": f"有没有{other}？"},
                        {"role": "user", "text": f"没有{other}，但是{'很' * i}担心。"},
                        {"role": "assistant", "text": f"{sign}{ADVICE[task]}"},
                    ]
                    rows.append(
                        {
                            "id": f"{task}-{split}-{templated}-{i}",
                            "source": "made",
                            "licence": "MIT",
                            "task": task,
                            "split": split,
                            "templated": templated,
                            "department": "儿科",
                            "age_group": "",
                            "turns": turns if i % 2 else turns[-2:],
                        }
                    )
    exam = [
        {
            "id": f"e{i}",
            "source": "made",
            "licence": "MIT",
            "department": ("儿科", "内科")[i % 2],
            "question": f"小儿{sign}最常见的原因是？",
            "options": ["病毒感染", "外伤", "烧伤", "中毒"][: 4 - i % 2],
            "answer": i % 3,
            "split": "test",
        }
        for i, sign in enumerate(SIGNS)
    ]
    for name, lines in (("chat", rows), ("exam", exam)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
