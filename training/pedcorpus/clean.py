"""Cleaning of Chinese text: characters, punctuation, worn-out phrases of online consultation."""

import re
from dataclasses import dataclass

from .ledger import Ledger

HAN = "一-鿿"
_FULL = {
    i: i - 0xFEE0 for i in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))
}
_FULL |= {
    0x3000: " ",
    0xA0: " ",
    0xFF05: "%",
    0x2236: "：",
    0xFE50: "，",
    0xFF0E: ".",
    0xFF5E: "～",
}
_NOISE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ue000-\uf8ff\ufeff\ufffd]"
)
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u20e3]|[\\^＾][oO_]{0,2}[\\^＾]|_+[?？]?_+"
)
_TAG = re.compile(
    r"<br\s*/?>|</?[a-zA-Z][^<>]{0,80}>|&(?:nbsp|lt|gt|amp|quot|ldquo|rdquo|hellip|mdash|bull|"
    r"middot);?"
)
_HALF = {",": "，", "?": "？", "!": "！", ";": "；", ":": "："}
_HALF_NEAR_HAN = re.compile(rf"(?<=[{HAN}）”])\s*([,?!;:])\s*|\s*([,?!;:])\s*(?=[{HAN}（“])")
_STOP_AFTER_HAN = re.compile(rf"(?<=[{HAN}）”])\s*\.(?=\s*(?:[{HAN}]|$|\n))")
_BRACKETS = re.compile(rf"\(([^()\n]*[{HAN}][^()\n]*)\)")
_SPACE_IN_HAN = re.compile(
    rf"(?<=[{HAN}，。！？；：、（）“”《》]) +(?=[{HAN}，。！？；：、（）“”《》0-9A-Za-z])|"
    rf"(?<=[0-9A-Za-z]) +(?=[{HAN}，。！？；：、（）])"
)
_REPEATED = re.compile(r"([，。！？；、：～~…\-—])(?:\s*\1)+")
_DOTS = re.compile(r"…+|\.{2,}|。{2,}|·{3,}")
_PUNCT_RUN = re.compile(r"[，、；：]+([。！？])|([。！？])[，、；：。]+|，[、；：，]+|、[，；]")
_EMPTY_BRACKETS = re.compile(r"（[\s，、。；]*）|\([\s,.;]*\)|\[\s*\]|【\s*】")

