"""The sources, their licences, and what kind of statement the licence is.

Tier A: stated by the makers of the data. Tier B: permissive licence of a repository that
re-hosts or derives from third-party content. `own`: written for this project. `user`: a folder
that the user of the builder brings along, with the licence that the user states.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Licence (SPDX id) and tier of a source, and which of its files are read for what."""

    licence: str
    tier: str
    what: str = ""


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
    CHINESEBLUE: Source(
        "Apache-2.0",
        "A",
        "`data/CMDD/`: children's consultations; `data/cMedQQ`, `data/cMedQANER`: paraphrases, names",
    ),
    DXFORMER: Source(
        "MIT", "A", "`data/{mz10,mz4,dxy}/*_set.json`: symptom records with a diagnosis"
    ),
    DIALMED: Source("MIT", "A", "`data/dataset/dev.txt`: consultations that end in a medicine"),
    KG: Source("MIT", "B", "`data/kg_info/.../relation/*.txt`: triples of a disease graph"),
    CAREGPT: Source(
        "MIT", "B", "`data/drug.json`, `data/Hospital Guide/`: drug monographs, departments"
    ),
    BENTSAO: Source("Apache-2.0", "A", "`data/llama_data.json`: distilled questions and answers"),
    ZHONGJING: Source(
        "Apache-2.0",
        "A",
        "`data/huatuo26M.json`, `data/CMtMedQA_test.json`: consultations, refusals",
    ),
    TOYHOM: Source(
        "MIT",
        "B",
        "the two UTF-8 copies of internal medicine; read by no preset of ours (`toyhom`)",
    ),
    MEDICALGPT: Source("Apache-2.0", "B", "`data/sft/medical_sft_1K_format.jsonl`: consultations"),
    LLAMAFACTORY: Source(
        "Apache-2.0",
        "A",
        "`data/oaast_*`, `data/*_zh_demo.json`: general instructions, ranked answers",
    ),
    CHINAXIV: Source("CC-BY-4.0", "A", "`INDEX.tsv`, `md/*.md`: preprints"),
    SMILE: Source("CC0-1.0", "A", "`data/smile/*.json`: empathic talk"),
    WIKI: Source("CC-BY-SA-4.0", "A", "`docs/entries/**.md`: a wiki of psychology and psychiatry"),
    BABY: Source("MIT", "A", "`server/data/few-shot-samples.json`: parents' questions"),
    KDCONV: Source("Apache-2.0", "A", "`data/*/dev.json`: small talk"),
    CMRC: Source(
        "CC-BY-SA-4.0", "A", "`squad-style-data/cmrc2018_dev.json`: paragraphs of Chinese Wikipedia"
    ),
    REASONING: Source("MIT", "B", "`data/rl/training_prompts.jsonl`: answers with their reasoning"),
    HUATUOGPT: Source(
        "Apache-2.0", "A", "`eval/*_100.json`: written cases, intents; evaluation only"
    ),
    DISC: Source(
        "Apache-2.0", "A", "`eval/`: scored dialogues, as pairs of answers and held-out cases"
    ),
    # CMExam is Apache-2.0 and MMedBench CC BY-SA; one repository hands on both.
    MING: Source(
        "Apache-2.0 AND CC-BY-SA-4.0", "B", "`ming/eval/datasets/`: exams (CMExam, MMedBench)"
    ),
    YIER: Source("Apache-2.0", "B", "`train/data/YIER-*.json`: exams"),
    MIDMED: Source("MIT", "A", "`MidMed_no_goal.json`: consultations up to the first advice"),
    REMEDI: Source("MIT", "A", "`data/dev_*.txt`: consultations"),
    ICD: Source("MIT", "B", "`diseases.json`: ICD-10, as a glossary"),
    THUOCL: Source("MIT", "A", "`data/THUOCL_medical.txt`: medical words, to check names"),
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


def folders() -> list[str]:
    """Names that a source may have under `--data`: NAME.tar.xz, or a folder NAME."""
    return sorted(n for n, s in SOURCES.items() if s.tier in ("A", "B"))


def table() -> str:
    """The sources as a Markdown table, as training/README.md carries it."""
    rows = [f"| `{n}` | {SOURCES[n].what} | {SOURCES[n].licence} |" for n in folders()]
    return "\n".join(["| folder | what is read | licence |", "|---|---|---|", *rows]) + "\n"
