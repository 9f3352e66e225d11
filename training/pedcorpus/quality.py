"""How long a record may be, what no answer may recommend, and how a long dialogue is cut."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from .clean import finish
from .doses import NOTICE
from .record import Chat, Text, Turn

SHORTEST, LONGEST = 20, 400
LONGEST_CHAT = 760  # about 500 tokens of the nano tokenizer: a context of 512
OPENING = 60
LONGEST_TEXT = 2_400
# Treatments that no answer may recommend, and words that fit no pediatric adviser.
UNSAFE = re.compile(
    r"酒精(?:擦|浴)|捂汗(?:退|发)|偏方|灌肠液|阿司匹林.{0,6}退[烧热]|符水|童子尿|驱魔|放血|百草枯|"
    r"性生活|性交|阴茎|早泄|壮阳|自杀|雷公藤|氯霉素|四环素|庆大霉素|安乃近|尼美舒利|氨茶碱|喹诺酮|"
    r"左氧氟沙星|诺氟沙星|氟哌酸|环丙沙星|利巴韦林|病毒唑|退[热烧]针|交替(?:使用|服用|吃)|一起吃|"
    r"酒精|小快克|清开灵|双黄连|安乃近|匹多莫德|地塞米松|去痛片|激素针|狗皮膏|土霉素|链霉素|"
    r"甲硝唑|替硝唑|复方甲氧那明|甘草片|可待因|地西泮|鲁米那|爽身粉|龙胆紫|吗丁啉|多潘立酮|止泻药"
)
# The sentence forbids somewhere: the measure by which evaluation items were chosen.
_FORBIDS = re.compile("不要|不能|不可|避免|禁|忌|别")
# The clause forbids right before what it names, or right after.
_FORBIDDEN = re.compile(
    "(?:(?<!要)不要(?!忘|紧|怕|担心|停)|(?<!能)不能(?!停|忘)|(?<!可)不可(?!缺)|避免|禁(?!食)|忌|"
    "(?<![特分性区个级类识辨差鉴送告])别(?![的人处忘]))[^，,。]{0,6}$"
)
_REFUSED = re.compile(
    "^[^，,。]{0,8}(?:禁用|禁止|禁忌|忌用|不要用|不能用|不可用|不能使用|不可使用|不要使用|不要吃|不能吃|"
    "不可取|不要擦|避免使用)"
)
_CLAUSE = re.compile("[，,：:]")
_LISTED = re.compile("^[^，,。]{0,4}(?:、|和|或|及|与)[^，,。]{0,4}$")


def _recommends(clause: str) -> bool:
    end = -1  # of the last name that was forbidden; what is listed with it is forbidden too
    for match in UNSAFE.finditer(clause):
        listed = end >= 0 and _LISTED.search(clause[end : match.start()])
        if not (
            listed
            or _FORBIDDEN.search(clause[: match.start()])
            or _REFUSED.search(clause[match.end() :])
        ):
            return True
        end = match.end()
    return False


def unsafe(text: str) -> bool:
    """Whether a clause of the text recommends what must not be recommended."""
    return any(
        _recommends(clause)
        for sentence in re.split("[。！？；\n]", text)
        if UNSAFE.search(sentence)
        for clause in _CLAUSE.split(sentence)
    )


def unsafe_sentence(text: str) -> bool:
    """`unsafe`, but a word that forbids anywhere in the sentence excuses it."""
    return any(UNSAFE.search(s) and not _FORBIDS.search(s) for s in re.split("[。！？；\n]", text))


def joined_of(chat: Chat) -> str:
    """All that is said, one turn a line."""
    return "\n".join(t.text for t in chat.turns)


def lengths_fault(chat: Chat) -> str:
    """Why the lengths of a record do not fit, or the empty string. Expects doses stripped."""
    answer = chat.answer
    if len(answer.replace(NOTICE, "")) < (6 if chat.task == "general" else SHORTEST):
        return "answer too short"
    if len(answer) > LONGEST:
        return "answer too long"
    if sum(len(t.text) for t in chat.turns) > LONGEST_CHAT:
        return "dialogue too long"
    return "" if all(t.text for t in chat.turns) else "empty turn"


def shortened(text: str, longest: int = LONGEST) -> str:
    """The whole sentences of the beginning that fit into `longest` characters, possibly none."""
    if len(text) <= longest:
        return text
    end = max(text.rfind(stop, 0, longest) for stop in "。！？；")
    return finish(text[: end + 1].rstrip("；")) if end > 0 else ""


_CLOSES = re.compile(
    "^(?:[^。！？]{0,6}(?:不客气|不用谢|不用客气|不谢|欢迎)|(?:好的|嗯|那好)[，。！]?$|"
    "(?:如果|若|如)?(?:您|你)?(?:以后|还)?有(?:任何|其他|什么)?(?:其他)?(?:问题|疑问|需要)[^。]{0,24}"
    "(?:联系|咨询|告诉|询问|问我))"
)


def closes(answer: str) -> bool:
    """Whether an answer only takes leave."""
    return len(answer) < 60 and _CLOSES.search(answer) is not None


def _opening(turn: Turn) -> str:
    """The first sentences of the complaint, which every later window needs to be understood."""
    end = max(turn.text.rfind(stop, 0, OPENING) for stop in "。！？，")
    return turn.text[: end + 1].rstrip("，") if end > 8 else ""


def windows(chat: Chat) -> Iterator[Chat]:
    """A dialogue that is too long as parts of whole exchanges; one that fits as it is.

    Every part starts with the user and ends with an answer of at least SHORTEST characters that is
    more than a leave-taking; the parts after the first begin with the complaint again. All parts have
    the same group, so a split never tears the dialogue apart. Only the last answer of a part is
    measured, and an answer that is too long is cut after a sentence.
    """
    turns = list(chat.turns)
    size = sum(len(t.text) for t in turns)
    shortest = 6 if chat.task == "general" else SHORTEST
    short = len(turns) > 2 and (len(chat.answer) < shortest or closes(chat.answer))
    if size <= LONGEST_CHAT and len(chat.answer) <= LONGEST and not short:
        yield chat
        return
    exchanges = list(zip(turns[::2], turns[1::2], strict=False))
    again = _opening(turns[0])
    part: list[Turn] = []
    held, made = 0, 0

    def ended() -> Chat | None:
        while part and (len(part[-1].text.replace(NOTICE, "")) < shortest or closes(part[-1].text)):
            del part[-2:]
        if not part:
            return None
        return replace(
            chat,
            id=f"{chat.id}-w{made}",
            turns=tuple(part),
            group=chat.group or f"{chat.source}/{chat.id}",
        )

    for user, assistant in exchanges:
        assistant = Turn("assistant", shortened(assistant.text))
        length = len(user.text) + len(assistant.text)
        if not assistant.text or length + OPENING > LONGEST_CHAT:
            continue
        if part and held + length > LONGEST_CHAT:
            done = ended()
            if done is not None:
                yield done
                made += 1
            part.clear()
        if not part:
            held = 0
            if made and again and again not in user.text:
                glue = "" if again[-1] in "。！？" else "。"
                user = Turn("user", again + glue + user.text)
        part += [user, assistant]
        held += len(user.text) + len(assistant.text)
    done = ended()
    if done is not None:
        yield done


def without_exchanges(chat: Chat, bad: Callable[[str], bool]) -> Chat | None:
    """The dialogue without the exchanges whose answer is bad; None when none is left.

    The complaint of a first exchange that goes is said in the next one.
    """
    kept: list[Turn] = []
    said = ""
    for user, assistant in zip(chat.turns[::2], chat.turns[1::2], strict=False):
        if bad(assistant.text):
            said = user.text if not kept and not said else said
            continue
        if said:
            glue = "" if said[-1] in "。！？，" else "。"
            user, said = Turn("user", said + glue + user.text), ""
        kept += [user, assistant]
    if len(kept) == len(chat.turns):
        return chat
    return replace(chat, turns=tuple(kept)) if kept else None


def chunks(text: Text, longest: int = LONGEST_TEXT) -> Iterator[Text]:
    """A long text in parts of whole lines, or of sentences where a line is longer."""
    if len(text.text) <= longest:
        yield text
        return
    part, made = "", 0
    for piece in re.findall(r"[^。！？\n]{1,2000}(?:[。！？]+|\n|$)?|[。！？\n]", text.text):
        if part and len(part) + len(piece) > longest:
            yield replace(text, id=f"{text.id}-c{made}", text=part.strip())
            part, made = "", made + 1
        part += piece
    if part.strip():
        yield replace(text, id=f"{text.id}-c{made}", text=part.strip())
