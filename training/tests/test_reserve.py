"""Which sets a dialogue or a pair joins: the reserve, what people wrote, running text, own pairs."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from training.prepare import TASKS, prepare, prepare_pairs, reserved
from training.tests.letters import Letters, set_of, talk
from training.tests.testing import preset, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


def first_tokens(folder, name: str) -> set[str]:
    """The dialogues of a set, each as its text."""
    tokens, segments = set_of(folder, name), set_of(folder, name, "segments")
    return {
        "".join(map(chr, row[numbers == n]))
        for row, numbers in zip(tokens, segments, strict=True)
        for n in range(1, numbers.max() + 1)
    }


def test_the_reserve_is_seen_by_the_adapter_stage_alone(corpus, tmp_path):
    small = preset(reserve=0.4)
    sizes = prepare(corpus, Letters(), small, tmp_path)
    whole = prepare(corpus, Letters(), preset(), tmp_path / "whole")
    for task in TASKS:
        sft, moe = (
            first_tokens(tmp_path, f"sft-{task}.train"),
            first_tokens(tmp_path, f"moe-{task}.train"),
        )
        every = first_tokens(tmp_path / "whole", f"sft-{task}.train")
        assert sft and moe and not sft & moe and sft | moe == every
        assert first_tokens(tmp_path / "whole", f"moe-{task}.train") == every
        stream = "".join(map(chr, set_of(tmp_path, f"chat-{task}.train")[:, :-1].ravel()))
        assert not any(dialogue in stream for dialogue in moe)
        for split in ("valid", "test"):
            same = f"sft-{task}.{split}"
            assert np.array_equal(set_of(tmp_path, same), set_of(tmp_path / "whole", same))
    assert sizes["sft-general.train"] == whole["sft-general.train"]
    assert 0 < sizes["pairs.train"]["rows"] < whole["pairs.train"]["rows"]
    record = {"id": "x", "task": "medkqa", "split": "train"}
    chosen = [reserved(small, record | {"id": str(i)}) for i in range(2000)]
    assert 0.36 < sum(chosen) / 2000 < 0.44
    assert not any(reserved(small, {"id": str(i), "task": "general", "split": "train"}) for i in range(50))  # fmt: skip


def test_general_consultations_kept_for_the_experts_join_the_task_that_asks_so(tmp_path):
    def chat(i: int, task="general", split="train", templated=False, more=()) -> dict:
        asked = f"头疼{i}" + ("怎么办" if i % 3 == 0 else "是什么病")
        turns = talk(asked, f"{task}{i}没事", *more)
        return {
            "id": f"{task}{i}",
            "task": task,
            "split": split,
            "templated": templated,
            "turns": turns,
        }

    chats = [chat(i) for i in range(300)]
    stay = [chat(i, templated=True) for i in range(300, 360)]
    stay += [chat(i, more=("还疼", "去医院")) for i in range(360, 420)]
    stay += [chat(i, split="valid") for i in range(420, 480)]
    tasks = [chat(i, task=TASKS[i % 3]) for i in range(480, 540)]
    rows = [*chats, *stay, *tasks]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "chat.jsonl").write_text(text, encoding="utf-8")
    completions = [{"id": row["id"], "task": row["task"], "text": row["id"] * 9} for row in rows]
    lines = "".join(json.dumps(row) + "\n" for row in completions)
    (tmp_path / "completions.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "text.jsonl").write_text("", encoding="utf-8")
    pairs = [
        {
            "id": str(i),
            "task": "general",
            "turns": row["turns"][:1],
            "chosen": f"好{i}",
            "rejected": "坏",
        }
        for i, row in enumerate(chats)
    ]
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8"
    )
    kept = preset(reserve=0.3, reserve_general=0.4)
    assert not any(reserved(kept, row) for row in stay)
    apart = [row for row in chats if reserved(kept, row)]
    assert 0.3 < len(apart) / len(chats) < 0.5
    assert not any(reserved(preset(reserve=0.3), row) for row in chats)
    out = tmp_path / "out"
    sizes = prepare(tmp_path, Letters(), kept, out)

    def texts(name: str) -> str:
        return "".join(map(chr, set_of(out, name).ravel()))

    for task, wanted in (("trerecom", 0), ("medkqa", 1)):
        theirs = {row["id"] for row in apart if (int(row["id"][7:]) % 3 > 0) == wanted}
        for kind in ("moe", "people"):
            found = set(re.findall(r"(general\d+)没事", texts(f"{kind}-{task}.train")))
            assert found == theirs != set()
        assert "general" not in texts(f"sft-{task}.train") + texts(f"chat-{task}.train")
    assert "general" not in texts("moe-evidiag.train")
    seen = set(re.findall(r"(general\d+)没事", texts("sft-general.train")))
    gone = {row["id"] for row in apart}
    assert (
        seen
        == {row["id"] for row in rows if row["id"][:7] == "general" and row["split"] == "train"}
        - gone
    )
    assert not gone & set(re.findall(r"(general\d+)没事", texts("chat-general.train")))
    assert sizes["pairs.train"]["rows"] == 2 * (len(chats) - len(apart))
    prepare(tmp_path, Letters(), replace(kept, instructions="text"), out)
    running = texts("chat-general.train")
    assert not any(f"{name}{name}" in running for name in gone) and "general1" in running


def test_human_sets_hold_what_people_wrote(corpus, tmp_path):
    lines = [json.loads(x) for x in (corpus / "chat.jsonl").read_text("utf-8").splitlines()]
    for i, row in enumerate(lines):
        row["templated"] = i % 3 > 0
    for name in ("text", "pairs"):
        (tmp_path / f"{name}.jsonl").write_bytes((corpus / f"{name}.jsonl").read_bytes())
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
    (tmp_path / "chat.jsonl").write_text(text, encoding="utf-8")
    prepare(tmp_path, Letters(), preset(), tmp_path / "out")
    for task in TASKS:
        for split in ("valid", "test"):
            people = {
                "".join(map(chr, Letters().encode_turns(row["turns"])[0]))
                for row in lines
                if (row["task"], row["split"], row["templated"]) == (task, split, False)
            }
            assert first_tokens(tmp_path / "out", f"human-{task}.{split}") == people != set()


def test_instructions_may_be_running_text_instead_of_dialogues(corpus, tmp_path):
    for name in ("text", "chat", "pairs"):
        (tmp_path / f"{name}.jsonl").write_bytes((corpus / f"{name}.jsonl").read_bytes())
    changed = preset(instructions="text", reserve=0.4)
    with pytest.raises(FileNotFoundError, match="completions.jsonl"):
        prepare(tmp_path, Letters(), changed, tmp_path / "out")
    rows = [{"id": f"medkqa{i}", "task": "medkqa", "text": f"<{i}>" * 9} for i in range(60)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "completions.jsonl").write_text(text, encoding="utf-8")
    prepare(tmp_path, Letters(), changed, tmp_path / "out")
    stream = set_of(tmp_path / "out", "chat-medkqa.train")[:, :-1].ravel()
    found = {int(part) for part in re.findall(r"<(\d+)>", "".join(map(chr, stream)))}
    apart = {i for i in range(60) if reserved(changed, rows[i] | {"split": "train"})}
    assert apart and found and not found & apart and len(found | apart) >= 59


def test_own_pairs_are_packed_after_the_others_once_they_are_there(corpus, tmp_path):
    before = prepare_pairs(corpus, Letters(), preset(), tmp_path)["pairs.train"]["rows"]
    pair = {"id": "own", "turns": talk("问"), "chosen": "好", "rejected": "坏坏"}
    own = tmp_path / "own_pairs.jsonl"
    own.write_text(json.dumps(pair | {"task": "medkqa"}) + "\n", encoding="utf-8")
    after = prepare_pairs(corpus, Letters(), preset(), tmp_path, own)["pairs.train"]["rows"]
    assert after == before + 2
    rows, counted = set_of(tmp_path, "pairs.train"), set_of(tmp_path, "pairs.train", "counted")
    assert "".join(map(chr, rows[-1][counted[-1]])) == "坏坏\2"
    assert "".join(map(chr, rows[-2][counted[-2]])) == "好\2"


def test_pairs_of_reserved_dialogues_stay_out_and_those_that_open_alike_stay(tmp_path):
    opening = "医生，小孩发烧，请帮忙看看。"
    half = preset(reserve=0.5)

    def chat(i: int, text: str) -> dict:
        record = {"id": f"c{i}", "task": "evidiag", "split": "train", "templated": False}
        return record | {"turns": talk(opening, "几天了？", f"{i}天了。", text)}

    chats = [chat(i, f"答{i}") for i in range(40)]
    kept, apart = ([c for c in chats if reserved(half, c) is wanted] for wanted in (False, True))
    assert kept and apart

    def pair(chat: dict, rejected: str) -> dict:
        turns, chosen = chat["turns"][:-1], chat["turns"][-1]["text"]
        about = {"id": f"pair-{chat['id']}", "task": "evidiag", "kind": "x"}
        return about | {"turns": turns, "chosen": chosen, "rejected": rejected}

    pairs = [pair(c, "坏") for c in chats] + [pair(kept[0], apart[0]["turns"][-1]["text"])]
    for name, rows in (("chat", chats), ("pairs", pairs)):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    sizes = prepare_pairs(tmp_path, Letters(), half, tmp_path)
    assert sizes["pairs.train"]["rows"] == 2 * len(kept)
