"""What an exported checkpoint says about itself: name, licence, limits, chat template and sampling.

A model of ours is named after its preset. One that started from a published checkpoint takes that
one's name and licence from its folder, and ends answers as its tokenizer and its settings do.
"""

import json
import re
from pathlib import Path
from typing import Any

from training.batches import TASKS
from training.config import EOS
from training.stages.common import Run, done

STAGES = ("cpt", "sft", "dfpo", "adapter", "finish", "twin")
TITLES = {
    "medkqa": {"zh": "知识问答", "en": "Knowledge Q&A"},
    "evidiag": {"zh": "循证诊断", "en": "Evidence-based diagnosis"},
    "trerecom": {"zh": "治疗推荐", "en": "Treatment recommendation"},
}
TEMPLATE = {
    "system": {"prefix": "", "suffix": "\n"},
    "user": {"prefix": "Human: ", "suffix": "\nAssistant: "},
    "assistant": {"prefix": "", "suffix": ""},
    "separator": "\n",
    "endId": EOS,
    "stopIds": [EOS],
}  # of our own tokenizer; `template_of` has that of any run
PROMPTS = {
    "medkqa": "什么是小儿肺炎？",
    "evidiag": "宝宝发烧两天，还咳嗽。",
    "trerecom": "孩子感冒了怎么治疗？",
}
SAMPLING = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "repetition_penalty": 1.1,  # the preset's `penalty` takes its place
    "max_new_tokens": 256,
    "bos_token_id": 1,
    "eos_token_id": EOS,
    "pad_token_id": 0,
}
USE = {
    "zh": "研究与技术演示：在浏览器中离线运行的儿科语言模型。不是医疗器械，不能代替医生。",
    "en": "Research and demonstration of a pediatric language model that runs offline in a browser. "
    "No medical device, no substitute for a doctor.",
}
LIMITS = {
    "zh": "模型非常小，会编造事实、药名和因果；不得用于诊断或用药决定。紧急情况请立即拨打120。",
    "en": "A very small model that invents facts, names of medicines and causes. Never decide on "
    "diagnosis or medication with it. In an emergency call 120 (or your local number).",
}
SMALL = 200_000_000  # parameters below which a model is called very small
LICENCE = "MIT"  # of what this project trains from nothing
NOT_STATED = "not stated: that of the base model {}"
_HEADING = re.compile(r"^# +([^<\n]+)$", re.M)
_HUB_NAME = re.compile(r"[\w.-]+/([\w.-]+)")
MOST_NAME = 80  # characters


def _object(path: Path) -> dict[str, Any]:
    """A JSON object of a file; empty where there is none. ValueError for anything else."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not an object")
    return found


def _readme(folder: Path) -> tuple[str, str]:
    """(front matter, text) of a checkpoint's card; both empty where there is none."""
    path = folder / "README.md"
    if not path.is_file():
        return "", ""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    found = re.match(r"---\n(.*?)\n---(?:\n|$)(.*)", text, re.S)
    return (found[1], found[2]) if found else ("", text)


def _field(matter: str, name: str) -> str:
    """A field of front matter; entries of a list joined by commas. Empty where it is not there."""
    found = re.search(rf"^{name}:[ \t]*(.*(?:\n[ \t]*- .*)*)", matter, re.M)
    words = re.split(r"\n[ \t]*- |,", found[1].strip("[] \t")) if found else []
    return ", ".join(kept for word in words if (kept := word.strip(" \t\n'\"")))


def base_name(folder: Path) -> str:
    """What a checkpoint is called: by its card, by its config.json, else as its folder."""
    matter, text = _readme(folder)
    heading = _HEADING.search(text)
    hub = _HUB_NAME.fullmatch(str(_object(folder / "config.json").get("_name_or_path", "")))
    said = _field(matter, "model_name") or (heading[1].strip() if heading else "")
    return (said or (hub[1] if hub else folder.absolute().name))[:MOST_NAME]


def base_licence(folder: Path) -> str:
    """The licence that a checkpoint's card or config.json states, or that neither states one."""
    matter, _ = _readme(folder)
    said = _field(matter, "license")
    if said in ("", "other"):
        said = _field(matter, "license_name") or said
    return said or str(_object(folder / "config.json").get("license") or "")


