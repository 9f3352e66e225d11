"""The one interface of both engines."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

from ..ledger import Ledger
from ..options import Options
from ..readers.lexicons import Lexicon
from ..record import Chat
from .jobs import Job, jobs


class Engine(Protocol):
    """Makes chats of jobs, in the order of the jobs; rejects are counted in the ledger."""

    options: Options

    def run(self, work: Iterable[Job], ledger: Ledger) -> Iterator[Chat]: ...


def engine_from(options: Options, lexicon: Lexicon | None = None) -> Engine:
    """The engine that the options name. A lexicon lets the endpoint engine reject answers that
    name medicines which their passage does not."""
    if options.engine == "offline":
        from .offline import Offline

        return Offline(options)
    from .endpoint import Endpoint

    return Endpoint(options, lexicon)


def apply(records: Iterable, engine: Engine, ledger: Ledger) -> Iterator[Chat]:
    """Chats made of texts, triples and chats by the engine's rule.

    Ids are unique when the records' ids are. Raises ValueError (also `endpoint.EndpointError`),
    whose message says what to do.
    """
    work = jobs(records, engine.options.rule, ledger)
    yield from engine.run(islice(work, engine.options.limit or None), ledger)
