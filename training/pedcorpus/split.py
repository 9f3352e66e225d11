"""Train, valid and test: by hash, and nothing of valid or test left in training."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from .clean import key_of
from .ledger import Ledger
from .phrasing import number
from .record import Chat, Text

# Share of the hashed groups per task that go to (valid, test).
SHARES = {
    "medkqa": (0.04, 0.03),
    "trerecom": (0.05, 0.03),
    "evidiag": (0.06, 0.0),
    "general": (0.07, 0.05),
}
SHINGLE = 10
NEAR = 0.6


def hashed(group: str, task: str) -> str:
    """The split of a group of records, from its name only."""
    valid, test = SHARES[task]
    at = number("split", group) % 100000 / 100000
    return "valid" if at < valid else "test" if at < valid + test else "train"


def shingles(text: str) -> set[str]:
    """Overlapping pieces of the normalised text; a short text is one piece."""
    text = key_of(text)
    if len(text) <= SHINGLE:
        return {text}
    return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}


@dataclass
class Guard:
    """Knows the held-out questions and tells whether a text shares one of them."""

    keys: set[str] = field(default_factory=set)
    index: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    sizes: list[int] = field(default_factory=list)

    def add(self, question: str) -> None:
        """Remember a held-out question."""
        self.keys.add(key_of(question))
        pieces = shingles(question)
        if len(pieces) >= 8:
            for piece in pieces:
                self.index[piece].add(len(self.sizes))
            self.sizes.append(len(pieces))

    def shares(self, text: str) -> bool:
        """Same normalised question, or most shingles of a held-out question inside the text."""
        if key_of(text) in self.keys:
            return True
        hits: defaultdict[int, int] = defaultdict(int)
        for piece in shingles(text):
            for item in self.index.get(piece, ()):
                hits[item] += 1
                if hits[item] >= NEAR * self.sizes[item]:
                    return True
        return False


def assign(chats: Iterable[Chat], ledger: Ledger) -> tuple[list[Chat], Guard]:
    """Give every record its split and drop from training what shares a held-out question.

    Questions put together from symptom names resemble one another by construction, so for
    templated records only the equality of the question counts, not the resemblance.
    """
    placed = []
    for chat in chats:
        group = chat.group or key_of(chat.question)
        placed.append(chat.with_split(chat.split or hashed(group, chat.task)))
    guard, exact = Guard(), {}
    rank = {"test": 2, "valid": 1, "train": 0}
    for chat in placed:
        key = key_of(chat.question)
        exact[key] = max(exact.get(key, 0), rank[chat.split])
        if chat.split != "train" and not chat.templated and not chat.built_question:
            guard.add(chat.question)
    kept = []
    for chat in placed:
        key = key_of(chat.question)
        if rank[chat.split] < exact[key]:
            ledger.drop(chat.source, "shares a held-out question", chat.question)
        elif (
            chat.split == "train"
            and not chat.templated
            and not chat.built_question
            and guard.shares(chat.question)
        ):
            ledger.drop(chat.source, "resembles a held-out question", chat.question)
        else:
            kept.append(chat)
    return kept, guard


def clear_texts(texts: Iterable[Text], guard: Guard, ledger: Ledger) -> Iterable[Text]:
    """Texts that hold no held-out question."""
    for text in texts:
        if guard.shares(text.text):
            ledger.drop(text.source, "text holds a held-out question", text.text)
        else:
            yield text
