"""The arms of ``svdbench accelerate``: their equations, budgets, rivals and rates."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from command import assert_mistake, run, table
from fake_clock import FakeClock
from torch import Tensor, nn

from svdbench.jobs.accelerate.arms.base import ArmPlan, ArmState, LowRankArm, random_factors
from svdbench.jobs.accelerate.arms.cola import (
    STARTS,
    Cola,
    LowRankActivation,
    published_factors,
)
from svdbench.jobs.accelerate.arms.contract import CONTRACT
from svdbench.jobs.accelerate.arms.cuttlefish import Cuttlefish, slope_of, stable_rank
from svdbench.jobs.accelerate.arms.galore import GaLore, GaLoreAdam, back, into, projection
from svdbench.jobs.accelerate.arms.self_guided import GuidedLinear, SelfGuided, guide
from svdbench.jobs.accelerate.arms.sltrain import SparsePlusLowRank
from svdbench.jobs.accelerate.arms.spectral import SpectralStart
from svdbench.jobs.accelerate.arms.svd_dnn import SvdDnn
from svdbench.jobs.accelerate.costs import StepSchedule
from svdbench.jobs.accelerate.experiment import optimizer_of
from svdbench.jobs.accelerate.moments import add_product_decay, factors_in
from svdbench.jobs.accelerate.outcomes import verdict_of
from svdbench.jobs.accelerate.preparation import best_rate
from svdbench.jobs.accelerate.rivals import Rival, distinct, interleaved, rivals_of, share_for
from svdbench.jobs.accelerate.run import AccelerateSession
from svdbench.jobs.accelerate.trained import StagedArm
from svdbench.lowrank import factor
from svdbench.members import ARMS
from svdbench.side_by_side.families import MlpFamily
from svdbench.side_by_side.networks import loss_for, mlp
from svdbench.statistics.intervals import mean_interval
from svdbench.training.config import Adam

pytestmark = pytest.mark.usefixtures("one_thread")
DOUBLE = torch.float64


def network(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return mlp(sizes or (12, 24, 16, 3)).double()


def plan(rank: int = 4, **options: Any) -> ArmPlan:
    return ArmPlan(lambda weight: rank, **options)


@pytest.mark.parametrize("name", ARMS.names())
@pytest.mark.parametrize("question", CONTRACT.questions, ids=lambda question: question.name)
def test_contract(name: str, question: Any) -> None:
    question.ask(lambda **options: ARMS.load(name, **options))


class TestEquations:
    def test_gradients_of_the_decay_of_a_product(self) -> None:
        """Against autograd's of λ/2·‖UV‖², for linear layers and convolutions."""
        model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(32, 16)).double()
        small, report = factor(model, 3, skip_last=False)
        assert [found.rank for found in report] == [3, 3]
        for parameter in small.parameters():
            parameter.grad = torch.zeros_like(parameter)
        add_product_decay(small, 0.3)
        for module in (small[0], small[2]):
            pair = [module.get_parameter(own) for own in module.factors["weight"]]
            penalty = 0.15 * module.product(*pair).square().sum()
            for own, expected in zip(pair, torch.autograd.grad(penalty, pair), strict=True):
                torch.testing.assert_close(own.grad, expected)
        U, V = small[2].W1, small[2].W2
        torch.testing.assert_close(U.grad, 0.3 * U @ V @ V.T)
        torch.testing.assert_close(V.grad, 0.3 * U.T @ U @ V)

    def test_the_optimiser_decays_the_product_or_the_factors(self) -> None:
        small = plan().truncated(network())
        config = Adam(weight_decay=0.1)
        ids = {id(p) for p in factors_in(small)}
        for of_product in (True, False):
            made = optimizer_of(small, config, 0.5, of_product)
            decays = {id(p): g["weight_decay"] for g in made.param_groups for p in g["params"]}
            assert len(decays) == len(list(small.parameters()))
            assert {decays[one] for one in ids} == {0.0 if of_product else 0.1}
            assert {decays[one] for one in decays.keys() - ids} == {0.1}
            assert {g["lr"] for g in made.param_groups} == {0.5}

    def test_a_spectral_start_is_svd_dnn_without_dense_steps(self) -> None:
        dense, asked = network(), plan(phi=0.0)
        found = [arm.changed(dense, asked, 0) for arm in (SpectralStart(), SvdDnn())]
        for a, b in zip(*(net.parameters() for net in found), strict=True):
            assert torch.equal(a, b)
        assert SvdDnn().changes(asked) == SpectralStart().changes(asked) == (0.0,)
        W = dense[0].weight
        restored = SpectralStart(restore_norm=True).changed(dense, asked, 0)[0]
        torch.testing.assert_close(restored.weight.norm(), W.norm())
        torch.testing.assert_close(
            restored.weight / W.norm(), found[1][0].weight / found[1][0].weight.norm()
        )

    def test_random_factors_have_the_variance_of_the_weight(self) -> None:
        W = torch.randn(300, 400, dtype=DOUBLE) * 0.05
        draw = torch.Generator().manual_seed(0)
        U, V = random_factors(W, 60, draw)
        assert (U @ V).std().item() == pytest.approx(W.std().item(), rel=0.05)
        assert V.std().item() == pytest.approx(400**-0.5, rel=0.05)
        twice, _ = random_factors(W, 60, torch.Generator().manual_seed(0), gain=2.0)
        torch.testing.assert_close(twice, 2 * U)

    def test_cola(self) -> None:
        A, B, b, x = (torch.randn(*s, dtype=DOUBLE) for s in ((3, 6), (5, 3), (5,), (4, 6)))
        layer = LowRankActivation(A, B, b)
        h = x @ A.T
        torch.testing.assert_close(layer(x), (h * torch.sigmoid(h)) @ B.T + b)
        given = x.clone().requires_grad_()
        assert torch.autograd.gradcheck(layer, (given,))

    def test_colas_published_start(self) -> None:
        """Both factors have the deviation (r(m + n))^−¼, so their product has (m + n)^−½."""
        W = torch.randn(300, 400, dtype=DOUBLE) * 7
        B, A = published_factors(W, 60, torch.Generator().manual_seed(0))
        assert B.std().item() == pytest.approx((60 * 700) ** -0.25, rel=0.03)
        assert A.std().item() == pytest.approx((60 * 700) ** -0.25, rel=0.03)
        assert (B @ A).std().item() == pytest.approx(700**-0.5, rel=0.05)
        found = [Cola(start).changed(network(), plan(), 0)[0].A for start in STARTS]
        assert not torch.equal(*found)

    def test_self_guided_goes_from_dense_to_the_factors(self) -> None:
        linear = nn.Linear(6, 5).double()
        W1, W2, x = (torch.randn(*s, dtype=DOUBLE) for s in ((5, 2), (2, 6), (4, 6)))
        layer = GuidedLinear(linear, W1, W2)
        torch.testing.assert_close(layer(x), x @ (W1 @ W2).T + linear.bias)
        nn.init.normal_(layer.weight)
        torch.testing.assert_close(layer(x), x @ layer.weight.T + linear.bias)
        layer.alpha.zero_()
        torch.testing.assert_close(layer(x), x @ (W1 @ W2).T + linear.bias)
        torch.testing.assert_close(layer.factored()(x), layer(x))
        layer.alpha.fill_(0.3)
        expected = 0.3 * x @ layer.weight.T + 0.7 * x @ (W1 @ W2).T + linear.bias
        torch.testing.assert_close(layer(x), expected)
        assert torch.autograd.gradcheck(layer, (x.clone().requires_grad_(),))
        assert [guide(t) for t in (0, 0.5, 1, 2)] == pytest.approx([1, 0.5, 0, 0])

    def test_self_guided_begins_with_the_nearest_of_low_rank(self) -> None:
        """Factors, their product as the dense weight, and the output of both."""
        net, asked = network(), plan()
        begun, nearest = SelfGuided().changed(net, asked, 0), asked.truncated(net)
        for at in (0, 2):
            torch.testing.assert_close(begun[at].weight, nearest[at].weight)
            torch.testing.assert_close(begun[at].W1, nearest[at].W1)
            assert begun[at].weight.data_ptr() != net[at].weight.data_ptr()
        x = torch.randn(4, 12, dtype=DOUBLE)
        torch.testing.assert_close(begun(x), nearest(x))

    def test_sltrain(self) -> None:
        linear = nn.Linear(40, 30).double()
        draw = torch.Generator().manual_seed(0)
        layer = SparsePlusLowRank(linear, 4, 0.05, 8.0, draw).double()
        S = layer.weight.detach()
        assert int((S != 0).sum()) == 60  # B is zero at first
        for own in (layer.A, layer.values):  # U(−n^−½, n^−½), of deviation (3n)^−½
            assert own.abs().max().item() <= 40**-0.5
            assert own.std().item() == pytest.approx(120**-0.5, rel=0.2)
        nn.init.normal_(layer.B)
        torch.testing.assert_close(layer.weight, S + 8 / 4 * layer.B @ layer.A)
        x = torch.randn(3, 40, dtype=DOUBLE, requires_grad=True)
        assert torch.autograd.gradcheck(layer, (x,))
        layer(x).sum().backward()
        whole = torch.ones(3, 30, dtype=DOUBLE).T @ x.detach()
        torch.testing.assert_close(layer.values.grad, whole.flatten()[layer.places.long()])
        torch.testing.assert_close(layer.to_linear()(x), layer(x))


