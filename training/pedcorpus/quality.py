"""What a record must be to enter the corpus: length, cleanliness, no doses, no duplicates."""

import re
from collections.abc import Iterable, Iterator

from .clean import HAN, finish, han_share, key_of, loops, tidy
from .doses import NOTICE, count_doses, strip_doses
from .ledger import Ledger
from .personal import find_personal
from .phrasing import number
from .record import Chat, Text, Turn

SHORTEST, LONGEST = 20, 400
LONGEST_CHAT = 760
# Treatments that no answer may recommend, and words that fit no pediatric adviser.
UNSAFE = re.compile(
    r"酒精(?:擦|浴)|捂汗(?:退|发)|偏方|灌肠液|阿司匹林.{0,6}退[烧热]|符水|童子尿|驱魔|放血|百草枯|"
    r"性生活|性交|阴茎|早泄|壮阳|自杀|雷公藤|氯霉素|四环素|庆大霉素|安乃近|尼美舒利|氨茶碱|喹诺酮|"
    r"左氧氟沙星|诺氟沙星|氟哌酸|环丙沙星|利巴韦林|病毒唑|退[热烧]针|交替(?:使用|服用|吃)|一起吃|"
    r"酒精|小快克|清开灵|双黄连|安乃近|匹多莫德|地塞米松|去痛片|激素针|狗皮膏|土霉素|链霉素|"
    r"甲硝唑|替硝唑|复方甲氧那明|甘草片|可待因|地西泮|鲁米那|爽身粉|龙胆紫|吗丁啉|多潘立酮|止泻药"
)
ALLOWED_UNSAFE = re.compile("不要|不能|不可|避免|禁|忌|别")


def unsafe(text: str) -> bool:
    """Whether a sentence of the text recommends what must not be recommended."""
    return any(
        UNSAFE.search(s) and not ALLOWED_UNSAFE.search(s) for s in re.split("[。！？；\n]", text)
    )


def joined_of(chat: Chat) -> str:
    """All that is said, one turn a line."""
    return "\n".join(t.text for t in chat.turns)


def fault(chat: Chat) -> str:
    """Why the record cannot be used, or the empty string. Expects doses stripped."""
    answer = chat.answer
    body = answer.replace(NOTICE, "")
    shortest = 6 if chat.task == "general" else SHORTEST
    if len(body) < shortest:
        return "answer too short"
    if len(answer) > LONGEST:
        return "answer too long"
    if sum(len(t.text) for t in chat.turns) > LONGEST_CHAT:
        return "dialogue too long"
    if not all(t.text for t in chat.turns):
        return "empty turn"
    joined = joined_of(chat)
    kind = find_personal(joined)
    if kind:
        return "personal data: " + kind
    if chat.task == "general" and NOTICE in joined_of(chat):
        return "dose in a general answer"
    if han_share(answer) < 0.7 and not chat.group.startswith("own/"):
        return "mostly not Chinese"
    if loops(joined):
        return "loop"
    if chat.task != "general" and unsafe(answer):
        return "unsafe advice"
    return ""


def undose(chat: Chat) -> Chat:
    """The record with every assistant turn dose-free."""
    turns = tuple(
        Turn(
            t.role,
            finish(tidy(strip_doses(t.text)))
            if t.role == "assistant" and count_doses(t.text)
            else t.text,
        )
        for t in chat.turns
    )
    return chat if turns == chat.turns else type(chat)(**{**chat.__dict__, "turns": turns})


def _signature(text: str, hashes: int = 12, size: int = 6) -> tuple[int, ...]:
    """The smallest hashes of the text's shingles (a bottom-k sketch)."""
    text = re.sub(rf"[^{HAN}A-Za-z0-9]", "", text)
    pieces = {text[i : i + size] for i in range(max(1, len(text) - size + 1))}
    return tuple(sorted(hash_of(p) for p in pieces)[:hashes])


def hash_of(text: str) -> int:
    """A cheap stable 32-bit hash (FNV-1a over code points)."""
    value = 2166136261
    for char in text:
        value = (value ^ ord(char)) * 16777619 & 0xFFFFFFFF
    return value


class Seen:
    """Exact and near duplicates. Near: at least 9 of the 12 smallest shingle hashes agree."""

    def __init__(self) -> None:
        self.exact: set[str] = set()
        self.bands: dict[int, list[tuple[int, ...]]] = {}

    def exactly(self, text: str) -> bool:
        """Whether the same text, punctuation aside, was seen before."""
        key = key_of(text)
        if key in self.exact:
            return True
        self.exact.add(key)
        return False

    def nearly(self, text: str) -> bool:
        """Whether nearly the same text was seen before."""
        mine = _signature(text)
        if len(mine) < 12:
            return False
        for value in mine[:4]:
            for other in self.bands.get(value, ()):
                if len(set(mine) & set(other)) >= 9:
                    return True
        for value in mine[:4]:
            self.bands.setdefault(value, []).append(mine)
        return False


def good_chats(chats: Iterable[Chat], ledger: Ledger) -> Iterator[Chat]:
    """Records that pass, dose-free, without duplicates inside their own split decision."""
    seen, answers = Seen(), Seen()
    for chat in chats:
        chat = undose(chat)
        why = fault(chat)
        if not why and seen.exactly("\n".join(t.text for t in chat.turns)):
            why = "duplicate"
        own = chat.group.startswith("own/")
        if (
            not why
            and not own
            and len(chat.answer) > 40
            and not chat.templated
            and answers.nearly(chat.answer)
        ):
            why = "near duplicate answer"
        if why:
            ledger.drop(chat.source, why, chat.turns[0].text + " | " + chat.answer)
        else:
            yield chat


def good_texts(texts: Iterable[Text], ledger: Ledger) -> Iterator[Text]:
    """Texts that pass, without exact duplicates of their first 80 characters."""
    heads: set[int] = set()
    for text in texts:
        head = number(key_of(text.text)[:80])
        if head in heads:
            ledger.drop(text.source, "duplicate", text.text)
        elif find_personal(text.text):
            ledger.drop(text.source, "personal data", text.text)
        elif loops(text.text):
            ledger.drop(text.source, "loop", text.text)
        else:
            heads.add(head)
            yield text
