"""Published Baichuan2 layouts: 7B against transformers' Llama, 13B's ALiBi against Bloom's."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from training.config import BAICHUAN2_7B, BAICHUAN2_13B, Config
from training.model import Model
from training.models import load_base, save_base
from training.models.weights import BadCheckpoint
from training.positions import alibi_slopes

SIZES = {"vocab_size": 211, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
# the fields of the published files, sizes apart
PUBLISHED = {
    "architectures": ["BaichuanForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_baichuan.BaichuanConfig"},
    "tokenizer_class": "BaichuanTokenizer",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "model_max_length": 4096,
    "model_type": "baichuan",
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.29.2",
    "use_cache": True,
}
B7 = (
    PUBLISHED
    | SIZES
    | {"num_attention_heads": 4, "max_position_embeddings": 4096, "z_loss_weight": 0}
)
B13 = PUBLISHED | SIZES | {"num_attention_heads": 4}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights in the published layout, head rows of many lengths."""
    torch.manual_seed(seed)
    V, D, M = SIZES["vocab_size"], SIZES["hidden_size"], SIZES["intermediate_size"]
    made = {"model.embed_tokens.weight": torch.randn(V, D) * 0.5}
    for i in range(SIZES["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        made |= {
            layer + "self_attn.W_pack.weight": torch.randn(3 * D, D) * 0.1,
            layer + "self_attn.o_proj.weight": torch.randn(D, D) * 0.1,
            layer + "self_attn.rotary_emb.inv_freq": torch.randn(8),
            layer + "mlp.gate_proj.weight": torch.randn(M, D) * 0.1,
            layer + "mlp.up_proj.weight": torch.randn(M, D) * 0.1,
            layer + "mlp.down_proj.weight": torch.randn(D, M) * 0.1,
            layer + "input_layernorm.weight": 1 + 0.1 * torch.randn(D),
            layer + "post_attention_layernorm.weight": 1 + 0.1 * torch.randn(D),
        }
    made["model.norm.weight"] = 1 + 0.1 * torch.randn(D)
    made["lm_head.weight"] = torch.randn(V, D) * (0.2 + 3 * torch.rand(V, 1))
    return made


def write(folder: Path, made: dict, config: dict, form: str = "safetensors") -> Path:
    """A checkpoint; form: safetensors, bin, old (a pickle that cannot be mapped), shards of either."""
    (folder / "config.json").write_text(json.dumps(config))
    kind = "bin" if "bin" in form or form == "old" else "safetensors"
    stem = "pytorch_model" if kind == "bin" else "model"
    names = list(made)
    parts = [names[:9], names[9:]] if "sharded" in form else [names]
    table = {}
    for number, part in enumerate(parts, 1):
        file = (
            f"{stem}-{number:05}-of-{len(parts):05}.{kind}" if len(parts) > 1 else f"{stem}.{kind}"
        )
        held = {name: made[name] for name in part}
        if kind == "bin":
            torch.save(held, folder / file, _use_new_zipfile_serialization=form != "old")
        else:
            save_file(held, folder / file)
        table |= dict.fromkeys(part, file)
    if len(parts) > 1:
        index = {"metadata": {}, "weight_map": table}
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))
    return folder