class TestCuttlefish:
    def test_stable_ranks(self) -> None:
        assert stable_rank(torch.eye(7)) == pytest.approx(7)
        Q, _ = torch.linalg.qr(torch.randn(20, 4, dtype=DOUBLE))
        s = torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=DOUBLE)
        assert stable_rank(Q * s) == pytest.approx(7 / 4)

    def test_ranks_and_switch(self) -> None:
        arm, net = Cuttlefish(window=2), network(16, 16, 16, 3)
        with torch.no_grad():
            for at in (0, 2):
                net[at].weight.copy_(torch.eye(16))
        arm.before_step(net, ArmState())
        assert arm.ranks()["0.weight"] == 16  # ξ = 1, ρ = 16
        with torch.no_grad():
            net[0].weight.copy_(torch.diag((torch.arange(16) < 5).double()))  # ρ = 5
            net[2].weight.copy_(torch.diag((torch.arange(16) < 3).double()))
        asked = 0
        while not arm.wants_change(net, ArmState()):
            assert arm.settled <= {"4.weight"}  # which did not change
            asked += 1
        assert asked == 5  # the average is still falling until then
        assert arm.ranks() == {"0.weight": 5, "2.weight": 3, "4.weight": arm.ranks()["4.weight"]}
        small = arm.changed(net, plan(), 0)
        assert (small[0].rank, small[2].rank) == (5, 3)
        x = torch.randn(4, 16, dtype=DOUBLE)
        torch.testing.assert_close(small(x), net(x))

    def test_the_slope_is_of_the_exponential_average(self) -> None:
        """With the window of the program, whose mean is over eleven slopes."""
        ranks = np.random.default_rng(0).integers(40, 60, 30)
        smooth = pd.Series(ranks).ewm(span=15, adjust=False).mean()
        expected = np.abs(np.gradient(smooth))[-11:].mean()
        assert slope_of(list(map(int, ranks)), 15) == pytest.approx(expected, rel=1e-12)

    def test_stable_ranks_are_rounded_down(self) -> None:
        """ξ = 12/⌊ρ₀⌋, and r = ⌈ξ⌊ρ⌋⌉."""
        arm, net = Cuttlefish(), network(12, 12, 3)
        for spectrum in ([1.0, 0.9, 0.9, 0.9], [1.0, 0.8]):  # ρ of 3.43 and 1.64
            s = torch.tensor(spectrum + [0.0] * (12 - len(spectrum)), dtype=DOUBLE)
            with torch.no_grad():
                net[0].weight.copy_(torch.diag(s))
            arm.before_step(net, ArmState())
        arm.wants_change(net, ArmState())
        assert arm.stable["0.weight"] == [3, 1]
        assert arm.ranks()["0.weight"] == 4


