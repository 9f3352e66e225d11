"""Pairs for direct following preference optimisation: a reference answer and a worse one."""

import re
from collections.abc import Iterator, Sequence
from heapq import heappush, heapreplace

from .archive import Library
from .clean import clean_question, finish, tidy
from .doses import count_doses
from .phrasing import number, pick
from .quality import unsafe
from .readers.questioning import URGENT
from .record import Chat, Pair, dialogue
from .sources import LLAMAFACTORY, MEDICALGPT

PAIRED = ("medkqa", "evidiag", "trerecom")
RETURNS = re.compile("就医|就诊|急诊|120|复诊|医院|医生|门诊")
SEE_DOCTOR = (
    "如果症状加重或孩子精神变差，请及时到儿科就诊。",
    "若持续不缓解，请带孩子到医院检查。",
    "情况没有好转时，建议到儿科门诊面诊。",
)
_TERSE = (
    "多喝水，注意休息。",
    "问题不大，不用管。",
    "吃点药就好了。",
    "这个不清楚。",
    "不要紧的，过几天就好。",
)
_MEDICINES = (
    "阿莫西林",
    "头孢克肟",
    "布洛芬混悬液",
    "对乙酰氨基酚",
    "蒙脱石散",
    "小儿氨酚黄那敏颗粒",
    "阿奇霉素",
    "西替利嗪",
)
_DOSES = (
    "每次{n}毫升，每日{k}次",
    "一次{n}片，一天{k}次",
    "每次{n}mg，每日{k}次",
    "每次{n}袋，一日{k}次",
)
KINDS = ("other answer", "terse", "dose", "loop", "truncated", "template")


def _dosed(chat: Chat, answer: str) -> str:
    """The answer with a dose in it that nobody checked."""
    medicine = pick(_MEDICINES, chat.id, "medicine")
    dose = pick(_DOSES, chat.id, "dose").format(
        n=number(chat.id, "n") % 9 + 1, k=number(chat.id, "k") % 3 + 2
    )
    parts = re.findall(r"[^。！？]+[。！？]", answer) or [answer]
    at = number(chat.id, "at") % (len(parts) + 1)
    return "".join([*parts[:at], f"可以给孩子吃{medicine}，{dose}。", *parts[at:]])


def _looped(chat: Chat, answer: str) -> str:
    parts = re.findall(r"[^，。！？]+[，。！？]", answer) or [answer]
    part = pick(parts[:4], chat.id, "loop")
    start = "".join(parts[: parts.index(part)])
    return start + part * (3 + number(chat.id) % 4)


