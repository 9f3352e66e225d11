"""Presets are read strictly: a wrong key, type or value is an error that names the file and the key."""

import dataclasses
from pathlib import Path

import pytest

from training.presets import CI, NANO, POOLS, PRESETS, Preset, load_preset, preset_names
from training.settings import SettingsError, as_table, from_table
from training.tests.testing import make_run, preset


def write(folder: Path, text: str, name: str = "ci") -> Path:
    """A copy of a preset's file with a line in front."""
    original = Path(__file__).parent.parent / "configs" / f"{name}.toml"
    path = folder / "mine.toml"
    path.write_text(text + "\n" + original.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def test_every_preset_loads_under_the_name_of_its_file():
    names = {"ci", "nano", "nano-gpu", "ablation", "baichuan2-7b", "baichuan2-13b"}
    names.add("qwen2.5-0.5b")
    assert set(preset_names()) == names == set(PRESETS)
    for name in names:
        assert PRESETS[name].name == name
    assert PRESETS["ci"] is CI and PRESETS["nano"] is NANO
    assert "huge" not in PRESETS


def test_values_come_from_the_file_and_the_rest_from_the_fields():
    assert CI.config.vocab == 1024 and CI.cpt.steps == 500 and CI.cpt.seconds is None
    assert NANO.sft.steps == 150 and NANO.sft.seconds is None
    gpu = load_preset("nano-gpu")
    assert gpu.cpt.seconds == 150.0 and isinstance(gpu.cpt.seconds, float)
    assert CI.chat_share == (0.25, 0.75) and CI.priority["text-pediatric"] == 4.0
    assert CI.cpt.optimizer == "muon" and CI.dfpo.optimizer == "adamw"
    assert PRESETS["baichuan2-13b"].config.positions == "alibi"


def test_overrides_reach_nested_fields_and_change_nothing_else():
    changed = load_preset(
        "nano",
        ["cpt.lr=1e-3", "seed=2", "chat_share=[0, 1]", "base=/models/b", "ablation.hybrid=false"]
        + ["sft.steps=7", "sft.seconds=none", "adapter.targets=['W_pack']"],
    )
    assert changed.cpt.lr == 1e-3 and changed.seed == 2 and changed.base == "/models/b"
    assert changed.chat_share == (0.0, 1.0) and changed.ablation == {"hybrid": False}
    assert changed.sft.steps == 7 and changed.sft.seconds is None
    assert changed.adapter.targets == ("W_pack",)
    assert changed.cpt == dataclasses.replace(NANO.cpt, lr=1e-3)
    assert changed.dfpo == NANO.dfpo and NANO.seed == 1


def test_a_file_of_ones_own_is_a_preset_named_after_it(tmp_path):
    mine = load_preset(write(tmp_path, "seed = 5"))
    assert mine == dataclasses.replace(CI, name="mine", seed=5)


@pytest.mark.parametrize(
    "line, said",
    [
        ("sed = 5", "mine.toml: unknown key sed"),
        ("seed = '5'", "mine.toml: seed = '5' is no int"),
        ("seed = 1.5", "seed = 1.5 is no int"),
        ("seed = true", "seed = True is no int"),
        ("compile = 1", "compile = 1 is no bool"),
        ("device = 'tpu'", "device = 'tpu', expected 'cpu' or 'cuda' or 'auto'"),
        ("chat_share = [0.1]", "chat_share"),
        ("chat_share = [0.1, 1.5]", "chat_share"),
        ("reserve = 1", "reserve = 1.0, expected 0 to less than 1"),
        ("ablation = {hybird = false}", "ablation.hybird"),
        ("ablation = {hybrid = 0}", "ablation.hybrid = 0 is no bool"),
        ("name = 'other'", "unknown key name"),
        ("seed = = 1", "mine.toml"),
    ],
)
def test_a_wrong_line_is_refused_by_name(tmp_path, line, said):
    with pytest.raises(SettingsError, match="mine.toml") as caught:
        load_preset(write(tmp_path, line))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "assignment, said",
    [
        ("cpt.speed=3", "unknown key cpt.speed"),
        ("cpt.lr=fast", "cpt.lr = 'fast' is no float"),
        ("cpt=3", "cpt must be a table"),
        ("cpt.lr", "expected KEY=VALUE"),
        ("cpt.lr.x=3", "lr is a value"),
        ("cpt.seconds=3", "either steps or seconds"),
        ("cpt.accumulate=3", "8 rows are no multiple of accumulate = 3"),
        ("cpt.schedule=linear", "expected 'wsd' or 'cosine'"),
        ("cpt.ema=1", "ema = 1.0"),
        ("cpt.clip=-1", "clip"),
        ("priority.moe-evidig=2", "unknown key priority.moe-evidig; known: text-pediatric, "),
        ("expert.optimizer=muon", "expert.optimizer = 'muon': the adapter trains with adamw"),
        ("finish.optimizer=muon", "finish.optimizer = 'muon'"),
        ("finish.steps=9", "finish.steps does nothing: the finish has finish_share"),
        ("finish.seconds=9", "finish.seconds does nothing"),
        ("adapter.gate=task", "adapter.gate = 'task' and gate_start = 'router' disagree"),
    ],
)
def test_a_wrong_override_is_refused_by_name(assignment, said):
    with pytest.raises(SettingsError) as caught:
        load_preset("ci", [assignment])
    assert said in str(caught.value)


def test_gates_that_agree_or_are_left_out_are_taken():
    for start, gate in (("task", "task"), ("router", "token")):
        changed = load_preset("ci", [f"gate_start={start}", f"adapter.gate={gate}"])
        assert changed.gate_start == start
    # nano leaves it out: a run that was begun so goes on
    assert NANO.gate_start == "task" and NANO.adapter.gate == "token"
    with pytest.raises(SettingsError, match="'token' and gate_start = 'task' disagree"):
        load_preset("nano", ["adapter.gate=token"])
    with pytest.raises(ValueError, match="disagree"):
        dataclasses.replace(CI, adapter=dataclasses.replace(CI.adapter, gate="task"))


def test_the_pools_that_may_be_weighed_are_those_that_stages_draw_from(tmp_path):
    packed = {path.name.split(".")[0] for path in drawn_from(tmp_path)}
    assert packed == set(POOLS)


def drawn_from(folder: Path) -> list[Path]:
    """The training rows that a run packs, without pairs and the reserve of one's own."""
    run = make_run(folder, preset())
    kinds = ("text", "chat", "sft", "moe", "people")
    found = run.packed.glob("*.train.tokens.npy")
    return [path for path in found if path.name.startswith(kinds)]


def test_an_unknown_preset_and_a_missing_key_are_named(tmp_path):
    with pytest.raises(SettingsError, match="no preset huge: give one of ablation"):
        load_preset("huge")
    table = as_table(CI)
    del table["cpt"]["rows"]
    with pytest.raises(SettingsError, match="x.toml: cpt.rows is missing"):
        from_table(Preset, table, "x.toml")


def test_settings_survive_their_way_through_a_table():
    assert from_table(Preset, as_table(NANO), "table") == NANO
