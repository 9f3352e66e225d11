"""A package read in Python computes what the browser computes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from training.package import block_values, load_package, package_gates

ROOT = Path(__file__).parents[2]
NANO = ROOT / "public" / "models" / "nano"
GOLDEN = ROOT / "e2e" / "fixtures" / "golden" / "nano.json"


@pytest.fixture(scope="module")
def package():
    return load_package(NANO)


def golden_tasks() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["tasks"]


@torch.no_grad()
def test_known_answers_of_the_shipped_package_hold(package):
    known = package.manifest["knownAnswer"]
    assert set(known["tasks"]) == set(package.tasks)
    for task, answer in known["tasks"].items():
        row = torch.tensor([package.tasks.index(task)])
        logits = package.model(torch.tensor([answer["tokens"]]), tasks=row)[0]
        for position, top in enumerate(answer["top"]):
            found = logits[position].topk(5)
            assert found.indices.tolist() == [entry["id"] for entry in top]
            wanted = torch.tensor([entry["logit"] for entry in top])
            assert (found.values - wanted).abs().max() < known["tolerance"]["f32"]
        greedy, _ = package.model.generate(
            answer["tokens"], len(answer["greedy"]), int(row), stop=None
        )
        assert greedy == answer["greedy"]


def test_golden_greedy_tokens_hold(package):
    assert golden_tasks().keys() == set(package.tasks)
    for task, answer in golden_tasks().items():
        turns = [{"role": "user", "text": answer["prompt"]}]
        assert package.tokenizer.encode_turns(turns)[0] == answer["prompt_tokens"]
        count = len(answer["greedy_tokens"])
        number = package.tasks.index(task)
        greedy, _ = package.model.generate(answer["prompt_tokens"], count, number)
        assert greedy == answer["greedy_tokens"]
        assert package.tokenizer.decode(greedy) == answer["greedy_text"]


def test_gates_are_those_of_the_manifest(package):
    gates = package_gates(package.manifest)
    modules = dict(package.model.model.named_modules())
    for i, task in enumerate(package.tasks):
        for linear, values in gates[task].items():
            held = modules[linear].gate_logits[i].softmax(-1)
            assert held.tolist() == pytest.approx(values, abs=1e-6)


def test_size_is_that_of_the_folder(package):
    kept = [NANO / f["name"] for f in package.manifest["files"]] + [NANO / "manifest.json"]
    assert package.bytes == sum(path.stat().st_size for path in kept)


def test_blocks_hold_what_the_format_says():
    scale = np.array([0.5], "<f2").tobytes()
    q4 = bytes([0x0F] + [0x88] * 15)  # low nibble first: 15, 0, 8, 8 ...
    values = block_values(q4 + scale + bytes(14), "q4", 1, 32, "here")
    assert values.shape == (1, 32)
    assert values[0, :4].tolist() == [3.5, -4.0, 0.0, 0.0]
    q8 = bytes([0, 255] + [128] * 30)
    assert block_values(q8 + scale + bytes(14), "q8", 1, 32, "here")[0, :3].tolist() == [
        -64.0,
        63.5,
        0.0,
    ]
    half = np.array([[1.5, -2.0]], "<f2").tobytes() + bytes(12)
    assert block_values(half, "f16", 1, 2, "here").tolist() == [[1.5, -2.0]]
    with pytest.raises(ValueError, match="here: 16 bytes do not hold"):
        block_values(bytes(16), "q4", 1, 32, "here")
    with pytest.raises(ValueError, match="unknown dtype"):
        block_values(bytes(16), "q2", 1, 32, "here")


def changed(tmp_path: Path, change) -> Path:
    folder = tmp_path / "package"
    shutil.copytree(NANO, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    change(manifest, folder)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_a_changed_byte_is_refused(tmp_path):
    def flip(manifest, folder):
        path = folder / "adapter-00000.bin"
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.write_bytes(data)

    with pytest.raises(ValueError, match="adapter-00000.bin: SHA-256"):
        load_package(changed(tmp_path, flip))


def test_other_formats_and_templates_are_refused(tmp_path):
    def newer(manifest, folder):
        manifest["format"] = 2

    def other(manifest, folder):
        manifest["template"]["user"]["prefix"] = "Q: "

    with pytest.raises(ValueError, match="format 2"):
        load_package(changed(tmp_path / "a", newer))
    with pytest.raises(ValueError, match="chat template"):
        load_package(changed(tmp_path / "b", other))
    with pytest.raises(FileNotFoundError, match="manifest.json"):
        load_package(tmp_path)
