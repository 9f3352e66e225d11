"""The engine that asks a model behind an OpenAI-compatible endpoint."""

import os
import pickle
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from ..ledger import Ledger
from ..options import Options
from ..readers.lexicons import Lexicon
from ..record import Chat
from .cache import Cache, Reply, key_of_request
from .check import Checks, Rejected
from .jobs import Job
from .limits import Estimate, Pace, request_tokens
from .requests import chats_of, expected_tokens, request_of


class EndpointError(ValueError):
    """The endpoint cannot be used; the message says why and what to do."""


def ask_on_terminal(said: str) -> bool:
    """Print the estimate on stderr and ask; without a terminal nobody can agree."""
    if not sys.stdin.isatty():
        raise EndpointError("nobody is there to agree to the cost: give --yes")
    print("Send these requests? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes", "j", "ja", "是")


@dataclass
class Result:
    """What came of one job."""

    chats: list[Chat] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    sample: str = ""
    asked: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Endpoint:
    """Concurrent, rate-limited and resumable: answers are kept as they come, by their request.

    Retries with back-off (429, 408, 409, 5xx, broken connections, Retry-After) are those of the
    `openai` library.
    """

    def __init__(
        self,
        options: Options,
        lexicon: Lexicon | None = None,
        agree: Callable[[str], bool] = ask_on_terminal,
    ) -> None:
        import openai

        self.options, self._agree = options, agree
        self._checks = Checks(lexicon)
        self._cache = Cache(options.cache_path)
        self._requests, self._tokens = Pace(options.rpm), Pace(options.tpm)
        # A server of one's own wants no key, but the library wants something to send.
        self._client = openai.OpenAI(
            base_url=options.endpoint,
            api_key=os.environ.get(options.key_env) or "none",
            max_retries=options.retries,
            timeout=options.timeout,
        )

    def run(self, work: Iterable[Job], ledger: Ledger) -> Iterator[Chat]:
        """Chats in the order of the jobs. The cost is printed, and agreed to, before the first
        request. Raises EndpointError; a later run goes on where this one stopped."""
        with (
            tempfile.TemporaryFile() as spool
        ):  # jobs are counted first: they need not fit in memory
            estimate = self._estimate(work, spool)
            print(estimate.said(self.options), file=sys.stderr)
            if estimate.requests and not self.options.yes and not self._agree(""):
                raise EndpointError("not agreed to; nothing was sent")
            spool.seek(0)
            yield from self._all(_load(spool), ledger)

    def _estimate(self, work: Iterable[Job], spool: IO[bytes]) -> Estimate:
        estimate = Estimate()
        for job in work:
            pickle.dump(job, spool)
            request = request_of(job, self.options)
            if self._cache.get(key_of_request(request, 0)) is not None:
                estimate.cached += 1
            else:
                tokens = request_tokens(request["messages"])
                estimate.add(tokens, expected_tokens(job, self.options))
        return estimate

    def _all(self, work: Iterator[Job], ledger: Ledger) -> Iterator[Chat]:
        window: deque[tuple[Job, Future[Result]]] = deque()
        total = Result()
        pool = ThreadPoolExecutor(self.options.concurrency)
        try:
            for job in islice(work, 2 * self.options.concurrency):
                window.append((job, pool.submit(self._one, job)))
            while window:
                job, future = window.popleft()
                result = future.result()
                for following in islice(work, 1):
                    window.append((following, pool.submit(self._one, following)))
                for why in result.faults:
                    ledger.drop(job.source, f"construct: {why}", result.sample)
                total.asked += result.asked
                total.tokens_in += result.tokens_in
                total.tokens_out += result.tokens_out
                yield from result.chats
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        print(
            f"construct: {total.asked:,d} requests sent, {total.tokens_in:,d} tokens in and "
            f"{total.tokens_out:,d} out by the server's count",
            file=sys.stderr,
        )

    def _one(self, job: Job) -> Result:
        """The job's chats after at most `attempts` different answers. An answer of which some
        items pass is taken; its other items are counted."""
        request, result = request_of(job, self.options), Result()
        for attempt in range(self.options.attempts):
            key = key_of_request(request, attempt)
            reply = self._cache.get(key)
            if reply is None:
                reply = self._ask(request, job)
                self._cache.put(key, reply)
                result.asked += 1
                result.tokens_in += reply.tokens_in
                result.tokens_out += reply.tokens_out
            try:
                chats, faults = chats_of(job, reply.text, self._checks, self.options)
            except Rejected as error:
                chats, faults = [], [str(error)]
            result.faults += faults
            if faults:
                result.sample = reply.text
            if chats or not faults:  # an empty list of items: the passage gives none
                result.chats = chats
                break
        return result

    def _ask(self, request: dict, job: Job) -> Reply:
        import openai

        self._requests.wait()
        tokens = request_tokens(request["messages"]) + expected_tokens(job, self.options)
        self._tokens.wait(tokens)
        try:
            reply = self._client.chat.completions.create(**request)
        except openai.BadRequestError as error:
            if error.code in ("content_filter", "data_inspection_failed"):
                return Reply("")  # refused by the server's filter: rejected as "not JSON"
            raise EndpointError(f"{self.options.endpoint} refuses the request: {error}") from error
        except openai.AuthenticationError as error:
            raise EndpointError(
                f"{self.options.endpoint} does not accept the key in ${self.options.key_env}"
            ) from error
        except openai.NotFoundError as error:
            raise EndpointError(
                f"{self.options.endpoint} knows no model {self.options.model!r}, or the URL lacks "
                f"its /v1: {error}"
            ) from error
        except openai.APIError as error:
            raise EndpointError(
                f"{self.options.endpoint} does not answer after {self.options.retries} retries "
                f"({error}); {len(self._cache):,d} answers are kept in {self.options.cache_path}: "
                "run the same command again to go on"
            ) from error
        if not reply.choices:
            return Reply("")
        usage = reply.usage
        return Reply(
            reply.choices[0].message.content or "",
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )


def _load(spool: IO[bytes]) -> Iterator[Job]:
    """The jobs that this process has just written to its own temporary file."""
    while True:
        try:
            yield pickle.load(spool)
        except EOFError:
            return
