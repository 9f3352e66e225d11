"""A folder of the user's own material: encodings, PDF pages, shapes of dialogues, bad lines."""

import json
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter

from training.pedcorpus.ledger import Ledger
from training.pedcorpus.readers.headings import heading, read_back, sections, written
from training.pedcorpus.readers.own_files import Unreadable, encoding_of, pdf_pages
from training.pedcorpus.readers.own_folder import OwnFolder, open_folder
from training.pedcorpus.record import Chat, Text, Triple
from training.pedcorpus.sources import SOURCES

CHAPTER = "# 小儿腹泻\n## 病因\n感染因素有病毒、细菌、真菌和寄生虫，其中以轮状病毒最为常见。\n"


def read(folder: Path, licence: str = "CC-BY-4.0") -> tuple[list, OwnFolder, Ledger]:
    own, ledger = open_folder(folder, licence), Ledger()
    return list(own.records(ledger)), own, ledger


def pdf(path: Path, pages: list[list[str]]) -> None:
    """A PDF without embedded fonts: text in UTF-16 codes that a CMap of its own maps back."""
    fonts = (
        "5 0 obj<</Type/Font/Subtype/Type0/BaseFont/STSong/Encoding/UniGB-UCS2-H"
        "/DescendantFonts[6 0 R]>>endobj\n"
        "6 0 obj<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong"
        "/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 2>>>>endobj\n"
    )
    kids = " ".join(f"{10 + 2 * i} 0 R" for i in range(len(pages)))
    body = [
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
        f"2 0 obj<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>endobj\n",
        fonts,
    ]
    for i, lines in enumerate(pages):
        shown = "".join(
            f"1 0 0 1 50 {780 - 20 * at} Tm <{line.encode('utf-16-be').hex()}> Tj\n"
            for at, line in enumerate(lines)
        )
        stream = f"BT /F1 12 Tf\n{shown}ET"
        body.append(
            f"{10 + 2 * i} 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents "
            f"{11 + 2 * i} 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj\n"
            f"{11 + 2 * i} 0 obj<</Length {len(stream)}>>stream\n{stream}\nendstream endobj\n"
        )
    text = "".join(body)
    numbers = [1, 2, 5, 6, *(n for i in range(len(pages)) for n in (10 + 2 * i, 11 + 2 * i))]
    xref = "".join(f"{n} 1\n{text.index(f'{n} 0 obj'):010d} 00000 n \n" for n in numbers)
    trailer = f"xref\n0 1\n0000000000 65535 f \n{xref}trailer<</Size 99/Root 1 0 R>>\n"
    path.write_text(text + trailer + f"startxref\n{len(text)}\n%%EOF", "latin-1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_the_same_text_in_any_usual_encoding_gives_the_same_record(
    tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "book.md").write_bytes(CHAPTER.encode(encoding))
    (record,), own, _ = read(tmp_path)
    assert record.text == CHAPTER.strip()
    assert record.pediatric and record.provenance == "book.md#L3"
    assert own.source == f"user__{tmp_path.name}" and SOURCES[own.source].licence == "CC-BY-4.0"
    assert not own.problems and not own.warnings


def test_an_encoding_is_told_from_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "late.txt"
    path.write_bytes(b"a" * 300_000 + "小儿肺炎".encode("gb18030") * 20_000)
    assert encoding_of(path) == "gb18030"
    path.write_bytes(bytes(range(128, 256)) * 50)
    with pytest.raises(Unreadable, match=r"late.txt: neither UTF-8 nor GB18030"):
        encoding_of(path)


def test_one_bad_byte_costs_one_line_and_is_named(tmp_path: Path) -> None:
    lines = [
        f"小儿肺炎的第{i}个要点是保持呼吸道通畅，必要时吸氧，注意观察病情变化。" for i in range(60)
    ]
    raw = "\n".join(lines).encode().replace("第7个".encode(), b"\xff")
    (tmp_path / "book.txt").write_bytes(raw)
    records, own, ledger = read(tmp_path)
    text = "\n".join(r.text for r in records)
    assert own.problems == ["book.txt:8: bytes that do not decode"]
    assert ledger.removed[own.source]["bad line"] == 1
    assert "第6个" in text and "第8个" in text and "\ufffd" not in text