def worse(chat: Chat, kind: str, others: Sequence[Chat]) -> str:
    """A worse answer of one kind to the record's question."""
    answer = chat.answer
    if kind == "terse":
        return pick(_TERSE, chat.id, "terse")
    if kind == "dose":
        return _dosed(chat, answer)
    if kind == "loop":
        return _looped(chat, answer)
    if kind == "truncated":
        return answer[: max(8, len(answer) // 4)].rstrip("，。、；")
    if kind == "template":
        return (
            "您好，问题分析：根据您的描述，这种情况很常见。意见建议："
            + pick(_TERSE, chat.id, "t")
            + "祝您健康！"
        )
    return _other(chat, others).answer


def _bigrams(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}


def _other(chat: Chat, others: Sequence[Chat]) -> Chat:
    """The record, of a few drawn by hash, whose question is least like this one's.

    An answer to the same illness could be as good as the reference.
    """
    asked = _bigrams(chat.question)
    drawn = [pick(others, chat.id, f"other {i}") for i in range(8)]
    return min(drawn, key=lambda other: len(asked & _bigrams(other.question)))


def better(chat: Chat) -> str:
    """The reference answer with a word on when to see a doctor, unless it says so already.

    Knowledge from the graph (templated MedKQ&A) names no patient and stays as it is.
    """
    if RETURNS.search(chat.answer) or (chat.task == "medkqa" and chat.templated):
        return chat.answer
    return finish(chat.answer) + pick(SEE_DOCTOR, chat.id, "see")


def safe(answer: str) -> bool:
    """Whether an answer may be preferred: no dose, no treatment of the unsafe list."""
    return not count_doses(answer) and not unsafe(answer)


def _fit(chat: Chat) -> bool:
    """Whether the reference answer is complete in the manner of its task."""
    if chat.split != "train" or not 40 <= len(chat.answer) <= 320 or not safe(chat.answer):
        return False
    if chat.answer[-1] in "？?" or URGENT.search(chat.answer):
        return False  # a question is no answer to prefer; an emergency needs no advice added
    if chat.task == "evidiag":
        return bool(re.search("考虑|判断|符合|可能", chat.answer))
    return True


class Chooser:
    """Picks by hash which training records become pairs, in equal numbers per task.

    At most half of a task's pairs come from templates while people's answers last. Holds no more
    than `count` records.
    """

    def __init__(self, count: int) -> None:
        self.each = count // len(PAIRED)
        self._heaps: dict[tuple[str, bool], list[tuple[int, str, Chat]]] = {}

    def see(self, chat: Chat) -> None:
        """Consider a record."""
        if chat.task not in PAIRED or not _fit(chat) or not self.each:
            return
        heap = self._heaps.setdefault((chat.task, chat.templated), [])
        item = (-number(chat.id, "pairs"), chat.id, chat)
        if len(heap) < self.each:
            heappush(heap, item)
        elif item > heap[0]:
            heapreplace(heap, item)

    def pool(self, task: str) -> list[Chat]:
        """The chosen records of a task, by hash."""
        human, built = (
            [chat for _, _, chat in sorted(self._heaps.get((task, templated), []), reverse=True)]
            for templated in (False, True)
        )
        few = max(self.each - len(built), -(-self.each // 2))
        human = human[:few]
        return human + built[: self.each - len(human)]

    def pairs(self) -> Iterator[Pair]:
        """One pair per chosen record, its kind chosen by hash."""
        for task in PAIRED:
            pool = self.pool(task)
            for chat in pool:
                kind = pick(KINDS, chat.id, "kind")
                chosen, rejected = better(chat), worse(chat, kind, pool)
                if chosen != rejected and chat.answer != rejected and safe(chosen):
                    yield Pair(
                        f"pair-{chat.id}",
                        chat.source,
                        task,
                        chat.turns[:-1],
                        chosen,
                        rejected,
                        kind,
                    )


_FOREIGN = re.compile(
    r"```|[{}\\<>]|OpenAI|GPT|LAION|Open ?Assistant|代码|编程|Python|SQL|翻译|英文|英语|http|\||"
    r"今天是?(?:几号|星期|周几|什么日子)|现在(?:是)?几点|今年是|现任|总统|主席|总理|天气|"
    r"语言模型|人工智能|手淫|色情|裸|杀|毒品|炸|黄色|成人|赌|政治|性爱",
    re.I,
)


def ranked(library: Library) -> Iterator[Pair]:
    """Ranked answers of people and models to general and medical questions, the clean ones."""
    found: list[tuple[str, str, str, str, str]] = []
    if library.has(LLAMAFACTORY):
        for i, r in enumerate(library.records(LLAMAFACTORY, "data/oaast_rm_zh.json")):
            if not r.get("history") and len(r["output"]) > 1:
                found.append(
                    (
                        f"rm-{i}",
                        LLAMAFACTORY,
                        r["instruction"] + r.get("input", ""),
                        r["output"][0],
                        r["output"][-1],
                    )
                )
        for i, r in enumerate(library.records(LLAMAFACTORY, "data/dpo_zh_demo.json")):
            if len(r["conversations"]) == 1:
                found.append(
                    (
                        f"dpo-{i}",
                        LLAMAFACTORY,
                        r["conversations"][0]["value"],
                        r["chosen"]["value"],
                        r["rejected"]["value"],
                    )
                )
    if library.has(MEDICALGPT):
        for i, r in enumerate(library.records(MEDICALGPT, "data/reward/dpo_zh_500.jsonl")):
            if len(r["conversations"]) == 1:
                found.append(
                    (
                        f"dpo500-{i}",
                        MEDICALGPT,
                        r["conversations"][0]["value"],
                        r["chosen"],
                        r["rejected"],
                    )
                )
    seen: set[str] = set()
    for name, source, question, chosen, rejected in found:
        question, chosen, rejected = (
            clean_question(question),
            finish(tidy(chosen)),
            finish(tidy(rejected)),
        )
        clean = not _FOREIGN.search(question + chosen + rejected) and safe(chosen)
        sized = 4 <= len(question) <= 120 and 20 <= len(chosen) <= 400 and 2 <= len(rejected) <= 500
        if clean and sized and chosen != rejected and question not in seen:
            seen.add(question)
            yield Pair(
                f"pair-{name}", source, "general", dialogue(question), chosen, rejected, "ranked"
            )
