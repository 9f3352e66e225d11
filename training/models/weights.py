"""Weights of a checkpoint folder, read and written one tensor or one shard at a time."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
SHARD_BYTES = 4 << 30
STEMS = (("model", "safetensors"), ("pytorch_model", "bin"))  # in the order of preference


class BadCheckpoint(ValueError):
    """A checkpoint that cannot be used; says which file and tensor, and why."""


def weight_files(folder: Path) -> tuple[list[Path], dict[str, Path] | None]:
    """The files that hold the weights, and where the index puts every tensor (None: no index).

    Raises BadCheckpoint when there are none, or when the index names a file that is not there.
    """
    for stem, ending in STEMS:
        index = folder / f"{stem}.{ending}.index.json"
        if index.is_file():
            try:
                table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            except (ValueError, KeyError, TypeError) as error:
                raise BadCheckpoint(f"{index}: no weight_map ({error!r})") from error
            where = {name: folder / file for name, file in table.items()}
            for path in sorted(set(where.values())):
                if not path.is_file():
                    raise BadCheckpoint(f"{index} names {path.name}, which is not there")
            return sorted(set(where.values())), where
        whole = folder / f"{stem}.{ending}"
        if whole.is_file():
            return [whole], None
    names = ", ".join(f"{stem}.{ending}" for stem, ending in STEMS)
    raise BadCheckpoint(f"{folder}: no weights: none of {names}, nor an index of shards")


def file_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of one file; a tensor's bytes are read when they are used.

    Pickled files are read with `weights_only`, so that they cannot run code. Raises BadCheckpoint
    for a file of another kind.
    """
    hint = "cut short, of another kind, or a pointer of Git LFS?"
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    yield name, file.get_tensor(name)
        except SafetensorError as error:
            raise BadCheckpoint(f"{path}: not readable as safetensors ({error}): {hint}") from error
        return
    try:
        # only the zip form of torch.save can be mapped into memory
        mapped = zipfile.is_zipfile(path)
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # unpickling raises nearly everything; its text advises to run code
        raise BadCheckpoint(f"{path}: not readable as tensors: {hint}") from error
    if not isinstance(held, dict):
        raise BadCheckpoint(f"{path}: holds {type(held).__name__}, expected named tensors")
    for name, tensor in held.items():
        if not isinstance(tensor, Tensor):
            raise BadCheckpoint(f"{path}: {name} is {type(tensor).__name__}, expected a tensor")
        yield name, tensor


def all_tensors(folder: Path) -> Iterator[tuple[str, Path, Tensor]]:
    """(name, file, tensor) of every tensor of a checkpoint, file by file.

    Raises BadCheckpoint when index and files do not agree, when a tensor comes twice, and for
    tensors that are not of f32, f16 or bf16.
    """
    files, where = weight_files(folder)
    seen: dict[str, Path] = {}
    for path in files:
        for name, tensor in file_tensors(path):
            if name in seen:
                raise BadCheckpoint(f"{path}: {name} is also in {seen[name].name}")
            if where is not None and where.get(name) != path:
                said = where[name].name if name in where else "nowhere"
                raise BadCheckpoint(f"{path}: holds {name}, which the index puts {said}")
            if tensor.dtype not in FLOATS:
                raise BadCheckpoint(f"{path}: {name} is {tensor.dtype}, expected f32, f16 or bf16")
            seen[name] = path
            yield name, path, tensor
    lost = sorted((where or {}).keys() - seen.keys())
    if lost:
        assert where is not None
        raise BadCheckpoint(f"{where[lost[0]]}: {lost[0]} is not there, though the index says so")


def write_weights(
    tensors: Mapping[str, Tensor], folder: Path, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Writes tensors as model.safetensors, or as shards with an index where they need several.

    A shard holds tensors in the order given, up to `shard_bytes` (one tensor may be larger). The same
    tensors give the same bytes. Weights that were there before are removed. Returns the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("model*.safetensors"), folder / "model.safetensors.index.json"):
        old.unlink(missing_ok=True)
    shards: list[list[str]] = [[]]
    room = shard_bytes
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    files = []
    for number, names in enumerate(shards, 1):
        many = len(shards) > 1
        name = f"model-{number:05}-of-{len(shards):05}.safetensors" if many else "model.safetensors"
        held = {each: tensors[each].detach().cpu().contiguous() for each in names}
        save_file(held, folder / name, metadata={"format": "pt"})
        files.append(folder / name)
    if len(shards) > 1:
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        table = {
            name: file.name for file, names in zip(files, shards, strict=True) for name in names
        }
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(table.items()))}
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return files