@torch.no_grad()
@pytest.mark.parametrize(
    "form", ["safetensors", "sharded safetensors", "bin", "sharded bin", "old"]
)
def test_7b_layout_equals_llama_with_split_projection_and_normalised_head(tmp_path, form):
    transformers = pytest.importorskip("transformers")
    made = tensors()
    model = load_base(write(tmp_path, made, B7, form))
    assert isinstance(model, Model) and model.config.positions == "rope"
    oracle = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **SIZES,
            num_attention_heads=4,
            rms_norm_eps=1e-6,
            max_position_embeddings=4096,
            tie_word_embeddings=False,
        )
    ).eval()
    split = {}
    for name, tensor in made.items():
        if "W_pack" in name:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                split[name.replace("W_pack", f"{part}_proj")] = rows
        elif "inv_freq" not in name:
            split[name] = F.normalize(tensor, dim=-1) if name == "lm_head.weight" else tensor
    oracle.load_state_dict(split)
    tokens = torch.randint(0, 211, (2, 50))
    expected = oracle(tokens).logits
    assert expected.std() > 0.3
    assert (model(tokens) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("heads", [8, 12, 32, 40])
def test_slopes_are_blooms(heads):
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    tensor = bloom.build_alibi_tensor(torch.ones(1, 5), heads, torch.float32)  # (H, 1, S)
    assert torch.allclose(alibi_slopes(heads), tensor[:, 0, 1], rtol=1e-6, atol=0)


def test_slopes_of_forty_heads_follow_the_interleave_rule():
    expected = [2 ** (-0.25 * k) for k in range(1, 33)]
    expected += [2 ** (-0.125 * (2 * j - 1)) for j in range(1, 9)]
    assert torch.allclose(alibi_slopes(40), torch.tensor(expected))


def dense_13b(made: dict, tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Logits (T, V) of one text by the plain formulas, f64; biases as published: slope * key."""
    made = {name: tensor.double() for name, tensor in made.items()}
    D, T = SIZES["hidden_size"], len(tokens)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * made[name + ".weight"]

    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    x = made["model.embed_tokens.weight"][tokens]
    for i in range(SIZES["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        q, k, v = (
            norm(x, layer + "input_layernorm") @ made[layer + "self_attn.W_pack.weight"].T
        ).split(D, -1)
        outputs = []
        for head, slope in enumerate(alibi_slopes(heads).tolist()):
            own = slice(head * D // heads, (head + 1) * D // heads)
            scores = q[:, own] @ k[:, own].T / math.sqrt(D // heads)
            scores = scores + slope * torch.arange(T).double()
            outputs.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ v[:, own])
        x = x + torch.cat(outputs, -1) @ made[layer + "self_attn.o_proj.weight"].T
        y = norm(x, layer + "post_attention_layernorm")
        gate = F.silu(y @ made[layer + "mlp.gate_proj.weight"].T)
        up = y @ made[layer + "mlp.up_proj.weight"].T
        x = x + (gate * up) @ made[layer + "mlp.down_proj.weight"].T
    head = made["lm_head.weight"]
    return norm(x, "model.norm") @ (head / head.norm(dim=-1, keepdim=True)).T


@torch.no_grad()
@pytest.mark.parametrize("heads", [4, 2])
def test_13b_layout_equals_the_dense_formula(tmp_path, heads):
    made = tensors(1)
    model = load_base(write(tmp_path, made, B13 | {"num_attention_heads": heads}, "bin"))
    assert model.config.positions == "alibi" and model.config.capacity == 4096
    tokens = torch.randint(0, 211, (40,))
    expected = dense_13b(made, tokens, heads)
    assert (model(tokens[None])[0] - expected).abs().max() < 1e-5
    rotary = Model(Config.from_hf(B7 | {"num_attention_heads": heads}))
    rotary.load_state_dict(model.state_dict())
    assert (rotary(tokens[None])[0] - expected).abs().max() > 1e-2


@torch.no_grad()
def test_documents_and_cached_passes_of_a_model_with_alibi(tmp_path):
    model = load_base(write(tmp_path, tensors(2), B13))
    a, b = torch.randint(0, 211, (1, 11)), torch.randint(0, 211, (1, 17))
    packed = model.hidden(torch.cat((a, b), 1), torch.tensor([[1] * 11 + [2] * 17]))
    assert (packed[:, :11] - model.hidden(a)).abs().max() < 1e-5
    assert (packed[:, 11:] - model.hidden(b)).abs().max() < 1e-5
    cache = model.new_cache(1, 17)
    parts = [model.hidden(b[:, i:j], cache=cache) for i, j in ((0, 6), (6, 7), (7, 17))]
    assert (torch.cat(parts, 1) - model.hidden(b)).abs().max() < 1e-5


def test_half_precision_follows_full_precision(tmp_path):
    folder = write(tmp_path, {k: v.bfloat16() for k, v in tensors().items()}, B13)
    full, half = load_base(folder), load_base(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    tokens = torch.randint(0, 211, (2, 30))
    a, b = full(tokens), half(tokens)
    assert b.dtype == torch.bfloat16
    assert (a - b).abs().max() < 0.05 * a.abs().max()
    b.float().logsumexp(-1).mean().backward()
    with torch.autocast("cpu", torch.bfloat16):
        assert (full(tokens) - a).abs().max() < 0.05 * a.abs().max()


def test_published_sizes_and_the_round_trip_of_configs():
    published = {"vocab_size": 125696, "model_max_length": 4096}
    b7 = B7 | published
    b7 |= {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    assert Config.from_hf(b7 | {"num_attention_heads": 32}) == BAICHUAN2_7B
    b13 = B13 | published
    b13 |= {"hidden_size": 5120, "intermediate_size": 13696, "num_hidden_layers": 40}
    assert Config.from_hf(b13 | {"num_attention_heads": 40}) == BAICHUAN2_13B
    for config in (BAICHUAN2_7B, BAICHUAN2_13B):
        assert Config.from_hf(config.to_hf()) == config


@pytest.mark.parametrize("config", [B7, B13], ids=["7b", "13b"])
def test_a_saved_base_is_the_loaded_one_byte_by_byte(tmp_path, config):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    first.mkdir()
    made = {k: v.bfloat16() for k, v in tensors().items() if "inv_freq" not in k}
    model = load_base(write(first, made, config), dtype=torch.bfloat16)
    save_base(model, second, shard_bytes=60_000)
    again = load_base(second, dtype=torch.bfloat16)
    for name, tensor in made.items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert json.loads((second / "config.json").read_text()) == config
    save_base(again, third, shard_bytes=60_000)
    files = sorted(path.name for path in second.iterdir())
    assert "model.safetensors.index.json" in files and len(files) > 3
    assert files == sorted(path.name for path in third.iterdir())
    for name in files:
        assert (second / name).read_bytes() == (third / name).read_bytes(), name
    save_base(again, third)  # whole now: no stale shards are left
    assert sorted(p.name for p in third.iterdir()) == ["config.json", "model.safetensors"]


DOWN = "model.layers.2.mlp.down_proj.weight"


def broken(how: str) -> dict:
    made = tensors()
    if how == "missing":
        del made[DOWN]
    elif how == "extra":
        made["model.layers.3.mlp.down_proj.weight"] = made[DOWN].clone()
    elif how == "shape":
        made[DOWN] = made[DOWN].T.contiguous()
    elif how == "integers":
        made[DOWN] = made[DOWN].to(torch.int8)
    elif how == "double":
        made[DOWN] = made[DOWN].double()
    return made


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", rf"tensors missing: {DOWN}"),
        ("extra", r"model\.(safetensors|bin): model.layers.3.mlp.down_proj.weight has no place"),
        ("shape", rf"{DOWN} is \(96, 64\), config.json asks for \(64, 96\)"),
        ("integers", rf"{DOWN} is torch.int8, expected f32, f16 or bf16"),
        ("double", rf"{DOWN} is torch.float64, expected f32, f16 or bf16"),
    ],
)
def test_wrong_tensors_are_named_with_their_file(tmp_path, form, how, message):
    with pytest.raises(BadCheckpoint, match=message):
        load_base(write(tmp_path, broken(how), B7, form))


def test_wrong_folders_are_refused_with_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json: is this a checkpoint folder"):
        load_base(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(B7))
    with pytest.raises(BadCheckpoint, match="no weights: none of model.safetensors, pytorch_model"):
        load_base(tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\n"
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).write_text(pointer)
        with pytest.raises(BadCheckpoint, match=rf"{name}: not readable.*Git LFS"):
            load_base(tmp_path)
    for change, message in [
        ({"model_type": "bloom"}, "model_type 'bloom' is not known; known are baichuan, llama"),
        ({"vocab_size": 64000}, "Baichuan 1"),
        ({"hidden_act": "gelu"}, "no hidden_act 'gelu'"),
        ({"num_attention_heads": 5}, "does not divide into 5 heads"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(B7 | change))
        with pytest.raises(BadCheckpoint, match=message):
            load_base(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "baichuan"}))
    with pytest.raises(BadCheckpoint, match="num_attention_heads is missing"):
        load_base(tmp_path)


def test_an_index_that_does_not_agree_with_its_files_is_refused(tmp_path):
    write(tmp_path, tensors(), B7, "sharded safetensors")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    moved = json.loads(path.read_text())
    moved["weight_map"]["lm_head.weight"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(moved))
    with pytest.raises(
        BadCheckpoint, match="00002-of-00002.*holds lm_head.weight, which the index"
    ):
        load_base(tmp_path)
    index["weight_map"]["lm_head.weight"] = "model-00003-of-00003.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(BadCheckpoint, match="names model-00003-of-00003.safetensors, which is not"):
        load_base(tmp_path)


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "config.json").write_text(json.dumps(B7))
    torch.save({"lm_head.weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint, match="not readable as tensors"):
        load_base(tmp_path)
    assert not (tmp_path / "sprung").exists()
