"""Base models from and to checkpoint folders in the Hugging Face layout.

A model is built without memory (on torch's meta device) and filled tensor by tensor, so that loading
takes the model and one tensor more.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.base import Base
from training.config import Config
from training.model import Model
from training.models.weights import SHARD_BYTES, BadCheckpoint, all_tensors, write_weights
from training.models.wrapped import FAMILIES, wrapped_skeleton

# Old checkpoints store the table of rotary frequencies: it follows from theta.
IGNORED = re.compile(r"\.rotary_emb\.inv_freq$")
BAICHUAN1_VOCAB = 64000
WORDS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)


def read_config(folder: Path | str) -> dict[str, Any]:
    """config.json of a checkpoint. Raises FileNotFoundError, or BadCheckpoint if it is no object."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: is this a checkpoint folder?")
    try:
        hf = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadCheckpoint(f"{path}: not JSON ({error})") from error
    if not isinstance(hf, dict):
        raise BadCheckpoint(f"{path}: not an object")
    return hf


def skeleton(hf: dict[str, Any], dtype: torch.dtype = torch.float32) -> Base:
    """The model of a config.json with parameters on the meta device. Raises BadCheckpoint."""
    family = hf.get("model_type")
    try:
        if family == "baichuan":
            if hf.get("vocab_size") == BAICHUAN1_VOCAB:
                raise BadCheckpoint(
                    "config.json: a vocabulary of 64000 is Baichuan 1, whose head is not normalised"
                )
            with torch.device("meta"):
                model: Base = Model(Config.from_hf(hf))
            return model.to(dtype)
        if family in FAMILIES:
            return wrapped_skeleton(hf, dtype)
    except KeyError as error:
        raise BadCheckpoint(f"config.json: {error.args[0]} is missing") from error
    known = ", ".join(("baichuan", *FAMILIES))
    raise BadCheckpoint(f"config.json: model_type {family!r} is not known; known are {known}")


def load_base(
    folder: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Base:
    """The base model of a checkpoint folder, in `dtype` on `device`, ready to be trained.

    Reads Baichuan2's published checkpoints and those that this project exports (config.json with
    model_type baichuan), and Llama, Qwen2 and Qwen3; weights as safetensors or pytorch_model*.bin,
    whole or in shards. Raises BadCheckpoint, which names file and tensor, when a tensor is missing,
    unknown or of another shape, and FileNotFoundError without a config.json.
    """
    folder = Path(folder)
    hf = read_config(folder)
    try:
        model = skeleton(hf, dtype)
    except ValueError as error:
        raise BadCheckpoint(f"{folder}: {error}") from error
    if isinstance(model, Model):
        model.set_positions()
    fill(model, folder, device, dtype)
    for name, buffer in model.named_buffers():
        if buffer.is_meta:
            raise BadCheckpoint(f"{folder}: {name} is no part of the checkpoint and was not made")
    model.source = hf
    return model.to(device)


def fill(model: Base, folder: Path, device: torch.device | str, dtype: torch.dtype) -> None:
    """Puts a checkpoint's tensors in the place of the model's parameters."""
    wanted = dict(model.named_parameters())
    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    second: tuple[Path, Tensor] | None = None  # a tied head may be stored again
    filled: set[str] = set()
    for name, path, tensor in all_tensors(folder):
        if IGNORED.search(name):
            continue
        if model.tied and name == head:
            second = (path, tensor)
            continue
        place = wanted.get(name)
        if place is None:
            raise BadCheckpoint(f"{path}: {name} has no place in this model")
        if place.shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, config.json asks for {tuple(place.shape)}"
            raise BadCheckpoint(f"{path}: {name} is {shapes}")
        parent, _, attribute = name.rpartition(".")
        # a copy, so that no mapped file is kept open
        weight = nn.Parameter(tensor.to(device, dtype, copy=True))
        setattr(model.get_submodule(parent), attribute, weight)
        filled.add(name)
    missing = [name for name in wanted if name not in filled]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise BadCheckpoint(f"{folder}: tensors missing: {', '.join(missing[:3])}{more}")
    if second is not None and not torch.equal(
        second[1].to(device, dtype), model.get_parameter(embedding)
    ):
        raise BadCheckpoint(
            f"{second[0]}: {head} differs from {embedding}, though config.json ties them"
        )


def save_base(
    model: Base,
    folder: Path | str,
    *,
    dtype: torch.dtype | None = None,
    words: Path | str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a base model in the layout it came from: config.json and safetensors, with an index
    where there are several. The same weights give the same bytes.

    dtype: of the file; None: as the weights are. words: a folder whose tokenizer files are copied.
    Raises ValueError for a model with an adapter: merge or save that apart.
    """
    folder = Path(folder)
    tensors = {name: weight.detach() for name, weight in model.named_parameters()}
    hf = dict(model.source or model.config.to_hf())
    expected = dict(skeleton(hf).named_parameters())
    odd = sorted(tensors.keys() ^ expected.keys())
    if odd:
        raise ValueError(f"not a plain base model (an adapter is attached?): {', '.join(odd[:3])}")
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    stored = str(tensors["model.embed_tokens.weight"].dtype).removeprefix("torch.")
    hf["dtype" if "dtype" in hf else "torch_dtype"] = stored
    write_weights(tensors, folder, shard_bytes)
    text = json.dumps(hf, ensure_ascii=False, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    if words is not None:
        for name in WORDS:
            if (Path(words) / name).is_file():
                shutil.copy(Path(words) / name, folder / name)