class TestGaLore:
    def test_at_full_rank_it_is_adam(self) -> None:
        nets = [network(), network()]
        made = [
            torch.optim.Adam(nets[0].parameters(), lr=1e-2, weight_decay=0.01),
            GaLore().optimizer(
                torch.optim.Adam(nets[1].parameters(), lr=1e-2, weight_decay=0.01),
                nets[1],
                nets[1],
                ArmPlan(
                    lambda weight: min(weight.rows, weight.columns),
                    skip_last=False,
                    only_if_saves=False,
                ),
                torch.optim.Adam,  # type: ignore[arg-type]
            ),
        ]
        assert isinstance(made[1], GaLoreAdam)
        assert [group["rank"] for group in made[1].param_groups] == [12, None, 16, 3]
        X, y = torch.randn(32, 12, dtype=DOUBLE), torch.randint(3, (32,))
        for _ in range(5):
            for net, optimizer in zip(nets, made, strict=True):
                optimizer.zero_grad()
                F.cross_entropy(net(X), y).backward()
                optimizer.step()
        for a, b in zip(*(net.parameters() for net in nets), strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("shape", [(9, 6), (6, 9)])
    def test_the_projection_is_that_of_the_svd(self, shape: tuple[int, int]) -> None:
        G = torch.randn(shape, dtype=DOUBLE)
        P = projection(G, 3)
        U, S, Vh = torch.linalg.svd(G)
        nearest = U[:, :3] @ torch.diag(S[:3]) @ Vh[:3]
        torch.testing.assert_close(back(P, into(P, G)), nearest)
        torch.testing.assert_close(P.T @ P, torch.eye(3, dtype=DOUBLE))

    def test_a_step_and_its_state(self) -> None:
        W = nn.Parameter(torch.zeros(6, 9, dtype=DOUBLE))
        made = GaLoreAdam([{"params": [W], "rank": 2}], lr=0.1, scale=0.5)
        W.grad = torch.randn(6, 9, dtype=DOUBLE)
        made.step()
        P = projection(W.grad, 2)
        torch.testing.assert_close(W.detach(), -0.1 * 0.5 * P @ (P.T @ W.grad).sign())
        assert {state["exp_avg"].shape for state in made.state.values()} == {(2, 9)}

    def test_some_steps_by_the_algorithm(self) -> None:
        """Against its equations: Adam in r dimensions, whose moments stay when P changes."""
        W = nn.Parameter(torch.randn(9, 6, dtype=DOUBLE))
        expected, lr, b1, b2, eps = W.detach().clone(), 0.1, 0.9, 0.99, 1e-8
        made = GaLoreAdam([{"params": [W], "rank": 2}], lr, (b1, b2), eps, every=2, scale=0.25)
        m = v = torch.zeros(9, 2, dtype=DOUBLE)
        P = torch.zeros(6, 2, dtype=DOUBLE)
        for t in range(1, 6):
            W.grad = torch.randn(9, 6, dtype=DOUBLE)
            if t % 2 == 1:
                P = torch.linalg.svd(W.grad).Vh[:2].T  # of a tall gradient, on the right
                signs = (P * projection(W.grad, 2)).sum(0).sign()
                P = P * signs  # singular vectors are known up to their signs
            R = W.grad @ P
            m, v = b1 * m + (1 - b1) * R, b2 * v + (1 - b2) * R.square()
            N = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
            expected = expected - lr * 0.25 * N @ P.T
            made.step()
            torch.testing.assert_close(W.detach(), expected)

    def test_weight_decay_is_that_of_the_optimiser_given(self) -> None:
        nets = [network(), network()]
        made = [torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.5) for net in nets]
        full = lambda weight: min(weight.rows, weight.columns)  # noqa: E731
        asked = ArmPlan(full, skip_last=False, only_if_saves=False)
        changed = GaLore().optimizer(made[0], nets[0], nets[0], asked, lambda net: made[0])
        X, y = torch.randn(32, 12, dtype=DOUBLE), torch.randint(3, (32,))
        for _ in range(3):
            for net, optimizer in zip(nets, (changed, made[1]), strict=True):
                optimizer.zero_grad()
                F.cross_entropy(net(X), y).backward()
                optimizer.step()
        for a, b in zip(*(net.parameters() for net in nets), strict=True):
            torch.testing.assert_close(a, b)

    def test_needs_adam(self) -> None:
        net = network()
        made = torch.optim.SGD(net.parameters())
        with pytest.raises(ValueError, match="use optimizer=adam"):
            GaLore().optimizer(made, net, net, plan(), torch.optim.SGD)  # type: ignore[arg-type]


