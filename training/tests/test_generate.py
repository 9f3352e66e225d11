"""Batched answers against one-by-one generation, and the choice of a token against the engine's."""

import pytest
import torch

from training.config import Config
from training.experts import AdapterConfig, adapted, attach, set_mode
from training.generate import PENALTY_WINDOW, chosen, generate_many, penalised, random_at
from training.model import Model

CONFIG = Config(vocab=300, width=64, layers=2, heads=2, mlp_width=96, capacity=48)
ALIBI = Config(vocab=300, width=96, layers=2, heads=6, mlp_width=96, capacity=48, positions="alibi")
PROMPTS = [[5, 9, 44, 7], [200], [3] * 20, [17, 18], [8, 7, 6, 5, 4, 3], [299, 1, 150]]


def make(config: Config = CONFIG) -> Model:
    torch.manual_seed(0)
    model = Model(config).eval()
    with torch.no_grad():  # larger weights, so that answers differ
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.dim() == 2 else parameter
    return model


@pytest.mark.parametrize("config", [CONFIG, ALIBI], ids=["rope", "alibi"])
@pytest.mark.parametrize("batch", [1, 4, 32])
def test_greedy_answers_of_a_batch_are_those_of_single_prompts(config, batch):
    model = make(config)
    single = [model.generate(prompt, 12, stop=None)[0] for prompt in PROMPTS]
    assert len({tuple(answer) for answer in single}) == len(PROMPTS)
    assert generate_many(model, PROMPTS, 12, stop=None, batch=batch) == single


def test_answers_end_with_the_stop_token_and_drop_out_of_the_batch():
    model = make()
    free = [model.generate(prompt, 20, stop=None)[0] for prompt in PROMPTS]
    stop = free[1][4]
    single = [model.generate(prompt, 20, stop=stop)[0] for prompt in PROMPTS]
    assert len({len(answer) for answer in single}) > 1
    assert generate_many(model, PROMPTS, 20, stop=stop, batch=6) == single


def test_answers_end_at_the_capacity():
    model = make()
    prompts = [*PROMPTS, [4] * 46, [4] * 48]
    answers = generate_many(model, prompts, 1000, stop=None, batch=8)
    assert [len(a) for a in answers] == [48 - len(p) for p in prompts]
    assert answers == [model.generate(prompt, 1000, stop=None)[0] for prompt in prompts]
    assert generate_many(model, [], 5) == []
    assert generate_many(model, [[1], [2]], 0) == [[], []]


def test_tasks_stay_with_their_prompts():
    model = make()
    attach(model, AdapterConfig(rank=2, gate="task"))
    for _, module in adapted(model):
        torch.nn.init.normal_(module.lora_moe_B, std=0.3)
        torch.nn.init.normal_(module.gate_logits, std=3)
    tasks = [0, 2, 1, 1, 0, 2]
    single = [
        model.generate(prompt, 12, task, stop=None)[0]
        for prompt, task in zip(PROMPTS, tasks, strict=True)
    ]
    assert generate_many(model, PROMPTS, 12, tasks=tasks, stop=None, batch=4) == single
    others = generate_many(model, PROMPTS, 12, tasks=[0] * 6, stop=None, batch=4)
    assert others != single
    with pytest.raises(ValueError, match="2 tasks for 6 prompts"):
        generate_many(model, PROMPTS, 12, tasks=[0, 1])


def test_a_routers_noise_is_off_while_answering_and_the_mode_comes_back():
    model = make()
    attach(model, AdapterConfig(rank=2))
    set_mode(model, "token")
    for _, module in adapted(model):
        torch.nn.init.normal_(module.lora_moe_B, std=0.3)
    model.train()
    answers = [generate_many(model, PROMPTS, 8, stop=None) for _ in range(2)]
    assert answers[0] == answers[1] and model.training


def test_penalty_changes_answers_in_the_same_way_alone_and_in_a_batch():
    model = make()
    alone = [generate_many(model, [p], 20, penalty=1.3, stop=None)[0] for p in PROMPTS]
    assert generate_many(model, PROMPTS, 20, penalty=1.3, stop=None, batch=3) == alone
    assert alone != generate_many(model, PROMPTS, 20, stop=None)
    hard = generate_many(model, PROMPTS, 20, penalty=1e6, stop=None)
    assert all(len(set(answer)) == 20 for answer in hard)


