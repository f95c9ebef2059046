"""``svdbench compress``: what it writes, what it says, and one line for every mistake."""

from pathlib import Path
from typing import Any

import pytest
import torch
from command import EVERY_RUN, assert_mistake, run, table

from svdbench.config.compose import compose
from svdbench.datasets.base import Split
from svdbench.job import find_job
from svdbench.jobs.compress import run as compress_session
from svdbench.jobs.compress.arms import CompressedArm

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

TINY = ["compress", "digits", "--net", "64-12-12-10", "--epochs", "2", "--seeds", "2"]
TINY += ["--batch", "200", "--name", "one", "latency.budget_s=0.05"]
FOLDER = Path("results/compress/one")
EXPERIMENTS = find_job("compress").experiments


def rows_of(name: str, **where: str) -> list[dict[str, str]]:
    rows = table(FOLDER / f"{name}.csv")
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


def test_writes_what_it_promises() -> None:
    code, out, _ = run([*TINY, "--ranks", "4,11", "--methods", "rsvd,truncsvd,whitened"])
    assert code == 0
    assert {path.name for path in FOLDER.iterdir()} == {
        *(*EVERY_RUN, "samples.csv", "summary.csv", "layers.csv"),
        *("training.png", "rank.png"),
    }
    samples, summary = rows_of("samples"), rows_of("summary")
    arms = ["stock", *(f"{m} {k}" for m in ("rsvd", "truncsvd", "whitened") for k in (4, 11))]
    assert len(samples) == len(arms) * 2 * 2
    assert [row["arm"] for row in summary] == 2 * arms
    assert {row["status"] for row in samples + summary} == {"ok"}
    assert len({row["cell"] for row in summary}) == len(summary)
    for row in summary:
        stock = row["arm"] == "stock"
        assert (row["model"], row["dataset"], row["split"]) == ("64-12-12-10", "digits", "test")
        assert (row["epoch"], row["step"], row["every"]) == ("2", "16", "epoch")
        assert (row["rank"] == "") == stock == (row["rel_error"] == "")
        assert (float(row["decompose_s"]) == 0) == stock
        assert float(row["latency_s"]) > 0
        assert float(row["elapsed_s"]) > float(row["decompose_s"]) >= 0
        if not stock:
            energy, lost = float(row["energy"]), float(row["rel_error"])
            assert 0 < energy < 1
            assert energy == pytest.approx(1 - lost**2)
    for arm in arms:
        assert arm in out
    assert "more than noise: the 95% interval (t, 2 pairs)" in out


def test_arms_differ_by_compression_alone() -> None:
    """Before the first compression all arms met the same batches with the same weights."""
    assert run([*TINY, "--ranks", "4", "--epochs", "1", "--seeds", "1"]).code == 0
    first = rows_of("samples")
    assert len({row["train_loss"] for row in first}) == 1
    assert len({row["loss"] for row in first}) > 1


def test_says_what_becomes_of_each_weight() -> None:
    code, out, _ = run([*TINY, "--ranks", "10", "--methods", "truncsvd"])
    assert code == 0
    layers = {row["layer"]: row for row in rows_of("layers", arm="truncsvd 10")}
    found = {name: (row["kept"], row["form"], row["numbers"]) for name, row in layers.items()}
    assert found == {
        "0.weight": ("10", "factors", "760"),
        "2.weight": ("10", "dense", "144"),
        "4.weight": ("", "dense", "120"),
    }
    assert "12×64 as factors, 760 of 768 parameters" in out
    assert "12×12 dense at rank 10, its factors would have 240 parameters" in out
    assert "10×12 left as it is, because its rank is at most 10" in out
    stock, own = rows_of("summary")[:2]
    assert int(stock["macs"]) - int(own["macs"]) == 8
    assert int(stock["bytes"]) - int(own["bytes"]) == 4 * 8


def test_two_classes_need_one_output() -> None:
    tiny = ["compress", "xor", "--net", "2-8-8-1", "--ranks", "3", *TINY[4:]]
    assert run([*tiny, "optimizer=adam"]).code == 0
    assert {row["optimizer"] for row in rows_of("summary")} == {"adam"}


def test_the_data_set_may_be_left_out() -> None:
    code, out, _ = run(["compress", "seed=3", "--ranks", "4,6", "--show-config"])
    assert code == 0
    assert "name: digits" in out
    assert "seed: 3" in out


