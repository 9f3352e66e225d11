"""What the user may choose about construction, on the command line or in code.

It imports nothing of the corpus: `training.run` hands these flags on without the data libraries.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

RULES = ("role_play", "regularise", "reconstruct")
ENGINES = ("offline", "endpoint")


@dataclass(frozen=True)
class Options:
    """Choices of both engines; those from `endpoint` on matter to the endpoint only.

    The API key is never an option: it is read from the environment variable `key_env`.
    """

    engine: str = "offline"
    rule: str = "auto"  # by the kind of record: texts and triples, people's chats, other chats
    limit: int = 0  # most passages or dialogues to use; 0: see the two texts of help
    return_advice: bool = False  # offline: add when to come back, where an answer says nothing
    endpoint: str = ""  # base URL, for example http://localhost:11434/v1
    model: str = ""
    key_env: str = "OPENAI_API_KEY"
    cache: str = ""  # sqlite file; empty: .cache/construct.sqlite
    concurrency: int = 8
    rpm: float = 0  # requests a minute; 0 does not limit
    tpm: float = 0  # tokens a minute, estimated; 0 does not limit
    retries: int = 6
    timeout: float = 120.0  # seconds for one request
    attempts: int = 2  # different answers asked for before a passage is given up
    items: int = 3  # questions asked for per passage
    max_tokens: int = 1500
    temperature: float = 0.7
    price_in: float = 0.0  # per million tokens, in the currency of your bill
    price_out: float = 0.0
    yes: bool = False  # do not ask after the cost was printed

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine {self.engine!r} is none of {', '.join(ENGINES)}")
        if self.rule not in ("auto", *RULES):
            raise ValueError(f"rule {self.rule!r} is none of auto, {', '.join(RULES)}")
        if self.engine == "endpoint" and not (self.endpoint and self.model):
            raise ValueError("the endpoint engine needs --endpoint URL and --model NAME")
        for name in ("concurrency", "attempts", "items", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("limit", "rpm", "tpm", "retries", "price_in", "price_out"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")

    @property
    def cache_path(self) -> Path:
        """Where the endpoint's answers are kept."""
        return Path(self.cache or ".cache/construct.sqlite")


LIMIT = "most passages to use; 0: all"
BUILD_LIMIT = (
    "most passages to use, your own first; 0: all of your own, and of the other sources as many as "
    "the preset constructs"
)


def add_arguments(parser: argparse.ArgumentParser, limit: str = LIMIT) -> None:
    """The options as flags, in groups. limit: what the command says of its limit."""
    parser.add_argument("--engine", choices=ENGINES, default="offline")
    parser.add_argument("--rule", choices=("auto", *RULES), default="auto")
    parser.add_argument("--limit", type=int, default=0, help=limit)
    parser.add_argument(
        "--return-advice", action="store_true", help="offline: add when to come back"
    )
    group = parser.add_argument_group("endpoint engine (any OpenAI-compatible server)")
    group.add_argument("--endpoint", default="", help="base URL, e.g. http://localhost:8000/v1")
    group.add_argument("--model", default="", help="the server's name of the model")
    group.add_argument(
        "--key-env", default="OPENAI_API_KEY", help="environment variable that holds the API key"
    )
    group.add_argument(
        "--cache", default="", help="sqlite file of answers (.cache/construct.sqlite)"
    )
    group.add_argument("--concurrency", type=int, default=8)
    group.add_argument("--rpm", type=float, default=0, help="requests a minute; 0: no limit")
    group.add_argument("--tpm", type=float, default=0, help="tokens a minute; 0: no limit")
    group.add_argument("--retries", type=int, default=6)
    group.add_argument("--timeout", type=float, default=120.0, help="seconds for one request")
    group.add_argument("--attempts", type=int, default=2, help="answers asked for per passage")
    group.add_argument("--items", type=int, default=3, help="questions per passage")
    group.add_argument("--max-tokens", type=int, default=1500)
    group.add_argument("--temperature", type=float, default=0.7)
    group.add_argument("--price-in", type=float, default=0.0, help="per million tokens")
    group.add_argument("--price-out", type=float, default=0.0, help="per million tokens")
    group.add_argument("--yes", action="store_true", help="do not ask after printing the cost")


def options_from(namespace: argparse.Namespace) -> Options:
    """The options among parsed flags. Raises ValueError for values that do not go together."""
    known = {f.name for f in fields(Options)}
    return Options(**{name: value for name, value in vars(namespace).items() if name in known})


def as_arguments(options: Options) -> list[str]:
    """The flags that give these options, for another command."""
    given: list[str] = []
    for f in fields(Options):
        value = getattr(options, f.name)
        if value != f.default:
            flag = "--" + f.name.replace("_", "-")
            given += [flag] if value is True else [flag, str(value)]
    return given