def test_draws_depend_on_seed_and_prompt_not_on_the_batch():
    model = make()
    drawn = generate_many(
        model, PROMPTS, 12, temperature=1.0, top_p=0.9, top_k=50, seed=3, stop=None, batch=4
    )
    alone = [
        generate_many(model, [p], 12, temperature=1.0, top_p=0.9, top_k=50, seed=3 + i, stop=None)[
            0
        ]
        for i, p in enumerate(PROMPTS)
    ]
    assert drawn == alone
    assert drawn != generate_many(
        model, PROMPTS, 12, temperature=1.0, top_p=0.9, top_k=50, seed=4, stop=None
    )
    torch.manual_seed(5)
    first = generate_many(model, PROMPTS, 12, temperature=1.0, stop=None)
    torch.manual_seed(5)
    assert generate_many(model, PROMPTS, 12, temperature=1.0, stop=None) == first


def test_penalty_looks_at_each_recent_token_once():
    logits = torch.tensor([[2.0, -2.0, 0.0, 1.0]])
    made = penalised(logits, 2.0, torch.tensor([[0, 1, 1, 0, 2]]))
    assert made.tolist() == [[1.0, -4.0, 0.0, 1.0]]
    assert PENALTY_WINDOW == 256


def known_logits(row: int) -> torch.Tensor:
    return torch.tensor([((i * 37 + row * 101) * 7919 % 1021 - 510) / 64 for i in range(50)])


# Printed by src/engine/random.ts and src/engine/sampler.ts for the same logits, 12 rows each:
# recent tokens r, 3r mod 50, 7, 7, 49, seed 77, position 100 + r.
RANDOMS = [
    (0, 0, 0.097231924533844),
    (1, 2, 0.01066964864730835),
    (12345, 40, 0.9040960073471069),
    (4294967295, 1023, 0.5628917813301086),
]
SAMPLED = [
    (0.0, 0, 1.0, 1.1, [43, 16, 32, 5, 21, 36, 9, 25, 41, 14, 31, 45]),
    (0.7, 20, 0.8, 1.1, [1, 16, 32, 5, 21, 37, 10, 26, 42, 15, 31, 45]),
    (1.0, 0, 1.0, 1.0, [44, 16, 32, 5, 22, 38, 11, 28, 43, 16, 31, 45]),
    (1.5, 0, 0.9, 1.3, [44, 16, 32, 5, 23, 39, 12, 29, 1, 17, 32, 45]),
    (0.95, 5, 0.7, 1.0, [43, 16, 32, 5, 21, 37, 10, 26, 42, 15, 30, 45]),
]


@pytest.mark.parametrize(("seed", "position", "value"), RANDOMS)
def test_random_numbers_are_the_engines(seed, position, value):
    assert random_at(seed, position) == value


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "penalty", "expected"), SAMPLED)
def test_choices_are_the_engines(temperature, top_k, top_p, penalty, expected):
    logits = torch.stack([known_logits(row) for row in range(12)])
    recent = torch.tensor([[row, row * 3 % 50, 7, 7, 49] for row in range(12)])
    randoms = [random_at(77, 100 + row) for row in range(12)]
    scores = penalised(logits, penalty, recent)
    assert chosen(scores, temperature, top_k, top_p, randoms).tolist() == expected


def test_equal_logits_choose_the_lower_id():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0]])
    assert chosen(logits, 0.0, 0, 1.0, []).tolist() == [1]
    assert chosen(logits, 1.0, 0, 0.0, [0.99]).tolist() == [1]  # top_p 0 keeps one


def test_senseless_input_is_refused():
    model = make()
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate_many(model, [[1], []], 3)
    with pytest.raises(ValueError, match="prompt 0 is too long: 49 tokens, the model holds 48"):
        generate_many(model, [[1] * 49], 3)
    with pytest.raises(ValueError, match="top_p 1.5"):
        generate_many(model, [[1]], 3, top_p=1.5)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        generate_many(model, [[1]], 3)
