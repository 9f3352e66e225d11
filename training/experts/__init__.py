"""The MoE-Adapter: one universal and several specific low-rank experts beside frozen linears.

`linear` holds the formula, `attach` puts it into a model, `gates` measures and starts the gates,
`files` reads and writes adapter folders, `plain` turns a task's merged pair into a stock LoRA.
"""

from training.experts.attach import (
    adapted,
    attach,
    draw_released_router,
    set_mode,
    universal_learns,
    watch,
)
from training.experts.files import (
    adapter_tensors,
    config_of,
    load_adapter,
    read_about,
    save_adapter,
)
from training.experts.gates import (
    GateStatistics,
    gate_statistics,
    mean_gates,
    spread_gates,
    start_finish,
    task_gate_means,
    task_gates,
)
from training.experts.linear import MODES, AdapterConfig, ExpertLinear
from training.experts.plain import merged_pair, write_peft

__all__ = [
    "MODES",
    "AdapterConfig",
    "ExpertLinear",
    "GateStatistics",
    "adapted",
    "adapter_tensors",
    "attach",
    "config_of",
    "draw_released_router",
    "gate_statistics",
    "load_adapter",
    "mean_gates",
    "merged_pair",
    "read_about",
    "save_adapter",
    "set_mode",
    "spread_gates",
    "start_finish",
    "task_gate_means",
    "task_gates",
    "universal_learns",
    "watch",
    "write_peft",
]