_TEMPLATES = re.compile(
    r"(?:问题分析|病情分析|指导意见|意见建议|医生建议|医师建议|生活护理|处理意见|治疗建议|答案|答|"
    r"回答|解答)\s*[:：]|\[详细\]|【[^】]{1,12}】"
)
_GREETING = re.compile(
    r"^(?:您好|你好|亲|亲爱的|朋友|患者|家长|宝妈|宝爸|这位|嗨|楼主|[，,。！!、~～的\s])*"
    r"(?:您好|你好)(?:家长|宝妈|朋友|患者|呀|啊)?[，,。！!、~～\s：:；]+"
)
_CLOSING = re.compile(
    r"[^。！？；\n]*(?:祝(?:您|你|愿|福|宝宝|孩子|早日|患者|他|她|健康|身体|一切|大家|好|"
    r"小)[^。！？\n]{0,16}|希望(?:我的|以上|能|可以|这些|对你|对您|能够)[^。！？\n]{0,24}(?:帮助|"
    r"帮到|解答|回答|参考|满意)[^。！？\n]{0,10}"
    r"|(?<![^。！？；，\n])以上(?:(?:就是|仅?是|仅?为|我)[^。！？\n]{0,24}(?:建议|回答|解答|看法|帮助|参考)|"
    r"(?:建议|回答|解答|看法|意见)(?:供|仅|希望|能|对|[，。！]|$))|"
    r"(?:感谢|谢谢)[^。！？\n]{0,20}(?:咨询|信任|提问|支持|阅读|关注|采纳|提供)"
    r"|(?:欢迎|可以)(?:随时|再次|继续)[^。！？\n]{0,12}(?:咨询|提问|追问)|(?:望|请)采纳|仅供参考|"
    r"给[我个]*好评|早日康复|如(?:还|果还)?有(?:任何|其他|什么)?(?:疑问|问题|"
    r"不明白)(?![^。！？\n]{0,12}(?:就医|就诊|医院|复诊|面诊|急诊|看医生|儿科))[^。！？\n]{0,24}|百度一下|不懂(?:再|可以)问)[^。！？；\n]*[。！？；~～\s]*"
)
_HOLLOW = re.compile(
    r"(?:^|(?<=[。！？，]))(?:您好|你好)[，,。！!、]*|(?:^|(?<=[。！？]))(?:根据|依据|按照|从|看|"
    r"就|结合|针对)(?:您|你|以上|上面|上述|目前)[^，。！？]{0,24}(?:描述|叙述|情况|内容|来看|看来|"
    r"分析|提供|说)[^，。！？]{0,8}[，,]"
    r"|(?:^|(?<=[。！？，]))(?:很)?高兴(?:为|回答|能)[^，。！？]{0,10}[，。！]|(?:你好|"
    r"您好)[！。]?$|早康复"
)
_SURNAMED = re.compile(
    "(?<![地官对双医药西明由任如等关属主责])[赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦许何吕张孔曹严金魏陶姜谢邹苏潘葛范彭马方任袁柳史唐薛雷贺倪汤罗郝安于傅齐余顾孟黄萧尹姚邵汪毛戴宋庞熊纪舒屈董梁杜阮蓝季贾江郭林钟徐邱高夏蔡田樊胡霍卢丁邓洪石崔龚程邢陆翁曲侯邬曾沙丰关刘叶白龙万段钱易](?:大夫|"
    "医生|主任|医师|教授)"
)
CHILD = re.compile(
    "小儿|儿童|宝宝|婴儿|婴幼儿|新生儿|患儿|幼儿|儿科|早产儿|孩子|小孩|宝贝|小朋友|娃娃|母乳|个月大"
)
PREGNANT = re.compile(
    "产后|坐月子|月子里|恶露|生完|精子|不育|奶水|乳房|乳头|下奶|剖宫|剖腹|卵巢|子宫|怀孕|孕妇|"
    "孕期|月经|流产|人流|避孕|备孕|怀上|受孕|不孕|白带|试管|排卵|妊娠|产检|胎儿|孕"
)


def is_pediatric(text: str) -> bool:
    """Whether the text names a child."""
    return CHILD.search(text) is not None


def _full_width(match: re.Match[str]) -> str:
    return _HALF[match.group(1) or match.group(2)]


def tidy(text: str) -> str:
    """Normalise characters, spaces and punctuation of Chinese text; newlines stay."""
    text = _TAG.sub(
        "", _NOISE.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " "))
    )
    text = _EMOJI.sub("", text).translate(_FULL)
    text = _BRACKETS.sub(r"（\1）", text)
    text = _HALF_NEAR_HAN.sub(_full_width, text)
    text = _STOP_AFTER_HAN.sub("。", text)
    text = _DOTS.sub("。", text)
    text = _SPACE_IN_HAN.sub("", text)
    text = _REPEATED.sub(r"\1", text)
    text = _PUNCT_RUN.sub(lambda m: m.group(1) or m.group(2) or m.group(0)[0], text)
    text = _EMPTY_BRACKETS.sub("", text)
    text = re.sub(r" {2,}", " ", re.sub(r" *\n\s*", "\n", text))
    return text.strip().lstrip("，。；、：！？,.")


def finish(text: str) -> str:
    """End the text with a full stop unless it ends with punctuation already."""
    text = text.rstrip(" ，、；：,;:")
    return text if not text or text[-1] in "。！？…）”》" else text + "。"


def strip_worn(text: str) -> str:
    """Remove template words, greetings, closings and doctors' names from an answer."""
    text = _TEMPLATES.sub("", text)
    text = _GREETING.sub("", text)
    text = _SURNAMED.sub("医生", text)
    text = _CLOSING.sub("", text)
    text = _HOLLOW.sub("", text)
    return text.strip()


