"""Questions with one answer: consultations and generated knowledge, cleaned."""

import csv
import io
import re
from collections.abc import Iterator

from ..archive import Library
from ..clean import PREGNANT, clean_answer, clean_question, is_pediatric
from ..doses import count_doses
from ..ledger import Ledger
from ..personal import find_personal
from ..phrasing import number
from ..record import Chat, Text, Turn, dialogue
from ..sources import BABY, BENTSAO, DIALMED, MEDICALGPT, TOYHOM, ZHONGJING
from ..tasks import task_of

# Held out by the hash of the question: about 150 pediatric and 150 general of huatuo26M.
HELD_OUT_PEDIATRIC = 150 / 750
HELD_OUT_GENERAL = 150 / 4700


def held_out(question: str, share: float) -> bool:
    """Whether the hash of a question puts it among the held-out share."""
    return number("held out", question) % 100000 < share * 100000


_INTIMATE = re.compile(
    "性生活|性交|性欲|性功能|阴|月经|例假|白带|孕|流产|产后|妇科|子宫|卵巢|精|勃起|早泄|包皮|乳|"
    "艾滋|梅毒|淋病|尖锐|自杀|整形|丰胸|减肥"
)


def _plain_adult(question: str, answer: str) -> bool:
    return (
        not _INTIMATE.search(question + answer)
        and 8 <= len(question) <= 120
        and 40 <= len(answer) <= 220
    )


def huatuo(library: Library, ledger: Ledger, adults: int) -> Iterator[Chat]:
    """Human questions and answers; at most `adults` of those not about children."""
    kept = 0
    for i, record in enumerate(library.records(ZHONGJING, "data/huatuo26M.json")):
        ledger.saw(ZHONGJING)
        question = clean_question(record["instruction"][0])
        answer = clean_answer(record["output"][0])
        pediatric = is_pediatric(question) and not PREGNANT.search(question)
        pediatric = pediatric and not re.search(r"(?:1[89]|[2-9]\d)岁|我[妈爸]|老公|老婆", question)
        share = HELD_OUT_PEDIATRIC if pediatric else HELD_OUT_GENERAL
        split = "test" if held_out(question, share) else ""
        task = task_of(question, pediatric)
        if pediatric and len(answer) < 40:
            ledger.drop(ZHONGJING, "vague", answer)
            continue
        if re.search(r"欢迎|进口|副作用，|五行|中医院.{0,6}就诊|北京", answer):
            ledger.drop(ZHONGJING, "advertises", answer)
            continue
        if re.search(r"\d{3,}(?:周|岁|个月|天|小时)", answer):
            ledger.drop(ZHONGJING, "a range has lost its dash", answer)
            continue
        if not pediatric:
            if not split and kept >= adults or not _plain_adult(question, answer):
                ledger.drop(ZHONGJING, "adult: over the limit, intimate or too long", question)
                continue
            kept += not split
        yield Chat(f"huatuo-{i}", ZHONGJING, task, False, dialogue(question, answer), "", split)


def cmtmedqa(library: Library, ledger: Ledger) -> Iterator[Chat]:
    """The published test set: its pediatric dialogues by their first exchange, for testing only."""
    for i, record in enumerate(library.records(ZHONGJING, "data/CMtMedQA_test.json")):
        if record.get("cate1") != "儿科" and "儿" not in str(record.get("cate2", "")):
            continue
        ledger.saw(ZHONGJING)
        first = (record.get("history") or [[record["instruction"], record["output"]]])[0]
        question, answer = clean_question(first[0]), clean_answer(first[1])
        yield Chat(
            f"cmtmedqa-{i}",
            ZHONGJING,
            task_of(question, True),
            False,
            dialogue(question, answer),
            "",
            "test",
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
    for i, record in enumerate(library.records(BENTSAO, "data/llama_data.json")):
        ledger.saw(BENTSAO)
        question, answer = clean_question(record["instruction"]), clean_answer(record["output"])
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
            f"bentsao-{i}", BENTSAO, task_of(question, True), True, dialogue(question, answer)
        )


def toyhom(library: Library, ledger: Ledger, limit: int) -> Iterator[Chat]:
    """Adult consultations as general chats."""
    wanted = "样例_内科5000-6000.utf8.csv"
    text = library.read(TOYHOM, wanted).get(wanted, "")
    for i, row in enumerate(csv.reader(io.StringIO(text))):
        if i >= limit or len(row) != 4 or row[0] == "department":
            continue
        ledger.saw(TOYHOM)
        question, answer = clean_question(row[2]), clean_answer(row[3])
        yield Chat(f"toyhom-{i}", TOYHOM, "general", False, dialogue(question, answer))