@pytest.mark.parametrize(("every", "count"), [("batch", 16), ("3", 6), ("epoch", 2)])
def test_compresses_as_often_as_it_is_told(
    every: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    plain = compress_session.Compression.__call__

    def counted(self: Any, **options: Any) -> None:
        calls.append(self)
        plain(self, **options)

    monkeypatch.setattr(compress_session.Compression, "__call__", counted)
    arguments = ["--ranks", "4", "--methods", "truncsvd", "--seeds", "1", "--every", every]
    assert run([*TINY, *arguments]).code == 0
    assert sum(one is calls[-1] for one in calls) == count


def test_an_interruption_keeps_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, turns = CompressedArm.train, []

    def interrupted(self: CompressedArm, *given: Any) -> Any:
        turns.append(self.name)
        if len(turns) == 6 + 5:  # a seed, and nearly a second one
            raise KeyboardInterrupt
        return plain(self, *given)

    monkeypatch.setattr(CompressedArm, "train", interrupted)
    code, out, err = run([*TINY, "--ranks", "4"])
    assert code == 130
    assert "finished parts are kept: resume with" in err
    assert len(rows_of("samples")) == 6 + 4
    assert [row["status"] for row in rows_of("summary")] == ["ok"] * 3 + ["interrupted"] * 3
    assert "seed 1: interrupted after epoch" in out
    assert "one seed has no interval" in out
    assert (FOLDER / "training.png").exists()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("svdbench.side_by_side.problems.classification", "interrupted; "),
        ("svdbench.jobs.compress.run.warm_up", "interrupted; finished parts are kept: resume"),
    ],
)
def test_an_interruption_before_training_is_one_line(
    where: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    code, _, err = run(TINY)
    assert code == 130
    assert err.startswith(f"svdbench: {says}")
    assert err.count("\n") == 1


def test_stops_by_the_clock_after_a_whole_epoch() -> None:
    code, out, _ = run([*TINY, "--ranks", "4", "--max-minutes", "1e-9"])
    assert code == 0
    assert [row["epoch"] for row in rows_of("samples")] == ["1"] * 3
    assert {row["status"] for row in rows_of("summary")} == {"timeout"}
    assert "seed 0: timeout after epoch 1" in out


def test_an_arm_that_fails_does_not_stop_the_others() -> None:
    """Of one whose weights are lost, no number is compared."""
    code, out, _ = run([*TINY, "--ranks", "4", "--lr", "1e30", "optimizer.momentum=0.9"])
    assert code == 0
    assert {row["status"] for row in rows_of("summary")} <= {"nan", "failed"}
    assert "stock, seed 0: nan: the loss is" in out


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_compared_with_what_was_published(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def images(name: str, split: str, **_: Any) -> Split:
        return Split(torch.rand(300, 784), torch.arange(300) % 10, 10)

    monkeypatch.setattr("svdbench.side_by_side.problems.classification", images)
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = run(["compress", "mnist", f"experiment={name}", *TINY[4:]])
    assert code == 0
    assert "our numbers and the published ones" in out
    assert "stock accuracy, epoch 1" in out
    assert "truncsvd time, × stock" in out
    assert "other settings than the published ones" in out
    assert "epochs" in out.split("other settings than the published ones")[1]
    assert " yes " not in out.split("our numbers and the published ones")[1]
    kept = {row["kept"] for row in rows_of("layers", method="truncsvd")}
    assert kept == ({"11", ""} if name.endswith("published") else {"10", ""})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_as_the_document_has_them(name: str) -> None:
    config, _ = compose("compress", [f"experiment={name}"])
    assert (config.net, config.epochs, config.batch_size) == ("784-15-15-10", 10, 64)
    assert (config.optimizer.name, config.optimizer.lr, config.ranks) == ("sgd", 1e-2, [10])
    published = name.endswith("published")
    assert (config.every, config.shuffle) == (("batch", False) if published else ("epoch", True))
    ratios = [one.value for one in config.published if one.column == "time_ratio"]
    assert ratios == [pytest.approx(t / 40.00, abs=5e-3) for t in (76.41, 69.34)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranks", "0"], "--ranks is '0'"),
        (
            ["--ranks", "12"],
            "would leave every weight of 64-12-12-10 as it is: give a rank below 12",
        ),
        (["--methods", "truncsfd"], "did you mean 'truncsvd'?"),
        (["--every", "week"], "choose epoch, batch, or a number of batches"),
        (["--net", "64x10"], "such as 784-15-15-10"),
        (["--net", "784-12-12-10"], "an example of digits has 64 values"),
        (["activation=rely"], "did you mean 'relu'?"),
        (["--oversampling", "-1"], "compressor.rsvd: oversampling is -1"),
        (["compressor.whitened.tamping=1"], "there is no key"),
        (["optimizer.clip=1"], "optimizer.clip"),
        (["optimizer.schedule=cosine"], "must be constant"),
        (["dtype=bfloat16"], "float32 or float64"),
        (["data.name=digit"], "did you mean 'digits'?"),
        (["experiment=three_layer"], "three_layer"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    assert_mistake(run([*TINY, *arguments]), message)


def test_help_names_the_options() -> None:
    code, out, _ = run(["compress", "--help"])
    assert code == 0
    for option in ("--ranks", "--methods", "--every", "--oversampling", "--net", "--max-minutes"):
        assert option in out
