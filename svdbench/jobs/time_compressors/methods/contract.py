"""What every model compressor must do."""

import torch
from torch import nn

from svdbench.contract import Contract, Make, expect, expect_texts
from svdbench.jobs.time_compressors.methods.base import CompressionProblem
from svdbench.lowrank.losses import usual_loss

CONTRACT = Contract()
BUDGETS = (0.9, 0.6, 0.4)


def problem() -> CompressionProblem:
    """A network of three layers and 90 examples of three classes."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)
        )
    X = torch.randn(90, 12, generator=generator)
    y = torch.randint(3, (90,), generator=generator)
    return CompressionProblem(model.eval(), (X[:60], y[:60]), (X[60:], y[60:]), usual_loss)


def outputs(model: nn.Module) -> torch.Tensor:
    X = torch.randn(7, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model.eval()(X)
    expect(
        isinstance(found, torch.Tensor) and found.shape == (7, 3),
        f"the compressed model returns {type(found).__name__} instead of a tensor (7, 3)",
        "keep what is between the weights",
    )
    expect(bool(found.isfinite().all()), "the compressed model returns NaN or infinity")
    return found


@CONTRACT.question("says what it is: title, source and needs")
def described(make: Make) -> None:
    expect_texts(make(), "title", "source", "needs")


@CONTRACT.question(
    "keeps to the budget",
    "count with problem.numbers_in(model), or use the params of a frontier",
)
def budget(make: Make) -> None:
    given = problem()
    compressed = make().calibrated(given)
    for part in BUDGETS:
        params = int(part * given.plain.n_params)
        small = compressed(params)
        expect(isinstance(small, nn.Module), f"it returned a {type(small).__name__}, no module")
        outputs(small)
        found = given.numbers_in(small)
        expect(found <= params, f"{found} parameters, where {params} were allowed")


@CONTRACT.question("leaves the model unchanged", "change a copy: copy.deepcopy(problem.model)")
def model_unchanged(make: Make) -> None:
    given = problem()
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    small = make().calibrated(given)(int(0.5 * given.plain.n_params))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(1.0)
    after = given.model.state_dict()
    same = list(before) == list(after) and all(
        torch.equal(before[name], after[name]) for name in before
    )
    expect(same, "the model has other weights afterwards, or shares them with the compressed one")


@CONTRACT.question("repeats itself", "draw every random number from problem.seed")
def repeats(make: Make) -> None:
    found = []
    for seed in (1, 2):
        given = problem()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found.append(outputs(make().calibrated(given)(int(0.5 * given.plain.n_params))))
    apart = float((found[0] - found[1]).norm() / found[0].norm().clamp(min=1e-30))
    expect(apart <= 1e-4, f"two calls differ by {apart:.1e}")
