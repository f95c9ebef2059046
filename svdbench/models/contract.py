"""What every recurrent network must do."""

from typing import Any

import torch
from torch import Tensor, nn

from svdbench.contract import Contract, Fault, Make, NotAsked, expect, expect_tensor, expect_texts

from .base import SequenceModel

CONTRACT = Contract()
INPUTS, HIDDEN, OUTPUTS, STEPS, BATCH = 3, 24, 4, 7, 3


def built(make: Make, **options: Any) -> SequenceModel:
    """A model of 3 inputs, 24 hidden units and 4 outputs."""
    sizes: dict[str, Any] = {
        **{"input_size": INPUTS, "output_size": OUTPUTS, "hidden_size": HIDDEN},
        **options,
    }
    model: SequenceModel = make(**sizes)
    return model


def sample(model: SequenceModel) -> Tensor:
    dtype = next(model.parameters()).dtype
    return torch.randn(STEPS, BATCH, model.input_size, dtype=dtype)


def train(model: SequenceModel, steps: int, lr: float) -> None:
    """Steps of RMSprop on an arbitrary task, made as the base class documents."""
    groups = model.parameter_groups()
    trained = groups["other"] + ([] if model.own_step else groups["orthogonal"])
    optimizer = torch.optim.RMSprop(trained, lr)
    for _ in range(steps):
        x = sample(model)
        model.zero_grad()
        (model(x) - x.sum(-1, keepdim=True).cumsum(0)).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if model.own_step:
            model.step_own(lr)
        model.after_step()


def close(found: Tensor, wanted: Tensor, what: str, advice: str = "") -> None:
    scale = wanted.detach().abs().max().clamp_min(1.0)
    apart = float((found - wanted).detach().abs().max() / scale)
    expect(apart <= 1e-4, f"{what} by {apart:.1e}", advice)


@CONTRACT.question("says what it is: kind and source")
def described(make: Make) -> None:
    expect_texts(built(make), "kind", "source")


@CONTRACT.question("gives states (T, B, s) and outputs (T, B, output_size)")
def shapes(make: Make) -> None:
    for hidden in (HIDDEN, 1):
        model = built(make, hidden_size=hidden)
        x = sample(model)
        outputs = model(x)
        expect_tensor(outputs, "the output", (STEPS, BATCH, OUTPUTS), x)
        expect_tensor(model.states(x), "states", (STEPS, BATCH, model.state_size), x)
        close(model.last(x), outputs[-1], "last differs from the last output")


@CONTRACT.question(
    "works in float64 after .double()", "make tensors in x.dtype; register buffers as buffers"
)
def double(make: Make) -> None:
    model = built(make).double()
    x = sample(model)
    expect_tensor(model(x), "the output", (STEPS, BATCH, OUTPUTS), x)


@CONTRACT.question(
    "trains every parameter", "use every parameter in states, or set requires_grad_(False)"
)
def gradients(make: Make) -> None:
    model = built(make)
    model(sample(model)).square().mean().backward()
    groups = model.parameter_groups()
    grouped = groups["orthogonal"] + groups["other"]
    trained = [p for p in model.parameters() if p.requires_grad]
    expect(
        {id(p) for p in grouped} == {id(p) for p in trained} and len(grouped) == len(trained),
        "parameter_groups does not hold each trained parameter once",
        "return those on a manifold from orthogonal_parameters; the rest follows",
    )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expect(parameter.grad is not None, f"{name} has no gradient")
            finite = parameter.grad is not None and bool(parameter.grad.isfinite().all())
            expect(finite, f"the gradient of {name} is not finite")


@CONTRACT.question("counts its parameters", "give the formula in expected_parameters")
def counts(make: Make) -> None:
    model = built(make)
    found, wanted = model.n_params, model.expected_parameters()
    expect(
        found == wanted,
        f"n_params is {found}, expected_parameters says {wanted}",
        "count every trained number in expected_parameters, readout_parameters() included, less "
        "the equations that constraints returns",
    )


