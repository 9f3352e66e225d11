"""The base against transformers' Llama, and generation against the plain forward pass."""

import pytest
import torch
import torch.nn.functional as F

from training.model import Cache, Config, Model, Seen

CONFIG = Config(vocab=300, width=64, layers=3, heads=2, mlp_width=96, capacity=64)


def make(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model = Model(CONFIG).eval()
    with torch.no_grad():  # larger weights, so that differences would show
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.dim() == 2 else parameter.add_(
                0.1 * torch.randn_like(parameter)
            )
    return model


def llama_tensors(model: Model) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("W_pack.weight"):
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                tensors[name.replace("W_pack", f"{part}_proj")] = rows
        elif name == "lm_head.weight":
            tensors[name] = F.normalize(tensor, dim=-1)
        else:
            tensors[name] = tensor
    return tensors


def test_equals_llama_with_split_projection_and_normalised_head():
    transformers = pytest.importorskip("transformers")
    model = make()
    oracle = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=CONFIG.vocab,
            hidden_size=CONFIG.width,
            intermediate_size=CONFIG.mlp_width,
            num_hidden_layers=CONFIG.layers,
            num_attention_heads=CONFIG.heads,
            rms_norm_eps=CONFIG.norm_eps,
            rope_theta=CONFIG.rope_theta,
            max_position_embeddings=CONFIG.capacity,
            tie_word_embeddings=False,
            attention_bias=False,
        )
    ).eval()
    oracle.load_state_dict(llama_tensors(model))
    tokens = torch.randint(0, CONFIG.vocab, (2, 40))
    with torch.no_grad():
        expected = oracle(tokens).logits
        assert expected.std() > 0.05
        assert (model(tokens) - expected).abs().max() < 1e-5


def test_config_survives_its_file():
    assert Config.from_hf(CONFIG.to_hf()) == CONFIG


@torch.no_grad()
def test_cached_passes_equal_one_pass():
    model = make()
    tokens = torch.randint(0, CONFIG.vocab, (2, 20))
    whole = model.hidden(tokens)
    cache = Cache(CONFIG, 2, 20, model.lm_head.weight)
    parts = [
        model.hidden(tokens[:, a:b], cache=cache) for a, b in ((0, 7), (7, 8), (8, 15), (15, 20))
    ]
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5


@torch.no_grad()
def test_greedy_is_the_argmax_of_the_plain_forward_pass():
    model = make()
    prompt = [5, 9, 44, 7]
    answer, margins = model.generate(prompt, 12, stop=None)
    assert len(answer) == 12 and len(margins) == 12
    logits = model(torch.tensor([prompt + answer]))[0]
    best = logits.topk(2).values
    for i, token in enumerate(answer):
        at = len(prompt) - 1 + i
        assert token == int(logits[at].argmax())
        assert margins[i] == pytest.approx(float(best[at, 0] - best[at, 1]), abs=1e-4)


@torch.no_grad()
def test_generation_ends_with_the_stop_token_and_at_capacity():
    model = make()
    prompt = [5, 9, 44, 7]
    free, _ = model.generate(prompt, 12, stop=None)
    stopped, _ = model.generate(prompt, 12, stop=free[3])
    assert stopped == free[: free.index(free[3]) + 1]
    full, _ = model.generate(prompt, 1000, stop=None)
    assert len(full) == CONFIG.capacity - len(prompt)


@torch.no_grad()
def test_documents_packed_into_a_row_do_not_see_each_other():
    model = make()
    a, b = torch.randint(0, CONFIG.vocab, (1, 11)), torch.randint(0, CONFIG.vocab, (1, 17))
    segments = torch.tensor([[1] * 11 + [2] * 17])
    packed = model.hidden(torch.cat((a, b), 1), segments)
    assert (packed[:, :11] - model.hidden(a)).abs().max() < 1e-5
    assert (packed[:, 11:] - model.hidden(b)).abs().max() < 1e-5