def test_pages_of_a_pdf_are_in_the_provenance(tmp_path: Path) -> None:
    head = "儿科诊疗手册"
    first = [
        head,
        "第一章 小儿肺炎",
        "【临床表现】发热、咳嗽是最常见的症状，重症患儿可有呼吸急促。",
        "1",
    ]
    second = [head, "【治疗】保持呼吸道通畅，必要时吸氧；高热时注意补充水分，观察精神状态。", "2"]
    pdf(tmp_path / "guide.pdf", [first, second, [head, "3"], [head, "4"]])
    assert len(PdfReader(tmp_path / "guide.pdf").pages) == 4
    records, own, _ = read(tmp_path)
    assert [(r.provenance, read_back(r.text)[0]) for r in records] == [
        ("guide.pdf#p1", ("小儿肺炎", "临床表现")),
        ("guide.pdf#p2", ("小儿肺炎", "治疗")),
    ]
    assert not any(head in r.text for r in records)  # a line that every page repeats
    assert own.problems == ["guide.pdf: page 3 holds no text", "guide.pdf: page 4 holds no text"]


def test_a_scanned_or_broken_pdf_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    writer = PdfWriter()
    for _ in range(3):
        writer.add_blank_page(200, 200)
    writer.write(tmp_path / "scan.pdf")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "book.md").write_text(CHAPTER, "utf-8")
    (tmp_path / "notes.docx").write_bytes(b"PK")
    records, own, ledger = read(tmp_path)
    assert len(records) == 1
    said = "\n".join(own.problems)
    assert "scan.pdf: 3 pages without text, so it is probably scanned" in said
    assert "broken.pdf: not a readable PDF" in said and "notes.docx: unknown kind of file" in said
    assert ledger.removed[own.source]["unreadable file"] == 3
    with pytest.raises(Unreadable, match="recognise it first"):
        pdf_pages(tmp_path / "scan.pdf")


TABLE = [
    {"head": "川崎病", "relation": "症状", "tail": "持续发热"},
    {
        "turns": [
            {"role": "user", "text": "宝宝8个月 拉肚子怎么办"},
            {"role": "assistant", "text": "注意补水"},
        ]
    },
    {
        "conversations": [
            {"from": "system", "value": "你是医生"},
            {"from": "human", "value": "孩子咳嗽"},
            {"from": "human", "value": "吃什么药"},
            {"from": "gpt", "value": "先看医生"},
            {"from": "human", "value": "好的"},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "小儿发热"},
            {"role": "assistant", "content": "多喝水"},
        ]
    },
    {
        "instruction": "怎么护理？",
        "input": "小儿肺炎",
        "output": "注意休息。",
        "history": [["你好", "您好"]],
    },
    {"text": "小儿腹泻是婴幼儿最常见的疾病之一。"},
]


def test_triples_and_dialogues_in_the_usual_shapes(tmp_path: Path) -> None:
    rows = "\n".join(json.dumps(row, ensure_ascii=False) for row in TABLE)
    (tmp_path / "all.jsonl").write_text(rows, "utf-8")
    records, own, _ = read(tmp_path)
    assert [type(r) for r in records] == [Triple, Chat, Chat, Chat, Chat, Text]
    assert records[0] == Triple(own.source, "川崎病", "症状", "持续发热")
    talk = records[1]
    assert talk.turns[0].text == "宝宝8个月，拉肚子怎么办"  # the space parted two clauses
    assert (talk.age_group, talk.department, talk.task) == ("婴儿", "儿科", "trerecom")
    assert not talk.templated and talk.provenance == "all.jsonl:2"
    assert [t.role for t in records[2].turns] == ["user", "assistant"]
    assert records[2].turns[0].text == "孩子咳嗽\n吃什么药"
    assert len(records[4].turns) == 4 and records[4].turns[2].text == "怎么护理？\n小儿肺炎"
    assert not own.problems
    (tmp_path / "all.jsonl").unlink()
    (tmp_path / "list.json").write_text(json.dumps(TABLE, ensure_ascii=False), "utf-8")
    assert len(read(tmp_path)[0]) == len(TABLE)


