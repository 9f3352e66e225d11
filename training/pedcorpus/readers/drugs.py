"""Drug monographs without their dosage: what a medicine is for, and what to be careful about."""

import re
from collections.abc import Iterator

from ..archive import Library
from ..clean import finish, is_pediatric, tidy
from ..doses import count_doses
from ..ledger import Ledger
from ..phrasing import pick
from ..record import Text
from ..sources import CAREGPT

_EMPTY = re.compile("^（?尚不明确）?。?$|^（?无）?。?$|^未发现|^暂无")
FIELDS = (
    ("适应证", ("{n}用于{x}", "{n}的适应证：{x}", "临床上，{n}主要{x}")),
    ("不良反应", ("不良反应：{x}", "可能出现的不良反应有：{x}")),
    ("禁忌证", ("禁忌：{x}", "以下情况不能使用：{x}")),
    ("注意事项", ("使用时应注意：{x}", "注意事项：{x}")),
    ("药物相互作用", ("药物相互作用：{x}", "与其他药物合用时：{x}")),
)


def _undosed(text: str) -> str:
    """Without the sentences that hold a dose: in running prose no notice is needed for each."""
    return "".join(s for s in re.findall(r"[^。；]+[。；]?", text) if not count_doses(s))


def monographs(library: Library, ledger: Ledger, limit: int) -> Iterator[Text]:
    """A paragraph per medicine, at most `limit` medicines."""
    names: set[str] = set()
    for i, raw in enumerate(library.records(CAREGPT, "data/drug.json")):
        if i >= limit:
            return
        ledger.saw(CAREGPT)
        name, *lines = raw.split("\n")
        if name in names:
            ledger.drop(CAREGPT, "duplicate", name)
            continue
        names.add(name)
        fields = dict(line.partition(":")[::2] for line in lines if ":" in line)
        kind = tidy(fields.get("药品类型", "")).rstrip("。")
        parts = [f"{name}属于{kind.replace('，', '、')}。" if kind else ""]
        for field, phrasings in FIELDS:
            value = _undosed(finish(tidy(fields.get(field, ""))))
            if len(value) < 6 or _EMPTY.search(value):
                continue
            text = pick(phrasings, name, field).format(n=name, x=value)
            parts.append(
                finish(
                    re.sub(
                        "用于用于|主要用于用于",
                        "用于",
                        text.replace("主要适用于", "适用于")
                        .replace("用于适用于", "适用于")
                        .replace("用于主要用于", "主要用于")
                        .replace("临床上，" + name + "主要用于", "临床上，" + name + "用于"),
                    )
                )
            )
        text = "".join(parts)
        if len(text) < 60:
            ledger.drop(CAREGPT, "too short without doses", text)
            continue
        yield Text(f"drug-{i}", CAREGPT, is_pediatric(text), text + "用法用量请遵医嘱或说明书。")
