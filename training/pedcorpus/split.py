"""Train, valid and test: by hash of what must stay together, and nothing held out in training."""

from .clean import key_of
from .phrasing import number
from .record import Chat

# Share of the hashed groups per task that go to (valid, test).
SHARES = {
    "medkqa": (0.04, 0.03),
    "trerecom": (0.05, 0.03),
    "evidiag": (0.06, 0.0),
    "general": (0.07, 0.05),
}
RANK = {"train": 0, "valid": 1, "test": 2}


def hashed(group: str, task: str) -> str:
    """The split of a group of records, from its name only."""
    valid, test = SHARES[task]
    at = number("split", group) % 100000 / 100000
    return "valid" if at < valid else "test" if at < valid + test else "train"


def split_of(chat: Chat) -> str:
    """The split of a record: as its source says, else by hash of its group or its question."""
    return chat.split or hashed(chat.group or key_of(chat.question), chat.task)
