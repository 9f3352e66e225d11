"""Questions with one answer: consultations and generated knowledge, cleaned."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..archive import Library
from ..clean import PREGNANT, Cleaner, clean_answer, clean_question, is_pediatric, key_of
from ..doses import count_doses
from ..ledger import Ledger
from ..phrasing import number
from ..record import Chat, dialogue
from ..sources import BABY, BENTSAO, MEDICALGPT, TOYHOM, ZHONGJING
from ..split import hashed
from ..tasks import task_of

# Held out by the hash of the question: about 150 pediatric and 150 general of huatuo26M.
HELD_OUT_PEDIATRIC = 150 / 750
HELD_OUT_GENERAL = 150 / 4700


def held_out(question: str, share: float) -> bool:
    """Whether the hash of a question puts it among the held-out share."""
    return number("held out", question) % 100000 < share * 100000


INTIMATE = re.compile(
    "性生活|性交|性欲|性功能|阴|月经|例假|白带|孕|流产|产后|妇科|子宫|卵巢|精|勃起|早泄|包皮|乳|"
    "艾滋|梅毒|淋病|尖锐|自杀|整形|丰胸|减肥"
)


def fair(question: str, answer: str) -> bool:
    """Whether an adult's question and answer are of a length that trains the same register."""
    return 6 <= len(question) <= 260 and 30 <= len(answer) <= 600


def plain_adult(question: str, answer: str) -> bool:
    """The stricter form that the held-out questions of adults have."""
    return (
        not INTIMATE.search(question + answer)
        and 8 <= len(question) <= 120
        and 40 <= len(answer) <= 220
    )


@dataclass
class Adults:
    """Which questions of adults to take: the first `hashed` take part in the split by hash, as they
    did when the held-out items were chosen; those after them, up to `limit`, are for training.
    """

    limit: int
    hashed: int
    kept: int = 0

    def split(self, question: str, answer: str) -> str | None:
        """The split ("" for by hash) of one more, or None when it is not wanted."""
        if self.kept >= self.limit or INTIMATE.search(question + answer):
            return None
        if self.kept < self.hashed:
            if not plain_adult(question, answer):
                # beyond the form of the held-out ones, and so for training only
                return "train" if self.limit > self.hashed and fair(question, answer) else None
            self.kept += 1
            return ""
        if not fair(question, answer):
            return None
        self.kept += 1
        return "train"


# So many adults' questions took part in the split by hash when the held-out items were chosen.
HASHED_HUATUO, HASHED_SFT = 700, 233


def huatuo(library: Library, ledger: Ledger, limit: int) -> Iterator[Chat]:
    """Human questions and answers; at most `limit` of those not about children."""
    path = "data/huatuo26M.json"
    clean, adults = Cleaner(ledger, ZHONGJING), Adults(limit, min(limit, HASHED_HUATUO))
    for i, record in enumerate(library.records(ZHONGJING, path, ledger)):
        ledger.saw(ZHONGJING)
        question = clean.question(record["instruction"][0])
        answer = clean.answer(record["output"][0])
        pediatric = is_pediatric(question) and not PREGNANT.search(question)
        pediatric = pediatric and not re.search(r"(?:1[89]|[2-9]\d)岁|我[妈爸]|老公|老婆", question)
        share = HELD_OUT_PEDIATRIC if pediatric else HELD_OUT_GENERAL
        split = "test" if held_out(question, share) else ""
        if pediatric and len(answer) < 40:
            # shorter than every held-out answer, yet some of them say something
            if (
                split
                or len(answer) < 24
                or hashed(key_of(question), task_of(question, True)) != "train"
            ):
                ledger.drop(ZHONGJING, "vague", answer)
                continue
            split = "train"
        if re.search(r"欢迎|进口|副作用，|五行|中医院.{0,6}就诊|北京", answer):
            ledger.drop(ZHONGJING, "advertisement", answer)
            continue
        if re.search(r"\d{3,}(?:周|岁|个月|天|小时)", answer):
            ledger.drop(ZHONGJING, "a range has lost its dash", answer)
            continue
        if not pediatric:
            if split:
                wanted = split if plain_adult(question, answer) else None
            else:
                wanted = adults.split(question, answer)
            if wanted is None:
                ledger.drop(ZHONGJING, "adult: over the limit, intimate or too long", question)
                continue
            split = wanted
        yield Chat(
            f"huatuo-{i}",
            ZHONGJING,
            task_of(question, pediatric),
            False,
            dialogue(question, answer),
            "",
            split,
            provenance=f"{path}#{i}",
        )


