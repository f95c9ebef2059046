"""``svdbench rank-reveal``: what it writes, what it says, and one line for every mistake."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_mistake, run, table
from safetensors.torch import save_file
from torch import nn

from svdbench.config.compose import compose
from svdbench.datasets.base import Split
from svdbench.side_by_side.arms import Arm

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

NET = "64-32-24-10"
TINY = ["rank-reveal", "digits", "--net", NET, "--epochs", "4", "--seeds", "2", "--lr", "5e-3"]
TINY += ["--name", "one", "latency.budget_s=0.05", "fractions=[0.3,0.6,1]"]
FOLDER = Path("results/rank-reveal/one")
WEIGHTS = {"0.weight": (32, 64), "2.weight": (24, 32), "4.weight": (10, 24)}


def rows_of(name: str, **where: str) -> list[dict[str, str]]:
    rows = table(FOLDER / f"{name}.csv")
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


def test_writes_what_it_promises() -> None:
    code, out, _ = run([*TINY, "--algorithms", "exact,frontier,published", "--rank", "8"])
    assert code == 0
    assert {path.name for path in FOLDER.iterdir()} == {
        *(
            "config.yaml",
            "env.json",
            "progress.jsonl",
            "samples.csv",
            "summary.csv",
            "curves.csv",
            "frontier.csv",
        ),
        *("curves.png", "frontier.png"),
    }
    summary = rows_of("summary")
    methods = ["dense", "exact", "frontier", "published", "rank 8"]
    assert [row["method"] for row in summary] == 2 * methods
    assert len({row["cell"] for row in summary}) == len(summary)
    for row in summary:
        assert (row["model"], row["dataset"], row["split"]) == (NET, "digits", "test")
        assert row["status"] == "ok"
        assert int(row["examples"]) == 355
        assert float(row["latency_s"]) > 0
        dense = rows_of("summary", method="dense", seed=row["seed"])[0]
        if row["method"] == "dense":
            assert int(row["macs"]) == sum(m * n for m, n in WEIGHTS.values())
            assert int(row["bytes"]) == 4 * int(row["n_params"])
            continue
        change = float(row["loss"]) - float(dense["loss"])
        assert float(row["increase"]) == pytest.approx(change, abs=1e-9)
        assert float(row["increase_se"]) > 0
        assert 0 < float(row["kept"]) <= 1
        # No bias is in them; a layer may do a little more than it must, to be faster.
        assert int(row["weights"]) <= int(row["macs"]) < 2 * int(row["weights"])
        assert int(row["n_params"]) == int(row["weights"]) + 32 + 24 + 10
    for row in rows_of("summary", method="frontier"):
        assert int(row["evaluations"]) <= int(row["most_evaluations"])
        assert float(row["searched"]) <= float(row["allowed"]) == 0.01
        assert row["kind"] == "kronecker"
    for words in ("of digits", "frontier: the smallest", "is 8 the right rank?", "tried"):
        assert words in out


def test_layers_are_told_with_their_ranks() -> None:
    arguments = ["--algorithms", "exact,frontier", "--seeds", "1", "fractions=[]"]
    assert run([*TINY, *arguments]).code == 0
    for method in ("exact", "frontier"):
        rows = rows_of("samples", method=method)
        assert [row["layer"] for row in rows] == list(WEIGHTS)
        for row in rows:
            m, n = WEIGHTS[row["layer"]]
            assert (int(row["rows"]), int(row["columns"]), int(row["full"])) == (m, n, min(m, n))
            rank = int(row["rank"]) if row["rank"] else None
            saves = rank is not None and rank * (m + n) < m * n
            assert row["form"] == ("factors" if saves else "dense")
            assert int(row["numbers"]) == (rank * (m + n) if saves and rank else m * n)
        kept = rows_of("summary", method=method)[0]["weights"]
        assert int(kept) == sum(int(row["numbers"]) for row in rows)


def test_the_exact_rank_is_read_off_the_curve() -> None:
    arguments = ["--seeds", "1", "--algorithms", "exact", "--epsilon", "0.05", "fractions=[]"]
    assert run([*TINY, *arguments]).code == 0
    for row in rows_of("samples"):
        curve = rows_of("curves", layer=row["layer"])
        assert [int(one["rank"]) for one in curve] == list(range(1, int(row["full"]) + 1))
        losses = [float(one["loss"]) for one in curve]
        dense, rank = float(curve[0]["dense_loss"]), int(row["rank"])
        assert losses[-1] == pytest.approx(dense, abs=1e-5)
        assert all(loss <= dense + 0.05 for loss in losses[rank - 1 :])
        assert rank == 1 or losses[rank - 2] > dense + 0.05


def test_the_published_algorithm_stops_where_a_rank_gains_little() -> None:
    arguments = ["--seeds", "1", "--algorithms", "exact,published", "fractions=[]"]
    assert run([*TINY, *arguments]).code == 0
    tried = 0
    for row in rows_of("samples", method="published"):
        losses = [float(one["loss"]) for one in rows_of("curves", layer=row["layer"])]
        gains = [a - b for a, b in pairwise(losses)]
        first = next((j for j, gain in enumerate(gains, 1) if gain < 0.01), len(losses))
        assert int(row["rank"]) == first
        tried += min(first + 1, len(losses))
    assert int(rows_of("summary", method="published")[0]["evaluations"]) == tried


@pytest.mark.parametrize("budget", ["params", "macs"])
def test_a_budget_is_kept(budget: str) -> None:
    arguments = ["--algorithms", "frontier", f"--{budget}", "0.5", "--multiple-of", "4"]
    code, out, _ = run([*TINY, *arguments, "--seeds", "1", "fractions=[]"])
    assert code == 0
    most = 0.5 * sum(m * n for m, n in WEIGHTS.values())
    for row in rows_of("summary", method="frontier"):
        assert int(row["weights"]) <= most
        assert row["evaluations"] == row["allowed"] == ""
    ranks = [row["rank"] for row in rows_of("samples")]
    assert all(rank == "" or int(rank) % 4 == 0 for rank in ranks)
    assert "within 50% of the dense layers'" in out
    assert not (FOLDER / "frontier.png").exists()


def test_a_latency_is_measured() -> None:
    arguments = ["--algorithms", "frontier", "--latency", "1", "--seeds", "1", "fractions=[]"]
    assert run([*TINY, *arguments]).code == 0
    assert rows_of("summary", method="frontier")[0]["budget"] == "latency 1"


def test_frontiers_keep_their_budgets() -> None:
    arguments = ["--algorithms", "frontier", "--seeds", "1", "--net", "64-8-6-10"]
    assert run([*TINY, *arguments, "fractions=[0.01,0.4,1]"]).code == 0
    points = rows_of("frontier")
    methods = {"kronecker", "whitened", "uniform", "energy", "minimax"}
    assert {row["method"] for row in points} == methods | {"exhaustive"}
    for row in points:
        if row["budget"] == "0.01":
            assert (row["status"], row["loss"]) == ("skipped", "")
            assert "budget" in row["reason"]
            continue
        assert float(row["fraction"]) <= float(row["budget"])
        if row["budget"] == "1":
            assert row["ranks"] == "dense dense dense"
            assert row["loss"] == row["dense_loss"]
    at = {row["method"]: float(row["loss"]) for row in points if row["budget"] == "0.4"}
    assert at["kronecker"] < max(at[name] for name in ("uniform", "energy", "minimax"))


def test_an_interruption_keeps_the_seeds_that_were_done(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, epochs = Arm.train_epoch, []

    def interrupted(self: Arm, *arguments: Any) -> Any:
        epochs.append(self)
        if len(epochs) == 4 + 2:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    monkeypatch.setattr(Arm, "train_epoch", interrupted)
    code, out, err = run([*TINY, "--algorithms", "frontier", "fractions=[0.5]"])
    assert code == 130
    assert "finished parts are kept: resume with" in err
    assert {row["seed"] for row in rows_of("summary")} == {"0"}
    assert "ranks of digits" in out
    assert (FOLDER / "frontier.png").exists()


def test_an_early_interruption_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Arm, "train_epoch", interrupted)
    code, _, err = run(TINY)
    assert (code, err.count("\n")) == (130, 1)


def test_stops_by_the_clock_after_a_seed() -> None:
    arguments = ["--algorithms", "frontier", "--max-minutes", "1e-9", "fractions=[]"]
    assert run([*TINY, *arguments]).code == 0
    assert {row["seed"] for row in rows_of("summary")} == {"0"}


def test_what_takes_too_long_is_left_out_unless_named() -> None:
    code, out, _ = run([*TINY, "--seeds", "1", "affordable_s=1e-6"])
    assert code == 0
    assert "left out: exact curves" in out
    assert "left out: comparing frontiers" in out
    assert {row["method"] for row in rows_of("samples")} == {"frontier"}
    named = ["--algorithms", "exact", "--seeds", "1", "affordable_s=1e-6", "--name", "two"]
    code, *_ = run([*TINY, *named])
    assert code == 0
    assert Path("results/rank-reveal/two/curves.csv").exists()


# ------------------------------------------------------------------ a model of one's own

PACKAGE = """
import torch
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 20), nn.ReLU(), nn.Linear(20, 3)
    )


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(64, 9), nn.Linear(9, 9), nn.Linear(9, 3)

    def forward(self, x):
        return self.last(self.again(self.again(self.first(x.flatten(1))).relu()))