# Who praises a clinic or sells a cure, and what no forum means as advice. By sentence.
ADVERTISEMENT = re.compile(
    "(?:来|到|选择|联系|咨询|欢迎)(?:您)?(?:我院|我们医院|我们这里|本院|本店|我公司)|"
    "(?:我院|我们医院|本院|我公司|本公司|本店)[^。]{0,16}(?:网址|网站|优势|专家团|先进|特色|疗法|技术力量|为您|欢迎)|"
    "(?:点击|添加|扫码|关注)(?:右|左|下|上|此处|这里|我的|公众)|在线(?:客服|专家|预约)|"
    "免费(?:咨询|热线|体验|领取)|包邮|厂家直销|货到付款|代购|"
    "(?:国家|全国|国内|国际)(?:级)?(?:重点专科|知名专家)|治愈率(?:高达|达到|达|为)|"
    "(?:可以?|能|能够|即可|彻底|完全)(?:彻底|完全)?根治(?!的?可能|不)(?![^。]{0,6}吗)|包治|永不复发|药到病除|"
    "(?:采用|使用|服用|我有|推荐)[^。]{0,6}(?:祖传|秘方)|(?:专利|独创)(?:疗法|产品)|"
    "五行.{0,8}(?:疗法|方剂|胶囊)|"
    "[一-鿿]{2,8}医院(?:的[^。，]{0,12}疗法|[^。，]{0,10}，?[^。，]{0,6}(?:国内|全国|国际)[^。，]{0,4}权威)|"
    "(?:皮肤病|白癜风|牛皮癣|癫痫|肝病|男科|不孕)(?:专科)?(?:研究所|研究院|医院)[^。]{0,10}(?:治疗|技术|专家|电话|咨询)"
)
_DENIED = re.compile("不能|无法|难以|没有|不可|未必|不要|不提倡|不会|并非|不是|不宜")


def advertises(sentence: str) -> bool:
    """Whether a sentence praises a clinic or promises a cure, and does not warn of it."""
    return bool(ADVERTISEMENT.search(sentence)) and not _DENIED.search(sentence)


def clean_answer(text: str) -> str:
    """An answer as it goes into the corpus, doses aside."""
    return finish(tidy(strip_worn(tidy(text))))


def clean_question(text: str) -> str:
    """A question as it goes into the corpus."""
    text = tidy(text)
    text = re.sub(
        r"^(?:问题?|病情描述|描述)[:：]|（[^（）]{0,12}[男女][，,]\d+岁?[^（）]{0,6}）$", "", text
    )
    text = _SURNAMED.sub("医生", text).strip()
    if text and text[-1] not in "。！？…":
        text = text.rstrip("，、；：") + ("？" if ASKS.search(text) else "。")
    return text


@dataclass(frozen=True)
class Cleaner:
    """`clean_answer` and `clean_question` for one source, booked in the ledger."""

    ledger: Ledger
    source: str

    def answer(self, raw: str) -> str:
        """The answer, with what was worn out in it counted."""
        before = tidy(raw)
        stripped = strip_worn(before)
        if stripped != before:
            lost = next((s for s in re.split("(?<=[。！？])", before) if s not in stripped), before)
            self.ledger.change(self.source, "template phrases", lost)
        return finish(tidy(stripped))

    def question(self, raw: str) -> str:
        """The question, with replaced names counted."""
        cleaned = clean_question(raw)
        named = _SURNAMED.search(raw)
        if named:
            self.ledger.change(self.source, "personal data", raw[max(0, named.start() - 9) :][:24])
        return cleaned


ASKS = re.compile(
    "吗|呢|什么|怎么|怎样|如何|为何|为啥|咋|哪|是不是|能不能|可不可以|多少|几|么$|有没有|要不要|"
    "好不好|请问"
)


def han_share(text: str) -> float:
    """Share of Chinese characters and punctuation among the visible characters."""
    visible = re.sub(r"\s", "", text)
    if not visible:
        return 0.0
    return len(re.findall(rf"[{HAN}，。！？；：、（）“”《》]", visible)) / len(visible)


def loops(text: str) -> bool:
    """Whether a phrase of 4 to 20 characters repeats itself three times running."""
    return re.search(r"(.{4,20})\1\1", text) is not None


def key_of(text: str) -> str:
    """What two texts share when they differ only by punctuation, spaces and courtesies."""
    bare = re.sub(r"您好|你好|请问|医生|大夫|谢谢|一下", "", text)
    key = re.sub(rf"[^{HAN}A-Za-z0-9]", "", bare).lower()
    return key or text.strip()
