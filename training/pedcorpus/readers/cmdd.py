"""CMDD: real pediatric consultations, joined with the diagnoses of MZ-10 by dialogue id."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..archive import Library
from ..clean import finish, loops, strip_worn, tidy
from ..doses import count_doses, strip_doses
from ..ledger import Ledger
from ..personal import find_personal
from ..phrasing import number, pick
from ..quality import unsafe
from ..record import Chat, Text, Turn, dialogue
from ..sources import CHINESEBLUE
from ..split import hashed
from .conditions import CONDITIONS
from .questioning import complaint, conclusion, supported
from .symptoms import Case, heard

SERVICE = re.compile(
    r"关闭|对话框|好评|评价|满意|首页|康复记录|再次咨询|关注我|辅诊|接诊|更好的|感谢您|图片|照片|"
    r"发[一张个]*图|拍[一张个]*照|点击|本次|问诊"
    r"|我是.{0,12}医生|高兴为您|追问|平台|不客气|不用谢|稍等|在吗|还在|咨询|回复|网络|留言|上传|"
    r"视频|语音|化验单.{0,6}(?:看|发)|打字|处方|开药|购买|下单|药店"
    r"|没关系|别客气|再见|晚安|辛苦|拜拜|首诊|医助|助手|结束|提问|免费|退款|手机|电话|截图|"
    r"看[到见][了啦]?|听您说|听你说|第\d+张"
)
COURTESY = re.compile(
    r"^(?:[嗯恩哦噢喔奥好的行对是呢啊呀哈嘿额呃唔哎唉]|谢谢|感谢|在|看到|问题|我的|看|您好|你好|"
    r"医生|大夫|朱|明白|知道|了解|可以|麻烦|您|你|了|吗|OK|ok|辛苦|[，。！？~～、.!?…\s])+$"
)
FILLER = re.compile(
    r"^(?:嗯+|恩+|哦+|噢+|喔|奥+|额|呃|唉|哎|哈+|那个|是这样(?:的)?|亲|您好|你好|宝妈|家长朋友|"
    r"家长|亲爱的|"
    r"[，。！~～、\s])+(?=.{2})"
)
_MODAL = re.compile("[奥哦喔噢哈呀]+(?=[。！，,!？?~]|$)|(?<=的)啊(?=[。！，]|$)")
_TOPIC = re.compile("(目前|现在|饮食|宝宝|孩子|大便|这个|这样|一般|体温|吃饭|发烧|如果)的话")
QUESTION_END = re.compile(
    "(?:吗|呢|么|没有|多少|几[天次岁个]|哪[里些儿]?|什么|怎么样|如何|多久|多大|是不是|没|吧)$"
)
TYPOS = (
    ("宝贝", "宝宝"),
    ("木有", "没有"),
    ("有木有", "有没有"),
    ("咱们宝宝", "宝宝"),
    ("咱宝宝", "宝宝"),
    ("吖", "呀"),
    ("滴滴", "滴"),
    ("給", "给"),
    ("酱紫", "这样"),
    ("发骚", "发烧"),
    ("那么样", "怎么样"),
    ("宝宝宝宝", "宝宝"),
    ("嗓子里有谈", "嗓子里有痰"),
)
ADVISES = re.compile(
    "建议|可以|注意|需要|应该|多喝|避免|观察|必要时|及时|不要|尽量|暂时|保暖|清淡|考虑"
)


@dataclass(frozen=True)
class Consultation:
    """A cleaned consultation: alternating turns, and its case when MZ-10 knows it."""

    id: str
    turns: tuple[Turn, ...]
    case: Case | None
    held_out: bool


def _piece(text: str, doctor: bool) -> str:
    if doctor:
        text = _TOPIC.sub(r"\1", _MODAL.sub("", text))
    text = FILLER.sub("", tidy(strip_worn(tidy(text)) if doctor else text))
    for wrong, right in TYPOS:
        text = text.replace(wrong, right)
    text = re.sub(r"[?？]{2,}", "？", re.sub(r"(?<=[好的])[?？]+$", "", text)).strip()
    if not text or COURTESY.match(text) or find_personal(text) or (doctor and SERVICE.search(text)):
        return ""
    if re.fullmatch(r"[\W\d_]+", text) and not doctor and not re.search(r"\d", text):
        return ""
    return text


def _end(text: str, last: bool) -> str:
    if text[-1] in "。！？，；…":
        return text[:-1] + "。" if text[-1] in "，；" and last else text
    if (
        QUESTION_END.search(text)
        and not text.endswith("吧")
        and not (text.endswith(("没有", "没")) and len(text) < 5)
    ):
        return text + "？"
    return text + ("。" if last or len(text) > 7 else "，")


def merged(raw: list[dict]) -> tuple[Turn, ...]:
    """Clean pieces, joined so that the speakers alternate. A bare yes stays only as an answer."""
    turns: list[tuple[str, list[str]]] = []
    for item in raw:
        role = "assistant" if item["speaker"] == "医生" else "user"
        piece = _piece(item["sentence"], role == "assistant")
        if not piece:
            said = tidy(item["sentence"])
            asked = (
                bool(turns)
                and turns[-1][0] == "assistant"
                and turns[-1][1][-1].rstrip("。").endswith(("吗", "么", "？"))
            )
            if role == "user" and asked and re.match("[嗯恩是对有]", said):
                piece = "是的"
            else:
                continue
        if turns and turns[-1][0] == role:
            if piece not in turns[-1][1] and piece != "是的":
                turns[-1][1].append(piece)
        else:
            turns.append((role, [piece]))
    joined = []
    for role, pieces in turns:
        if len(pieces) > 1:
            pieces = [p for p in pieces if len(p) > 2] or pieces[:1]
        text = "".join(_end(p, i == len(pieces) - 1) for i, p in enumerate(pieces))
        joined.append(Turn(role, tidy(text)))
    return tuple(joined)


def consultations(library: Library, ledger: Ledger, cases: dict[str, Case]) -> list[Consultation]:
    """All usable consultations in id order; a dialogue whose case is a test case is held out."""
    found = []
    seen: set[str] = set()
    for _, text in library.files(
        CHINESEBLUE, lambda p: p.startswith("data/CMDD/") and p.endswith(".json")
    ):
        raw = json.loads(text)
        ledger.saw(CHINESEBLUE)
        turns = merged(raw["dialogue-content"])
        body = "".join(turn.text for turn in turns)
        key = re.sub(r"\W", "", body)[:200]
        case = cases.get(raw["example-id"])
        if len(turns) < 4 or len(body) < 80:
            ledger.drop(CHINESEBLUE, "too little after cleaning", body)
        elif key in seen or loops(body):
            ledger.drop(CHINESEBLUE, "duplicate or loop", body)
        elif case is None:
            ledger.drop(CHINESEBLUE, "no diagnosis known", body)
        else:
            seen.add(key)
            found.append(Consultation(raw["example-id"], turns, case, case.held_out))
    return sorted(_fluent(found, ledger), key=lambda c: c.id)


# Dictated without a pause for thirty characters: speech recognition made little sense of it.
GARBLED = re.compile(
    "[一-鿿A-Za-z0-9]{30,}|啊一|那家长朋友|家长朋友那|何塞|一爸爸|要死人|猴头|船名"
)


# Out of place in a doctor's mouth: what speech recognition hears in a noisy room. Such sentences
# go from training only.
OUT_OF_PLACE = re.compile(
    "我老公|我老婆|老婆考虑|见面|身份证|还款|房子|上网|跳舞|唱歌|助理|相册|加盟|摩托|处罚|下载|鸡巴|几把|"
    "电影|巴厘岛|红包|宾馆|哈尔滨|皇帝|牛皮|误了车|傻逼|后遗症军|干死|经常知道|智能鞋|情怀|"
    "大店|快递主要|^的学校|和军|孩子克斯|能够严重的"
)
_RUN_ON = re.compile("[一-鿿A-Za-z0-9]{18,}")


def _garbled(sentences: list[str], held: bool) -> list[str]:
    """The sentences that make no sense; more of them where the recording was plainly bad."""
    odd = [s for s in sentences if GARBLED.search(s)]
    if held:
        return odd
    lost = [s for s in sentences if OUT_OF_PLACE.search(s)]
    long = [s for s in sentences if len(lost) > 1 and _RUN_ON.search(s)]
    return list(dict.fromkeys([*odd, *lost, *long]))


def _held(talk: Consultation, *tasks: str) -> bool:
    """Whether a record of the dialogue is held out: its words stay as they are."""
    return talk.held_out or any(hashed(f"cmdd/{talk.id}", task) != "train" for task in tasks)


def _fluent(found: list[Consultation], ledger: Ledger) -> Iterator[Consultation]:
    """The consultations without the doctors' sentences that speech recognition garbled."""
    for talk in found:
        turns: list[Turn] = []
        said = [s for t in talk.turns if t.role == "assistant" for s in sentences_of(t.text)]
        garbled = _garbled(said, _held(talk, "evidiag", "trerecom"))
        for turn in talk.turns:
            text = turn.text
            if turn.role == "assistant":
                for sentence in (s for s in sentences_of(text) if s in garbled):
                    ledger.drop(CHINESEBLUE, "garbled sentence", sentence)
                    text = text.replace(sentence, "")
            if not text:
                continue
            if turns and turns[-1].role == turn.role:
                turns[-1] = Turn(turn.role, turns[-1].text + text)
            else:
                turns.append(Turn(turn.role, text))
        yield replace(talk, turns=tuple(turns))


