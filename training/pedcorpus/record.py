"""The records that the corpus is made of. All are frozen: cleaning makes new ones."""

from dataclasses import dataclass, replace

TASKS = ("medkqa", "evidiag", "trerecom", "general")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Turn:
    """One message of one role (`user` or `assistant`)."""

    role: str
    text: str


@dataclass(frozen=True)
class Text:
    """Plain text for continued pre-training."""

    id: str
    source: str
    pediatric: bool
    text: str


@dataclass(frozen=True)
class Chat:
    """A dialogue for supervised fine-tuning.

    `group` names what must not be torn apart by a split (a dialogue id, a fact); the empty
    group means the question itself. `split` is empty until `split.assign` has run, unless the
    source fixes it (a published test set).
    """

    id: str
    source: str
    task: str
    templated: bool
    turns: tuple[Turn, ...]
    group: str = ""
    split: str = ""
    built_question: bool = (
        False  # put together from symptom names: resembles others by construction
    )

    @property
    def question(self) -> str:
        """Everything the user says, which is what a test item may not share with training."""
        return "\n".join(turn.text for turn in self.turns if turn.role == "user")

    @property
    def answer(self) -> str:
        """The last thing the assistant says."""
        return self.turns[-1].text

    def with_split(self, split: str) -> "Chat":
        """The same record in a split."""
        return replace(self, split=split)


@dataclass(frozen=True)
class Pair:
    """A question with a better and a worse answer, for direct following preference optimisation."""

    id: str
    source: str
    task: str
    turns: tuple[Turn, ...]
    chosen: str
    rejected: str
    kind: str


def dialogue(*texts: str) -> tuple[Turn, ...]:
    """Turns from texts that alternate, the user first."""
    roles = ("user", "assistant")
    return tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts))
