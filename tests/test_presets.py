"""Presets: what wins over what, and that each fits its model and task."""

from pathlib import Path

import pytest

from svdbench.config.compose import compose
from svdbench.config.grammar import override
from svdbench.config.presets import preset
from svdbench.files import conf_names
from svdbench.members import TASKS
from svdbench.training import build as job
from svdbench.training.build import overrides_of


def test_what_is_typed_wins_over_the_model_and_the_model_over_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "preset" / "addition"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text(
        "optimizer: adam\noptimizer.betas: [0.8, 0.9]\ntrainer.steps: 7\nname: it's\n"
    )
    (folder / "gru.yaml").write_text("optimizer: rmsprop\noptimizer.lr: 3e-3\ntrainer.seeds: null")
    monkeypatch.setattr("svdbench.config.presets.files", lambda package: tmp_path)
    assert preset("addition", "lstm") == [
        *("optimizer='adam'", "optimizer.betas=[0.8,0.9]", "trainer.steps=7"),
        r"name='it\'s'",
    ]
    assert preset("addition", "gru")[:2] == ["trainer.steps=7", r"name='it\'s'"]
    assert preset("addition", "gru")[2:] == [
        *("optimizer='rmsprop'", "optimizer.lr=0.003", "trainer.seeds=null")
    ]
    assert preset("addition", "gru", ["optimizer=adam", "name=x"]) == [
        *("trainer.steps=7", "trainer.seeds=null")
    ]
    assert preset("copy", "gru") == []


@pytest.mark.parametrize("text", ["plain", "it's", r"back\slash", "a,b", "x=[1", "it\\'s\\"])
def test_values_survive_hydra(text: str) -> None:
    config, _ = compose("train", [override("results", text)])
    assert config.results == text


@pytest.mark.parametrize("task", TASKS.names())
def test_every_searched_preset_fits_its_model_and_task(task: str) -> None:
    for name in conf_names(f"searched/{task}"):
        typed = ["task.dataset=digits"] if "mnist" in task else []
        (overrides,) = overrides_of(name, task, typed, presets=True, own="searched").values()
        config, _ = compose("train", overrides)
        model, made, _ = job.build(config, 0)
        assert model.input_size == made.input_size


@pytest.mark.parametrize("task", TASKS.names())
def test_every_preset_fits_its_model_and_task(task: str) -> None:
    data = ["task.dataset=digits"] if "mnist" in task else []
    for overrides in overrides_of("all", task, data, True).values():
        config, _ = compose("train", overrides)
        model, made, _ = job.build(config, 0)
        assert model.input_size == made.input_size
