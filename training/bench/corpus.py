"""What building a corpus costs: `python -m training.bench.corpus --gigabytes 1`.

Writes synthetic books as JSON lines (UTF-8, documents of 1 to 6 kB, one in fifty a copy and one in
fifty a near copy of an earlier one), builds a corpus of them as a user's own folder would be built,
and prints the time, MB of raw text per second and the most memory held.
"""

import argparse
import json
import random
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from training.pedcorpus.build import build
from training.pedcorpus.construct import Options
from training.pedcorpus.reading import PRESETS

_SUBJECTS = [
    "患儿",
    "家长",
    "医生",
    "新生儿",
    "学龄儿童",
    "早产儿",
    "孩子",
    "护士",
    "婴儿",
    "照护者",
]
_VERBS = ["观察", "记录", "避免", "补充", "复查", "评估", "解释", "预防", "处理", "监测"]
_THINGS = [
    "体温",
    "咳嗽",
    "皮疹",
    "大便",
    "呼吸",
    "饮食",
    "睡眠",
    "体重",
    "脱水",
    "过敏",
    "贫血",
    "黄疸",
    "感染",
    "精神",
    "血常规",
]
_LINKS = ["因此", "同时", "一般来说", "此外", "研究表明", "需要时", "如果加重", "临床上"]
SHARD = 50_000_000


def documents(size: int, seed: int = 0) -> Iterator[str]:
    """Documents of about `size` bytes of UTF-8 together."""
    rng = random.Random(seed)
    rare = [chr(c) for c in range(0x4E00, 0x4E00 + 6000)]
    recent: deque[str] = deque(maxlen=500)
    done = 0
    while done < size:
        kind = rng.random()
        if recent and kind < 0.02:
            text = rng.choice(recent)
        elif recent and kind < 0.04:
            text = rng.choice(recent).replace("观察", "留意").replace("此外", "另外")
        else:
            text = "".join(_sentence(rng, rare) for _ in range(rng.randint(12, 70)))
            recent.append(text)
        done += len(text.encode())
        yield text


def _sentence(rng: random.Random, rare: list[str]) -> str:
    name = "".join(rng.choices(rare, k=rng.randint(2, 5)))
    first = f"{rng.choice(_LINKS)}，{rng.choice(_SUBJECTS)}要{rng.choice(_VERBS)}{name}的{rng.choice(_THINGS)}"
    return f"{first}，{rng.choice(_VERBS)}{''.join(rng.choices(rare, k=rng.randint(4, 12)))}。"


def write_raw(folder: Path, size: int) -> int:
    """JSON lines in shards; returns the bytes written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "licence.txt").write_text("CC0-1.0\n", "utf-8")
    file, held, total, shard = None, SHARD, 0, 0
    for text in documents(size):
        if held >= SHARD:
            if file:
                file.close()
            file = (folder / f"book{shard:04d}.jsonl").open("w", encoding="utf-8")
            held, shard = 0, shard + 1
        line = json.dumps({"text": text}, ensure_ascii=False) + "\n"
        assert file is not None
        file.write(line)
        held += len(line.encode())
        total += len(line.encode())
    if file:
        file.close()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of building a corpus.")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="10^9 bytes of raw text")
    parser.add_argument("--scratch", type=Path, help="folder for the files (a temporary one)")
    parser.add_argument("--data", type=Path, help="sources to build together with it (none)")
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.scratch) as scratch:
        raw, empty = Path(scratch) / "raw", Path(scratch) / "none"
        empty.mkdir()
        size = write_raw(raw, int(given.gigabytes * 1e9))
        print(f"{size / 1e6:,.0f} MB of raw text written", file=sys.stderr)
        preset = replace(PRESETS["nano"], constructed=0)
        start, before = perf_counter(), process_time()
        report = build(given.data or empty, Path(scratch) / "out", preset, raw, Options())
        seconds, busy = perf_counter() - start, process_time() - before
    own = report["sources"][f"user__{raw.name}"]
    removed = {step: item["count"] for step, item in own["removed"].items()}
    print(f"read {own['read']:,} documents, kept {own['kept']:,}; removed {removed}")
    print(
        f"{size / 1e6:,.0f} MB in {seconds:,.0f} s: {size / 1e6 / seconds:.2f} MB/s "
        f"({size / 1e6 / busy:.2f} MB per second of processor time), "
        f"peak memory {report['peak_rss_mb']:,.0f} MB"
    )


if __name__ == "__main__":
    main()