@CONTRACT.question("has the same states one by one")
def one_by_one(make: Make) -> None:
    model = built(make).double()
    x = sample(model)
    states = model.unrolled(x)
    expect(
        isinstance(states, list) and len(states) == STEPS,
        "unrolled does not return a list of T states",
        "return [h_1, …, h_T], each (B, s)",
    )
    close(torch.stack(states), model.states(x), "unrolled and states differ")


@CONTRACT.question("passes gradients on through every later state in unrolled")
def unrolled_gradients(make: Make) -> None:
    model = built(make).double()
    x = sample(model)
    states = model.unrolled(x)
    expect(states[2].requires_grad, "a state of unrolled has no gradient", "do not detach states")
    states[2].retain_grad()
    model.readout(states[-1]).square().sum().backward()
    grad = states[2].grad
    expect(
        grad is not None and float(grad.norm()) > 0,
        "the last state does not depend on an earlier one",
        "compute every state of unrolled from the one before",
    )
    if model.kind == "gated":  # h_t is not all that the later steps start from
        return
    assert grad is not None
    direction = torch.randn_like(states[2])
    h, eps = states[2].detach(), 1e-6
    ahead, behind = (model.last(x[3:], h + e * direction).square().sum() for e in (eps, -eps))
    slope, found = float((grad * direction).sum()), float((ahead - behind).detach() / (2 * eps))
    expect(
        abs(slope - found) <= 1e-4 * max(abs(found), 1e-3),
        f"the slope is {found:.6g} by differences, {slope:.6g} by the gradient",
        "compute every state of unrolled from the one before, without detach",
    )


@CONTRACT.question("continues from a given state", "use h0 as the state before the first step")
def continues(make: Make) -> None:
    model = built(make)
    x = sample(model)
    if model.kind == "gated":
        raise NotAsked("the cell of a gated network is not part of its state")
    states = model.states(x)
    close(model.states(x[4:], states[3]), states[4:], "states from step 5 on differ")


@CONTRACT.question("depends on no later input and on no other sequence of the batch")
def causal(make: Make) -> None:
    model = built(make).double()
    x = sample(model)
    states = model.states(x)
    later, other = x.clone(), x.clone()
    later[4:] += 1
    other[:, 1:] += 1
    advice = "state t may use x[0] … x[t] only"
    close(model.states(later)[:4], states[:4], "later inputs change earlier states", advice)
    advice = "no mean or normalisation over the batch dimension"
    close(
        model.states(other)[:, 0], states[:, 0], "other sequences change this one's states", advice
    )


@CONTRACT.question("leaves its input unchanged", "work on a copy of x")
def input_unchanged(make: Make) -> None:
    model = built(make)
    x = sample(model)
    before = x.clone()
    model(x).sum().backward()
    expect(torch.equal(x, before), "x has other values afterwards")


@CONTRACT.question(
    "comes back from its state_dict", "register what changes in training as a parameter or buffer"
)
def restored(make: Make) -> None:
    model, other = built(make), built(make)
    train(model, 2, 1e-2)
    x = sample(model)
    try:
        other.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise Fault(f"load_state_dict failed: {str(error).splitlines()[0]}") from error
    for each in (model, other):
        each.zero_grad()
        each(x).square().mean().backward()
        each.step_own(0.1)
        each.after_step()
    close(other(x), model(x), "the restored model's outputs differ")


@CONTRACT.question(
    "learns: its parameters move and its promise holds",
    "implement step_own where own_step is True, and keep the weight on its manifold",
)
def trains(make: Make) -> None:
    model = built(make)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    train(model, 20, 1e-2)
    for name, parameter in model.named_parameters():
        if name in before:
            expect(bool(parameter.isfinite().all()), f"{name} is not finite after 20 steps")
            moved = not torch.equal(parameter, before[name])
            expect(moved or "readout.bias" in name, f"{name} did not move in 20 steps")
    promise = model.promise()
    expect(promise is None or promise <= 1e-4, f"promise() is {promise} after 20 steps")
