"""Presets: everything that decides a run, in one frozen object.

A stage has `steps` (exact and repeatable) or `seconds` (its schedule follows the clock, so that it
always finishes its warm-down inside its budget, whatever the machine does besides).
"""

from dataclasses import dataclass, field

from training.experts import AdapterConfig
from training.model import Config


@dataclass(frozen=True)
class StagePreset:
    context: int  # T
    rows: int  # sequences in a batch
    lr: float  # 2-D hidden matrices; in the adapter stages: the experts
    lr_other: float  # embedding, head, norms; in the adapter stages: router or gate logits
    steps: int | None = None
    seconds: float | None = None
    warmup: float = 0.02  # shares of the stage
    warmdown: float = 0.6
    floor: float = 0.05  # factor on the learning rate at the end
    start: float = 0.0  # factor at the very beginning of the warm-up
    weight_decay: float = 0.1
    valid_times: int = 8


@dataclass(frozen=True)
class Preset:
    name: str
    config: Config
    adapter: AdapterConfig
    cpt: StagePreset
    sft: StagePreset
    dfpo: StagePreset
    expert: StagePreset  # MoE-Adapter with the token router
    finish: StagePreset  # merge-aware finish; its routed twin gets the same number of steps
    finish_share: float  # steps of the finish as a share of the router stage's steps
    gate_spread: float = 0.0  # added to one gate logit per task when the finish starts
    beta: float = 0.1  # DFPO
    mu: float = 1.0
    chat_share: tuple[float, float] = (0.25, 0.75)  # of chat in CPT, at its start and end
    max_tokens: int = 24_000_000  # of each kind that are packed for CPT
    valid_rows: int = 16  # per held-out set, in the stages
    test_rows: int = 16  # per task, in the evaluation
    answers: int = 30  # greedy answers per task in the evaluation
    answer_tokens: int = 128
    compile: bool = False
    bf16: bool = True
    device: str = "cpu"  # or auto: CUDA where there is one
    seed: int = 1
    golden: str = "tiny"  # name of the golden files
    golden_tensors: bool = True
    log_every: int = 10
    priority: dict[str, float] = field(default_factory=dict)  # of pools, 1 where unnamed


PRIORITY = {"text-pediatric": 4.0, "chat-general": 0.5, "sft-general": 0.5}

CI = Preset(
    name="ci",
    config=Config(vocab=1024, width=64, layers=2, heads=2, mlp_width=160, capacity=512),
    adapter=AdapterConfig(rank=4, alpha=8.0),
    cpt=StagePreset(256, 8, 8e-3, 8e-3, steps=500, weight_decay=0.02, valid_times=4),
    sft=StagePreset(256, 8, 4e-3, 4e-3, steps=300, weight_decay=0.02, valid_times=3),
    dfpo=StagePreset(256, 8, 1e-4, 1e-4, steps=20, valid_times=1),
    expert=StagePreset(256, 8, 5e-3, 5e-3, steps=150, warmdown=0.4, floor=0.5, valid_times=2),
    finish=StagePreset(
        256, 8, 5e-3, 1.0, steps=90, start=1.0, warmdown=1.0, weight_decay=0.0, valid_times=2
    ),
    finish_share=0.6,
    mu=1.0,
    valid_rows=4,
    test_rows=6,
    answers=10,
    answer_tokens=48,
    bf16=False,
    priority=PRIORITY,
)

NANO = Preset(
    name="nano",
    config=Config(vocab=8192, width=320, layers=8, heads=5, mlp_width=864, capacity=1024),
    adapter=AdapterConfig(rank=8, alpha=16.0),
    cpt=StagePreset(512, 8, 2e-3, 3e-3, seconds=42 * 60, valid_times=12),
    sft=StagePreset(768, 6, 6e-4, 6e-4, seconds=12.5 * 60, warmdown=0.8, valid_times=5),
    dfpo=StagePreset(384, 16, 1e-5, 1e-5, seconds=4 * 60, warmdown=0.5, weight_decay=0.0),
    expert=StagePreset(
        768, 6, 1.5e-4, 1e-3, seconds=2.5 * 60, warmdown=0.8, floor=0.2, weight_decay=0.0
    ),
    finish=StagePreset(
        768, 6, 1.5e-4, 5e-2, start=1.0, warmup=0.0, warmdown=1.0, weight_decay=0.0, valid_times=3
    ),
    finish_share=0.9,
    gate_spread=1.5,
    compile=True,
    golden="nano",
    golden_tensors=False,
    priority=PRIORITY,
)

# Not measured yet. The corpus has 7 M tokens: at a GPU's speed two minutes are many epochs, so weight
# decay is strong and the budgets leave room for compiling, not for more reading.
NANO_GPU = Preset(
    name="nano-gpu",
    config=Config(vocab=8192, width=512, layers=10, heads=8, mlp_width=1376, capacity=1024),
    adapter=AdapterConfig(rank=8, alpha=16.0),
    cpt=StagePreset(512, 256, 2e-3, 3e-3, seconds=130, valid_times=12, weight_decay=0.6),
    sft=StagePreset(768, 64, 6e-4, 6e-4, seconds=60, warmdown=0.8, valid_times=5),
    dfpo=StagePreset(384, 32, 1e-5, 1e-5, seconds=30, warmdown=0.5, weight_decay=0.0),
    expert=StagePreset(
        768, 32, 1.5e-4, 1e-3, seconds=60, warmdown=0.8, floor=0.2, weight_decay=0.0
    ),
    finish=StagePreset(
        768, 32, 1.5e-4, 5e-2, start=1.0, warmup=0.0, warmdown=1.0, weight_decay=0.0, valid_times=3
    ),
    finish_share=0.9,
    gate_spread=1.5,
    max_tokens=120_000_000,
    compile=True,
    device="auto",
    golden="nano",
    golden_tensors=False,
    priority=PRIORITY,
)

PRESETS = {p.name: p for p in (CI, NANO, NANO_GPU)}
