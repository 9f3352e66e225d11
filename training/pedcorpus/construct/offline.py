"""The engine without a model: it rearranges what the source says and adds no fact."""

from collections.abc import Iterable, Iterator

from ..ledger import Ledger
from ..options import Options
from ..record import Chat
from .jobs import Job
from .reconstruct import reconstruct
from .regularise import regularise
from .role_play import from_facts, from_text


class Offline:
    """Deterministic: the same job gives the same chats.

    With the rule `auto` the chats join the records that they were made of, so a dialogue that
    stays as it was is counted and left out.
    """

    def __init__(self, options: Options) -> None:
        self.options = options

    def run(self, work: Iterable[Job], ledger: Ledger) -> Iterator[Chat]:
        """Chats of each job; a job that gives none is counted."""
        for job in work:
            made = list(self._made(job))
            if self.options.rule == "auto" and made and made[0].turns == job.turns:
                ledger.drop(job.source, "construct: unchanged", job.passage)
                continue
            if not made:
                ledger.drop(job.source, f"construct: nothing for {job.rule}", job.passage)
            yield from made

    def _made(self, job: Job) -> Iterator[Chat]:
        if job.rule == "role_play":
            yield from from_facts(job) if job.facts else from_text(job)
        elif job.rule == "regularise":
            yield from regularise(job, self.options.return_advice)
        else:
            yield from reconstruct(job)
