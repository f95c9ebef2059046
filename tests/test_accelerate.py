"""SVD-DNN: ranks, the switch and what it carries over, and ``svdbench accelerate``."""

import csv
import math
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_mistake, run, table
from fake_clock import FakeClock
from torch import Tensor, nn

from svdbench.config.compose import compose
from svdbench.jobs.accelerate import run as accelerate_session
from svdbench.jobs.accelerate.arms.base import ArmPlan
from svdbench.jobs.accelerate.arms.svd_dnn import SvdDnn
from svdbench.jobs.accelerate.costs import (
    StepSchedule,
    alpha_rank,
    alpha_rule,
    ceiling,
    layer_rule,
    multiplications,
)
from svdbench.jobs.accelerate.moments import carry_moments
from svdbench.jobs.accelerate.report import (
    AcceleratedArmSummary,
    answers_of,
    conclusions,
    report,
    speed_table,
    summarise_arms,
)
from svdbench.jobs.accelerate.trained import StagedArm
from svdbench.lowrank import LowRankLinear, factor
from svdbench.record.reader import RecordedRun
from svdbench.record.schema import ACCELERATED, ACCELERATION
from svdbench.side_by_side.networks import loss_for, mlp

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

EXPERIMENTS = sorted(
    path.stem for path in (Path(__file__).parents[1] / "conf" / "experiment").glob("svd_dnn_*.yaml")
)


class TestRanks:
    """The numbers of SPEC.md §3."""

    def test_both_meanings_of_alpha(self) -> None:
        sizes = [(512, 784), (256, 512)]
        assert [alpha_rank(0.5, *size, "code") for size in sizes] == [154, 85]
        assert [alpha_rank(0.5, *size, "text") for size in sizes] == [256, 128]
        assert alpha_rank(0.5, 20, 2, "code") == 1  # never none

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="alpha is 0"):
            alpha_rule(0)
        with pytest.raises(ValueError, match="meaning of alpha"):
            alpha_rank(0.5, 2, 2, "poem")
        with pytest.raises(ValueError, match="2 ranks for 3 weights"):
            layer_rule([1, None], ["a", "b", "c"])
        with pytest.raises(ValueError, match="parts of the budget are"):
            StepSchedule(10, [2], [1, 1])


class TestMultiplications:
    @pytest.mark.parametrize(("meaning", "expected"), [("code", 2.00), ("text", 1.24)])
    def test_the_ceilings_of_the_specification(self, meaning: str, expected: float) -> None:
        """They count a gradient of the examples, as the report's step makes it."""
        network, loss = mlp([784, 512, 256, 10]), loss_for(10)
        X, y = torch.rand(256, 784), torch.zeros(256, dtype=torch.long)
        small, _ = factor(network, alpha_rule(0.5, meaning))
        for wanted in (True, False):
            X.requires_grad_(wanted)
            dense, own = (multiplications(net, X, y, loss) for net in (network, small))
            if wanted:
                assert dense == 3 * (784 * 512 + 512 * 256 + 2560)
                assert ceiling(dense, own, 0) == pytest.approx(expected, abs=0.005)
            else:
                assert dense == 2 * 784 * 512 + 3 * (512 * 256 + 2560)
                assert ceiling(dense, own, 0) < expected
        assert ceiling(2, 1, 0.5) == pytest.approx(4 / 3)

    def test_leaves_the_network_alone(self) -> None:
        network = mlp([4, 3, 2]).eval()
        multiplications(network, torch.rand(5, 4), torch.zeros(5).long(), loss_for(2))
        assert all(p.grad is None for p in network.parameters())
        assert not network.training