BAD = [
    ('{"head": "川崎病", "tail": "发热"}', "relation is missing, empty or no text"),
    ("{bad", "not JSON: Expecting property name enclosed in double quotes"),
    ('{"turns": [{"role": "nurse", "text": "x"}]}', "turn 1: unknown role 'nurse'"),
    ('{"turns": [{"role": "user", "text": "x"}]}', "no question of the user followed by an answer"),
    ('{"instruction": "x", "output": ""}', "output is missing or empty"),
    ('{"instruction": "x", "output": "y", "task": "z"}', "task 'z' is none of"),
    ("[1]", "expected an object like"),
    ('{"title": "x"}', "it has only ['title']"),
]


def test_every_bad_line_is_counted_and_named(tmp_path: Path) -> None:
    good = json.dumps(TABLE[0], ensure_ascii=False)
    (tmp_path / "kg.jsonl").write_text("\n".join([good, *(line for line, _ in BAD)]), "utf-8")
    records, own, ledger = read(tmp_path)
    assert len(records) == 1 and ledger.removed[own.source]["bad line"] == len(BAD)
    for at, (problem, (_, why)) in enumerate(zip(own.problems, BAD, strict=True), 2):
        assert problem.startswith(f"kg.jsonl:{at}: ") and why in problem
    assert ledger.read[own.source] == len(BAD) + 1


def test_the_licence_comes_from_the_file_or_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text(CHAPTER, "utf-8")
    own = open_folder(tmp_path)
    assert own.licence == "unstated" and "no licence stated" in own.warnings[0]
    (tmp_path / "licence.txt").write_text("\nCC-BY-SA-4.0\nmore words\n", "utf-8")
    records, own, _ = read(tmp_path, "")
    assert own.licence == "CC-BY-SA-4.0" and not own.warnings
    assert len(records) == 1  # the licence is no record


def test_a_folder_of_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "kg.jsonl").write_text("{bad", "utf-8")
    with pytest.raises(ValueError, match=r"nothing usable in this folder\n  kg.jsonl:1: not JSON"):
        read(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        open_folder(tmp_path / "absent")


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("## 治疗", "治疗"),
        ("第三章　呼吸系统疾病", "呼吸系统疾病"),
        ("一、小儿腹泻", "小儿腹泻"),
        ("（二）临床表现", "临床表现"),
        ("2.1 诊断标准", "诊断标准"),
        ("鉴别诊断", "鉴别诊断"),
        ("【护理】保持皮肤清洁。", "护理"),
        ("1. 合理喂养，提倡母乳喂养。", None),
        ("第二天仍有发热，咳嗽加重，到医院就诊。", None),
        ("3.5 mg", None),
        ("保持呼吸道通畅", None),
    ],
)
def test_headings_are_told_from_sentences(line: str, title: str | None) -> None:
    found = heading(line)
    assert (found and found[1]) == title


def test_wrapped_lines_are_joined_and_nothing_is_lost() -> None:
    text = "一、小儿腹泻\n小儿腹泻是一组由多病原、多因素引起的以大便次数增\n多为特点的消化道综合征。\n\n新的一段。"
    (section,) = sections((line, 0) for line in text.split("\n"))
    assert (
        section.body
        == "小儿腹泻是一组由多病原、多因素引起的以大便次数增多为特点的消化道综合征。\n新的一段。"
    )
    assert read_back(written(section)) == (("小儿腹泻",), section.body)
    long = [(f"第{i}句话说的是小儿肺炎的护理要点。", 0) for i in range(300)]
    parts = list(sections(long))
    assert len(parts) > 1 and all(len(p.body) < 1700 for p in parts)
    assert "\n".join(p.body for p in parts).split("\n") == [line for line, _ in long]