def sentences_of(text: str) -> list[str]:
    """The text cut after its full stops."""
    return re.findall(r"[^。！？]+[。！？]*", text)


def _opened(talk: Consultation, case: Case) -> list[Turn]:
    """The turns with a complaint in front: the platform keeps the written complaint elsewhere."""
    turns = list(talk.turns)
    first = complaint(case)
    if turns[0].role == "user":
        if len(turns[0].text) >= 15 and any(
            s.strip("有大便") in turns[0].text for s in case.positive
        ):
            return turns
        turns[0] = Turn("user", first + turns[0].text)
        return turns
    return [Turn("user", first), *turns]


def _undosed(turns: list[Turn]) -> list[Turn]:
    return [Turn(t.role, strip_doses(t.text)) if t.role == "assistant" else t for t in turns]


def _useful_end(turns: list[Turn], case: Case, budget: int) -> list[Turn]:
    """Beginning of a dialogue that ends with a doctor's substantial turn within the budget."""
    total, best = 0, 0
    for i, turn in enumerate(turns):
        total += len(turn.text)
        if total > budget:
            break
        if (
            turn.role == "assistant"
            and i >= 3
            and len(turn.text) >= 20
            and turn.text[-1] != "？"
            and ADVISES.search(turn.text)
        ):
            best = i + 1
    return turns[:best]