@torch.no_grad()
def test_documents_by_themselves_equal_the_mask_that_gpus_take(monkeypatch):
    model = make()
    tokens = torch.randint(0, CONFIG.vocab, (2, 20))
    segments = torch.tensor([[1] * 11 + [2] * 6 + [0] * 3, [1] * 20])
    apart = model.hidden(tokens, segments)
    monkeypatch.setattr(model, "_seen", lambda *given: Seen(mask=model._mask(*given)))
    assert (model.hidden(tokens, segments) - apart).abs().max() < 1e-5


def test_head_ignores_the_length_of_its_rows():
    model = make()
    tokens = torch.randint(0, CONFIG.vocab, (1, 9))
    before = model(tokens)
    with torch.no_grad():
        model.lm_head.weight.mul_(torch.rand(CONFIG.vocab, 1) + 0.5)
    assert torch.allclose(model(tokens), before, atol=1e-5)


@torch.no_grad()
def test_left_padding_changes_nothing():
    model = make()
    tokens = torch.randint(0, CONFIG.vocab, (1, 12))
    alone = model.hidden(tokens)
    padded = torch.cat((torch.zeros(1, 5, dtype=torch.long), tokens), 1).repeat(2, 1)
    padded[1] = torch.randint(0, CONFIG.vocab, (17,))  # a neighbour without padding
    cache = model.new_cache(2, 20, torch.tensor([5, 0]))
    parts = [model.hidden(padded[:, a:b], cache=cache) for a, b in ((0, 9), (9, 16), (16, 17))]
    together = torch.cat(parts, 1)
    assert together.isfinite().all()
    assert (together[:1, 5:] - alone).abs().max() < 1e-5
    assert (together[1:] - model.hidden(padded[1:])).abs().max() < 1e-5


def gradients(model: Model, tokens: torch.Tensor, segments: torch.Tensor | None) -> torch.Tensor:
    model.zero_grad()
    model(tokens, segments).logsumexp(-1).mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("segments", [None, torch.tensor([[1] * 9 + [2] * 7] * 2)])
def test_checkpointing_computes_layers_twice_and_the_same_gradients(segments):
    model = make()
    tokens = torch.randint(0, CONFIG.vocab, (2, 16))
    calls = []
    model.model.layers[1].register_forward_pre_hook(lambda *_: calls.append(1))
    plain = gradients(model, tokens, segments)
    assert len(calls) == 1
    model.checkpointing = True
    assert torch.equal(gradients(model, tokens, segments), plain)
    assert len(calls) == 3
    with torch.no_grad():
        model(tokens)
    assert len(calls) == 4


def test_adaptable_linears_are_named_as_adapters_name_them():
    model = make()
    names = [name for name, _, _ in model.adaptable(("down_proj", "W_pack"))]
    assert names == [
        f"layers.{i}.{n}" for i in range(3) for n in ("self_attn.W_pack", "mlp.down_proj")
    ]
    assert [a for _, _, a in model.adaptable("ffn")][:3] == ["gate_proj", "up_proj", "down_proj"]
    assert len(list(model.adaptable(("all",)))) == 15
    for name, parent, attribute in model.adaptable(("all",)):
        assert getattr(parent, attribute) is model.model.get_submodule(name)


@pytest.mark.parametrize("positions", ["rope", "alibi"])
def test_the_whole_pass_is_one_graph_for_the_compiler(positions):
    model = Model(Config(300, 32, 1, 2, 48, 32, positions=positions))
    compiled = torch.compile(model.hidden, backend="aot_eager", fullgraph=True)
    tokens = torch.randint(0, 300, (2, 16))
    segments = torch.tensor([[1] * 9 + [2] * 7] * 2)
    for given in (None, segments):
        made = compiled(tokens, given)
        assert (made - model.hidden(tokens, given)).abs().max() < 1e-6
        made.square().mean().backward()