class TestSchedule:
    def test_a_budget_in_stages(self) -> None:
        """φ is a part of the arm's own budget."""
        assert StepSchedule(600, [0.1], [1, 1]).ends == [60, 600]
        own = StepSchedule(2.5, [0.1], [0.01, 0.005])
        assert own.ends == [25, 475]
        assert own.spent(25) == pytest.approx(0.1)
        assert own.spent(475) == pytest.approx(1)
        assert own.shares == pytest.approx([25 / 475, 450 / 475])
        assert [own.steps_at(share) for share in (0.05, 0.1, 0.2, 1.0)] == [12, 25, 75, 475]

    def test_a_change_that_was_not_foreseen(self) -> None:
        own = StepSchedule(100.0, [], [1.0])
        own.change_now(40, 0.5)
        assert own.ends == [40, 160]
        assert own.spent(160) == pytest.approx(1)

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="ascending"):
            StepSchedule(1, [0.5, 0.2], [1, 1, 1])


class TestRivals:
    def test_bisection(self) -> None:
        assert share_for(0.5, lambda share: share) == pytest.approx(0.5, abs=1 / 64)
        assert share_for(2.0, lambda share: share) == 1.0

    def test_of_every_arm_and_each_once(self) -> None:
        family = MlpFamily((784, 512, 256, 10))

        def cost(own: Any) -> float:
            return sum(a * b for a, b in zip(own.sizes, own.sizes[1:], strict=False))

        whole = cost(family)
        found = list(rivals_of(family, {"a": 0.4 * whole}, {"a": 2 * whole}, cost, cost))
        assert [each.kind for each in found] == ["time", "multiplications", *["share"] * 3]
        assert cost(family.scaled(found[0].share)) == pytest.approx(0.4 * whole, rel=0.02)
        kept = {
            own.label: of for _, own, of in distinct(family, [*found, Rival(0.2501, "time", "b")])
        }
        assert len(kept) == 4  # not the network itself, and a quarter once
        assert [each.words for each in kept["784-128-64-10"]] == ["0.25 of the width", "time of b"]
        assert list(kept) == sorted(kept, key=lambda label: -int(label.split("-")[1]))

    def test_times_are_medians_of_turns(self) -> None:
        took = {"a": iter([9.0, 1.0, 1.0, 5.0, 1.0]), "b": iter([9.0, 2.0, 2.0, 2.0, 7.0])}
        order: list[str] = []

        def work(name: str) -> Any:
            def run(steps: int) -> float:
                order.append(name)
                return steps * next(took[name])

            return run

        found = interleaved({name: work(name) for name in took}, turns=3, turn_s=0.0)
        assert found == {"a": 1.0, "b": 2.0}
        assert order == [*"aabb", *"ababab"]