def _history(turns: list[Turn], budget: int) -> list[Turn]:
    """Beginning of a dialogue that ends with the user's answer to a question of the doctor."""
    total, best = 0, 0
    for i, turn in enumerate(turns):
        total += len(turn.text)
        if total > budget:
            break
        if turn.role == "user" and i >= 2 and "？" in turns[i - 1].text and "？" not in turn.text:
            best = i + 1
    asked = sum("？" in t.text for t in turns[:best] if t.role == "assistant")
    return turns[:best] if asked * 4 >= best else []


_START = re.compile(
    "^(?:(?:还有|另外|那么?|嗯|所以|而且|但是?|因为|然后|是的|不需要|没问题|没事的?|可以的|好的|"
    "对的?|行|不用担心|一般来说|啊|好吧)[，,。！]?)+"
)
# Speaks of what only this conversation knows.
_CONTEXT = re.compile(
    "细胞|血小板|CRP|血象|上次|目前的药|医生给|门诊医生|开的|按时给|现在的药|刚|之前|这个药|"
    "这些药|那个|这几种|你们|原来|继续吃|继续用"
    "|已经|调整用药|停药|大不了|船名|猴头|现在用|两种|三种|这种药|指标|化验单|结果显示|看了|"
    "用的是|再问|抗病毒|消炎药|抗生素|输液|打针|激素"
)


# The same, found later: what is held out was chosen without.
_CONTEXT_TOO = re.compile("界面|上面的|以上注意事项|按我说的")
_CONTEXT_TRAINED = re.compile(f"{_CONTEXT_TOO.pattern}|我说的|以下(?:情况|方面)")


def _sentences(text: str, held: bool) -> str:
    """The statements of a doctor's turn that stand on their own as advice."""
    kept = []
    for sentence in sentences_of(text):
        sentence = _START.sub("", sentence)
        general = (
            ADVISES.search(sentence)
            and not CHATTER.search(sentence)
            and not _CONTEXT.search(sentence)
            and (held or not _CONTEXT_TRAINED.search(sentence))
        )
        if len(sentence) > 5 and sentence[-1] != "？" and general and not unsafe(sentence):
            kept.append(sentence.replace("！", "。"))
    return "".join(kept)


def _advice(turns: tuple[Turn, ...], longest: int, held: bool) -> str:
    """The doctor's best advice: most kinds of care named in late statements, without doses."""
    best, most = "", 0
    for turn in turns[3:]:
        text = _sentences(turn.text, held) if turn.role == "assistant" else ""
        kinds = len(set(CARES.findall(text)))
        if kinds > most and 24 <= len(text) <= longest and not count_doses(text):
            best, most = text, kinds
    return best


