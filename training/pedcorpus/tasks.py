"""Which task a question serves."""

import re

_TREAT = re.compile(
    "怎么办|咋办|如何是好|怎么治|如何治|怎样治|治疗|吃什么药|用什么药|用药|吃药|怎么护理|如何护理|"
    "护理|怎么处理|如何处理|怎么做|该做什么"
    "|怎么调理|如何调理|调理|怎么缓解|如何缓解|吃什么好|吃什么|怎么预防|如何预防|预防|注意什么|"
    "注意事项|需要做哪些检查|辅助检查|检查|用不用|需不需要|要不要|能不能|可以.{0,10}吗"
)


def task_of(question: str, pediatric: bool) -> str:
    """medkqa asks to know, trerecom asks what to do; what is not about children is general."""
    if not pediatric:
        return "general"
    return "trerecom" if _TREAT.search(question) else "medkqa"
