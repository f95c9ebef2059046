"""What every arm must do."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.contract import Contract, Fault, Make, expect, expect_texts
from svdbench.jobs.accelerate.arms.base import ArmPlan, ArmState, LowRankArm

CONTRACT = Contract()


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)
        )


def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60, 12, generator=generator)
    return X, X[:, :3].argmax(1)


PLAN = ArmPlan(lambda weight: 4, phi=0.25, seed=3)


def made(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=1e-2)


def trained(arm: LowRankArm, net: nn.Module, steps: int = 20) -> tuple[nn.Module, list[float]]:
    """The network after some steps, with each of its changes, and its losses."""
    X, y = examples()
    optimizer, losses = made(net), []
    ends = [round(share * steps) for share in arm.changes(PLAN)]
    expect(
        ends == sorted(ends) and all(0 <= end <= steps for end in ends),
        f"changes returned {arm.changes(PLAN)}",
        "return parts of the budget, from 0 to 1, ascending",
    )
    state = ArmState()
    for step in range(steps):
        for number, end in enumerate(ends):
            if step == end:
                new = arm.changed(net, PLAN, number)
                expect(isinstance(new, nn.Module), f"changed returned a {type(new).__name__}")
                optimizer = arm.optimizer(optimizer, net, new, PLAN, made)
                held = {id(p) for group in optimizer.param_groups for p in group["params"]}
                expect(
                    held == {id(p) for p in new.parameters()},
                    "the optimiser has other parameters than the network",
                    "make it of new.parameters(): make(new)",
                )
                net = new
        state.done = step / steps
        arm.before_step(net, state)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), y)
        loss.backward()
        arm.before_update(net, PLAN)
        optimizer.step()
        losses.append(float(loss.detach()))
    return net, losses


@CONTRACT.question("says what it is: title and source")
def described(make: Make) -> None:
    expect_texts(make(), "title", "source")


@CONTRACT.question("gives a rank, or a reason, for each weight")
def weights(make: Make) -> None:
    for found in make().check(network(), PLAN):
        expect(found.rank is not None or bool(found.reason), f"{found.weight.name} has no reason")


@CONTRACT.question("trains: the loss goes down", "check the optimiser and the start")
def learns(make: Make) -> None:
    _, losses = trained(make(), network())
    expect(all(loss == loss for loss in losses), "the loss is NaN")
    expect(min(losses[-3:]) < losses[0], f"the loss was {losses[0]:.3f}, and is {losses[-1]:.3f}")


@CONTRACT.question("leaves the network that it is given unchanged", "change a copy")
def network_unchanged(make: Make) -> None:
    arm = make()
    for number in range(len(arm.changes(PLAN))):
        given = network() if not number else arm.changed(network(), PLAN, 0)
        before = {name: value.clone() for name, value in given.state_dict().items()}
        new = arm.changed(given, PLAN, number)
        if new is given:
            continue
        with torch.no_grad():
            for parameter in new.parameters():
                parameter.fill_(1.0)
        after = given.state_dict()
        same = list(before) == list(after) and all(
            torch.equal(before[name], after[name]) for name in before
        )
        if not same:
            raise Fault(f"change {number} altered it, or shares its parameters")


@CONTRACT.question("ends as a network that can be used", "define dense")
def usable(make: Make) -> None:
    arm = make()
    net, _ = trained(arm, network())
    X, _ = examples()
    with torch.no_grad():
        before, after = net.eval()(X), arm.dense(net).eval()(X)
    apart = float((before - after).norm() / before.norm().clamp(min=1e-30))
    expect(apart <= 1e-3, f"the dense network's outputs differ by {apart:.1e}")


@CONTRACT.question("repeats itself", "draw every random number from plan.generator(network)")
def repeats(make: Make) -> None:
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found.append(trained(make(), network(), 4)[1])
    apart = max(abs(a - b) for a, b in zip(*found, strict=True))
    expect(apart <= 1e-4, f"the losses of two trainings differ by {apart:.1e}")
