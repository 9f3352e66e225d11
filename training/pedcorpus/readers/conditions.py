"""Common children's conditions, written for this project (conditions.json): what it is, why, how
it looks, what is checked, what to do at home, when to go back. No doses, on purpose. General
health education, not a guideline.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

_CHECKS = ("血常规和C反应蛋白",)
_CARE = ("在家让孩子多休息、适当多喝水，饮食清淡易消化，用药听医生安排。",)
_RETURNS = ("如果出现精神差、呼吸费力、持续高热或尿量明显减少，请马上就医。",)


@dataclass(frozen=True)
class Condition:
    """One condition. Tuples are alternatives: noun phrases (checks) or whole sentences."""

    checks: tuple[str, ...] = _CHECKS
    care: tuple[str, ...] = _CARE
    returns: tuple[str, ...] = _RETURNS
    reason: str = ""
    what: str = ""
    causes: str = ""
    signs: str = ""
    treat: str = ""
    prevent: str = ""


def _load(path: Path) -> dict[str, Condition]:
    known = {field.name for field in fields(Condition)}
    found = {}
    for name, raw in json.loads(path.read_text("utf-8")).items():
        if not raw.keys() <= known:
            raise ValueError(f"{path.name}: unknown field of {name}: {raw.keys() - known}")
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()
        }
        found[name] = Condition(**values)
    return found


CONDITIONS: dict[str, Condition] = _load(Path(__file__).with_name("conditions.json"))
