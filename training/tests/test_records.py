"""Typed records: Parquet round trip, streaming, replacement of old files."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from training.pedcorpus import store
from training.pedcorpus.output import replacing
from training.pedcorpus.readers.ages import age_group
from training.pedcorpus.record import AGE_GROUPS, Chat, Exam, Text, Triple, dialogue
from training.pedcorpus.sources import DXFORMER, OWN
from training.pedcorpus.tags import concerns_child, tagged

RECORDS = (
    Text("t1", OWN, True, "小儿腹泻的常见表现有大便次数增多。", "儿科", "婴儿", "a.txt#L3"),
    Chat(
        "c1",
        DXFORMER,
        "evidiag",
        False,
        dialogue("孩子咳嗽。", "几天了？", "三天。", "考虑支气管炎。"),
        "case/1",
        "test",
        True,
        "儿科",
        "幼儿",
        "x.json#1",
    ),
    Exam("e1", OWN, "哪项不对？", ("甲", "乙", "丙"), 2, "因为丙错。", "儿科", "test"),
    Triple(OWN, "小儿腹泻", "症状", "大便稀"),
)


def test_every_field_survives_parquet(tmp_path: Path) -> None:
    path = tmp_path / "records" / "all.parquet"
    assert store.write(path, RECORDS) == 4
    assert tuple(store.read(path)) == RECORDS
    assert pq.read_schema(path).equals(store.SCHEMA)
    licences = pq.read_table(path, columns=["licence"])["licence"].to_pylist()
    assert licences == ["MIT"] * 4


def test_records_are_written_in_row_groups_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    alive = 0

    def stream() -> Iterator[Text]:
        nonlocal alive
        for i in range(store.ROWS * 2 + 5):
            alive = i
            yield Text(f"t{i}", OWN, False, f"第{i}段。")

    with store.Writer(path) as writer:
        records = stream()
        for record in records:
            writer.put(record)
            if alive == store.ROWS + 1:
                assert len(writer._rows) < store.ROWS  # the first group has left the memory
    assert pq.ParquetFile(path).num_row_groups == 3
    assert [len(batch) for batch in store.batches(path)] == [store.ROWS, store.ROWS, 5]


def test_row_groups_are_bounded_by_characters(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    store.write(path, (Text(f"t{i}", OWN, False, "字" * 1_000_000) for i in range(9)))
    assert pq.ParquetFile(path).num_row_groups == 3


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    store.write(path, RECORDS[:1])

    def broken() -> Iterator[Text]:
        yield RECORDS[0]  # type: ignore[misc]
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        store.write(path, broken())
    assert tuple(store.read(path)) == RECORDS[:1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    line = tmp_path / "a.jsonl"
    line.write_text("old\n", "utf-8")
    with pytest.raises(OSError), replacing(line) as file:
        file.write("half of the ne")
        raise OSError
    assert line.read_text("utf-8") == "old\n"
    with replacing(line) as file:
        file.write("new\n")
    assert line.read_text("utf-8") == "new\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "a.parquet"]


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="'page'"):
        store.record_of({"kind": "page", "source": OWN})
    with pytest.raises(ValueError, match="none of 2 options"):
        Exam("e", OWN, "问题？", ("甲", "乙"), 2)


@pytest.mark.parametrize(
    ("question", "child", "age", "department"),
    [
        ("我家宝宝3个月了，总是吐奶怎么办？", True, "婴儿", "儿科"),
        ("孩子五岁，发烧两天。", True, "学龄前", "儿科"),
        ("新生儿黄疸怎么办？", True, "新生儿", "儿科"),
        ("孩子这两天发烧，咳嗽三天了。", True, "", "儿科"),
        ("我今年45岁，胃疼怎么办？", False, "成人", "内科"),
        ("我爸牙疼。", False, "成人", "口腔科"),
        ("怀孕五个月可以吃山楂吗？", False, "", "妇产科"),
    ],
)
def test_tags(question: str, child: bool, age: str, department: str) -> None:
    chat = Chat("q", OWN, "medkqa" if child else "general", False, dialogue(question, "答。"))
    assert concerns_child(chat) == child
    marked = tagged(chat)
    assert isinstance(marked, Chat)
    assert (marked.age_group, marked.department) == (age, department)
    assert age_group(question) in ("", *AGE_GROUPS)


def test_tags_of_the_source_stay() -> None:
    chat = Chat(
        "q",
        OWN,
        "general",
        False,
        dialogue("牙疼。", "看牙医。"),
        department="急诊科",
        age_group="学龄",
    )
    assert tagged(chat) == chat