def evidence(talks: list[Consultation]) -> Iterator[Chat]:
    """EviDiag: real questioning; most dialogues end with a diagnosis on the collected evidence."""
    for talk in talks:
        case = talk.case
        if case is None:
            continue
        turns = _undosed(_opened(talk, case))
        built = turns[0].text != talk.turns[0].text
        split = "test" if talk.held_out else ""
        held = _held(talk, "evidiag")
        natural = _useful_end(turns, case, 700)
        if not held:
            # the whole dialogue, which is cut into windows later
            yield _chat(talk, "n", False, tuple(_whole(turns)), "train", built)
        elif natural and (talk.held_out or number(talk.id) % 3 == 0):
            yield _chat(talk, "n", False, tuple(natural), split, built)
        if not natural or talk.held_out or number(talk.id) % 3:
            history = _history(turns, 420)
            if len(history) >= 3 and case.explicit and (talk.held_out or supported(case)):
                told = "" if held else "\n".join(t.text for t in history if t.role == "user")
                known = heard(case, "".join(t.text for t in history), told)
                advice = strip_doses(_advice(talk.turns, 120, held))
                end = conclusion(known, advice, held=held)
                yield _chat(talk, "d", True, (*history, Turn("assistant", end)), split, built)


def _chat(
    talk: Consultation,
    kind: str,
    templated: bool,
    turns: tuple[Turn, ...],
    split: str,
    built: bool,
) -> Chat:
    return Chat(
        f"cmdd-{talk.id}-{kind}",
        CHINESEBLUE,
        "evidiag",
        templated,
        turns,
        f"cmdd/{talk.id}",
        split,
        built,
        department="儿科",
        provenance=f"data/CMDD/{talk.id}",
    )


def _whole(turns: list[Turn]) -> list[Turn]:
    """The turns from the first of the user to the last of the doctor."""
    start = 0 if turns[0].role == "user" else 1
    end = len(turns) if turns[-1].role == "assistant" else len(turns) - 1
    return turns[start:end]


ASK = (
    "{c}医生考虑是{d}，应该怎么处理？",
    "{c}现在诊断是{d}，请问怎么治疗和护理？",
    "{c}说是{d}，在家该怎么办？",
    "{c}这种情况考虑{d}，平时要注意什么？",
)


CHATTER = re.compile(
    "吗|呢|您说|你说|^那|我听|我看|我的|我们|家长朋友|别急|理解|明白|还没|刚才|谁|昨|前天|今天|"
    "今晚|明天|老奶奶|宝妈|您家|这位|哈|哦|图|发来|您这|您那"
)
CARES = re.compile(
    "喝水|水分|休息|清淡|观察|补液|保暖|就诊|就医|医院|通风|护臀|消毒|饮食|喂养|拍背|雾化|按摩|"
    "复查|检查|洗|母乳"
)


def recommendations(talks: list[Consultation], ledger: Ledger | None = None) -> Iterator[Chat]:
    """TreRecom: the complaint and the diagnosis in one question, the doctor's advice as answer.

    A test item whose advice points at what only the dialogue shows tests nothing, and goes.
    """
    for talk in talks:
        if talk.case is None:
            continue
        group, held = f"cmdd/{talk.id}", _held(talk, "trerecom")
        text = _advice(talk.turns, 220, held)
        if len(text) < 30 or not talk.case.positive:
            continue
        split = "test" if talk.held_out else hashed(group, "trerecom")
        if split == "test" and _CONTEXT_TOO.search(text):
            if ledger is not None:
                ledger.drop(CHINESEBLUE, "points at what only the dialogue shows", text)
            continue
        condition = CONDITIONS.get(talk.case.label)
        added = condition is not None and not re.search("就医|就诊|医院|急诊|复诊", text)
        if condition is not None and added:
            text = finish(text) + pick(condition.returns, talk.id)
        question = pick(ASK, talk.id, "ask").format(
            c=complaint(talk.case, ask=False, full=True), d=talk.case.label
        )
        yield Chat(
            f"cmdd-{talk.id}-t",
            CHINESEBLUE,
            "trerecom",
            added,
            dialogue(question, finish(text)),
            group,
            split if talk.held_out else "",
            True,
            department="儿科",
            provenance=f"data/CMDD/{talk.id} advice of the dialogue, question put together",
        )


def transcripts(talks: list[Consultation]) -> Iterator[Text]:
    """Dialogues written out for pre-training; held-out ones never."""
    names = {"user": "家长", "assistant": "医生"}
    for talk in talks:
        if talk.held_out or talk.case is None:
            continue
        lines = [f"{names[t.role]}：{strip_doses(t.text)}" for t in _opened(talk, talk.case)]
        yield Text(
            f"cmdd-{talk.id}",
            CHINESEBLUE,
            True,
            "\n".join([*lines, f"诊断：{talk.case.label}。"]),
            "儿科",
            provenance=f"data/CMDD/{talk.id} written out",
        )