def stop_ids(run: Run) -> list[int]:
    """The ids that end an answer: the one that training ends answers with, then those of the base.

    Raises ValueError where the base's files name something else than ids.
    """
    first = EOS if run.preset.base is None else run.tokenizer().eos
    told: Any = []
    if run.preset.base is not None:
        folder = run.base_folder()
        files = (_object(folder / n) for n in ("generation_config.json", "config.json"))
        told = next((f["eos_token_id"] for f in files if f.get("eos_token_id") is not None), [])
    ids = told if isinstance(told, list) else [told]
    if not all(type(number) is int and number >= 0 for number in ids):
        raise ValueError(f"{run.preset.base}: eos_token_id is {told!r}, expected one id or several")
    return list(dict.fromkeys([first, *ids]))


def template_of(run: Run) -> dict[str, Any]:
    """The chat template that the stages write, with the run's own end of an answer."""
    ids = stop_ids(run)
    return TEMPLATE | {"endId": ids[0], "stopIds": ids}


def sampling_of(run: Run) -> dict[str, Any]:
    """generation_config.json: our sampling, with the token ids of the base where there is one."""
    sampling: dict[str, Any] = SAMPLING | {"repetition_penalty": run.preset.penalty}
    if run.preset.base is None:
        return sampling
    folder, ids = run.base_folder(), stop_ids(run)
    files = [_object(folder / n) for n in ("generation_config.json", "config.json")]
    for name in ("bos_token_id", "pad_token_id"):
        del sampling[name]
        told = next((file[name] for file in files if isinstance(file.get(name), int)), None)
        if told is not None:
            sampling[name] = told
    return sampling | {"eos_token_id": ids[0] if len(ids) == 1 else ids}


def limits_of(parameters: int) -> dict[str, str]:
    """What a model of so many parameters cannot do, in both languages."""
    if parameters < SMALL:
        return LIMITS
    size = f"{parameters / 1e9:.1f}"
    return {
        "zh": LIMITS["zh"].replace("模型非常小，", f"模型有{size}B参数，仍"),
        "en": LIMITS["en"].replace("A very small model", f"A model of {size} billion parameters"),
    }


def name_of(run: Run) -> dict[str, str]:
    """The model's name in both languages."""
    if run.preset.base is not None:
        name = base_name(run.base_folder())
        return {"zh": f"PediatricsGPT（基于 {name}）", "en": f"PediatricsGPT on {name}"}
    if run.preset.name == "ci":
        return {"zh": "PediatricsGPT 微型（测试用）", "en": "PediatricsGPT tiny (for tests)"}
    return {"zh": f"PediatricsGPT {run.preset.name}", "en": f"PediatricsGPT {run.preset.name}"}


def licence_of(run: Run) -> str:
    """Ours for a model from nothing, else what the base states, or that it states none."""
    if run.preset.base is None:
        return LICENCE
    folder = run.base_folder()
    return base_licence(folder) or NOT_STATED.format(base_name(folder))


def data_table(run: Run) -> list[dict]:
    """Source, licence and kept records of everything that went into the corpus."""
    report = json.loads((run.out / "corpus" / "report.json").read_text(encoding="utf-8"))
    licences = report.get("licences", {})
    table = []
    for source, counts in sorted(report["sources"].items()):
        licence = licences.get(source, {})
        name = licence.get("licence", "unknown") if isinstance(licence, dict) else str(licence)
        if counts["kept"] > 0:
            table.append({"source": source, "licence": name, "records": counts["kept"]})
    return table


def stage_table(run: Run) -> list[dict]:
    """Steps, tokens, seconds and last loss of every stage that is done."""
    fields = ("name", "steps", "tokens", "seconds", "loss")
    summaries = [done(run, name) for name in STAGES]
    return [{key: s[key] for key in fields} for s in summaries if s is not None]


def about(run: Run, parameters: int, metrics: dict[str, float]) -> dict[str, Any]:
    """pediatricsgpt.json of a checkpoint whose base has so many parameters."""
    name = run.preset.name
    return {
        "id": "pediatricsgpt-" + ("tiny" if name == "ci" else name),
        "name": name_of(run),
        "licence": licence_of(run),
        "intended_use": USE,
        "limits": limits_of(parameters),
        "tasks": [{"id": task, "title": TITLES[task], "system": ""} for task in TASKS],
        "template": template_of(run),
        "stages": stage_table(run),
        "data": data_table(run),
        "metrics": metrics,
        "known_answer_prompts": PROMPTS,
    }
