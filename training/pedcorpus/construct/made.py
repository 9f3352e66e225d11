"""A constructed record, with its provenance."""

import re

from ..record import Chat, Turn
from .jobs import Job

RULE_NAMES = {"role_play": "role-play", "regularise": "regularise", "reconstruct": "reconstruct"}


_PARENT = re.compile(r"(?P<parent>.+)-(?:regularise|reconstruct)$")
_MADE = re.compile(r" (?:regularise|reconstruct)/(?:offline$|endpoint:)")


def parent_of(record: object) -> str:
    """Id of the dialogue that a constructed one is a better form of; empty where it is none."""
    found = isinstance(record, Chat) and _MADE.search(record.provenance)
    match = _PARENT.match(record.id) if found and isinstance(record, Chat) else None
    return match["parent"] if match else ""


def made(
    job: Job,
    turns: tuple[Turn, ...],
    task: str,
    engine: str,
    *,
    part: str = "",
    group: str = "",
    templated: bool = True,
) -> Chat:
    """The chat of a job. `part` tells several chats of one job apart; `group` is the fact where
    it is narrower than the job's."""
    name = RULE_NAMES[job.rule]
    return Chat(
        f"{job.id}-{name}" + (f"-{part}" if part else ""),
        job.source,
        task,
        templated,
        turns,
        group or job.group,
        department=job.department,
        age_group=job.age_group,
        provenance=f"{job.provenance} {name}/{engine}",
    )
