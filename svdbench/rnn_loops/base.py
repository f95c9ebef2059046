"""What a way to run a recurrent network's loop over time has to say of itself.

Adding one is a file here with a subclass of :class:`RNNLoop` and a YAML of the same
name in ``conf/rnn``; nothing else is edited.

A step is all states (T, B, n) from the inputs X (T, B, n_in), h₀ = 0, and then the
gradients at X and at every parameter, given one at every state.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from svdbench.algorithm import Algorithm, Flops, Problem
from svdbench.kernels import apply_reflectors_reference


@dataclass(frozen=True)
class LoopProblem(Problem):
    """d hidden units, m sequences, ``length`` steps of ``inputs`` numbers each.

    n is the number of reflectors of U, and of V; 0 where there are none.
    """

    length: int = 200
    inputs: int = 2

    @property
    def label(self) -> str:
        return f"n = {self.d}, T = {self.length}"

    def sizes(self) -> dict[str, int]:
        return {**super().sizes(), "length": self.length, "inputs": self.inputs}


class RNNLoop(Algorithm):
    """All states of a recurrent network.

    Class attributes:
        reflectors: whether W is made of reflectors, so that their number is an option
            of the cell.
    """

    reflectors: ClassVar[bool] = False

    # What every way gets: U and V (n, d), s (d,), M (d, n_in) and b (d,). A way that has
    # other parameters takes their sizes from these.
    def parameter(
        self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor
    ) -> tuple[Tensor, ...]:
        """The parameters, made (untimed) from what the cell gives."""
        return U, s, V, M, b

    def sequential_ops(self, problem: Problem) -> int:
        """Matrix operations that have to wait for each other in one forward loop.

        A reflector, a block of reflectors, a product W h and making the factors of all
        blocks are one each.
        """
        return steps(problem)

    def slides_ops(self, problem: Problem) -> int | None:
        """What the slides on FastH expect of it in place of that; None where they don't."""
        return None

    def floor(self, problem: Problem) -> Flops:
        """T products W h with W (d, d), and twice that backward: 6 T m d² in all."""
        return products(problem)

    def described(self, problem: Problem) -> dict[str, int | None]:
        return {
            "sequential_ops": self.sequential_ops(problem),
            "slides_ops": self.slides_ops(problem),
        }


class Factored(RNNLoop):
    """h_t = tanh(W h_{t−1} + M x_t + b) with W = U diag(s) Vᵀ, U and V by reflectors.

    How s and the reflectors come from free parameters is left out: it costs O(nd) once.
    """

    reflectors = True

    def reference(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(len(s), dtype=X.dtype, device=X.device)
        Vt = apply_reflectors_reference(V, eye, transpose=True)
        W = apply_reflectors_reference(U, s.unsqueeze(-1) * Vt)
        h, states = X.new_zeros(X.shape[1], len(s)), []
        for x in X.unbind():
            h = torch.tanh(h @ W.T + x @ M.T + b)
            states.append(h)
        return torch.stack(states)


def drive(M: Tensor, b: Tensor, X: Tensor) -> Tensor:
    """M x_t + b for all steps at once, (T, B, d)."""
    return nn.functional.linear(X, M, b)


def steps(problem: Problem) -> int:
    """T."""
    assert isinstance(problem, LoopProblem)
    return problem.length


def products(problem: Problem) -> Flops:
    """The operations of one matrix (d, d) on the state at every step, and backward."""
    forward = 2.0 * steps(problem) * problem.m * problem.d**2
    return Flops(forward, 2 * forward)


def blocks_and_factors(problem: Problem, k: int) -> int:
    """Operations one after the other: U's factors and V's, then ⌈n/k⌉ blocks of each."""
    return 2 * (1 + -(-problem.n // k))
