"""The records that the corpus is made of. All are frozen: cleaning makes new ones."""

from dataclasses import dataclass, replace

TASKS = ("medkqa", "evidiag", "trerecom", "general")
SPLITS = ("train", "valid", "test")
AGE_GROUPS = ("新生儿", "婴儿", "幼儿", "学龄前", "学龄", "青少年", "成人")


@dataclass(frozen=True)
class Turn:
    """One message of one role (`user` or `assistant`)."""

    role: str
    text: str


@dataclass(frozen=True)
class Text:
    """Plain text for continued pre-training.

    `provenance` says where it comes from: a path in the source, and the rule and engine that
    made it when it is not taken as it stands.
    """

    id: str
    source: str
    pediatric: bool
    text: str
    department: str = ""
    age_group: str = ""
    provenance: str = ""


@dataclass(frozen=True)
class Chat:
    """A dialogue for supervised fine-tuning.

    `templated` is false when people wrote it (also when it was polished from people's words).
    `department` is a Chinese name (儿科, 内科, ...), empty when unknown; `age_group` one of
    AGE_GROUPS or empty. `group` names what must not be torn apart by a split (a dialogue id, a fact); the empty
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
    department: str = ""
    age_group: str = ""
    provenance: str = ""

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
class Exam:
    """A multiple-choice question; `answer` is the place of the right option, from 0."""

    id: str
    source: str
    question: str
    options: tuple[str, ...]
    answer: int
    explanation: str = ""
    department: str = ""
    split: str = "test"

    def __post_init__(self) -> None:
        if not 0 <= self.answer < len(self.options):
            raise ValueError(
                f"{self.id}: answer {self.answer} names none of {len(self.options)} options"
            )


@dataclass(frozen=True)
class Triple:
    """A statement of a knowledge graph: head, relation, tail."""

    source: str
    head: str
    relation: str
    tail: str


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