def loader():
    torch.manual_seed(1)
    X = torch.randn(400, 1, 8, 8)
    return X, X.flatten(1)[:, :3].argmax(1)


def broken():
    return torch.full((400, 1, 8, 8), torch.nan), torch.arange(400) % 3


def small():
    return torch.randn(40, 1, 7, 7), torch.arange(40) % 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for a model in the current folder, with weights that were saved."""
    import sys

    (tmp_path / "own_net.py").write_text(PACKAGE)
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    torch.manual_seed(3)
    conv, linear, last = nn.Conv2d(1, 6, 3), nn.Linear(216, 20), nn.Linear(20, 3)
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), linear, nn.ReLU(), last)
    save_file(model.state_dict(), "own.safetensors")
    command = ["rank-reveal", "own_net:build", "--data", "own_net:loader", "--name", "one"]
    return [*command, "--weights", "own.safetensors", "latency.budget_s=0.05", "fractions=[0.5,1]"]


def test_takes_a_model_of_ones_own(own: list[str]) -> None:
    code, out, _ = run([*own, "--algorithms", "exact,frontier", "--max-loss-increase", "0.1"])
    assert code == 0
    assert out.count("warning: 200 calibration rows are fewer than the 216 inputs of 3.weight") == 1
    assert "ranks of own_net:loader, own_net:build" in out
    assert {row["seed"] for row in rows_of("summary")} == {"0"}
    looked_at = {name: [row["layer"] for row in rows_of("samples", method=name)] for name in
                 ("exact", "frontier")}  # fmt: skip
    assert looked_at["exact"] == ["3.weight", "5.weight"]
    assert set(looked_at["exact"]) <= set(looked_at["frontier"])
    assert float(rows_of("summary", method="frontier")[0]["searched"]) <= 0.1


def test_curves_are_of_layers_that_are_called_once(own: list[str]) -> None:
    command = ["rank-reveal", "own_net:Twice", *own[2:6], "--max-loss-increase", "0.1"]
    assert run([*command, "fractions=[]"]).code == 0
    layers = {name: {row["layer"] for row in rows_of("samples", method=name)} for name in
              ("exact", "frontier")}  # fmt: skip
    assert layers["exact"] == {"first.weight", "last.weight"}
    assert layers["exact"] < layers["frontier"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--net", "64-10"],
            "--net is for networks that are trained on a data set, and own_net:build is a model",
        ),
        (["--seeds", "3"], "--seeds is for networks that are trained"),
        (["--data", "own_net:lorder"], "did you mean 'loader'?"),
        (["--weights", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_mistakes_with_ones_own_model_are_one_line(
    own: list[str], arguments: list[str], message: str
) -> None:
    assert_mistake(run([*own, *arguments]), message)


def test_a_model_needs_examples(own: list[str]) -> None:
    assert_mistake(run(own[:2]), "own_net:build needs examples")


def test_data_that_will_not_do_are_one_line(own: list[str]) -> None:
    assert_mistake(run([*own, "--data", "own_net:broken"]), "NaN")
    assert_mistake(run([*own, "--data", "own_net:small"]), "does not work with own_net:small")


# ----------------------------------------------------------------------- configurations


def test_the_experiment_asks_the_documents_question() -> None:
    config, _ = compose("rank_reveal", ["experiment=rank_reveal_three_layer"])
    published, _ = compose("compress", ["experiment=three_layer_corrected"])
    for key in ("net", "epochs", "batch_size", "shuffle", "optimizer", "activation", "seeds"):
        assert getattr(config, key) == getattr(published, key)
    assert config.asked_rank == 10
    assert config.algorithms == ["exact", "frontier", "published"]


def test_the_experiment_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def images(name: str, split: str, **_: Any) -> Split:
        return Split(torch.rand(300, 784), torch.arange(300) % 10, 10)

    monkeypatch.setattr("svdbench.side_by_side.problems.classification", images)
    tiny = ["--epochs", "1", "--seeds", "2", "--name", "one", "fractions=[]"]
    code, out, _ = run(["rank-reveal", *tiny, "experiment=rank_reveal_three_layer"])
    assert code == 0
    assert "is 10 the right rank?" in out
    assert "4.weight: 10 is its full rank" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epsilon", "-1"], "epsilon is -1"),
        (["--max-loss-increase", "-0.1"], "--max-loss-increase is -0.1"),
        (["--params", "0"], "--params is 0"),
        (["--macs", "1.5"], "--macs is 1.5"),
        (["--params", "0.5", "--macs", "0.5"], "params and macs are given: give only one"),
        (["--params", "0.5", "--max-loss-increase", "1"], "params and max_loss_increase"),
        (["--algorithms", "exakt"], "did you mean 'exact'?"),
        (["--algorithms", "exact,exact"], "twice"),
        (["--kind", "kroneker"], "did you mean 'kronecker'?"),
        (["--multiple-of", "0"], "--multiple-of is 0"),
        (["--rank", "0"], "--rank is 0"),
        (["--weights", "a.pt"], "--weights is for a model of your own: name it first"),
        (["--net", "784-12-10"], "an example of digits has 64 values"),
        (["fractions=[0]"], "fractions has 0"),
        (["examples.search=0"], "examples.search is 0"),
        (["nonsense"], "'nonsense' is not KEY=VALUE"),
        (["data.name=digit"], "did you mean 'digits'?"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    assert_mistake(run([*TINY, *arguments]), message)


def test_budgets_that_nothing_keeps_are_one_line() -> None:
    code, _, err = run([*TINY, "--algorithms", "frontier", "--params", "0.001"])
    assert code == 2
    assert "the budget is" in err
    assert err.count("\n") == 1
    assert not FOLDER.exists()


def test_help_names_the_options() -> None:
    code, out, _ = run(["rank-reveal", "--help"])
    assert code == 0
    for option in ("--algorithms", "--epsilon", "--max-loss", "--params", "--weights", "--rank"):
        assert option in out