# Names of departments as the sources write them, to ours.
DEPARTMENTS = {
    "皮肤性病科": "皮肤科",
    "五官科": "耳鼻喉科",
    "心理科": "精神心理科",
    "传染病科": "感染科",
    "传染科": "感染科",
    "肝病科": "感染科",
    "心血管科": "内科",
    "消化科": "内科",
    "神经科": "内科",
    "呼吸科": "内科",
    "内分泌科": "内科",
    "肾内科": "内科",
    "血液科": "内科",
    "风湿免疫科": "内科",
    "家居健康": "",
    "其他": "",
    "nan": "",
}


def _child_case(record: dict) -> bool:
    return record.get("cate1") == "儿科" or "儿" in str(record.get("cate2", ""))


# A model that says its name: the answers were polished by another project's assistant.
_OTHER_MODEL = re.compile("我是仲景|智能医学助手")


def cmtmedqa(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """Multi-turn consultations: the pediatric ones test with their first exchange, others train.

    `limit` bounds the adult dialogues (0: none). They are the published test set of another
    project, of which only the pediatric part is held out here.
    """
    path = "data/CMtMedQA_test.json"
    clean, taken = Cleaner(ledger, ZHONGJING), 0
    for i, record in enumerate(library.records(ZHONGJING, path, ledger)):
        if "history" not in record and not record.get("instruction"):
            continue  # a safety item, read elsewhere
        exchanges = [
            *(record.get("history") or []),
            [record["instruction"], record["output"]],
        ]
        child = _child_case(record)
        if not child and taken >= limit:
            continue
        ledger.saw(ZHONGJING)
        pairs = [(clean.question(q), clean.answer(a)) for q, a in exchanges[: 1 if child else 9]]
        turns = dialogue(*(text for pair in pairs if all(pair) for text in pair))
        if not turns:
            ledger.drop(ZHONGJING, "nothing but courtesies", exchanges[0][0])
            continue
        named = next((t.text for t in turns[1::2] if _OTHER_MODEL.search(t.text)), "")
        if named:
            ledger.drop(ZHONGJING, "speaks as another model", named)
            continue
        if not child and INTIMATE.search("".join(t.text for t in turns)):
            ledger.drop(ZHONGJING, "adult: over the limit, intimate or too long", turns[0].text)
            continue
        department = str(record.get("cate1") or "")
        taken += not child
        yield Chat(
            f"cmtmedqa-{i}",
            ZHONGJING,
            task_of(turns[0].text, True) if child else "general",
            False,
            turns,
            "" if child else f"cmtmedqa/{i}",
            "test" if child else "train",
            department="儿科" if child else DEPARTMENTS.get(department, department),
            provenance=f"{path}#{i}",
        )


_NAMES = re.compile(
    r"(?:小|老|"
    r"阿)[赵钱孙李周吴郑王冯陈蒋沈韩杨朱秦许何吕张孔曹严金魏陶姜谢邹潘葛范彭马方袁柳史唐薛雷贺倪罗郝安于傅齐余黄萧尹姚汪戴宋熊董梁杜贾江郭林钟徐高夏蔡田胡丁邓石崔程陆叶白龙刘红明华军丽芳强亮宝美][儿]?(?=[，的是患被出最，今]|"
    r"\d)"
)


# Its lists of medicines are often wrong for children; its knowledge items are better.
_DRUG_QUESTION = re.compile("治疗|药|方案|措施|处理|怎么办|手术")


def bentsao(library: Library, ledger: Ledger) -> Iterator[Chat]:
    """Generated from a knowledge graph: pediatric knowledge, and what treatment it names."""
    clean = Cleaner(ledger, BENTSAO)
    for i, record in enumerate(library.records(BENTSAO, "data/llama_data.json", ledger)):
        ledger.saw(BENTSAO)
        question, answer = clean.question(record["instruction"]), clean.answer(record["output"])
        pediatric = is_pediatric(question) and not PREGNANT.search(question)
        if not pediatric:
            ledger.drop(BENTSAO, "not pediatric", question)
            continue
        if (
            re.search(r"(?:1[89]|[2-9]\d)岁|产妇|母亲患", question)
            or _DRUG_QUESTION.search(question)
            or re.search("方案|使用|手术治疗可", answer)
        ):
            ledger.drop(
                BENTSAO, "adult patient, or asks for a list of medicines", question + " | " + answer
            )
            continue
        answer = _NAMES.sub("孩子", answer)
        yield Chat(
            f"bentsao-{i}",
            BENTSAO,
            task_of(question, True),
            True,
            dialogue(question, answer),
            provenance=f"data/llama_data.json#{i}",
        )


def _toyhom_rows(library: Library) -> Iterator[tuple[str, str, str, str]]:
    """(provenance, department, question, answer): the csv first, then the paragraphs."""
    name = "样例_内科5000-6000.utf8.csv"
    for i, row in enumerate(csv.reader(io.StringIO(library.read(TOYHOM, name).get(name, "")))):
        if len(row) == 4 and row[0] != "department":
            yield f"{name}#{i}", DEPARTMENTS.get(row[0], row[0]), row[2], row[3]
    name = "Data_数据/IM_内科/内科.utf8.txt"
    blocks = library.read(TOYHOM, name).get(name, "").split("\n\n")
    for i, block in enumerate(block for block in blocks if block.strip()):
        lines = block.strip().split("\n")
        if len(lines) > 1:
            title, comma, asked = lines[0].partition("？,")
            yield (
                f"{name}#{i}",
                "内科",
                asked if comma and len(asked) > 8 else title,
                "".join(lines[1:]),
            )


def toyhom(library: Library, ledger: Ledger, limit: int) -> Iterator[Chat]:
    """Adult consultations as general chats, for training."""
    clean, taken = Cleaner(ledger, TOYHOM), 0
    for place, department, asked, said in _toyhom_rows(library):
        if taken >= limit:
            return
        ledger.saw(TOYHOM)
        question, answer = clean.question(asked), clean.answer(said)
        if INTIMATE.search(question + answer) or not fair(question, answer):
            ledger.drop(TOYHOM, "adult: over the limit, intimate or too long", question)
            continue
        taken += 1
        name = (
            f"toyhom-{place.split('#')[-1]}"
            if "csv" in place
            else f"toyhom-t-{place.split('#')[-1]}"
        )
        yield Chat(
            name,
            TOYHOM,
            "general",
            False,
            dialogue(question, answer),
            split="train",
            department=department,
            provenance=place,
        )


def medical_sft(library: Library, ledger: Ledger, limit: int) -> Iterator[Chat]:
    """Short questions; at most `limit` of those not about children."""
    path = "data/sft/medical_sft_1K_format.jsonl"
    clean, adults = Cleaner(ledger, MEDICALGPT), Adults(limit, min(limit, HASHED_SFT))
    for i, record in enumerate(library.records(MEDICALGPT, path, ledger)):
        ledger.saw(MEDICALGPT)
        turns = [t["value"] for t in record["conversations"][:2]]
        question, answer = clean.question(turns[0]), clean.answer(turns[1])
        pediatric = is_pediatric(question) and not PREGNANT.search(question)
        if re.search("以上是|五行|萝卜籽", answer):
            ledger.drop(MEDICALGPT, "rambling", question)
            continue
        split: str | None = ""
        if len(question) > (30 if pediatric else 70):
            # longer than every held-out one: the questions ramble, the answers do not
            split = "train" if fair(question, answer) and limit > HASHED_SFT else None
            if not pediatric and INTIMATE.search(question + answer):
                split = None
        elif not pediatric:
            split = adults.split(question, answer)
        if split is None:
            ledger.drop(
                MEDICALGPT, "adult or rambling: over the limit, intimate or too long", question
            )
            continue
        yield Chat(
            f"medsft-{i}",
            MEDICALGPT,
            task_of(question, pediatric),
            False,
            dialogue(question, answer),
            split=split,
            provenance=f"{path}#{i}",
        )


def baby(library: Library, ledger: Ledger) -> Iterator[Chat]:
    """Parenting answers of a language model: Markdown marks go, the first paragraphs stay."""
    for i, record in enumerate(library.records(BABY, "server/data/few-shot-samples.json", ledger)):
        ledger.saw(BABY)
        answer = clean_answer(re.sub(r"[*#>`]+|^\s*-+\s*", "", record["answer"], flags=re.M))
        cut = ""
        for line in answer.split("\n"):
            if not line or line[-1] not in "。！？" or count_doses(line):
                continue
            if len(cut) + len(line) > 360:
                break
            cut += re.sub(r"^\d+[.、]\s*|^[^，。]{2,8}：", "", line.strip())
        yield Chat(
            f"baby-{i}",
            BABY,
            "trerecom",
            True,
            dialogue(clean_question(record["question"]), cut),
            department="儿科",
            provenance=f"server/data/few-shot-samples.json#{i}",
        )