class TestRates:
    def test_the_grid_goes_on_until_a_rate_is_too_high(self) -> None:
        tried: list[float] = []

        def loss(rate: float) -> float:
            tried.append(rate)
            return math.inf if rate > 0.1 else abs(math.log(rate / 0.05))

        assert best_rate([0.01, 0.02], loss) == pytest.approx(0.04)
        assert tried == pytest.approx([0.01, 0.02, 0.04, 0.08])
        assert best_rate([0.2, 0.4], loss) == pytest.approx(0.05)

    def test_it_ends(self) -> None:
        assert best_rate([1.0], lambda rate: -rate) > 1
        assert 0 < best_rate([1.0], lambda rate: math.inf) < 1


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.rand(8, 12, generator=generator), torch.zeros(8, dtype=torch.long)


def staged(method: LowRankArm, asked: ArmPlan, steps: int, **options: Any) -> StagedArm:
    changes = method.changes(asked)
    return StagedArm(
        "one",
        mlp([12, 16, 16, 3]),
        lambda net: torch.optim.Adam(net.parameters()),
        loss_for(3),
        method=method,
        plan=asked,
        schedule=StepSchedule(steps, changes, [1.0] * (len(changes) + 1)),
        **options,
    )


class TestStages:
    def test_a_guided_arm_ends_in_factors(self) -> None:
        one = staged(ARMS.load("self_guided"), plan(), 8)
        alphas = []
        for _ in range(4):
            one.train_epoch(batches(2), FakeClock())
            layer = one.network[0]
            alphas.append(float(layer.alpha) if isinstance(layer, GuidedLinear) else 0.0)
        assert alphas == pytest.approx([0.5, 0.0, 0.0, 0.0], abs=1e-9)
        assert one.stage == 2
        steps = {int(state["step"]) for state in one.optimizer.state.values()}
        assert steps == {8}  # the moments of what stayed were kept

    def test_an_arm_that_ends_dense(self) -> None:
        one = staged(ARMS.load("low_rank_first"), plan(), 8)
        kinds = []
        for _ in range(4):
            one.train_epoch(batches(2), FakeClock())
            kinds.append(type(one.network[0]).__name__)
        assert kinds == [*["LowRankLinear"] * 3, "Linear"]

    def test_cuttlefish_replans_its_budget(self) -> None:
        one = staged(Cuttlefish(slope=1e9, window=1), plan(), 20, cost=lambda arm: 0.5)
        one.train_epoch(batches(4), FakeClock())
        assert one.switch_s is None
        one.train_epoch(batches(4), FakeClock())
        assert one.switch_s is not None
        assert one.schedule.ends == [4, 36]

    def test_measuring_a_step_after_a_change_is_no_training(self) -> None:
        def measured(arm: StagedArm) -> float:
            start = time.process_time()
            while time.process_time() - start < 0.5:
                pass
            return 0.5

        one = staged(Cuttlefish(slope=1e9, window=1), plan(), 20, cost=measured)
        for _ in range(2):
            one.train_epoch(batches(4), FakeClock())
        assert one.measured_s >= 0.5
        assert one.used_s < 0.5

    def test_the_decay_of_the_product_is_added(self) -> None:
        weights = []
        for decay in (0.0, 10.0):
            torch.manual_seed(0)
            one = staged(ARMS.load("factors"), plan(), 4, product_decay=decay)
            one.train_epoch(batches(4), FakeClock())
            weights.append(one.dense()[0].weight.norm().item())
        assert weights[1] < weights[0]


