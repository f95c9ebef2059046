"""Questions for everything that is timed step by step: values, gradients, side effects, counts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from svdbench.contract import (
    Contract,
    Fault,
    Make,
    NotAsked,
    expect,
    expect_reason,
    expect_tensor,
    expect_texts,
    plain_dtype,
)
from svdbench.measure.algorithm import Algorithm, Flops, Problem, Tensors
from svdbench.measure.costs import operations_counted
from svdbench.measure.gate import check

ADVICE = {
    "error": "apply and reference must compute the same function: compare them on a 2 × 2 example",
    "grad_V": "the gradient in the parameters is wrong: look for a detach, a .data, an in-place "
    "change, or a mistake in a backward of your own",
    "grad_X": "the gradient in X is wrong: look for a detach, a .data, an in-place change, or a "
    "mistake in a backward of your own",
    "orthogonality": "the map does not preserve inner products: φ(V) must be orthogonal",
    "output": "return one tensor for each output, in the order of reference",
}
# A count is right within this factor: what is fused or elementwise is counted differently.
WITHIN = 4


@dataclass
class ReadyCell:
    """A prepared algorithm with its inputs, as a timing job would have them.

    Attributes:
        parameters: as its ``parameter`` made them.
        X, G: the input, and the gradient at the output or outputs.
    """

    algorithm: Any
    parameters: tuple[Tensor, ...]
    X: Tensor
    G: Tensors
    problem: Problem

    def check(self, parameters: tuple[Tensor, ...] | None = None) -> None:
        """Compare value and gradients with the reference.

        Raises:
            Fault: They differ by more than rounding explains.
        """
        verdict = check(self.algorithm, parameters or self.parameters, self.X, self.G)
        if not verdict.ok:
            advice = next((v for k, v in ADVICE.items() if k in verdict.reason), "")
            raise Fault(f"{plain_dtype(self.X.dtype)}: {verdict.reason}", advice)

    def step(self, X: Tensor | None = None, G: Tensors | None = None) -> tuple[Tensor, ...]:
        """The outputs, and the gradients in the parameters and in X."""
        given = self.X if X is None else X
        inputs = [tensor.detach().requires_grad_() for tensor in (*self.parameters, given)]
        outputs = each(self.algorithm.apply(*inputs))
        expect(
            all(output.requires_grad for output in outputs),
            "an output has no gradient",
            "compute it by differentiable operations, without no_grad, detach or .data",
        )
        grads = torch.autograd.grad(
            outputs, inputs, each(self.G if G is None else G), materialize_grads=True
        )
        return (*(output.detach() for output in outputs), *grads)


class MakesCell(Protocol):
    """Makes a cell of a group; raises :class:`NotAsked` where the member skips it."""

    def __call__(
        self, make: Make, dtype: torch.dtype = torch.float32, wide: int = 1
    ) -> ReadyCell: ...


def each(tensors: Tensors) -> tuple[Tensor, ...]:
    return tensors if isinstance(tensors, tuple) else (tensors,)


def prepared(
    algorithm: Algorithm, given: tuple[Tensor, ...], X: Tensor, G: Tensors, problem: Problem
) -> ReadyCell:
    """A cell from what a job gives to every member.

    Raises:
        NotAsked: The member skips the problem.
    """
    if reason := algorithm.skip(problem):
        raise NotAsked(reason)
    made = each(algorithm.parameter(*given))
    for tensor in made:
        expect(
            isinstance(tensor, Tensor),
            f"parameter returned a {type(tensor).__name__}",
            "return a tensor or a tuple of tensors",
        )
    parameters = tuple(tensor.detach().clone().requires_grad_() for tensor in made)
    algorithm.prepare(*parameters, X)
    return ReadyCell(algorithm, parameters, X, G, problem)


def algorithm_contract(cell_of: MakesCell, *, wider: Callable[[Problem], Problem]) -> Contract:
    """The questions that all timed groups share.

    Args:
        cell_of: makes a cell of the group.
        wider: the same problem with twice the columns or sequences in X.
    """
    contract = Contract()
    question = contract.question

    @question("says what it is: kind, builds, gradients, source")
    def described(make: Make) -> None:
        expect_texts(make(), "kind", "builds", "gradients", "source")

    @question("returns tensors of the right shape, dtype and device")
    def shapes(make: Make) -> None:
        for dtype in (torch.float32, torch.float64):
            cell = cell_of(make, dtype)
            outputs = cell.algorithm.apply(*cell.parameters, cell.X)
            wanted = each(cell.G)
            count = len(each(outputs))
            expect(count == len(wanted), f"apply returned {count} outputs, not {len(wanted)}")
            for number, (output, like) in enumerate(zip(each(outputs), wanted, strict=True)):
                what = "the output" if len(wanted) == 1 else f"output {number + 1}"
                expect_tensor(output, what, tuple(like.shape), cell.X)

    @question("has the value and the gradients of its reference")
    def agrees(make: Make) -> None:
        for dtype in (torch.float64, torch.float32):
            cell_of(make, dtype).check()

    @question(
        "has the gradients that finite differences give",
        "apply is not differentiated right: look for a detach, a .data, or a mistake in a "
        "backward of your own",
    )
    def differentiable(make: Make) -> None:
        cell = cell_of(make, torch.float64)
        if cell.algorithm.constants:
            raise NotAsked(cell.algorithm.constants)
        inputs = [t.detach().requires_grad_() for t in (*cell.parameters, cell.X)]
        steps = [torch.randn_like(t) for t in inputs]

        def along(size: float) -> float:
            with torch.no_grad():
                moved = [t + size * step for t, step in zip(inputs, steps, strict=True)]
                outputs = each(cell.algorithm.apply(*moved))
            return sum(float((o * g).sum()) for o, g in zip(outputs, each(cell.G), strict=True))

        grads = cell.step()[len(each(cell.G)) :]
        slope = sum(float((g * s).sum()) for g, s in zip(grads, steps, strict=True))
        size = sum(float((g * s).norm()) for g, s in zip(grads, steps, strict=True))
        eps = 1e-6
        found = (along(eps) - along(-eps)) / (2 * eps)
        expect(
            abs(found - slope) <= 1e-4 * max(size, abs(found)),
            f"the slope in a random direction is {found:.6g} by differences, {slope:.6g} by "
            "the gradients",
        )

    @question(
        "leaves its inputs unchanged",
        "work on a copy: no operation whose name ends in _ and no indexed assignment on an input",
    )
    def inputs_unchanged(make: Make) -> None:
        cell = cell_of(make)
        names = [*(f"parameter {i + 1}" for i in range(len(cell.parameters))), "X", "the gradient"]
        given = [*cell.parameters, cell.X, *each(cell.G)]
        before = [tensor.detach().clone() for tensor in given]
        outputs = cell.algorithm.apply(*(t.detach() for t in cell.parameters), cell.X)
        for name, tensor, old in zip(names, given, before, strict=False):
            expect(torch.equal(tensor, old), f"apply changed {name} in place")
        for output in each(outputs):
            shared = output.untyped_storage().data_ptr()
            expect(
                all(shared != tensor.untyped_storage().data_ptr() for tensor in given),
                "the output shares its memory with an input",
                "return a new tensor",
            )
        cell.step()
        for name, tensor, old in zip(names, given, before, strict=False):
            expect(torch.equal(tensor, old), f"the backward pass changed {name} in place")

    @question(
        "gives the same result again, and for any strides of its inputs",
        "draw no random numbers in apply, and call .contiguous() where a layout is needed",
    )
    def repeats(make: Make) -> None:
        cell = cell_of(make)
        turned = cell.X.mT.contiguous().mT
        G = tuple(g.mT.contiguous().mT if g.ndim > 1 else g for g in each(cell.G))
        for first, again in zip(cell.step(), cell.step(turned, G), strict=True):
            apart = float((first - again).norm() / first.norm().clamp_min(1e-30))
            expect(apart <= 1e-4, f"the second result differs by {apart:.1e}")

    @question(
        "computes anew when its parameters change",
        "keep nothing that depends on the parameters from one call of apply to the next",
    )
    def not_cached(make: Make) -> None:
        cell = cell_of(make)
        cell.algorithm.apply(*cell.parameters, cell.X)
        if cell.algorithm.constants:
            raise NotAsked(cell.algorithm.constants)
        moved = (t + 0.03 * t.abs().mean() * torch.randn_like(t) for t in cell.parameters)
        try:
            cell.check(tuple(t.detach().requires_grad_() for t in moved))
        except Fault as fault:
            raise Fault(f"with other parameters, {fault.found}") from None

    @question("counts its operations")
    def counts(make: Make) -> None:
        cell = cell_of(make, wide=4)
        flops, more = (
            cell.algorithm.flops(each_problem)
            for each_problem in (cell.problem, wider(cell.problem))
        )
        expect(
            isinstance(flops, Flops),
            f"flops returned a {type(flops).__name__}",
            "return svdbench.extend.Flops(forward, backward)",
        )
        expect(
            flops.forward > 0 and flops.backward > 0,
            f"flops are {flops.forward:g} forward and {flops.backward:g} backward",
            "count both passes, a multiply and an add as two",
        )
        expect(
            more.forward > flops.forward and more.backward > flops.backward,
            "flops do not grow with the number of columns of X",
            "a product with X costs in proportion to m",
        )
        counted, complete = operations_counted(cell.step)
        expect(
            flops.step >= counted / WITHIN,
            f"flops says {flops.step:.3g} a step, PyTorch ran {counted:.3g}",
            "count every product: 2·rows·inner·columns each, and about twice that backward",
        )
        expect(
            not complete or flops.step <= WITHIN * counted,
            f"flops says {flops.step:.3g} a step, PyTorch ran only {counted:.3g}",
            "count what apply computes, not what a textbook formula would cost",
        )

    @question("skips what it cannot do with a sentence")
    def skips(make: Make) -> None:
        member = make()
        problem: Any = cell_of(make).problem
        for given in (problem, replace(problem, dtype=torch.bfloat16), replace(problem, d=8)):
            expect_reason(member.skip(given))

    @question(
        "runs in half precision, or says why not",
        "return a reason from skip where problem.dtype.itemsize < 4",
    )
    def half(make: Make) -> None:
        cell = cell_of(make, torch.bfloat16)
        for value in cell.step():
            expect(bool(value.isfinite().all()), "a value or gradient is not finite in bfloat16")
            found = plain_dtype(value.dtype)
            expect(value.dtype == torch.bfloat16, f"a result is {found} where inputs are bfloat16")

    return contract
