"""The three rules that make dialogues of sources, each with an endpoint and an offline engine.

`role_play` turns a passage of a textbook, a guideline or a knowledge graph into a question and a
pediatrician's answer; `regularise` makes terse, noisy answers of real conversations readable;
`reconstruct` orders and completes what distilled sets say. The rules are those that PediatricsGPT
(arXiv 2405.19266, section 3.1) names; its prompts were never published, ours are our own.
"""

from ..options import BUILD_LIMIT, Options, add_arguments, options_from
from .apply import Engine, apply, engine_from
from .jobs import Job, in_turn, jobs
from .made import parent_of

__all__ = [
    "BUILD_LIMIT",
    "Engine",
    "Job",
    "Options",
    "add_arguments",
    "apply",
    "engine_from",
    "in_turn",
    "jobs",
    "options_from",
    "parent_of",
]
