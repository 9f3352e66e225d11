"""Adapter folders: the released layout byte for byte, every spelling of a router, and refusals."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.experts import (
    AdapterConfig,
    adapted,
    attach,
    config_of,
    load_adapter,
    read_about,
    save_adapter,
    set_mode,
)
from training.model import Model
from training.tests.expert_models import CONFIG

E, R = 4, 3
TOKENS = torch.arange(24).view(3, 8)
TASKS = torch.tensor([0, 1, 2])
FFN = {"gate_proj": (32, 64), "up_proj": (32, 64), "down_proj": (64, 32)}  # K_in, N_out


def released_about(**changes) -> dict:
    """What PEFT 0.9 with the paper's patch writes; keys as in the released code's dataclasses."""
    about = {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": "/models/Baichuan2-7B-Base",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "loftq_config": {},
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_nums": E,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": R,
        "rank_pattern": {},
        "revision": None,
        "target_modules": ["up_proj", "gate_proj", "down_proj"],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    return about | changes


def released_tensors(dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for layer in range(2):
        for linear, (inputs, outputs) in FFN.items():
            key = f"base_model.model.model.layers.{layer}.mlp.{linear}."
            tensors[key + "lora_moe_A"] = torch.randn(E, inputs, R, generator=generator).to(dtype)
            tensors[key + "lora_moe_B"] = torch.randn(E, R, outputs, generator=generator).to(dtype)
    return tensors


def with_router(tensors: dict, spelling: str = "lora_route.weight") -> dict:
    generator = torch.Generator().manual_seed(4)
    made = dict(tensors)
    for name in tensors:
        if name.endswith("lora_moe_A"):
            key, inputs = name.removesuffix("lora_moe_A"), tensors[name].shape[1]
            made[key + spelling] = torch.randn(E - 1, inputs, generator=generator)
            made[key + "w_noise"] = torch.randn(inputs, E - 1, generator=generator)
    return made


def write(folder, tensors: dict, about: dict | None = None, binary: bool = False):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(released_about() if about is None else about, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text)
    if binary:
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def base(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model(CONFIG).eval()


def load(folder, config: AdapterConfig | None = None) -> tuple[Model, str]:
    model = base()
    return model, load_adapter(model, config, folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_released_layout_comes_back_byte_for_byte(tmp_path, dtype):
    there = write(tmp_path / "released", released_tensors(dtype))
    model, form = load(there)
    assert form == "uniform"
    about = read_about(there)
    save_adapter(model, config_of(about), tmp_path / "again", "released", about=about)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (there / name).read_bytes()
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
    }


def test_an_adapter_of_ours_in_the_released_layout_has_its_keys_only(tmp_path):
    model = base()
    config = AdapterConfig(experts=E, rank=R)
    attach(model, config)
    save_adapter(model, config, tmp_path, "released", dtype=torch.float16)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors.keys() == released_tensors().keys()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert json.loads((tmp_path / "adapter_config.json").read_text()).keys() == (
        released_about().keys()
    )


@torch.no_grad()
def test_without_a_router_gates_are_uniform_and_it_is_said_what_is_lost(tmp_path, capsys):
    model, form = load(write(tmp_path, released_tensors(torch.float32)))
    said = capsys.readouterr().err
    assert form == "uniform" and "no router" in said and "lost" in said
    for name, module in adapted(model):
        assert module.mode == "uniform"
        x = torch.randn(1, 2, module.weight.shape[1])
        file = released_tensors(torch.float32)
        a = file[f"base_model.model.model.{name}.lora_moe_A"]
        b = file[f"base_model.model.model.{name}.lora_moe_B"]
        shares = torch.tensor([1, 1 / 3, 1 / 3, 1 / 3])
        delta = 16 / R * torch.einsum("btk,ekr,ern,e->btn", x, a, b, shares)
        expected = x @ module.weight.T + delta
        assert torch.allclose(module(x), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("spelling", ["lora_route.weight", "lora_route.default.weight"])
def test_every_spelling_of_the_router_is_read(tmp_path, spelling, capsys):
    tensors = with_router(released_tensors(), spelling)
    model, form = load(write(tmp_path, tensors))
    assert form == "routed" and capsys.readouterr().err == ""
    for name, module in adapted(model):
        key = f"base_model.model.model.{name}."
        assert module.mode == "token"
        assert torch.equal(module.lora_route.weight, tensors[key + spelling])
        assert torch.equal(module.w_noise, tensors[key + "w_noise"])


@torch.no_grad()
def test_bin_files_compute_the_same_as_safetensors(tmp_path):
    tensors = with_router(released_tensors())
    one, _ = load(write(tmp_path / "a", tensors))
    two, _ = load(write(tmp_path / "b", tensors, binary=True))
    assert torch.equal(one(TOKENS, tasks=TASKS), two(TOKENS, tasks=TASKS))


def test_a_bin_file_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    folder = write(tmp_path / "a", {"x": Trap()}, binary=True)
    with pytest.raises(Exception, match="[Ww]eights"):
        load(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_router_beside_gates_per_task_is_kept_in_its_own_form(tmp_path):
    model = base()
    config = AdapterConfig(experts=E, rank=R)
    attach(model, config)
    for form in ("routed", "merged"):
        save_adapter(model, config, tmp_path, form)  # the second into the folder of the first
        assert load(tmp_path, config)[1] == form
    assert (tmp_path / "task_gates.json").exists()
    save_adapter(model, config, tmp_path, "routed")
    assert not (tmp_path / "task_gates.json").exists()


@torch.no_grad()
@pytest.mark.parametrize("form", ["routed", "merged"])
def test_one_plain_lora_is_an_adapter_without_specific_experts(tmp_path, form):
    config = AdapterConfig(experts=1, rank=R)
    model = base()
    attach(model, config)
    for _, module in adapted(model):
        module.lora_moe_B.normal_()
    save_adapter(model, config, tmp_path, form)
    other, found = load(tmp_path, config)
    assert found == form
    assert torch.allclose(other(TOKENS, tasks=TASKS), model(TOKENS, tasks=TASKS), atol=1e-5)


@pytest.mark.parametrize("universal", [True, False])
def test_the_folder_says_what_is_needed_to_read_it(tmp_path, universal):
    config = AdapterConfig(
        experts=3,
        rank=2,
        alpha=5.0,
        targets=("W_pack", "down_proj"),
        tasks=("a", "b"),
        gate="task",
        universal=universal,
        noise="none",
        rslora=True,
    )
    model = base()
    attach(model, config)
    with torch.no_grad():
        for _, module in adapted(model):
            module.lora_moe_B.normal_()
            module.gate_logits.normal_()
    save_adapter(model, config, tmp_path, "merged")
    assert config_of(read_about(tmp_path)) == config
    other, form = load(tmp_path)
    assert form == "merged"
    tasks = torch.tensor([0, 1, 0])
    with torch.no_grad():
        assert torch.allclose(other(TOKENS, tasks=tasks), model(TOKENS, tasks=tasks), atol=1e-5)


KEY = "base_model.model.model.layers.0.mlp.gate_proj."


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({KEY + "lora_moe_A": None}, "missing.*layers.0.mlp.gate_proj.lora_moe_A"),
        ({KEY + "lora_moe_C": torch.zeros(2)}, "unexpected.*lora_moe_C"),
        ({KEY + "lora_moe_B": torch.zeros(E, R, 63)}, r"lora_moe_B is \(4, 3, 63\)"),
        ({KEY + "lora_moe_B": torch.zeros(E, R, 64, dtype=torch.int8)}, "int8"),
        ({KEY + "lora_moe_A.default": torch.zeros(E, 32, R)}, "twice"),
        ({KEY + "lora_route.weight": torch.zeros(E - 1, 32)}, "missing.*lora_route"),
    ],
)
def test_wrong_tensors_are_errors_that_name_them(tmp_path, change, match):
    tensors = released_tensors() | change
    folder = write(tmp_path, {k: v for k, v in tensors.items() if v is not None})
    with pytest.raises(ValueError, match=match):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"gate_proj": 4}}, "rank_pattern"),
        ({"bias": "all"}, "bias"),
        ({"mode": "routed"}, "no lora_route"),
        ({"mode": "frozen"}, "mode 'frozen'"),
    ],
)
def test_settings_that_would_change_the_numbers_are_refused(tmp_path, changes, match):
    folder = write(tmp_path, released_tensors(), released_about(**changes))
    with pytest.raises(ValueError, match=match):
        load(folder)


def test_a_plain_lora_is_no_moe_adapter(tmp_path):
    about = released_about()
    del about["lora_nums"]
    with pytest.raises(ValueError, match="lora_nums"):
        load(write(tmp_path, released_tensors(), about))
    with pytest.raises(FileNotFoundError, match="adapter folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("wrong", ["task", "linear", "count"])
def test_gates_that_do_not_fit_are_errors(tmp_path, wrong):
    model = base()
    config = AdapterConfig(experts=E, rank=R)
    attach(model, config)
    save_adapter(model, config, tmp_path, "merged")
    path = tmp_path / "task_gates.json"
    gates = json.loads(path.read_text())
    if wrong == "task":
        gates.pop("medkqa")
    elif wrong == "linear":
        gates["medkqa"]["layers.9.mlp.up_proj"] = [1, 0, 0]
    else:
        gates["medkqa"]["layers.0.mlp.up_proj"] = [1, 0]
    path.write_text(json.dumps(gates))
    with pytest.raises(ValueError, match="task_gates.json"):
        load(tmp_path, config)


def test_a_folder_of_other_experts_than_expected_is_an_error(tmp_path):
    folder = write(tmp_path, released_tensors())
    with pytest.raises(ValueError, match="expected"):
        load(folder, AdapterConfig(experts=E, rank=R, alpha=8.0))
    model = base()
    attach(model, AdapterConfig(experts=E, rank=R, targets=("W_pack",)))
    set_mode(model, "uniform")
    with pytest.raises(ValueError, match="expected"):
        load_adapter(model, AdapterConfig(experts=E, rank=R), folder)
