"""Reconstruction offline, step by step: what says nothing or says it again goes, the sentences
come in the order of a consultation, and what fits an answer stays."""

import re
from collections.abc import Iterator

from ..clean import clean_answer, clean_question, finish, tidy
from ..doses import strip_doses
from ..phrasing import pick
from ..record import Chat, Turn
from .check import grounded
from .jobs import Job
from .made import made
from .role_play import sentences

# What a sentence is about, in the order in which an answer should say it.
STEPS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("define", re.compile("是一[种类组]|是指|属于|定义")),
    ("cause", re.compile("病因|原因|引起|导致|由于|感染所致|诱因|遗传")),
    ("show", re.compile("症状|表现|体征|可见|出现|伴有")),
    ("check", re.compile("检查|化验|诊断|确诊|血常规|CT|MRI|X线|B超|彩超|培养")),
    ("treat", re.compile("治疗|用药|药物|手术|抗生素|控制|缓解|处理|补液|雾化")),
    ("care", re.compile("护理|饮食|休息|喂养|饮水|预防|避免|注意|保持|接种")),
    ("return", re.compile("就医|就诊|医院|急诊|复查|复诊|咨询医生|遵医嘱")),
)
_BOUND = re.compile(
    "^(?:该|本|此|这|那|其|它|他们|她们|上述|以上|前者|后者|因此|所以|但|不过|然而|而|同时|此外|另外|并且|还|也|"
    "例如|比如|如|首先|其次|再次|最后|重要的是|值得|第[一二三四五]|一是|二是|其中|总之|综上|对于|如果|若|一旦|具体|包括)"
)
_ITEM = re.compile(r"(?m)^\s*(?:\d{1,2}[.、．)）]|[-*•])\s*")  # a list becomes running text
_IF = re.compile("如果|若|一旦")
_HOLLOW = re.compile(
    "^(?:综上|总之|总的来说|总而言之|总体而言|综合来看|希望|以上|需要注意的是。?$|这个问题|针对(?:这|您|你))"
    "|(?:是|变得)?(?:非常|十分|至关|尤为)(?:重要|关键|必要)的?。$"
)
LONGEST = 360  # characters of an answer
REPEATS = 0.7  # share of a sentence's content that earlier sentences already said
_ORDERED = re.compile("首先|其次|第一|一是|最后|此外|另外")
CONNECT = (
    ("首先，", "其次，", "此外，", "最后，"),
    ("第一，", "第二，", "第三，", "另外，"),
    ("一方面，", "另一方面，", "同时，", "最后，"),
)


def step_of(text: str) -> int:
    """The place of a sentence in the order; what is about nothing in particular stays put (-1)."""
    found = [i for i, (_, pattern) in enumerate(STEPS) if pattern.search(text)]
    if not found:
        return -1
    # The last step wins at the end of the order (advice to return), else the first that fits.
    return found[-1] if found[-1] == len(STEPS) - 1 else found[0]


def ordered(parts: list[str]) -> list[str]:
    """The sentences in the order of STEPS; one that leans on the one before it goes with it.

    The first block stays first: it is what answers the question.
    """
    blocks: list[list[str]] = []
    for part in parts:
        # "If ... see a doctor" stands for itself.
        bound = _BOUND.match(part) and not (_IF.match(part) and step_of(part) == len(STEPS) - 1)
        if blocks and (bound or blocks[-1][-1].endswith(("：", "；"))):
            blocks[-1].append(part)
        else:
            blocks.append([part])
    if len(blocks) < 3:
        return parts
    ranks: list[int] = []
    for block in blocks[1:]:
        rank = step_of(block[0])
        ranks.append(rank if rank >= 0 else (ranks[-1] if ranks else 0))
    rest = sorted(range(1, len(blocks)), key=lambda i: (ranks[i - 1], i))
    return [part for i in (0, *rest) for part in blocks[i]]


def compact(parts: list[str]) -> list[str]:
    """Without hollow sentences and those that repeat what was said; the first one always stays."""
    kept = parts[:1]
    for part in parts[1:]:
        repeats = grounded(part, "".join(kept)) >= REPEATS and step_of(part) != len(STEPS) - 1
        if not repeats and not _HOLLOW.search(part):
            kept.append(part)
    return kept


def fitting(parts: list[str]) -> list[str]:
    """Sentences from the beginning that fit into LONGEST, and the last one if it says when to
    see a doctor."""
    last = parts[-1:] if parts and step_of(parts[-1]) == len(STEPS) - 1 else []
    room = LONGEST - sum(map(len, last))
    kept: list[str] = []
    for part in parts[: len(parts) - len(last)]:
        if kept and sum(map(len, kept)) + len(part) > room:
            break
        kept.append(part)
    return [*kept, *last]


def connected(parts: list[str], key: str) -> list[str]:
    """Words of order before the measures of an answer that lists three or four of them bare."""
    steps = [i for i, part in enumerate(parts) if step_of(part) in (4, 5)]
    bare = all(not _BOUND.match(parts[i]) for i in steps)
    run = steps == list(range(steps[0], steps[0] + len(steps))) if steps else False
    if not 3 <= len(steps) <= 4 or not bare or not run or _ORDERED.search("".join(parts)):
        return parts
    words = pick(CONNECT[:2] if len(steps) > 3 else CONNECT, key)
    words = (*words[: len(steps) - 1], words[-1])
    out = list(parts)
    for word, i in zip(words, steps, strict=True):
        out[i] = word + out[i]
    return out


def reconstruct(job: Job) -> Iterator[Chat]:
    """The dialogue with tidied questions and each answer put in order."""
    turns: list[Turn] = []
    for turn in job.turns:
        if turn.role == "user":
            turns.append(Turn(turn.role, clean_question(turn.text)))
            continue
        parts = sentences(_ITEM.sub("", clean_answer(turn.text)))
        parts = connected(fitting(ordered(compact(parts))), job.id)
        text = "".join(part if part[-1] in "。！？；" else part + "。" for part in parts)
        turns.append(Turn(turn.role, finish(tidy(strip_doses(text)))))
    if len(turns) >= 2 and all(len(turn.text) >= 2 for turn in turns):
        yield made(job, tuple(turns), job.task, "offline", templated=True)
