"""Multiple-choice questions. They measure; they never train."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator

from ..archive import Library
from ..clean import key_of, tidy
from ..ledger import Ledger
from ..phrasing import number
from ..record import Exam
from ..sources import CHINESEBLUE, HUATUOGPT, MING, YIER
from .ages import about_child

CMEXAM = "ming/eval/datasets/cmexam_test_01_clinical_depart.csv"
MMEDBENCH = "ming/eval/datasets/mmedbench-02-chinese-tiny.jsonl"
YIER_CHOICE, YIER_TRUTH = "train/data/YIER-train.json", "train/data/YIER-train-2.json"
YIER_TEST = "train/data/YIER-test-1.json"
INTENTS = "eval/KUAKE-QIC_100.json"
PARAPHRASES = ("data/cMedQQ/dev.txt", "data/cMedQQ/test.txt")

_OPTION = re.compile(r"^\s*([A-E])[\s.、．]+(.+?)\s*$")
_QUESTION = re.compile(r"### 问题:\s*(.*?)\s*###", re.S)
_CLAIM = re.compile(r"### 回答:\s*(.*?)\s*$", re.S)
_CHOICES = re.compile(r"### 选项:\s*(\{.*?\})\s*### 回答", re.S)
_UNSTATED = "不符合"


def cmexam(library: Library, ledger: Ledger) -> Iterator[Exam]:
    """Questions of the medical licensing examination, with their clinical department."""
    text = library.read(MING, CMEXAM).get(CMEXAM, "")
    for i, row in enumerate(csv.DictReader(io.StringIO(text))):
        ledger.saw(MING)
        question = tidy(row.get("Question") or "")
        found = [_OPTION.match(line) for line in (row.get("Options") or "").splitlines()]
        letters = [match.group(1) for match in found if match]
        answer = (row.get("Answer") or "").strip()
        if not question or not all(found) or letters != list("ABCDE"[: len(letters)]):
            ledger.drop(MING, "broken record: question or options unreadable", str(row))
        elif len(answer) != 1:
            ledger.drop(MING, "several right answers", question + " " + answer)
        elif answer not in letters:
            ledger.drop(MING, "broken record: the answer is none of the options", question)
        else:
            department = row.get("Clinical Department") or ""
            yield Exam(
                f"cmexam-{i}",
                MING,
                question,
                tuple(tidy(match.group(2)) for match in found if match),
                letters.index(answer),
                tidy(row.get("Explanation") or ""),
                "" if department == _UNSTATED else department,
            )


def mmedbench(library: Library, ledger: Ledger) -> Iterator[Exam]:
    """Four-option questions with a rationale; the pediatric chapter is named."""
    for i, record in enumerate(library.records(MING, MMEDBENCH, ledger)):
        ledger.saw(MING)
        options, letter = record.get("options") or {}, record.get("answer_idx")
        if not record.get("question") or letter not in options:
            ledger.drop(MING, "broken record: question, options or answer missing", str(record))
            continue
        yield Exam(
            f"mmedbench-{i}",
            MING,
            tidy(record["question"]),
            tuple(tidy(str(option)) for option in options.values()),
            list(options).index(letter),
            tidy(record.get("rationale") or ""),
            "儿科" if "儿科" in str(record.get("meta_info")) else "",
        )


def ming(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Exam]:
    """CMExam, then MMedBench; a question that both hold counts once."""
    seen: set[str] = set()
    for make in (cmexam, mmedbench):
        for exam in make(library, ledger):
            key = key_of(exam.question + "".join(exam.options))
            if key in seen:
                ledger.drop(MING, "duplicate", exam.question)
            elif limit and len(seen) >= limit:
                return
            else:
                seen.add(key)
                yield exam


TRUTH = ("正确", "错误")
TRUTH_ASK = "下面对医学考试题的回答是否正确？\n问题：{q}\n回答：{a}"


def _prompt(record: dict) -> tuple[str, str]:
    """(what the user says, what the assistant says) of a record, empty when malformed."""
    turns = record.get("conversation") or [{}, {}]
    said = [str(turn.get("content", "")) for turn in turns]
    return (said[0], said[1]) if len(said) == 2 else ("", "")


def yier(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Exam]:
    """One right and one wrong claim per question, so that a constant answer scores one half.

    `YIER-train` repeats the questions of `YIER-train-2` in another form: only those that are
    not in `YIER-train-2` come as questions with all their options. The test file has no answers.
    """
    claims: defaultdict[str, dict[str, list[str]]] = defaultdict(lambda: {t: [] for t in TRUTH})
    for record in library.records(YIER, YIER_TRUTH, ledger):
        ledger.saw(YIER)
        asked, said = _prompt(record)
        question, claim = _QUESTION.search(asked), _CLAIM.search(asked)
        truth = said.removeprefix("回答").strip()
        if not question or not claim or truth not in TRUTH:
            ledger.drop(YIER, "broken record: no question, claim or verdict", asked or str(record))
            continue
        claims[tidy(question.group(1))][truth].append(tidy(claim.group(1)))
    exams: list[Exam] = []
    for question, found in claims.items():
        for place, truth in enumerate(TRUTH):
            options = found[truth]
            chosen = options[number("yier", question) % len(options)] if options else ""
            if chosen:
                name = f"yier-{len(exams)}"
                ask = TRUTH_ASK.format(q=question, a=chosen)
                exams.append(Exam(name, YIER, ask, TRUTH, place))
            for option in (o for o in options if o != chosen):
                ledger.drop(YIER, "a further claim on the same question", question + " " + option)
    keys = {key_of(question) for question in claims}
    for record in library.records(YIER, YIER_CHOICE, ledger):
        ledger.saw(YIER)
        asked, said = _prompt(record)
        question, choices = _QUESTION.search(asked), _CHOICES.search(asked)
        options = _options(choices.group(1)) if choices else {}
        if not question or said.strip() not in options:
            ledger.drop(YIER, "broken record: options or answer unreadable", asked or str(record))
        elif key_of(question.group(1)) in keys:
            ledger.drop(YIER, "same question in YIER-train-2", question.group(1))
        else:
            texts = tuple(tidy(o) for o in options.values())
            at = list(options).index(said.strip())
            exams.append(Exam(f"yier-{len(exams)}", YIER, tidy(question.group(1)), texts, at))
    for record in library.records(YIER, YIER_TEST, ledger):
        ledger.saw(YIER)
        ledger.drop(YIER, "no answer given", _prompt(record)[0])
    yield from exams[: limit or None]


def _options(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def intents(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Exam]:
    """Search queries and what they ask for (KUAKE-QIC), the options in a fixed order."""
    records = library.records(HUATUOGPT, INTENTS, ledger)
    labels = tuple(sorted({str(r["label"]) for r in records if r.get("label")}))
    for i, record in enumerate(records[: limit or None]):
        ledger.saw(HUATUOGPT)
        if not record.get("query") or record.get("label") not in labels:
            ledger.drop(HUATUOGPT, "broken record: no query or no label", str(record))
            continue
        ask = f"下面这句提问想了解的是哪一类内容？\n{tidy(record['query'])}"
        yield Exam(f"kuake-{i}", HUATUOGPT, ask, labels, labels.index(record["label"]))


SAME = ("相同", "不同")


def paraphrases(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Exam]:
    """Pairs of questions about children that ask the same or not (cMedQQ, dev and test)."""
    done = 0
    for path, text in library.files(CHINESEBLUE, lambda p: p in PARAPHRASES):
        for number_, line in enumerate(text.splitlines(), 1):
            ledger.saw(CHINESEBLUE)
            parts = line.split("\t")
            if len(parts) != 3 or parts[0] not in "01":
                ledger.drop(CHINESEBLUE, "broken record", f"{path}:{number_}: {line}")
            elif not about_child(parts[1]) or not about_child(parts[2]):
                ledger.drop(CHINESEBLUE, "pair of questions not about a child", line)
            elif limit and done >= limit:
                return
            else:
                ask = f"下面两句提问的意思相同吗？\n甲：{tidy(parts[1])}\n乙：{tidy(parts[2])}"
                name = f"cmedqq-{path.rpartition('/')[2].removesuffix('.txt')}-{number_}"
                yield Exam(name, CHINESEBLUE, ask, SAME, 1 - int(parts[0]), department="儿科")
                done += 1
