"""Sizes of a Baichuan2-style decoder, and the config.json of its checkpoints."""

from dataclasses import dataclass
from typing import Literal

EOS = 2


@dataclass(frozen=True)
class Config:
    """Sizes of a model; `capacity` is the largest number of positions it is meant for."""

    vocab: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    capacity: int
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    positions: Literal["rope", "alibi"] = "rope"

    def __post_init__(self) -> None:
        if self.positions not in ("rope", "alibi"):
            raise ValueError(f"positions are {self.positions!r}, expected 'rope' or 'alibi'")
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} does not divide into {self.heads} heads")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    def to_hf(self) -> dict:
        """The config.json of the exported checkpoint.

        As in the published files, a model with ALiBi is one without `max_position_embeddings`.
        """
        rotary = {"max_position_embeddings": self.capacity} if self.positions == "rope" else {}
        theta = {"rope_theta": self.rope_theta} if self.positions == "rope" else {}
        return {
            "architectures": ["BaichuanForCausalLM"],
            "model_type": "baichuan",
            "vocab_size": self.vocab,
            "hidden_size": self.width,
            "intermediate_size": self.mlp_width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            **rotary,
            "model_max_length": self.capacity,
            "rms_norm_eps": self.norm_eps,
            **theta,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": EOS,
            "pad_token_id": 0,
            "torch_dtype": "float32",
        }

    @classmethod
    def from_hf(cls, hf: dict) -> "Config":
        """Reads a config.json. Raises ValueError for what this decoder does not compute."""
        wrong = {
            "hidden_act": hf.get("hidden_act", "silu") != "silu",
            "tie_word_embeddings": hf.get("tie_word_embeddings", False),
            "rope_scaling": hf.get("rope_scaling") is not None,
            "num_key_value_heads": hf.get("num_key_value_heads", hf["num_attention_heads"])
            != hf["num_attention_heads"],
        }
        if any(wrong.values()):
            names = ", ".join(f"{name} {hf[name]!r}" for name, bad in wrong.items() if bad)
            raise ValueError(f"config.json: a Baichuan2 decoder has no {names}")
        rotary = "max_position_embeddings" in hf
        longest = hf.get("model_max_length")
        capacity = hf["max_position_embeddings"] if rotary else longest
        if capacity is None:
            raise ValueError("config.json: neither max_position_embeddings nor model_max_length")
        return cls(
            vocab=hf["vocab_size"],
            width=hf["hidden_size"],
            layers=hf["num_hidden_layers"],
            heads=hf["num_attention_heads"],
            mlp_width=hf["intermediate_size"],
            capacity=min(capacity, longest or capacity),
            norm_eps=hf["rms_norm_eps"],
            rope_theta=hf.get("rope_theta", 10000.0),
            positions="rope" if rotary else "alibi",
        )


BAICHUAN2_7B = Config(125696, 4096, 32, 32, 11008, 4096)
BAICHUAN2_13B = Config(125696, 5120, 40, 40, 13696, 4096, positions="alibi")
