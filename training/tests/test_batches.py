"""Packing: what is read line by line equals what is read whole; windows, the reserve, the order."""

import json
import random
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.batches import Batch, Mix, Pool, counted_tokens, to_batch
from training.packing import ChatRows, Growing, StreamRows, completion, exchanges, windows
from training.prepare import CHAT_KINDS, TASKS, Order, hashed, prepare, prepare_pairs, reserved
from training.stages.cpt import share
from training.tests.testing import make_run, preset, write_corpus


class Letters:
    """A tokenizer of one token per character."""

    eos = 2
    vocab_size = 70_000

    def encode_many(self, texts):
        return [[ord(c) for c in text] for text in texts]

    def encode_turns(self, turns):
        tokens, counts = [], []
        for turn in turns:
            answer = turn["role"] == "assistant"
            new = [ord(c) for c in turn["text"]] + ([2] if answer else [])
            tokens += new
            counts += [int(answer)] * len(new)
        return tokens, counts


def talk(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "text": text} for i, text in enumerate(texts)]


def set_of(folder, name: str, part: str = "tokens") -> np.ndarray:
    return np.load(folder / f"{name}.{part}.npy")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


def test_a_growing_file_is_what_numpy_would_have_saved(tmp_path):
    rows = np.arange(23 * 7, dtype=np.uint32).reshape(23, 7)
    file = Growing(tmp_path / "a.npy", 7, np.uint32)
    for row in rows:
        file.add(row)
    assert not (tmp_path / "a.npy").exists()
    file.close()
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), rows)
    empty = Growing(tmp_path / "b.npy", 7, np.uint16)
    empty.close()
    assert np.load(tmp_path / "b.npy").shape == (0, 7)


def test_streamed_rows_equal_the_rows_of_the_whole_stream():
    rng = random.Random(3)
    documents = [[rng.randrange(9) for _ in range(rng.randrange(40))] for _ in range(50)]
    stream = np.array([token for document in documents for token in document], np.uint16)
    expected = [stream[i : i + 13] for i in range(0, len(stream) - 12, 12)]
    packer = StreamRows(12, np.uint16)
    rows = [row["tokens"] for document in documents for row in packer.add(document)]
    assert np.array_equal(np.stack(rows), np.stack(expected))


