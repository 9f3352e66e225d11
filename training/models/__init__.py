"""Base models: this project's own and Baichuan2 checkpoints, and Llama, Qwen2 and Qwen3 bases.

`load_base` and `save_base` read and write folders in the Hugging Face layout, `load_tokenizer` reads
the tokenizer beside the weights; `python -m training.models.plan` says what training one will take.
"""

from training.models.load import load_base, read_config, save_base, skeleton
from training.models.words import load_tokenizer

__all__ = ["load_base", "load_tokenizer", "read_config", "save_base", "skeleton"]
