"""``svdbench search``: equal trials for every model, and a preset that training takes."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml
from command import run, table

from svdbench.config.compose import compose
from svdbench.jobs.search import Search
from svdbench.jobs.search.report import commands, undecided
from svdbench.jobs.search.rounds import BEST, FAILED, TRIALS, best, rounds, survivors
from svdbench.jobs.search.space import Dimension, dimensions, drawn, settings_of, with_settings
from svdbench.record.reader import RecordedRun
from svdbench.training.build import overrides_of, parts
from svdbench.training.config import Schedule

TINY = ["task.length=6", "task.test_size=16", "--hidden", "4", "--batch", "4", "--steps", "6"]
SHORT = ["--trials", "4", "--minutes", "0.01", "trainer.threads=1", *TINY]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def searched(model: str, *typed: str, task: str = "addition") -> Search:
    (overrides,) = overrides_of(model, task, typed, True).values()
    config, _ = compose("search", overrides)
    assert isinstance(config, Search)
    return config


def keys_of(model: str, *typed: str) -> list[str]:
    config = searched(model, *typed)
    return [each.key for each in dimensions(config, parts(config)[0])]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_third_goes_on_three_times_as_long() -> None:
    found = rounds(24, 5)
    assert [(each.trials, each.seconds) for each in found] == [(24, 4.0), (8, 12.0), (3, 36.0)]
    for trials in (2, 3, 4, 10, 100):
        plan = rounds(trials, 2)
        assert plan[0].trials == trials
        assert plan[-1].trials <= 3
        assert math.fsum(each.trials * each.seconds for each in plan) == pytest.approx(120)


def test_the_best_reach_the_target_first_and_those_without_a_loss_are_last() -> None:
    scores = {0: (1, 0.5), 1: (0, 900.0), 2: FAILED, 3: (0, 800.0), 4: (1, 0.02), 5: (1, 0.02)}
    assert best(scores, 6) == [3, 1, 4, 5, 0, 2]
    assert survivors(scores, 3) == [0, 3, 1]  # the preset is in every round


def test_the_same_ranges_for_all_models_that_have_the_key() -> None:
    common = ["optimizer.lr", "optimizer.clip", "optimizer.schedule"]
    assert keys_of("gru") == common
    assert keys_of("lstm") == [*common[:2], "model.forget_bias", "optimizer.schedule"]
    spectral = keys_of("spectral_rnn")
    assert {"optimizer.orthogonal_lr", "model.radius", "model.input_std"} < set(spectral)
    assert keys_of("gru", "space.clip=[]", "space.schedule=[]") == ["optimizer.lr"]


def test_points_fill_the_space_and_are_the_same_each_time() -> None:
    config = searched("lstm")
    space = dimensions(config, parts(config)[0])
    points = drawn(space, 16, seed=3)
    assert points == drawn(space, 16, seed=3)
    assert points != drawn(space, 16, seed=4)
    rates = sorted(math.log(point["optimizer.lr"] / 3e-4) / math.log(100) for point in points)
    assert all(0 <= rate <= 1 for rate in rates)
    # A Sobol sequence has one of 16 points in each sixteenth of every dimension.
    assert [int(16 * rate) for rate in rates] == pytest.approx(list(range(16)), abs=1)
    assert [p["optimizer.schedule"] for p in points].count("cosine") == 8


def test_edges_and_what_is_beyond_them() -> None:
    rate = Dimension("optimizer.lr", 1e-3, 1e-1)
    assert [rate.edge(value) for value in (1e-4, 1.2e-3, 1e-2, 0.09, 1.0, None)] == [
        *("low", "low", "", "high", "high", "")
    ]
    assert rate.beyond("high").low == 1e-1
    assert rate.beyond("high").high == pytest.approx(0.1 * math.sqrt(10))
    assert rate.widened("low").low == pytest.approx(1e-3 / math.sqrt(10))
    assert rate.widened("low").high == 1e-1
    assert Dimension("optimizer.schedule", choices=("a", "b")).edge("a") == ""


def test_settings_are_put_into_a_configuration() -> None:
    config = searched("lstm")
    found = {"optimizer.lr": 0.5, "model.forget_bias": 2.0, "optimizer.schedule": "cosine"}
    trial = with_settings(config, found)
    assert (trial.optimizer.lr, trial.optimizer.schedule) == (0.5, Schedule.cosine)
    assert trial.model["forget_bias"] == 2.0
    assert config.model["forget_bias"] == 1.0
    space = dimensions(config, parts(config)[0])
    assert settings_of(trial, space) | found == settings_of(trial, space)


def test_every_model_has_equal_trials_and_a_preset() -> None:
    code, out, _ = run(["search", "gru,lstm", *SHORT, "--name", "two"])
    assert code == 0
    folder = Path("results/search/two")
    rows = table(str(folder / "summary.csv"))
    assert tuple(rows[0]) == TRIALS.columns
    for model in ("gru", "lstm"):
        own = [row for row in rows if row["model"] == model]
        first = [row for row in own if row["round"] == "1"]
        assert len(first) >= 4
        assert json.loads(first[0]["settings"])["optimizer.lr"] == 3e-3  # the preset's
        assert len([row for row in own if row["round"] == "2"]) == 2
        assert {row["seed"] for row in own if row["round"] == "2"} == {"1"}
    (gru, lstm) = table(str(folder / "best.csv"))
    assert tuple(gru) == BEST.columns
    assert "svdbench train gru,lstm --task addition --presets results/search/two/presets" in out
    assert (folder / "trials.png").exists()
    found = yaml.safe_load((folder / "presets" / "lstm.yaml").read_text())
    assert found["task.length"] == 6
    assert found["model.hidden_size"] == 4
    for key, value in json.loads(lstm["settings"]).items():
        assert found[key] == value

    before = files_of(folder)
    assert run(["search", "gru,lstm", *SHORT, "--name", "two"])[0] == 0
    assert run(["search", "--resume", str(folder)])[0] == 0
    assert files_of(folder) == before

    use = ["train", "lstm", "--presets", str(folder / "presets"), "--show-config"]
    code, out, _ = run(use)
    assert code == 0
    config = yaml.safe_load(out)
    assert config["optimizer"]["lr"] == found["optimizer.lr"]
    assert config["task"]["length"] == 6


def test_a_search_that_was_cut_short_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from svdbench.training.loop import Loop

    whole, done = Loop.run, []

    def cut(self: Loop) -> object:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(Loop, "run", cut)
    code, _, err = run(["search", "gru", *SHORT, "--name", "cut"])
    assert code == 130
    assert "svdbench search --resume results/search/cut" in err
    folder = Path("results/search/cut")
    before = (folder / "summary.csv").read_text()
    assert len(before.splitlines()) == 3
    monkeypatch.setattr(Loop, "run", whole)
    assert run(["search", "--resume", str(folder)])[0] == 0
    assert (folder / "summary.csv").read_text().startswith(before)
    assert (folder / "presets" / "gru.yaml").exists()


def test_the_test_set_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise AssertionError("the test set")

    monkeypatch.setattr("svdbench.tasks.base.GeneratedTask.test_set", refuse)
    assert run(["search", "gru", *SHORT, "--trials", "2"])[0] == 0


def test_a_preset_that_diverges_is_one_trial_without_a_loss() -> None:
    """Its pace is still measured; and a loss from before it diverged is not shown as its own."""
    code, out, _ = run(["search", "gru", *SHORT, "optimizer.lr=1e30", "--name", "far"])
    assert code == 0
    rows = table("results/search/far/summary.csv")
    assert [row["status"] for row in rows if row["trial"] == "0"] == ["nan", "nan"]
    (best_row,) = table("results/search/far/best.csv")
    assert best_row["trial"] != "0"
    own = [row for row in rows if (row["trial"], row["round"]) == (best_row["trial"], "2")]
    (line,) = [line for line in out.splitlines() if line.startswith(" gru ")]
    assert line.split()[4:6] == [f"{100 * float(own[0]['relative_loss']):.0f}%", "–"]


def test_where_no_trial_has_a_loss_there_is_no_preset() -> None:
    far = ["optimizer.lr=1e30", "space.lr=[]"]
    code, out, _ = run(["search", "gru", *SHORT, *far, "--name", "far"])
    assert code == 0
    assert "no trial has a loss" in out
    assert "svdbench train" not in out
    assert "loss over the baseline" not in out
    assert not Path("results/search/far/presets").exists()


def test_settings_chosen_by_chance_are_reported() -> None:
    trials = pd.DataFrame(
        {"model": ["gru"] * 2 + ["lstm"] * 2, "relative_loss": [1.04, 0.99, 1.02, 0.6]}
    )
    (line,) = undecided(trials)
    assert line.startswith("gru: no trial is clearly better than the baseline")


def test_only_models_with_a_preset_are_to_be_trained() -> None:
    trials = pd.DataFrame({"task": ["addition"]})
    found = pd.DataFrame({"model": ["gru", "lstm"], "preset": [None, "presets/lstm.yaml"]})
    run_ = RecordedRun.__new__(RecordedRun)
    object.__setattr__(run_, "folder", Path("x"))
    assert [*commands(run_, trials, found)] == [
        "svdbench train lstm --task addition --presets x/presets"
    ]


def test_values_stay_within_their_range_when_they_are_rounded() -> None:
    narrow = Dimension("model.r_min", 0.9876, 0.9999, log=False)
    assert [narrow.at(share) for share in (0.0, 0.5, 1.0)] == [0.988, 0.994, 0.9999]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["search", "lru", "model.r_max=0.5"],
            "space.r_min is [0,0.99], which does not fit lru: r_min is 0.99 and r_max 0.5",
        ),
        (
            ["search", "mingru", "space.memory=[0.5,9]"],
            "space.memory is [0.5,9], which does not fit mingru: memory is 0.5",
        ),
        (["search", "gru", "--trials", "1"], "--trials is 1: it must be from 2 to 4096"),
        (["search", "gru", "space.lr=[0.1,0.01]"], "give the lowest and the highest value"),
        (["search", "gru", "space.lr=[0,1]"], "space.lr begins at 0"),
        (["search", "gru", "trainer.seeds=3"], "trainer.seeds is 3, but each trial"),
        (
            ["search", "gru", "--task", "smnist", "task.dataset=digits", "task.validation=0"],
            "set task.validation to a fraction",
        ),
        (
            ["search", "gru", *(f"space.{key}=[]" for key in ("lr", "clip", "schedule"))],
            "space is empty",
        ),
        (["train", "gru", "--presets", "nowhere"], "nowhere has no preset of gru, but none"),
        (["train", "gru", "--presets", "x", "--no-preset"], "exclude each other"),
        (
            ["train", "irnn", "--task", "addition", "--presets", "searched"],
            "searched (for addition) has no preset of irnn, but",
        ),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str) -> None:
    code, _, err = run(words)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err
    assert not Path("results").exists()


@pytest.mark.parametrize(
    "line", ["hydra.run.dir: x", "results: /tmp", "task.dataset: 'a.b:c'", "optimizer.lrr: 1"]
)
def test_a_preset_of_someone_else_can_only_set_settings(line: str) -> None:
    Path("theirs").mkdir()
    Path("theirs/gru.yaml").write_text(line + "\n")
    code, _, err = run(["train", "gru", "--presets", "theirs", "--show-config"])
    assert (code, err.count("\n")) == (2, 1)
    assert "theirs/gru.yaml" in err