def test_chats_are_packed_whole_and_none_is_lost():
    rng = random.Random(4)
    chats = [
        ([i + 3] * n, [0] * (n // 2) + [1] * (n - n // 2))
        for i, n in enumerate(rng.randrange(1, 31) for _ in range(200))
    ]
    packer = ChatRows(30, np.uint16)
    rows = [row for chat in chats for row in packer.add(chat)] + list(packer.close())
    found = {}
    for row in rows:
        for segment in range(1, row["segments"].max() + 1):
            where = row["segments"] == segment
            (token,) = set(row["tokens"][where].tolist())
            found[token - 3] = (int(where.sum()), int(row["counted"][where].sum()))
        assert not row["counted"][row["segments"] == 0].any()
    assert found == {i: (len(t), sum(a)) for i, (t, a) in enumerate(chats)}
    assert len(rows) < sum(len(t) for t, _ in chats) / 31 * 1.25
    with pytest.raises(ValueError, match="32 tokens"):
        list(packer.add(([1] * 32, [1] * 32)))


def test_the_order_is_that_of_a_hash_and_not_of_the_file(tmp_path):
    rows = [{"id": f"r{i}", "kind": "ab"[i % 2], "n": i} for i in range(40)]
    orders = []
    for name, lines in (("one", rows), ("two", rows[::-1])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
        orders.append([r["n"] for r in Order(path, 1, lambda r: r["kind"]).records("a")])
    assert orders[0] == orders[1] != sorted(orders[0])
    expected = sorted(range(0, 40, 2), key=lambda i: hashed(1, f"r{i}"))
    assert orders[0] == expected
    other = [r["n"] for r in Order(path, 2, lambda r: r["kind"]).records("a")]
    assert sorted(other) == sorted(expected) and other != expected
    path.write_text('{"id": "x"}\n{"id"\n')
    with pytest.raises(ValueError, match="two.jsonl, line 2"):
        Order(path, 1, lambda r: "a")


def test_packing_line_by_line_equals_packing_in_memory(corpus, tmp_path):
    """Against a plain version that holds everything in lists and sorts it."""
    small = preset()
    words = Letters()
    prepare(corpus, words, small, tmp_path)
    texts = [json.loads(line) for line in (corpus / "text.jsonl").read_text("utf-8").splitlines()]
    # one text in a hundred is held out
    valid = {min((t["id"] for t in texts), key=lambda name: zlib.crc32(name.encode()))}
    for name, pediatric in (("text-pediatric", True), ("text-general", False)):
        chosen = [t for t in texts if t["pediatric"] is pediatric and t["id"] not in valid]
        chosen.sort(key=lambda t: hashed(small.seed, t["id"]))
        stream = [token for t in chosen for token in [*map(ord, t["text"]), 2]]
        count = (len(stream) - 1) // 64
        rows = [stream[i * 64 : i * 64 + 65] for i in range(count)]
        assert set_of(tmp_path, f"{name}.train").tolist() == rows
        assert set_of(tmp_path, f"{name}.train").dtype == np.uint32
    chats = [json.loads(line) for line in (corpus / "chat.jsonl").read_text("utf-8").splitlines()]
    for task in TASKS:
        chosen = [c for c in chats if c["task"] == task and c["split"] == "train"]
        chosen.sort(key=lambda c: hashed(small.seed, c["id"]))
        stream = [t for c in chosen for t in words.encode_turns(c["turns"])[0]]
        rows = [stream[i * 64 : i * 64 + 65] for i in range((len(stream) - 1) // 64)]
        assert set_of(tmp_path, f"chat-{task}.train").tolist() == rows
        answers = sum(sum(words.encode_turns(c["turns"])[1]) for c in chosen)
        assert set_of(tmp_path, f"sft-{task}.train", "counted").sum() == answers


def test_packing_twice_gives_the_same_bytes(corpus, tmp_path):
    for name in ("a", "b"):
        prepare(corpus, Letters(), preset(reserve=0.3), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_long_dialogue_becomes_windows_of_whole_exchanges():
    turns = talk("aaaa", "bbb", "cccc", "ddd", "eeee", "fff", "gggg")
    found = ["".join(map(chr, tokens)) for tokens, _ in windows(Letters(), turns, 17)]
    assert found == ["aaaabbb\2ccccddd\2", "eeeefff\2"]
    assert len(list(windows(Letters(), turns, 24))) == 1
    for tokens, answer in windows(Letters(), turns, 17):
        counted = "".join(chr(t) for t, a in zip(tokens, answer, strict=True) if a)
        assert set(counted) <= set("bdf\2")
    kept = sum(sum(answer) for _, answer in windows(Letters(), turns, 9))
    assert kept == 12  # nothing of the tail is dropped


def test_an_exchange_too_long_is_cut_or_left_out():
    turns = talk("aa", "b" * 30, "c" * 30, "d", "ee", "f")
    found = ["".join(map(chr, tokens)) for tokens, _ in windows(Letters(), turns, 10)]
    assert found == ["aa" + "b" * 8, "eef\2"]
    assert list(windows(Letters(), talk("aa"), 10)) == []


def test_completion_form_is_the_whole_dialogue_up_to_its_last_answer():
    turns = talk("问", "答", "再问", "再答", "末问")
    assert "".join(map(chr, completion(Letters(), turns))) == "问答\2再问再答\2"
    assert [len(part) for part in exchanges(turns)] == [2, 2]


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


def test_a_mix_over_many_epochs_keeps_to_priority_times_size(tmp_path):
    for name, rows in (("chat-a.train", 4), ("chat-b.train", 40)):
        np.save(tmp_path / f"{name}.tokens.npy", np.zeros((rows, 5), np.uint16))
    pools = [Pool(tmp_path, name, 1) for name in ("chat-a.train", "chat-b.train")]
    mix = Mix(pools, {"chat-a": 5.0}, 1)
    mix.draw(0, 3000, {"chat": 1.0})
    assert abs(mix.drawn["chat-a.train"] / 3000 - 20 / 60) < 0.03


def test_small_vocabularies_take_two_bytes(tmp_path):
    run = make_run(tmp_path, preset())
    assert set_of(run.packed, "sft-medkqa.train").dtype == np.uint16
    assert set_of(run.packed, "text-general.train").dtype == np.uint16


def test_the_mix_goes_on_where_it_stopped_and_drifts_into_instructions(tmp_path):
    run = make_run(tmp_path, preset())
    names = ["text-pediatric.train", "text-general.train"]
    names += [f"chat-{task}.train" for task in CHAT_KINDS]
    whole, parts = run.mix(names), run.mix(names)
    mixed = {"text": 0.5, "chat": 0.5}
    drawn = [[(p.name, i) for p, i in whole.draw(step, 4, mixed)] for step in range(20)]
    for step in range(10):
        parts.draw(step, 4, mixed)
    fresh = run.mix(names)
    fresh.drawn.update(parts.drawn)
    again = [[(p.name, i) for p, i in fresh.draw(step, 4, mixed)] for step in range(10, 20)]
    assert again == drawn[10:]
    assert share(run.preset, 0.0) == {"text": 0.75, "chat": 0.25}
    assert share(run.preset, 1.0) == {"text": 0.25, "chat": 0.75}
    plain = replace(run.preset, ablation={"hybrid": False})
    assert share(plain, 1.0) == {"text": 1.0}


def test_a_mix_of_nothing_is_an_error(tmp_path):
    np.save(tmp_path / "text-general.train.tokens.npy", np.zeros((0, 9), np.uint16))
    with pytest.raises(ValueError, match="no training rows"):
        Mix([Pool(tmp_path, "text-general.train", 1)], {}, 1)


def test_a_batch_splits_into_equal_pieces_in_order(tmp_path):
    run = make_run(tmp_path, preset())
    pool = Pool(run.packed, "sft-medkqa.train", 1)
    batch = to_batch([(pool, i % len(pool)) for i in range(6)])
    pieces = batch.split(3)
    assert [len(piece.tokens) for piece in pieces] == [2, 2, 2]
    for name in Batch._fields:
        parts = [getattr(piece, name) for piece in pieces]
        assert torch.equal(torch.cat(parts), getattr(batch, name)), name
    assert sum(counted_tokens(piece) for piece in pieces) == counted_tokens(batch)
    with pytest.raises(ValueError, match="6 rows does not divide into 4"):
        batch.split(4)
