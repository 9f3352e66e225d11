"""Requests and tokens per minute, and an estimate of tokens and cost."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from ..clean import HAN
from ..options import Options


class Pace:
    """Lets callers through evenly, so that no minute holds more than the limit.

    The caller waits outside the lock: others can book the next place meanwhile.
    """

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.per_minute, self._clock, self._sleep = per_minute, clock, sleep
        self._free = 0.0
        self._lock = Lock()

    def wait(self, amount: float = 1.0) -> None:
        """Wait for one's turn and book `amount` (a request, or its tokens)."""
        if not self.per_minute:
            return
        with self._lock:
            now = self._clock()
            turn = max(now, self._free)
            self._free = turn + amount * 60.0 / self.per_minute
        if turn > now:
            self._sleep(turn - now)


def tokens_of(text: str) -> int:
    """An estimate from above: a token per Chinese character and per three other characters.

    Tokenizers of current Chinese models need 0.6 to 1 token a character.
    """
    han = len(re.findall(f"[{HAN}]", text))
    return han + (len(text) - han + 2) // 3


def request_tokens(messages: Sequence[dict[str, str]]) -> int:
    """Estimated tokens of a chat request."""
    return sum(tokens_of(message["content"]) + 4 for message in messages)


@dataclass
class Estimate:
    """What the work will cost at most, if every first answer is accepted."""

    requests: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, tokens_in: int, tokens_out: int) -> None:
        """One more request."""
        self.requests += 1
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out

    def said(self, options: Options) -> str:
        """The estimate in words, with the price when prices are known."""
        lines = [
            f"construct with {options.model} at {options.endpoint}:",
            f"  requests    {self.requests:12,d}   ({self.cached:,d} more are in the cache)",
            f"  tokens in   {self.tokens_in:12,d}   estimated",
            f"  tokens out  {self.tokens_out:12,d}   estimated",
        ]
        if options.price_in or options.price_out:
            price = self.tokens_in * options.price_in + self.tokens_out * options.price_out
            lines.append(f"  price       {price / 1e6:12.2f}   rejected answers come on top")
        else:
            lines.append(
                "  price       unknown: give --price-in and --price-out per million tokens"
            )
        if options.rpm:
            lines.append(f"  time        {self.requests / options.rpm:12.1f}   minutes at least")
        return "\n".join(lines)