TINY = ["accelerate", "digits", "--net", "64-24-20-10", "--batch", "128", "--name", "one"]
FOLDER = Path("results/accelerate/one")


@pytest.mark.usefixtures("elsewhere")
class TestCommand:
    def test_seconds_rates_and_rivals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is found out before the seeds is kept, and a resumed run goes on with it."""
        given = [*TINY, "--arms", "svd-dnn,cola", "--phis", "0.2", "--seeds", "2", "--epochs", "2"]
        given += ["--budget", "0.05", "--lrs", "3e-3,1e-2"]
        begin, calls = AccelerateSession.begin, []

        def interrupted(*arguments: Any) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise KeyboardInterrupt
            begin(*arguments)

        monkeypatch.setattr(AccelerateSession, "begin", interrupted)
        assert run(given)[0] == 130
        before = (FOLDER / "rivals.csv").read_text()
        code, out, _ = run(["accelerate", "--resume", str(FOLDER)])
        assert code == 0
        assert (FOLDER / "rivals.csv").read_text() == before
        assert {path.name for path in FOLDER.glob("*.png")} == {"loss.png", "loss_over_seconds.png"}
        summary, rivals = table(FOLDER / "summary.csv"), table(FOLDER / "rivals.csv")
        labels = {row["arm"] for row in summary}
        assert {"DNN", "SVD-DNN α 0.5, φ 20 %", "CoLA α 0.5", "DNN 64-12-10-10"} <= labels
        assert {row["arm"] for row in rivals} == labels
        kinds = {row["chosen_by"] for row in rivals if row["method"] == "narrow_dnn"}
        assert {"multiplications", "share"} <= kinds <= {"multiplications", "share", "time"}
        assert len(summary) == 2 * len(labels)
        for row in summary:
            assert row["status"] == "ok"
            assert (row["budget_of"], row["budget_s"]) == ("seconds", "0.05")
            assert float(row["used_s"]) > 0
            assert float(row["lr"]) >= 3e-3 / 10
        searched = {float(row["search_s"]) for row in summary}
        assert len(searched) == 1
        for word in ("verdict", "best smaller", "50.0 ms for each arm", "learning rates: chosen"):
            assert word in out
        assert "× DNN's" not in out  # epochs of equal seconds have no speed

    def test_multiplications(self) -> None:
        given = [*TINY, "--arms", "factors,self-guided", "--seeds", "1", "--epochs", "3"]
        assert run([*given, "--equal", "multiplications", "--no-rivals"])[0] == 0
        rows = {row["arm"]: row for row in table(FOLDER / "summary.csv")}
        spent = [float(row["multiplications"]) for row in rows.values()]
        assert max(spent) / min(spent) < 1.05
        assert int(rows["factors α 0.5"]["step"]) > int(rows["DNN"]["step"])
        assert not (FOLDER / "rivals.csv").exists()

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--budget", "1e-5"], "and DNN has 0 steps in 2 rounds: give "),
            (
                [
                    *("--equal", "multiplications", "--arms", "self-guided", "--alphas", "0.9"),
                    *("--batch", "2000"),
                ],
                "self-guided α 0.9 has 17 steps in 20 rounds: give a smaller batch_size",
            ),
        ],
    )
    def test_a_budget_of_too_few_steps_is_refused(self, more: list[str], says: str) -> None:
        """Each round has a step at least, and would go beyond the budget."""
        epochs = "2" if "--budget" in more else "20"
        code, _, err = run([*TINY, "--no-rivals", "--epochs", epochs, *more])
        assert code == 2
        assert says in err

    def test_bytes(self) -> None:
        given = [*TINY, "--arms", "galore,sltrain", "--seeds", "1", "--epochs", "1", "--no-rivals"]
        assert run([*given, "--alphas", "0.25"])[0] == 0
        rows = {row["method"]: int(row["train_bytes"]) for row in table(FOLDER / "summary.csv")}
        assert rows["sltrain"] < rows["galore"] < rows["dnn"]

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--equal", "seconds"], "add --budget 10"),
            (["--equal", "steps", "--budget", "3"], "budget_s gives seconds"),
            (["--equal", "money"], "money"),
            (["--lrs", "0.1,0.01"], "ascending"),
            (["--alphas", "0.5,0.50000001"], "the list of arms has SVD-DNN α 0.5, φ 10 % twice"),
            (["--arms", "galore", "optimizer=sgd"], "galore projects the moments of Adam"),
            (["--arms", "cole"], "did you mean 'cola'"),
            (["arm.self_guided.guided=2", "--arms", "self-guided"], "guided is 2"),
            (["arm.cola.start=zero", "--arms", "cola"], "choose variance or published"),
        ],
    )
    def test_a_mistake_is_one_line(self, more: list[str], says: str) -> None:
        assert_mistake(run([*TINY, *more]), says)


class TestVerdict:
    @pytest.mark.parametrize(
        ("values", "verdict"),
        [
            ([-0.02, -0.021, -0.019], "better"),
            ([0.02, 0.021, 0.019], "not better"),
            ([-0.001, 0.001, 0.0], "not better"),
            ([-0.02, 0.02, 0.0], "can't tell"),
            ([-0.5], "can't tell"),
        ],
    )
    def test_rule(self, values: list[float], verdict: str) -> None:
        assert verdict_of(mean_interval(values), 0.1) == verdict