def trained(optimizer: Any, **options: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network after some steps on digits-like noise."""
    network = mlp([12, 16, 16, 3])
    made = optimizer(network.parameters(), lr=1e-2, **options)
    X, y = torch.rand(64, 12), torch.randint(3, (64,))
    for rows in torch.randperm(64).repeat(4).split(16):
        made.zero_grad()
        loss_for(3)(network(X[rows]), y[rows]).backward()
        made.step()
    return network, made


class TestMoments:
    def test_the_mean_follows_the_chain_rule(self) -> None:
        network, optimizer = trained(torch.optim.Adam)
        small, _ = factor(network, lambda weight: 5)
        carried = carry_moments(optimizer, network, small)
        old, new = network[2].weight, small[2]
        M = optimizer.state[old]["exp_avg"]
        torch.testing.assert_close(carried.state[new.W1]["exp_avg"], M @ new.W2.T)
        torch.testing.assert_close(carried.state[new.W2]["exp_avg"], new.W1.T @ M)
        for kept in ("0.bias", "4.weight"):
            states = [
                made.state[net.get_parameter(kept)]["exp_avg_sq"]
                for made, net in ((optimizer, network), (carried, small))
            ]
            torch.testing.assert_close(*states)
        assert carried.state[new.W1]["step"] == optimizer.state[old]["step"]

    def test_squares_are_those_of_uncorrelated_gradients(self) -> None:
        """Against the mean squares of many gradients of which that is true."""
        linear = nn.Linear(8, 6, bias=False)
        small, _ = factor(linear, 3, skip_last=False, only_if_saves=False)
        assert isinstance(small, LowRankLinear)
        G = torch.randn(20000, 6, 8) * torch.rand(6, 8) + torch.randn(6, 8)
        optimizer = torch.optim.Adam(linear.parameters())
        optimizer.state[linear.weight] = {
            "step": torch.tensor(1e6),  # so long ago that nothing is left to correct
            "exp_avg": G.mean(0),
            "exp_avg_sq": G.square().mean(0),
        }
        found = carry_moments(optimizer, linear, small).state
        expected = ((G @ small.W2.T).square().mean(0), (small.W1.T @ G).square().mean(0))
        for own, square in zip((small.W1, small.W2), expected, strict=True):
            torch.testing.assert_close(found[own]["exp_avg_sq"], square, rtol=0.05, atol=1e-3)

    @pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
    def test_the_first_step_after_the_switch_is_no_longer_than_others(self, kind: Any) -> None:
        network, optimizer = trained(kind, fused=True)
        small, _ = factor(network, lambda weight: 5)
        carried = carry_moments(optimizer, network, small)
        before = [p.detach().clone() for p in small.parameters()]
        for p in small.parameters():
            p.grad = torch.zeros_like(p)  # only what was carried moves them
        carried.step()
        pairs = zip(small.parameters(), before, strict=True)
        moved = [float((p.detach() - b).abs().max()) for p, b in pairs]
        assert 0 < max(moved) <= 1e-2 * 1.2
        assert min(moved) > 1e-5

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (torch.optim.SGD, {}),
            (torch.optim.SGD, {"momentum": 0.9}),
            (torch.optim.RMSprop, {"momentum": 0.9}),
            (torch.optim.RMSprop, {"centered": True}),
            (torch.optim.Adam, {"amsgrad": True}),
        ],
    )
    def test_other_optimisers_go_on(self, kind: Any, options: dict[str, Any]) -> None:
        network, optimizer = trained(kind, **options)
        small, _ = factor(network, lambda weight: 5)
        carried = carry_moments(optimizer, network, small)
        loss_for(3)(small(torch.rand(8, 12)), torch.randint(3, (8,))).backward()
        carried.step()
        assert all(p.isfinite().all() for p in small.parameters())
        assert type(carried) is kind
        assert carried.param_groups[0]["lr"] == 1e-2
        if options.get("momentum") and kind is torch.optim.SGD:
            M = optimizer.state[network[0].weight]["momentum_buffer"]
            again = carry_moments(optimizer, network, factor(network, lambda weight: 5)[0])
            first = next(iter(again.state.values()))["momentum_buffer"]
            assert first.shape == (16, 5)
            assert float(first.norm()) <= float(M.norm()) * 2

    def test_of_convolutions_and_recurrent_layers(self) -> None:
        model = nn.ModuleDict(
            {"conv": nn.Conv2d(6, 8, 3), "rnn": nn.LSTM(9, 8), "head": nn.Linear(8, 2)}
        )
        optimizer = torch.optim.Adam(model.parameters())
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
        small, report = factor(model, lambda weight: 3)
        assert sum(found.rank is not None for found in report) == 3
        carried = carry_moments(optimizer, model, small)
        assert {id(p) for p in small.parameters()} == {id(p) for p in carried.state}
        for p, state in carried.state.items():
            assert state["exp_avg"].shape == state["exp_avg_sq"].shape == p.shape
            assert (
                state["exp_avg"].abs() / 0.1 <= (state["exp_avg_sq"] / 0.001).sqrt() + 1e-4
            ).all()

    def test_refuses(self) -> None:
        network, _ = trained(torch.optim.SGD)
        small, _ = factor(network, lambda weight: 5)
        with pytest.raises(TypeError, match="Adagrad can't be carried"):
            carry_moments(torch.optim.Adagrad(network.parameters()), network, small)
        with pytest.raises(ValueError, match="the dense model lacks"):
            carry_moments(torch.optim.SGD(mlp([2, 2]).parameters()), network, small)
        with pytest.raises(ValueError, match=r"no counterpart of '0.weight'"):
            carry_moments(torch.optim.SGD(network.parameters()), network, mlp([9, 3]))


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.rand(8, 12, generator=generator), torch.zeros(8, dtype=torch.long)


def arm(
    switch: int, network: nn.Module | None = None, rank: int = 5, carry: bool = True, steps: int = 8
) -> StagedArm:
    return StagedArm(
        "one",
        network or mlp([12, 16, 16, 3]),
        lambda network: torch.optim.Adam(network.parameters()),
        loss_for(3),
        method=SvdDnn(),
        plan=ArmPlan(lambda weight: rank, carry_moments=carry),
        schedule=StepSchedule(steps, [switch / steps], [1, 1]),
    )


class TestArm:
    @pytest.mark.parametrize(("switch", "factored_in"), [(0, 0), (3, 0), (4, 1), (6, 1), (8, None)])
    def test_switches_after_so_many_steps(self, switch: int, factored_in: int | None) -> None:
        one = arm(switch)
        for epoch in range(2):
            scores = one.train_epoch(batches(4), FakeClock())
            assert scores.steps == 4
            switched = factored_in is not None and epoch >= factored_in
            assert bool(one.factored) is switched
            assert (one.switch_s is not None) is switched
            assert isinstance(one.network[2], LowRankLinear) is switched
        assert one.steps == 8
        dense = one.dense()
        x = torch.rand(5, 12)
        torch.testing.assert_close(dense(x), one.network(x), rtol=1e-4, atol=1e-5)
        assert all(type(m) in (nn.Linear, nn.ReLU) for m in dense)

    def test_knows_what_truncation_lost(self) -> None:
        one = arm(0)
        weights = [one.network[i].weight.detach().double() for i in (0, 2)]
        one.train_epoch(batches(1), FakeClock())
        lost = sum(torch.linalg.svdvals(W)[5:].square().sum() for W in weights)
        whole = sum(W.square().sum() for W in weights)
        assert one.rel_error is not None
        # Within a step of Adam of it.
        assert one.rel_error == pytest.approx(float((lost / whole) ** 0.5), rel=1e-3)

    def test_other_layers_too(self) -> None:
        """Convolutions and recurrent layers, switched in the middle of an epoch."""

        class Columns(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(1, 8, 3, padding=1)
                self.rnn = nn.GRU(32, 16)
                self.head = nn.Linear(16, 3)

            def forward(self, x: Tensor) -> Tensor:
                y = self.conv(x.reshape(-1, 1, 4, 3)).permute(3, 0, 1, 2).flatten(2)
                last: Tensor = self.head(self.rnn(y)[0][-1])
                return last

        one = arm(2, Columns(), rank=2)
        scores = one.train_epoch(batches(6), FakeClock())
        assert math.isfinite(scores.loss)
        assert [found.rank for found in one.factored] == [2, 2, 2, None]
        x = torch.rand(5, 12)
        torch.testing.assert_close(one.dense()(x), one.network(x), rtol=1e-4, atol=1e-5)

    def test_moments_may_be_forgotten(self) -> None:
        for carry, steps in ((True, 4), (False, 2)):
            one = arm(2, carry=carry)
            one.train_epoch(batches(4), FakeClock())
            assert {int(s["step"]) for s in one.optimizer.state.values()} == {steps}


TINY = ["--net", "64-24-20-10", "--epochs", "4", "--batch", "512", "--seeds", "2", "--no-rivals"]


class TestCommand:
    def test_writes_what_it_promises(self) -> None:
        code, out, _ = run(["accelerate", *TINY, "--phis", "0.5,0", "--name", "one"])
        assert code == 0
        folder = Path("results/accelerate/one")
        assert {path.name for path in folder.iterdir()} == {
            *(
                "config.yaml",
                "env.json",
                "progress.jsonl",
                "samples.csv",
                "summary.csv",
                "layers.csv",
            ),
            *("loss.png", "speed.png"),
        }
        samples, summary = table(folder / "samples.csv"), table(folder / "summary.csv")
        assert tuple(samples[0]) == ACCELERATION.columns
        assert tuple(summary[0]) == ACCELERATED.columns
        assert [row["arm"] for row in summary[:3]] == [
            *("DNN", "SVD-DNN α 0.5, φ 50 %", "SVD-DNN α 0.5, φ 0 %")
        ]
        assert len(summary) == 6
        assert len(samples) == 2 * 3 * (4 + 1)  # the training set at the end
        first = [row for row in samples if row["epoch"] == "1" and row["seed"] == "0"]
        assert [row["arm"] for row in first] == [row["arm"] for row in summary[:3]]
        second = [row for row in samples if row["epoch"] == "2" and row["seed"] == "0"]
        assert [row["arm"] for row in second] == [row["arm"] for row in summary[1:3]] + ["DNN"]
        half = [row for row in samples if row["phi"] == "0.5" and row["seed"] == "1"]
        # Dense up to the switch, the same as the dense arm, and smaller after it.
        assert half[1]["loss"] == next(
            row["loss"]
            for row in samples
            if row["arm"] == "DNN" and row["epoch"] == "2" and row["seed"] == "1"
        )
        assert [row["decompose_s"] != "" for row in half] == [False, False, True, False, False]
        assert int(half[3]["n_params"]) < int(half[0]["n_params"])
        assert half[0]["rank"] == "8-5-none"
        assert 1 < float(summary[1]["ceiling"]) < float(summary[2]["ceiling"])
        for word in ("switched", "whole training", "ceiling", "24×64 at rank 8", "the last layer"):
            assert word in out

    def test_a_seed_gives_the_same_numbers(self) -> None:
        for name in "ab":
            assert run(["accelerate", *TINY, "--seeds", "1", "--name", name])[0] == 0
        a, b = (table(f"results/accelerate/{name}/samples.csv") for name in "ab")
        for column in ("arm", "loss", "accuracy", "train_loss", "n_params"):
            assert [row[column] for row in a] == [row[column] for row in b]

    def test_ranks_by_layer_and_xor(self) -> None:
        assert run(["accelerate", *TINY, "--ranks", "7,none,2", "--name", "one"])[0] == 0
        layers = table("results/accelerate/one/layers.csv")
        assert [row["kept"] for row in layers[:3]] == ["7", "", "2"]
        xor = ["accelerate", "xor", "--epochs", "4", "--seeds", "1", "--name", "two"]
        assert run([*xor, "net=2-20-20-2", "optimizer=sgd", "optimizer.lr=0.1"])[0] == 0
        assert table("results/accelerate/two/summary.csv")[1]["rank"] == "1-5-none"

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["nothing"], "no data set is called 'nothing'"),
            (["--alphas", "0"], "alphas has 0.0: give numbers above 0"),
            (["--alphas", "half"], "--alphas is 'half': give numbers separated by commas"),
            (["--phis", "1"], "phis has 1.0: give shares from 0 to below 1"),
            (["--phis", "0,0"], "phis has 0.0 twice"),
            (["--alpha-meaning", "poem"], "alpha_meaning"),
            (["--ranks", "1,2"], "2 ranks for 3 weights"),
            (["--ranks", "1,2,x"], "ranks has 'x'"),
            (["--ranks", "100,none,none"], "from 1 to 24"),
            (["--ranks", "none,none,none"], "no layer of"),
            (
                ["--alpha-meaning", "text", "--alphas", "1"],
                "alphas is 1, which is the dense",
            ),
            (["--net", "64-10-9"], "9 outputs"),
        ],
    )
    def test_a_mistake_is_one_line(self, arguments: list[str], says: str) -> None:
        given = [] if "--net" in arguments else TINY
        assert_mistake(run(["accelerate", *arguments, *given]), says)

    def test_an_interrupt_keeps_the_epochs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        evaluate, calls = accelerate_session.evaluate, []

        def interrupted(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == 8:
                raise KeyboardInterrupt
            return evaluate(*arguments, **options)

        monkeypatch.setattr(accelerate_session, "evaluate", interrupted)
        code, out, err = run(["accelerate", *TINY, "--name", "one"])
        assert code == 130
        assert "--resume results/accelerate/one" in err
        assert len(table("results/accelerate/one/samples.csv")) == 7
        assert {row["status"] for row in table("results/accelerate/one/summary.csv")} == {
            "interrupted"
        }
        assert "interrupted after epoch" in out

    def test_the_clock_may_stop_it(self) -> None:
        code, out, _ = run(["accelerate", *TINY, "--max-minutes", "1e-9", "--name", "one"])
        assert code == 0
        assert "timeout after epoch 1" in out

    @pytest.mark.parametrize("name", EXPERIMENTS)
    def test_experiments_compose(self, name: str) -> None:
        config, _ = compose("accelerate", [f"experiment={name}"])
        assert config.published or name == "svd_dnn_mnist_twice"  # which is our own
        for number in config.published:
            assert number.phi is None or (number.alpha in config.alphas)
            assert number.phi is None or (number.phi in config.phis)

    def test_an_experiment_ends_with_its_table(self) -> None:
        experiment = ["accelerate", "experiment=svd_dnn_xor_published", "epochs=3", "seeds=2"]
        code, out, _ = run([*experiment, "--name", "one"])
        assert code == 0
        assert "our numbers and the published ones" in out
        assert table("results/accelerate/one/summary.csv")[1]["rank"] == "1-5-none"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a dense arm and one in factors from the start."""
    place = tmp_path_factory.mktemp("finished")
    with chdir(place):
        assert run(["accelerate", *TINY, "--epochs", "9", "--phis", "0", "--name", "one"])[0] == 0
    return place / "results/accelerate/one"


class TestReport:
    def folder(self, finished: Path, times: list[tuple[float, float]]) -> Path:
        """The same run, but its epochs took as long as ``times`` say, of both arms."""
        folder = Path("copy")
        shutil.copytree(finished, folder)
        rows = table(folder / "samples.csv")
        for row in rows:
            dense, own = times[int(row["epoch"]) % len(times)]
            row["epoch_s"] = str(dense if row["arm"] == "DNN" else own)
            row["decompose_s"] = row["decompose_s"] and "0"
        with open(folder / "samples.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return folder

    def arms(self, folder: Path) -> list[AcceleratedArmSummary]:
        run = RecordedRun(folder)
        return summarise_arms(run.frame("samples"), run.frame("summary"))

    def test_speed_is_the_median_of_pairs(self, finished: Path) -> None:
        folder = self.folder(finished, [(3.0, 2.0), (30.0, 20.0), (3.0, 2.1)])
        _, found = self.arms(folder)
        assert found.after is not None
        assert found.speed is not None
        assert found.after.mean == pytest.approx(1.5)
        assert found.after.count == 2 * 8  # not the epoch with the switch
        assert found.after.low == pytest.approx(3 / 2.1)
        assert found.speed.mean == pytest.approx(1.5)
        assert not found.impossible

    def test_an_impossible_speed_is_flagged(self, finished: Path) -> None:
        folder = self.folder(finished, [(3.0, 0.5), (3.0, 0.51)])
        arms = self.arms(folder)
        assert arms[1].impossible
        assert "more than the multiplications can explain" in " ".join(conclusions(arms))
        assert any("!" in cell.text for cell in speed_table(arms).rows[1].cells)
        speed = f"{arms[1].speed.mean:.2f}"
        assert f"training speed {speed}×" in report(RecordedRun(folder)).headline

    def test_published_numbers_stand_beside_ours(self, finished: Path) -> None:
        folder = self.folder(finished, [(3.0, 2.0)])
        config = (folder / "config.yaml").read_text().replace("published: []", "published:")
        config = config.replace(
            "published:\n",
            "published:\n"
            "- {alpha: null, phi: null, column: test_accuracy, value: 0.9, tolerance: 0.0}\n"
            "- {alpha: 0.5, phi: 0.0, column: speed, value: 1.5, tolerance: 0.01}\n"
            "- {alpha: 0.5, phi: 0.0, column: train_loss, value: 100, tolerance: 0.01}\n"
            "- {alpha: 0.25, phi: 0.0, column: speed, value: 1.5, tolerance: 0.01}\n",
        )
        (folder / "config.yaml").write_text(config)
        found = answers_of(RecordedRun(folder), self.arms(folder))
        assert [answer.claim.says for answer in found] == [
            *("DNN: test", "α 0.5, φ 0%: speed", "α 0.5, φ 0%: final loss")
        ]
        assert [answer.shown for answer in found][1:] == [True, False]
        assert math.isfinite(found[2].ours.high)

    def test_nothing_to_show_is_nothing_shown(self) -> None:
        assert not report(RecordedRun(Path())).blocks
