"""The request of a job, and the chats of a reply."""

from functools import cache
from pathlib import Path

from ..options import Options
from ..record import Chat, Turn, dialogue
from ..tasks import task_of
from .check import Checks, Rejected, json_of
from .jobs import Job
from .limits import tokens_of
from .made import made

PROMPTS = Path(__file__).parent / "prompts"


@cache
def prompt(rule: str, items: int) -> str:
    """The system prompt of a rule."""
    text = (PROMPTS / f"{rule}.txt").read_text("utf-8").strip()
    return text.format(items=items) if rule == "role_play" else text


def _asked(job: Job) -> str:
    if job.rule == "role_play":
        return f"主题：{' / '.join(job.topic) or '（未注明）'}\n材料：\n{job.passage}"
    if job.rule == "regularise":
        lines, place = [], 0
        for turn in job.turns:
            place += turn.role == "assistant"
            who = f"医生[{place}]" if turn.role == "assistant" else "患者"
            lines.append(f"{who}：{turn.text}")
        return "对话：\n" + "\n".join(lines)
    before = "".join(
        f"{'患者' if t.role == 'user' else '医生'}：{t.text}\n" for t in job.turns[:-2]
    )
    head = f"此前的对话：\n{before}" if before else ""
    return f"{head}问题：{job.turns[-2].text}\n旧回答：{job.turns[-1].text}"


def request_of(job: Job, options: Options) -> dict:
    """Everything that decides the answer, as the endpoint wants it."""
    return {
        "model": options.model,
        "messages": [
            {"role": "system", "content": prompt(job.rule, options.items)},
            {"role": "user", "content": _asked(job)},
        ],
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
    }


def expected_tokens(job: Job, options: Options) -> int:
    """Estimated tokens of the answer, at most `max_tokens`."""
    if job.rule == "role_play":
        likely = options.items * 260
    elif job.rule == "regularise":
        said = "".join(turn.text for turn in job.turns if turn.role == "assistant")
        likely = 2 * tokens_of(said) + 40
    else:
        likely = 420
    return min(options.max_tokens, likely)


def chats_of(
    job: Job, reply: str, checks: Checks, options: Options
) -> tuple[list[Chat], list[str]]:
    """(the chats that pass, why the others do not). Raises Rejected when the reply as a whole
    cannot be used."""
    engine = f"endpoint:{options.model}"
    found = json_of(reply)
    if job.rule == "regularise":
        return [_regularised(job, found, checks, engine)], []
    if job.rule == "reconstruct":
        question = checks.question(found.get("question"))
        answer = checks.answer(found.get("answer"), job)
        turns = (*job.turns[:-2], Turn("user", question), Turn("assistant", answer))
        return [made(job, turns, job.task, engine)], []
    items = found.get("items")
    if not isinstance(items, list):
        raise Rejected("a field is missing")
    chats: list[Chat] = []
    faults: list[str] = []
    for i, item in enumerate(items[: options.items]):
        try:
            if not isinstance(item, dict):
                raise Rejected("a field is missing")
            question = checks.question(item.get("question"))
            answer = checks.answer(item.get("answer"), job)
        except Rejected as error:
            faults.append(str(error))
            continue
        task = task_of(question, job.pediatric)
        chats.append(made(job, dialogue(question, answer), task, engine, part=str(i)))
    return chats, faults


def _regularised(job: Job, found: dict, checks: Checks, engine: str) -> Chat:
    answers = found.get("answers")
    places = [i for i, turn in enumerate(job.turns) if turn.role == "assistant"]
    if not isinstance(answers, list) or len(answers) != len(places):
        raise Rejected("not one answer for each of the doctor's turns")
    turns = list(job.turns)
    for place, answer in zip(places, answers, strict=True):
        turns[place] = Turn("assistant", checks.answer(answer, job, shortest=4))
    # Polished from what a person said: still a person's record.
    return made(job, tuple(turns), job.task, engine, templated=job.templated)