def medical_sft(library: Library, ledger: Ledger, adults: int) -> Iterator[Chat]:
    """Short questions; at most `adults` of those not about children."""
    kept = 0
    for i, record in enumerate(library.records(MEDICALGPT, "data/sft/medical_sft_1K_format.jsonl")):
        ledger.saw(MEDICALGPT)
        turns = [t["value"] for t in record["conversations"][:2]]
        question, answer = clean_question(turns[0]), clean_answer(turns[1])
        pediatric = is_pediatric(question) and not PREGNANT.search(question)
        if len(question) > (30 if pediatric else 70) or re.search("以上是|五行|萝卜籽", answer):
            ledger.drop(MEDICALGPT, "rambling", question)
            continue
        if not pediatric:
            if kept >= adults or not _plain_adult(question, answer):
                ledger.drop(MEDICALGPT, "adult: over the limit, intimate or too long", question)
                continue
            kept += 1
        yield Chat(
            f"medsft-{i}",
            MEDICALGPT,
            task_of(question, pediatric),
            False,
            dialogue(question, answer),
        )


def baby(library: Library, ledger: Ledger) -> Iterator[Chat]:
    """Parenting answers: Markdown marks and emoji go, the first paragraphs stay."""
    for i, record in enumerate(library.records(BABY, "server/data/few-shot-samples.json")):
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
            f"baby-{i}", BABY, "trerecom", False, dialogue(clean_question(record["question"]), cut)
        )


def dialmed(library: Library, ledger: Ledger) -> Iterator[Chat]:
    """Online consultations up to the turn that names the medicine, the mask filled in."""
    for i, record in enumerate(library.records(DIALMED, "data/dataset/dev.txt")):
        ledger.saw(DIALMED)
        labels = list(record["label"])
        turns: list[Turn] = []
        done = False
        for line in record["dialog"]:
            speaker, _, said = line.partition("：")
            role = "assistant" if speaker == "医生" else "user"
            while "[MASK]" in said and labels:
                said = said.replace("[MASK]", labels.pop(0), 1)
                done = True
            if "[MASK]" in said:
                said = said.replace("[MASK]", "上述药物")
            text = clean_answer(said) if role == "assistant" else clean_question(said)
            if (
                not text
                or find_personal(text)
                or re.fullmatch(
                    "(?:嗯+|恩+|哦+|好的?|谢谢|稍等|您好|你好|我?看一?下|在吗?|[，。！？])+", text
                )
            ):
                continue
            if turns and turns[-1].role == role:
                turns[-1] = Turn(role, turns[-1].text + text)
            elif turns or role == "user":
                turns.append(Turn(role, text))
            if done and role == "assistant" and not labels:
                break
        if not done or len(turns) < 2 or turns[-1].role != "assistant":
            ledger.drop(DIALMED, "no medicine named", str(record["dialog"])[:100])
            continue
        pediatric = (
            is_pediatric(turns[0].text)
            and not any(PREGNANT.search(t.text) for t in turns)
            and "哺乳" not in turns[0].text
        )
        if sum(len(t.text) for t in turns) > 520 or re.search(
            "图|照片", turns[0].text + turns[1].text
        ):
            ledger.drop(DIALMED, "too long, or about a picture", turns[0].text)
            continue
        # What is right for an adult may not be for a child: adults do not teach pediatric advice.
        if not pediatric and (number(i, "dialmed") % 3 or len(turns[-1].text) < 30):
            ledger.drop(DIALMED, "adult: over the limit or terse", turns[0].text)
            continue
        yield Chat(
            f"dialmed-{i}", DIALMED, "trerecom" if pediatric else "general", False, tuple(turns)
        )


def toyhom_texts(library: Library, ledger: Ledger, limit: int) -> Iterator[Text]:
    """Adult consultations as plain text, question and answer in one paragraph."""
    name = "Data_数据/IM_内科/内科.utf8.txt"
    blocks = library.read(TOYHOM, name).get(name, "").split("\n\n")
    for i, block in enumerate(block for block in blocks if block.strip()):
        if i >= limit:
            return
        ledger.saw(TOYHOM)
        lines = block.strip().split("\n")
        if len(lines) < 2:
            continue
        question = clean_question(lines[0].partition("？，")[2] or lines[0])
        answer = clean_answer("".join(lines[1:]))
        if len(answer) >= 60:
            yield Text(
                f"toyhom-t-{i}", TOYHOM, is_pediatric(question), f"问：{question}\n答：{answer}"
            )
