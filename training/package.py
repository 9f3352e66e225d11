"""Reads a model package in Python, as the browser reads it: dequantised f32 weights, f16 adapter.

The page about the format is `convert/README.md`; `src/format/` is the strict reader. This one trusts
the sizes that the manifest gives only after it has compared them with what the model needs, and every
file only after its SHA-256. Numbers are the shipped ones: what is measured here is what people get.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.about import TEMPLATE
from training.experts import AdapterConfig, adapted, attach, set_mode
from training.model import Config, Model
from training.tokenizer import PedTokenizer

FORMAT = 1
GROUP = 32
PADDING = 16
PLAIN = {"f32": "<f4", "f16": "<f2"}


@dataclass(frozen=True)
class PackageModel:
    """A package, ready to compute with.

    `model` takes `tasks` (row numbers of `tasks`) where the adapter has gates per task.
    """

    folder: Path
    manifest: dict[str, Any]
    model: Model
    tokenizer: PedTokenizer
    tasks: tuple[str, ...]
    template: dict[str, Any]
    sampling: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["id"])

    @property
    def bytes(self) -> int:
        """Size of all files together, the manifest included."""
        files = sum(file["bytes"] for file in self.manifest["files"])
        return files + (self.folder / "manifest.json").stat().st_size


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a package. Raises ValueError where it is no package of this format."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: a model package has a manifest.json; convert writes it")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: format {manifest.get('format')!r}, this reader knows {FORMAT}")
    architecture = manifest["config"]["architecture"]
    if architecture != "baichuan2":
        raise ValueError(f"{path}: architecture {architecture!r}, this reader knows baichuan2")
    return manifest


def read_files(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    """All files that the manifest lists, by name, their sizes and SHA-256 checked."""
    found = {}
    for file in manifest["files"]:
        path = folder / file["name"]
        if not path.is_file():
            raise FileNotFoundError(f"{path}: the manifest lists it; fetch the package again")
        data = path.read_bytes()
        if len(data) != file["bytes"]:
            raise ValueError(f"{path}: {len(data)} bytes, the manifest says {file['bytes']}")
        digest = hashlib.sha256(data).hexdigest()
        if digest != file["sha256"]:
            raise ValueError(f"{path}: SHA-256 is {digest}, the manifest says {file['sha256']}")
        found[file["name"]] = data
    return found


def block_values(data: bytes, dtype: str, rows: int, columns: int, where: str) -> np.ndarray:
    """The values of one block as f32 (rows, columns).

    data: the block's bytes; its length must be exactly what rows and columns ask for.
    """
    count = rows * columns
    if dtype in PLAIN:
        expected = count * (4 if dtype == "f32" else 2)
    elif dtype in ("q4", "q8"):
        expected = (count // 2 if dtype == "q4" else count) + count // GROUP * 2
    else:
        raise ValueError(f"{where}: unknown dtype {dtype!r}")
    if len(data) != -(-expected // PADDING) * PADDING:
        raise ValueError(f"{where}: {len(data)} bytes do not hold {rows} x {columns} {dtype}")
    if dtype in PLAIN:
        values = np.frombuffer(data, PLAIN[dtype], count)
        return values.astype(np.float32).reshape(rows, columns)
    plane = count // 2 if dtype == "q4" else count
    q = np.frombuffer(data, np.uint8, plane)
    if dtype == "q4":
        q = np.stack((q & 15, q >> 4), -1).reshape(-1)
    scale = np.frombuffer(data, "<f2", count // GROUP, offset=plane).astype(np.float32)
    centred = q.astype(np.float32) - (8 if dtype == "q4" else 128)
    return (centred.reshape(-1, GROUP) * scale[:, None]).reshape(rows, columns)


def read_tensors(manifest: dict[str, Any], files: dict[str, bytes]) -> dict[str, Tensor]:
    """Every tensor of the package, dequantised to f32, by its name."""
    tensors = {}
    for about in manifest["tensors"]:
        name, shape = about["name"], about["shape"]
        columns = shape[1] if len(shape) == 2 else 1
        values = np.zeros((shape[0], columns), np.float32)
        row = 0
        for block in about["blocks"]:
            first, last = block["rows"]
            where = f"tensor {name}, block in {block['file']} at {block['offset']}"
            if first != row or not first < last <= shape[0]:
                raise ValueError(f"{where}: rows {first} to {last} do not follow row {row}")
            data = files[block["file"]][block["offset"] : block["offset"] + block["bytes"]]
            values[first:last] = block_values(data, about["dtype"], last - first, columns, where)
            row = last
        if row != shape[0]:
            raise ValueError(f"tensor {name}: {row} rows in blocks, {shape[0]} in its shape")
        tensors[name] = torch.from_numpy(values.reshape(shape))
    return tensors


def base_model(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    """The base on its dequantised weights. Tensors of the adapter are left alone."""
    about = manifest["config"]
    if about["kvHeads"] != about["heads"] or about["positions"]["kind"] != "rope":
        raise ValueError("this reader knows rotary positions and as many key heads as query heads")
    config = Config(
        vocab=about["vocab"],
        width=about["width"],
        layers=about["layers"],
        heads=about["heads"],
        mlp_width=about["mlpWidth"],
        capacity=about["capacity"],
        norm_eps=about["normEps"],
        rope_theta=about["positions"]["theta"],
    )
    state = {
        "model.embed_tokens.weight": tensors["embed"],
        "model.norm.weight": tensors["norm"],
        "lm_head.weight": tensors["head"],
    }
    for i in range(config.layers):
        old, new = f"layers.{i}.", f"model.layers.{i}."
        gate, up = tensors[old + "gate_up"].split(config.mlp_width)
        state |= {
            new + "input_layernorm.weight": tensors[old + "attention_norm"],
            new + "self_attn.W_pack.weight": tensors[old + "qkv"],
            new + "self_attn.o_proj.weight": tensors[old + "attention_out"],
            new + "post_attention_layernorm.weight": tensors[old + "mlp_norm"],
            new + "mlp.gate_proj.weight": gate,
            new + "mlp.up_proj.weight": up,
            new + "mlp.down_proj.weight": tensors[old + "down"],
        }
    model = Model(config)
    model.load_state_dict(state)
    model.lm_head.normalised = True  # rows were given unit length before they were quantised
    return model


@torch.no_grad()
def add_adapter(model: Model, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Attaches the package's experts, with its gates per task (merged) or its routers (routed)."""
    about = manifest["adapter"]
    tasks = [task["id"] for task in manifest["tasks"]]
    E, R = about["experts"], about["rank"]
    config = AdapterConfig(
        experts=E,
        rank=R,
        alpha=about["alpha"],
        targets=tuple(about["targets"]),
        tasks=tuple(tasks),
    )
    attach(model, config)
    modules = dict(adapted(model))
    names = [linear["linear"] for linear in about["linears"]]
    if set(names) != set(modules):
        odd = sorted(set(names) ^ set(modules))
        raise ValueError(f"adapter: its targets do not adapt exactly its linears, see {odd[:4]}")
    for i, linear in enumerate(about["linears"]):
        module = modules[linear["linear"]]
        a, b = tensors[linear["a"]], tensors[linear["b"]]  # (E R, K) and (N, E R)
        module.lora_moe_A.copy_(a.view(E, R, -1).transpose(1, 2))
        module.lora_moe_B.copy_(b.view(-1, E, R).permute(1, 2, 0))
        if about["mode"] == "routed":
            module.lora_route.weight.copy_(tensors[linear["router"]])
            continue
        gates = torch.tensor([about["gates"][task][i] for task in tasks], dtype=torch.float64)
        if (gates.sum(-1) - 1).abs().max() > 1e-3 or gates.min() < 0:
            raise ValueError(f"adapter: gates of {linear['linear']} do not sum to 1: {gates}")
        module.gate_logits.copy_(gates.clamp_min(1e-30).log())
    set_mode(model, "task" if about["mode"] == "merged" else "token")


def load_package(folder: Path | str) -> PackageModel:
    """Reads a package folder.

    Raises FileNotFoundError for a missing file and ValueError for one that is not what the manifest
    says, for another format, and for a chat template that the tokenizer does not write.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    tensors = read_tensors(manifest, read_files(folder, manifest))
    model = base_model(manifest, tensors)
    if manifest["adapter"] is not None:
        add_adapter(model, manifest, tensors)
    if manifest["template"] != TEMPLATE:
        raise ValueError(f"{folder}: the chat template is not the one that the tokenizer writes")
    return PackageModel(
        folder=folder,
        manifest=manifest,
        model=model.requires_grad_(False).eval(),
        tokenizer=PedTokenizer.load(folder),
        tasks=tuple(task["id"] for task in manifest["tasks"]),
        template=manifest["template"],
        sampling=manifest["sampling"],
    )


def package_gates(manifest: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """{task: {linear: [g_1 ..]}} of a merged package; empty for a routed one or none."""
    about = manifest["adapter"]
    if about is None or about["mode"] != "merged":
        return {}
    names = [linear["linear"] for linear in about["linears"]]
    return {task: dict(zip(names, rows, strict=True)) for task, rows in about["gates"].items()}
