"""The sources, their licences, and what kind of statement the licence is.

Tier A: stated by the makers of the data. Tier B: permissive licence of a repository that
re-hosts or derives from third-party content. `own`: written for this project.
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
}
