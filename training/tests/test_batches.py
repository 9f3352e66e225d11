"""Packing: what is read line by line equals what is read whole; windows, the order, the mix."""

import json
import random
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.batches import Batch, Mix, Pool, counted_tokens, to_batch
from training.packing import ChatRows, Growing, StreamRows, completion, exchanges, windows
from training.prepare import CHAT_KINDS, TASKS, Order, hashed, prepare
from training.stages.cpt import share
from training.tests.letters import Letters, set_of, talk
from training.tests.testing import make_run, preset, write_corpus


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
