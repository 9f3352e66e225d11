"""The sources, their licences, and what kind of statement the licence is.

Tier A: stated by the makers of the data. Tier B: permissive licence of a repository that
re-hosts or derives from third-party content. `own`: written for this project. `user`: a folder
that the user of the builder brings along, with the licence that the user states.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Licence (SPDX id) and tier of a source."""

    licence: str
    tier: str


OWN = "pediatricsgpt__authored"
CHINESEBLUE = "alibaba-research__ChineseBLUE"
DXFORMER = "lemuria-wchen__DxFormer"
DIALMED = "f-window__DialMed"
KG = "t-zhan__MedicalQA"
CAREGPT = "WangRongsheng__CareGPT"
BENTSAO = "SCIR-HI__Huatuo-Llama-Med-Chinese"
ZHONGJING = "SupritYoung__Zhongjing"
TOYHOM = "Toyhom__Chinese-medical-dialogue-data"
MEDICALGPT = "shibing624__MedicalGPT"
LLAMAFACTORY = "hiyouga__LLaMA-Factory"
CHINAXIV = "DreamBlooms__ChinaXiv"
SMILE = "qiuhuachuan__smile"
WIKI = "mps-team-cn__Multiple_personality_system_wiki"
BABY = "smallYuanbao__baby-ai"
KDCONV = "thu-coai__KdConv"
CMRC = "ymcui__cmrc2018"
REASONING = "2025fall__qwen3-medical-finetune"
HUATUOGPT = "FreedomIntelligence__HuatuoGPT"
DISC = "FudanDISC__DISC-MedLLM"
MING = "MediaBrain-SJTU__MING"
YIER = "heli-dawnlab703__LightBig-Baichuan-MedLLM"
MIDMED = "xmshi-trio__MidMed"
REMEDI = "yanguojun123__ReMeDi"
ICD = "chaseliu__ICD-10-CN"
THUOCL = "thunlp__THUOCL"

SOURCES: dict[str, Source] = {
    OWN: Source("MIT", "own"),
    CHINESEBLUE: Source("Apache-2.0", "A"),
    DXFORMER: Source("MIT", "A"),
    DIALMED: Source("MIT", "A"),
    KG: Source("MIT", "B"),
    CAREGPT: Source("MIT", "B"),
    BENTSAO: Source("Apache-2.0", "A"),
    ZHONGJING: Source("Apache-2.0", "A"),
    TOYHOM: Source("MIT", "B"),
    MEDICALGPT: Source("Apache-2.0", "B"),
    LLAMAFACTORY: Source("Apache-2.0", "A"),
    CHINAXIV: Source("CC-BY-4.0", "A"),
    SMILE: Source("CC0-1.0", "A"),
    WIKI: Source("CC-BY-SA-4.0", "A"),
    BABY: Source("MIT", "A"),
    KDCONV: Source("Apache-2.0", "A"),
    CMRC: Source("CC-BY-SA-4.0", "A"),
    REASONING: Source("MIT", "B"),
    HUATUOGPT: Source("Apache-2.0", "A"),
    DISC: Source("Apache-2.0", "A"),
    # CMExam is Apache-2.0 and MMedBench CC BY-SA; one repository hands on both.
    MING: Source("Apache-2.0 AND CC-BY-SA-4.0", "B"),
    YIER: Source("Apache-2.0", "B"),
    MIDMED: Source("MIT", "A"),
    REMEDI: Source("MIT", "A"),
    ICD: Source("MIT", "B"),
    THUOCL: Source("MIT", "A"),
}


def register(name: str, licence: str) -> None:
    """Make a user's own source known under its stated licence ("unstated" when there is none).

    Raises ValueError when the name is one of the project's own sources.
    """
    known = SOURCES.get(name)
    if known is not None and known.tier != "user":
        raise ValueError(f"the name {name!r} belongs to a source of the corpus; rename the folder")
    SOURCES[name] = Source(licence, "user")


def licence_of(source: str) -> str:
    """The licence of a source; what a user brings along has the licence its user knows."""
    return SOURCES[source].licence if source in SOURCES else "unknown"
