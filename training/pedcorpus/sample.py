"""Cut the sample that the project carries.

`python -m training.pedcorpus.sample --data DIR --out DIR`

Excerpts of sources whose makers state a licence that allows it, in their own paths and record
schemas, so that the same readers read them. Records with personal data are never taken.
"""

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .archive import Library
from .clean import is_pediatric
from .personal import find_personal
from .phrasing import number
from .sources import (
    BABY,
    BENTSAO,
    CHINAXIV,
    CHINESEBLUE,
    DIALMED,
    DXFORMER,
    KDCONV,
    LLAMAFACTORY,
    SMILE,
    SOURCES,
    ZHONGJING,
)

PAPERS = ("md/ChinaXiv-201712.00490V1.md", "md/ChinaXiv-202209.00069V1.md")
_IDS = re.compile(r'\\?"(?:example-id|pid|id|path)\\?": ?\\?"\S+?"')
_NAMED = re.compile("[一-鿿](?:大夫|主任|医生您|教授)|老师")


def _rank(items: list, key: Callable[[dict], str], count: int) -> list:
    """`count` items without personal data, chosen by hash, in their original order."""
    clean = [
        i
        for i, item in enumerate(items)
        if not find_personal(_IDS.sub("", json.dumps(item, ensure_ascii=False)))
        and not _NAMED.search(key(items[i]))
    ]
    chosen = sorted(sorted(clean, key=lambda i: number("sample", key(items[i])))[:count])
    return [items[i] for i in chosen]


def _list(items: list) -> str:
    return (
        "[\n"
        + ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
        + "\n]\n"
    )


def _lines(items: list) -> str:
    return "".join(
        json.dumps(item, ensure_ascii=False, separators=(",", ":")) + "\n" for item in items
    )


class Cutter:
    """Takes from a library, writes below a folder."""

    def __init__(self, library: Library, out: Path) -> None:
        self.library, self.out = library, out

    def put(self, source: str, path: str, text: str) -> None:
        """Write one file of a source, with its original path."""
        target = self.out / source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")

    def licence(self, source: str) -> None:
        """MIT, CC and CC0 texts beside the data; the Apache text is shared by all in one file."""
        if SOURCES[source].licence == "Apache-2.0":
            target = self.out / "licences" / "Apache-2.0.txt"
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self.library.read(LLAMAFACTORY, "LICENSE")["LICENSE"], "utf-8")
            return
        self.put(source, "LICENSE", self.library.read(source, "LICENSE")["LICENSE"])

    def records(
        self,
        source: str,
        path: str,
        count: int,
        key: Callable[[dict], str],
        wanted: Callable[[dict], bool],
        lines: bool = False,
    ) -> None:
        """Take `count` of the wanted records of a list file."""
        items = [item for item in self.library.records(source, path) if wanted(item)]
        self.put(source, path, (_lines if lines else _list)(_rank(items, key, count)))

    def consultations(self, count: int) -> set[str]:
        """Shorter CMDD dialogues; their ids, so that their diagnoses can be taken too."""
        found = []
        for path, text in self.library.files(
            CHINESEBLUE, lambda p: p.startswith("data/CMDD/") and p.endswith(".json")
        ):
            if len(text) < 11_000:
                found.append({"path": path, "text": text})
        chosen = _rank(found, lambda item: item["text"], count)
        for item in chosen:
            raw = json.loads(item["text"])
            self.put(
                CHINESEBLUE,
                item["path"],
                json.dumps(raw, ensure_ascii=False, separators=(",", ":")) + "\n",
            )
        return {json.loads(item["text"])["example-id"] for item in chosen}

    def cases(self, ids: set[str], count: int) -> None:
        """Symptom records: those of the dialogues taken, and `count` more per set."""
        for name in ("mz10", "mz4", "dxy"):
            for part in ("train", "test"):
                path = f"data/{name}/{part}_set.json"
                items = self.library.records(DXFORMER, path)
                size = count if part == "train" else count // 4
                taken = {r["pid"] for r in _rank(items, lambda r: r["pid"], size)} | ids
                self.put(DXFORMER, path, _list([r for r in items if r["pid"] in taken]))

    def papers(self) -> None:
        """Two whole papers and their rows of the index, without addresses."""
        index = self.library.read(CHINAXIV, "INDEX.tsv")["INDEX.tsv"].splitlines()
        rows = [row for row in index if row.startswith("path\t") or row.split("\t")[0] in PAPERS]
        self.put(CHINAXIV, "INDEX.tsv", "\n".join(rows) + "\n")
        for path, text in self.library.read(CHINAXIV, *PAPERS).items():
            lines = [
                line
                for line in text.split("\n")
                if not find_personal(line) and not re.search("电话|邮箱|E-?mail|手机", line)
            ]
            self.put(CHINAXIV, path, "\n".join(lines))

    def smile(self, count: int) -> None:
        """Short supportive dialogues about children."""
        found = [
            {"path": path, "text": text}
            for path, text in self.library.files(SMILE, lambda p: p.startswith("data/smile/"))
            if len(text) < 1_600 and re.search("孩子|宝宝|儿子|女儿", text[:160])
        ]
        for item in _rank(found, lambda item: item["text"], count):
            self.put(SMILE, item["path"], item["text"])


def cut(library: Library, out: Path) -> int:
    """Write the sample below `out`, return its size in bytes. NOTICE.md is kept as it is."""
    for source in SOURCES:
        shutil.rmtree(out / source, ignore_errors=True)
    cutter = Cutter(library, out)
    cutter.cases(cutter.consultations(42), 90)

    def asked(item: dict) -> str:
        instruction = item["instruction"]
        return instruction[0] if isinstance(instruction, list) else instruction

    def short(item: dict) -> bool:
        return len(json.dumps(item, ensure_ascii=False)) < 700

    cutter.records(
        ZHONGJING, "data/huatuo26M.json", 150, asked, lambda i: short(i) and is_pediatric(asked(i))
    )
    cutter.records(BENTSAO, "data/llama_data.json", 90, asked, lambda i: is_pediatric(asked(i)))
    cutter.records(
        DIALMED,
        "data/dataset/dev.txt",
        16,
        lambda i: "".join(i["dialog"]),
        lambda i: is_pediatric("".join(i["dialog"][:3])),
        lines=True,
    )
    cutter.records(LLAMAFACTORY, "data/alpaca_zh_demo.json", 60, asked, short)
    cutter.records(
        LLAMAFACTORY,
        "data/oaast_rm_zh.json",
        20,
        asked,
        lambda i: len(json.dumps(i, ensure_ascii=False)) < 1_500 and not i.get("history"),
    )
    cutter.records(
        BABY, "server/data/few-shot-samples.json", 5, lambda i: i["question"], lambda i: True
    )
    talks = _rank(
        library.records(KDCONV, "data/film/dev.json"),
        lambda i: json.dumps(i, ensure_ascii=False),
        150,
    )
    bare = [
        {"messages": [{"message": m["message"]} for m in t["messages"]], "name": t["name"]}
        for t in talks[:6]
    ]
    cutter.put(KDCONV, "data/film/dev.json", _list(bare))
    cutter.smile(8)
    cutter.papers()
    for source in sorted(p.name for p in out.iterdir() if p.name in SOURCES):
        cutter.licence(source)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the sample corpus out of the full sources.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print(f"{options.out}: {cut(Library(options.data), options.out)} bytes")


if __name__ == "__main__":
    main()
