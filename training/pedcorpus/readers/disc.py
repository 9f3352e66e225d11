"""Scored dialogues of six systems: held-out cases, and pairs of a better and a worse answer."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from ..archive import Library, parse
from ..clean import clean_answer, clean_question
from ..doses import count_doses
from ..ledger import Ledger
from ..personal import find_personal
from ..record import Chat, Pair, dialogue
from ..sources import DISC
from ..tasks import task_of
from .ages import ADULT_TOPIC, about_child, age_group, department_of

FOLDERS = ("eval/dialogues/", "eval/gpt4_scores/")
WRITTEN = "eval/samples/cmd_samples.json"
MARGIN = 3  # points of 20 between two systems' scores
LONGEST = 400  # characters of an answer
_OTHER_SELF = re.compile(
    "人工智能|语言模型|作为AI|AI助手|不是医生|不能替代|无法替代|OpenAI|抱歉|DISC|华佗"
)


@dataclass(frozen=True)
class Scored:
    """The first exchange of one system on one case, and the sum of its four scores (4 to 20)."""

    system: str
    department: str
    question: str
    answer: str
    score: int


def scored(library: Library, ledger: Ledger) -> dict[str, list[Scored]]:
    """By case (`set/id`): every system's dialogue, the best score first."""
    talks: dict[tuple[str, str], dict] = {}
    totals: dict[tuple[str, str], int] = {}
    for path, text in library.files(DISC, lambda p: p.startswith(FOLDERS)):
        folder, _, name = path.rpartition("/")
        for record in parse(text, f"{DISC}/{path}", DISC, ledger):
            group = folder.rpartition("/")[2] if "gpt4_scores" in folder else ""
            group = group or name.removesuffix(".json").rpartition("_")[2]
            key = (f"{group}/{record.get('id')}", str(record.get("model")))
            if "gpt4_scores" in folder:
                points = [int(p) for p in re.findall(r":\s*([1-5])\b", str(record.get("scores")))]
                if len(points) == 4:
                    totals[key] = sum(points)
                else:
                    ledger.saw(DISC)
                    ledger.drop(DISC, "broken record: not four scores", f"{path}: {key}")
            else:
                talks[key] = record
    found: defaultdict[str, list[Scored]] = defaultdict(list)
    for (case, system), record in talks.items():
        ledger.saw(DISC)
        said = [str(turn.get("content", "")) for turn in record.get("conversation", [])]
        if len(said) < 2 or (case, system) not in totals:
            ledger.drop(DISC, "broken record: no exchange or no score", f"{case} {system}")
            continue
        department = (record.get("dataset_info") or {}).get("department", "")
        question, answer = clean_question(said[0].rstrip(":：")), clean_answer(said[1])
        item = Scored(system, department, question, answer, totals[case, system])
        found[case].append(item)
    return {c: sorted(s, key=lambda x: (-x.score, x.system)) for c, s in sorted(found.items())}


def _held(case: str, items: list[Scored]) -> bool:
    """Whether the case is kept for evaluation: pediatric CMD cases and all of CMB-Clin."""
    return case.startswith("cmb-clin/") or items[0].department == "儿科"


def _reference(items: list[Scored]) -> Scored:
    """The best-scored answer that is short enough and does not speak of itself as a machine."""
    fitting = [x for x in items if len(x.answer) <= LONGEST and not _OTHER_SELF.search(x.answer)]
    return (fitting or items)[0]


def held_out(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """The held-out cases, for testing only.

    The pediatric ones come with what a doctor wrote. The others have only generated answers:
    `templated`, so that they never count as written by people.
    """
    written = {
        str(r.get("id")): clean_answer(str(r.get("raw_anwser", "")))
        for r in library.records(DISC, WRITTEN, ledger)
    }
    done = 0
    for case, items in scored(library, ledger).items():
        if not _held(case, items):
            continue
        if limit and done >= limit:
            return
        done += 1
        best = _reference(items)
        human = written.get(case.removeprefix("cmd/"), "")
        pediatric = best.department == "儿科" or about_child(best.question)
        origin = WRITTEN if human else f"eval/dialogues, {best.system}, {best.score} of 20"
        yield Chat(
            f"disc-{case.replace('/', '-')}",
            DISC,
            task_of(best.question, pediatric),
            not human,
            dialogue(best.question, human or best.answer),
            f"disc/{case}",
            "test",
            department=best.department or department_of(pediatric),
            age_group=age_group(best.question),
            provenance=f"{case} ({origin})",
        )


def _usable(item: Scored) -> bool:
    return (
        40 <= len(item.answer) <= LONGEST
        and not _OTHER_SELF.search(item.answer)
        and not count_doses(item.answer)
        and not find_personal(item.answer)
    )


def preferences(library: Library, ledger: Ledger) -> Iterator[Pair]:
    """Pairs of first answers to cases that are not held out, at least MARGIN points apart.

    The scores are of whole dialogues of which these are the beginnings; at most three pairs a
    case, always against its best usable answer.
    """
    for case, items in scored(library, ledger).items():
        best = next((item for item in items if _usable(item)), None)
        if _held(case, items) or best is None:
            continue
        pediatric = about_child(best.question)
        if ADULT_TOPIC.search(best.question) or not 4 <= len(best.question) <= 160:
            continue
        worse = [x for x in items if best.score - x.score >= MARGIN and 2 <= len(x.answer) <= 500]
        for other in [x for x in worse if x.answer != best.answer][-3:]:
            yield Pair(
                f"pair-disc-{case.replace('/', '-')}-{other.system}",
                DISC,
                task_of(best.question, pediatric),
                dialogue(best.question),
                best.answer,
                other.answer,
                "ranked",
            )
