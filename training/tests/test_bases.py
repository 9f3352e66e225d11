"""Bases of transformers behind the common interface, held against transformers itself."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.base import Base
from training.experts import AdapterConfig, adapted, attach, set_mode
from training.generate import generate_many
from training.models import load_base, load_tokenizer, save_base
from training.models.weights import BadCheckpoint
from training.tokenizer import PedTokenizer, train

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()
SIZES = {
    "vocab_size": 150,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=32),
}
FAMILIES = sorted(CONFIGS)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """(transformers' own model, the wrapped one, the folder)"""
    return make(request.param, tmp_path_factory.mktemp(request.param))


def make(family: str, folder: Path):
    torch.manual_seed(0)
    oracle = transformers.AutoModelForCausalLM.from_config(CONFIGS[family]()).eval()
    with torch.no_grad():  # larger weights and biases that are not zero, so that differences show
        for parameter in oracle.parameters():
            parameter.mul_(4) if parameter.dim() == 2 else parameter.add_(
                0.2 * torch.randn_like(parameter)
            )
    oracle.save_pretrained(folder)
    return oracle, load_base(folder).eval(), folder


def texts() -> torch.Tensor:
    return torch.randint(0, 150, (2, 24), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_hidden_states_and_logits_are_transformers_own(pair):
    oracle, model, _ = pair
    made = oracle(texts(), output_hidden_states=True)
    trace: list[torch.Tensor] = []
    hidden = model.hidden(texts(), trace=trace)
    assert (hidden - made.hidden_states[-1]).abs().max() < 1e-5
    assert (model(texts()) - made.logits).abs().max() < 1e-5
    assert len(trace) == 3
    for ours, theirs in zip(trace[:-1], made.hidden_states[:-1], strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_segments_are_separate_documents(pair):
    oracle, model, _ = pair
    tokens = texts()
    hidden = model.hidden(tokens, torch.tensor([[4] * 9 + [5] * 15, [1] * 23 + [2]]))
    for row, start, end in ((0, 0, 9), (0, 9, 24), (1, 0, 23), (1, 23, 24)):
        alone = oracle.model(tokens[row : row + 1, start:end])[0]
        assert (hidden[row, start:end] - alone[0]).abs().max() < 2e-5


@torch.no_grad()
def test_generation_is_greedy_by_transformers_and_the_same_in_a_batch(pair):
    oracle, model, _ = pair
    prompts = [[5, 9, 44, 7], [11], [3] * 12, [17, 18], [149, 1, 60]]
    single = [model.generate(prompt, 10, stop=None)[0] for prompt in prompts]
    for prompt, answer in zip(prompts, single, strict=True):
        logits = oracle(torch.tensor([prompt + answer])).logits[0]
        assert answer == logits[len(prompt) - 1 : -1].argmax(-1).tolist()
    assert generate_many(model, prompts, 10, stop=None, batch=3) == single
    assert generate_many(model, [[3] * 60], 10, stop=None) == [
        model.generate([3] * 60, 4, stop=None)[0]
    ]


def test_config_names_the_sizes(pair):
    oracle, model, _ = pair
    config = model.config
    said = (config.vocab, config.width, config.layers, config.heads, config.mlp_width)
    assert said == (150, 64, 2, 4, 96)
    assert (config.kv_heads, config.capacity, config.family) == (2, 64, oracle.config.model_type)
    assert config.head_dim == (32 if config.family == "qwen3" else 16)


def test_a_saved_base_is_the_loaded_one(pair, tmp_path):
    oracle, model, folder = pair
    save_base(model, tmp_path / "a", shard_bytes=40_000)
    again = load_base(tmp_path / "a")
    save_base(again, tmp_path / "b", shard_bytes=40_000)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) > 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    reread = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a").eval()
    with torch.no_grad():
        assert torch.equal(reread(texts()).logits, oracle(texts()).logits)
    byte_level(tmp_path)
    save_base(model, tmp_path / "half", dtype=torch.bfloat16, words=tmp_path)
    assert load_tokenizer(tmp_path / "half").encode("发热") == load_tokenizer(tmp_path).encode(
        "发热"
    )
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert stored.keys() == load_file(folder / "model.safetensors").keys()


def test_a_tied_head_is_one_parameter_in_every_copy(tmp_path):
    _, model, _ = make("qwen2", tmp_path)
    names = [name for name, _ in model.named_parameters()]
    assert "lm_head.weight" not in names and list(model.state_dict()) == names
    twin = copy.deepcopy(model)
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    model(texts()).logsumexp(-1).mean().backward()
    alone = model.model.embed_tokens.weight.grad
    assert alone is not None and (alone.abs().sum(-1) > 0).all()  # rows that no text holds too


def adapter(model: Base, **changes) -> None:
    attach(model, AdapterConfig(rank=2, gate="task", **changes))
    torch.manual_seed(3)
    for _, module in adapted(model):
        torch.nn.init.normal_(module.lora_moe_B, std=0.3)
        torch.nn.init.normal_(module.gate_logits, std=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_attach_to_all_linears_and_know_their_tasks(tmp_path, family):
    oracle, model, _ = make(family, tmp_path)
    names = [name for name, _, _ in model.adaptable("all")]
    linears = [n for n, m in oracle.model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert sorted(names) == sorted(linears)
    assert [n.split(".")[-1] for n, _, _ in model.adaptable("ffn")][3:] == [
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    adapter(model, targets=("all",))
    assert [name for name, _ in adapted(model)] == names
    set_mode(model, "none")  # the base alone, its biases included
    with torch.no_grad():
        assert (model(texts()) - oracle(texts()).logits).abs().max() < 1e-5
        set_mode(model, "task")
        both = model.hidden(texts(), tasks=torch.tensor([2, 1]))
        second = model.hidden(texts()[1:], tasks=torch.tensor([1]))
        other = model.hidden(texts()[1:], tasks=torch.tensor([0]))
    assert (both[1:] - second).abs().max() < 1e-5
    assert (both[1:] - other).abs().max() > 1e-2
    with pytest.raises(ValueError, match="needs the task of every row"):
        model.hidden(texts())
    prompts = [[5, 9, 44], [11], [3] * 7]
    single = [
        model.generate(p, 8, t, stop=None)[0] for p, t in zip(prompts, (2, 0, 1), strict=True)
    ]
    assert generate_many(model, prompts, 8, tasks=[2, 0, 1], stop=None) == single
    with pytest.raises(ValueError, match="not a plain base model"):
        save_base(model, tmp_path / "adapted")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_checkpointing_gives_the_same_gradients_and_keeps_the_tasks_of_each_pass(tmp_path, family):
    _, model, _ = make(family, tmp_path)
    adapter(model)
    model.train()
    calls: list[int] = []
    model.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))

    def gradients(checkpointing: bool) -> torch.Tensor:
        model.checkpointing = checkpointing
        model.zero_grad()
        first = model.hidden(texts(), tasks=torch.tensor([0, 1]))
        second = model.hidden(texts(), tasks=torch.tensor([2, 2]))  # before the backward pass
        (first.square().mean() + second.mean()).backward()
        made = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return torch.cat(made)

    plain = gradients(False)
    assert len(calls) == 2 and plain.norm() > 0
    assert torch.equal(gradients(True), plain)
    assert len(calls) == 2 + 4


def test_wrong_checkpoints_are_refused(tmp_path):
    _, _, folder = make("qwen2", tmp_path)
    path = folder / "model.safetensors"
    good = load_file(path)
    bias = "model.layers.1.self_attn.k_proj.bias"
    save_file({k: v for k, v in good.items() if k != bias}, path)
    with pytest.raises(BadCheckpoint, match=rf"tensors missing: {bias}"):
        load_base(folder)
    save_file(good | {"lm_head.weight": good["model.embed_tokens.weight"] + 1}, path)
    with pytest.raises(
        BadCheckpoint, match="lm_head.weight differs from model.embed_tokens.weight"
    ):
        load_base(folder)
    save_file(good | {"lm_head.weight": good["model.embed_tokens.weight"].clone()}, path)
    load_base(folder)
    hf = json.loads((folder / "config.json").read_text())
    sliding = {"use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"]}
    (folder / "config.json").write_text(json.dumps(hf | sliding | {"sliding_window": 8}))
    with pytest.raises(BadCheckpoint, match="sliding windows"):
        load_base(folder)


# -- tokenizers in tokenizer.json


def byte_level(folder: Path, **changes) -> None:
    """A small tokenizer in the form of Qwen's: byte-level BPE, specials after the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.trainers import BpeTrainer

    words = Tokenizer(models.BPE())
    words.normalizer = normalizers.NFC()
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words.train_from_iterator(
        ["宝宝发热三天怎么办？多喝水，注意休息。Human: Assistant: "] * 5, trainer
    )
    words.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    words.add_tokens([AddedToken("<tool_call>", special=False)])
    words.enable_truncation(4)
    folder.mkdir(exist_ok=True)
    words.save(str(folder / "tokenizer.json"))
    about = {"eos_token": "<|endoftext|>"} | changes
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


TEXTS = ["宝宝发热39℃，怎么办？", "👶🏻 a  b\n\tc", "<|im_start|>x<tool_call></s><|endoftext|>", ""]


def test_a_byte_level_tokenizer_keeps_text_out_of_special_tokens(tmp_path):
    byte_level(tmp_path)
    words = load_tokenizer(tmp_path)
    plain = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    special = {
        plain.convert_tokens_to_ids(t) for t in ("<|endoftext|>", "<|im_start|>", "<tool_call>")
    }
    assert len(special) == 3 and words.vocab_size == max(special) + 1
    for text in TEXTS:
        ids = words.encode(text)
        assert not special & set(ids)
        assert words.decode(ids) == text
        if "<" not in text:
            assert ids == plain(text, add_special_tokens=False, truncation=False)["input_ids"]
    assert words.encode_many(TEXTS) == [words.encode(text) for text in TEXTS]
    assert words.decode([*words.encode("好"), words.eos]) == "好"


def test_turns_are_tokenised_piece_by_piece_and_end_with_the_models_own_token(tmp_path):
    byte_level(tmp_path)
    words = load_tokenizer(tmp_path)
    turns = [
        {"role": "user", "text": "宝宝发热"},
        {"role": "assistant", "text": "多喝水。"},
        {"role": "user", "text": "谢谢"},
    ]
    ids, mask = words.encode_turns(turns, "儿科")
    pieces = ["儿科", "\n", "Human: ", "宝宝发热", "\nAssistant: ", "多喝水。"]
    expected = [i for piece in pieces for i in words.encode(piece)] + [words.eos]
    answer = len(words.encode("多喝水。")) + 1
    assert mask[: len(expected)] == [0] * (len(expected) - answer) + [1] * answer
    for piece in ("\n", "Human: ", "谢谢", "\nAssistant: "):
        expected += words.encode(piece)
    assert ids == expected and sum(mask) == answer


def test_our_own_tokenizer_comes_back_as_itself(tmp_path):
    made = train(["宝宝发热怎么办", "多喝水"] * 9, 400, 50)
    (tmp_path / "tokenizer.json").write_text(json.dumps(made, ensure_ascii=False))
    words = load_tokenizer(tmp_path)
    assert type(words) is PedTokenizer and words.eos == 2
    assert words.encode("宝宝</s>") == PedTokenizer.load(tmp_path).encode("宝宝</s>")


def test_tokenizers_without_an_end_or_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither tokenizer.json nor tokenizer.model"):
        load_tokenizer(tmp_path)
    byte_level(tmp_path, eos_token="<end>")
    with pytest.raises(BadCheckpoint, match="eos_token '<end>' is not in tokenizer.json"):
        load_tokenizer(tmp_path)
    byte_level(tmp_path, eos_token=None)
    with pytest.raises(BadCheckpoint, match="neither .* has an eos token"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    assert load_tokenizer(tmp_path).eos == 7
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    made["model"]["type"] = "Unigram"
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(BadCheckpoint, match="a Unigram model, BPE is supported"):
        load_tokenizer(tmp_path)
