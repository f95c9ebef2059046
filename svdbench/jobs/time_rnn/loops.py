"""Ways to run the loop of a recurrent network over time, each with all its gradients.

To add one, define a subclass of :class:`RNNLoop` with a ``name`` here and add a YAML of that name
to ``conf/rnn``.

A step computes all states (T, B, n) from the inputs X (T, B, n_in), with h₀ = 0, and then the
gradients of X and of every parameter, from a gradient of every state.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from svdbench import kernels
from svdbench.kernels import apply_reflectors_reference
from svdbench.measure.algorithm import Algorithm, Flops, Problem
from svdbench.measure.costs import Blocks, TunedAlgorithm, factors_flops
from svdbench.nn import factored
from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.recurrence import recurrence
from svdbench.nn.recurrence_loops import runs_in_one_kernel


@dataclass(frozen=True)
class LoopProblem(Problem):
    """The size of a loop: d hidden units, m sequences, ``length`` steps of ``inputs`` values.

    n is the number of reflectors of U, and of V; 0 if there are none.

    Example:
        >>> LoopProblem(d=64, n=0, m=32, length=100).label
        'n = 64, T = 100'
    """

    length: int = 200
    inputs: int = 2

    @property
    def label(self) -> str:
        return f"n = {self.d}, T = {self.length}"

    def sizes(self) -> dict[str, int]:
        return {**super().sizes(), "length": self.length, "inputs": self.inputs}


class RNNLoop(Algorithm):
    """All states (T, B, d) of a recurrent network from its inputs X (T, B, n_in).

    Define ``apply`` and ``reference``, which take the parameters and X and return the states, and
    ``flops``. ``parameter`` makes the parameters from U and V (n, d), s (d,), M (d, n_in) and
    b (d,); by default, it returns these five. The attributes kind, builds, gradients and source are
    texts.

    Class attributes:
        reflectors: whether W is made of reflectors, whose number is then an option of the cell.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import Flops, RNNLoop

            class Diagonal(RNNLoop):  # h ← tanh(s ∘ h + M x + b)
                kind, builds, gradients, source = "diagonal", "s", "autograd", "Li et al. 2018"

                def apply(self, U, s, V, M, b, X):
                    h, states = X.new_zeros(X.shape[1], len(s)), []
                    for u in (X @ M.T + b).unbind():
                        h = torch.tanh(torch.addcmul(u, s, h))
                        states.append(h)
                    return torch.stack(states)

                def reference(self, U, s, V, M, b, X):
                    h, states = torch.zeros(X.shape[1], len(s), dtype=X.dtype), []
                    for x in X:
                        h = torch.tanh(s * h + M.mm(x.T).T + b)
                        states.append(h)
                    return torch.stack(states)

                def flops(self, problem):
                    forward = problem.length * problem.m * problem.d * (2 * problem.inputs + 5)
                    return Flops(forward, 2 * forward)
    """

    reflectors: ClassVar[bool] = False

    # What every way gets: U and V (n, d), s (d,), M (d, n_in) and b (d,). A way that has
    # other parameters takes their sizes from these.
    def parameter(
        self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor
    ) -> tuple[Tensor, ...]:
        """The parameters, made (untimed) from the tensors of the cell."""
        return U, s, V, M, b

    def sequential_ops(self, problem: Problem) -> int:
        """Number of dependent matrix operations in one forward loop.

        A reflector, a block of reflectors, a product W h, and making the factors of all blocks
        count as one each.
        """
        return steps(problem)

    def slides_ops(self, problem: Problem) -> int | None:
        """The number that the slides of Kovtun et al. give instead; None if they give none."""
        return None

    def loop(self, problem: Problem) -> str:
        """How the steps run: as operations of PyTorch, or in one kernel."""
        return "operations"

    def floor(self, problem: Problem) -> Flops:
        """T products W h with W (d, d), and twice that backward: 6 T m d² in all."""
        return products(problem)

    def described(self, problem: Problem) -> dict[str, int | str | None]:
        return {
            "loop": self.loop(problem),
            "sequential_ops": self.sequential_ops(problem),
            "slides_ops": self.slides_ops(problem),
        }


class FactoredLoop(RNNLoop):
    """h_t = tanh(W h_{t−1} + M x_t + b) with W = U diag(s) Vᵀ, U and V by reflectors.

    Computing s and the reflectors from free parameters is left out: it costs O(nd) once.
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
    assert isinstance(problem, LoopProblem)
    return problem.length


def products(problem: Problem) -> Flops:
    """The operations of one matrix (d, d) on the state at every step, and backward."""
    forward = 2.0 * steps(problem) * problem.m * problem.d**2
    return Flops(forward, 2 * forward)


def blocks_and_factors(problem: Problem, k: int) -> int:
    """Operations one after the other: U's factors and V's, then ⌈n/k⌉ blocks of each."""
    return 2 * (1 + -(-problem.n // k))


class TorchModule(RNNLoop):
    """One layer of ``torch.nn.RNN``, ``LSTM`` or ``GRU``, with its own first weights.

    Class attributes:
        module: the class.
        gates: blocks of d rows in its weights.
    """

    builds = "W h"
    gradients = "torch's"
    module: ClassVar[type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]]
    gates: ClassVar[int]

    @abstractmethod
    def step(self, x: Tensor, hidden: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """h and c (B, d) after a step from M x + c and W h + b, by plain formulas."""

    def reference(self, M: Tensor, W: Tensor, c: Tensor, b: Tensor, X: Tensor) -> Tensor:
        h = cell = X.new_zeros(X.shape[1], W.shape[1])
        states = []
        for x in X.unbind():
            h, cell = self.step(x @ M.T + c, h @ W.T + b, h, cell)
            states.append(h)
        return torch.stack(states)

    def parameter(
        self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor
    ) -> tuple[Tensor, ...]:
        """Input and recurrent weights (gates·d, n_in) and (gates·d, d), and a bias for each."""
        made = self._new(M.shape[1], len(b), M)
        return tuple(parameter.detach() for parameter in made.parameters())

    def prepare(self, *inputs: Tensor) -> None:
        """Lay the weights in one piece of memory, as cuDNN wants them."""
        *weights, X = inputs
        self._module = self._new(X.shape[-1], weights[1].shape[-1], X)
        with torch.no_grad():
            for own, given in zip(self._module.parameters(), weights, strict=True):
                own.copy_(given)
        self._module.flatten_parameters()
        for own, given in zip(self._module.parameters(), weights, strict=True):
            given.data = own.data

    def apply(self, *inputs: Tensor) -> Tensor:
        *weights, X = inputs
        names = (name for name, _ in self._module.named_parameters())
        named = dict(zip(names, weights, strict=True))
        states: Tensor = torch.func.functional_call(self._module, named, (X,))[0]
        return states

    def loop(self, problem: Problem) -> str:
        return "cuDNN" if problem.device.startswith("cuda") else "torch.nn"

    def flops(self, problem: Problem) -> Flops:
        once = products(problem)
        return Flops(self.gates * once.forward, self.gates * once.backward)

    def _new(self, inputs: int, d: int, like: Tensor) -> Any:
        return self.module(inputs, d, device=like.device, dtype=like.dtype)


class FastHEachStep(Blocks, FactoredLoop):
    """h ← U (s ∘ (Vᵀ h)) by ``kernels.apply_reflectors`` at every step.

    This is the second experiment of the slides. The factors of the blocks, which are the
    same at all steps, are made anew at each.
    """

    name = "fasth_each_step"
    kind, builds = "fasth", "W h"
    gradients = "closed form at each step"
    source = "Mathiasen et al., What if Neural Networks had SVDs?, NeurIPS 2020"

    def prepare(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> None:
        self.tune_for(U, X.new_empty(len(s), X.shape[1]))

    def apply(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> Tensor:
        k = self.block_size
        h, states = X.new_zeros(len(s), X.shape[1]), []
        for u in drive(M, b, X).mT.contiguous().unbind():
            Vth = kernels.apply_reflectors(V, h, transpose=True, block_size=k)
            Wh = kernels.apply_reflectors(U, s.unsqueeze(-1) * Vth, block_size=k)
            h = torch.tanh(Wh + u)
            states.append(h)
        return torch.stack(states).mT

    def flops(self, problem: Problem) -> Flops:
        once = factors_flops(problem, self.block(problem))
        return Flops(steps(problem) * once.forward, steps(problem) * once.backward)

    def sequential_ops(self, problem: Problem) -> int:
        return steps(problem) * blocks_and_factors(problem, self.block(problem))

    def slides_ops(self, problem: Problem) -> int:
        """O(d/k + T·k), their m being the block size k; here for U and for V."""
        k = self.block(problem)
        return 2 * (-(-problem.n // k) + steps(problem) * k)


class ReflectorsEachStep(FactoredLoop):
    """h ← U (s ∘ (Vᵀ h)), reflector by reflector, at every step, by autograd.

    As the authors' code works, with two things spared: rows are made unit vectors once
    a loop, not at every step, and a reflector is one product and one rank-one update.

    Args:
        max_bytes: skip problems whose states between reflectors need more memory.
    """

    name = "reflectors_each_step"
    kind, builds = "reflectors", "W h"
    gradients = "autograd"
    source = (
        "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks via "
        "Efficient SVD Parameterization, ICML 2018"
    )

    def __init__(self, max_bytes: float = 4e9) -> None:
        self.max_bytes = max_bytes

    def skip(self, problem: Problem) -> str | None:
        states = self.sequential_ops(problem)
        needed = states * problem.d * problem.m * problem.dtype.itemsize
        if needed <= self.max_bytes:
            return None
        return (
            f"autograd would keep {states:,} states, {needed / 1e9:.1f} GB; the limit is "
            f"{self.max_bytes / 1e9:.1f} GB (rnn.reflectors_each_step.max_bytes=…)"
        )

    def apply(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> Tensor:
        us, vs = unit_rows(U)[::-1], unit_rows(V)
        h, states = X.new_zeros(X.shape[1], len(s)), []
        for u in drive(M, b, X).unbind():
            h = torch.tanh(reflect(us, reflect(vs, h) * s) + u)
            states.append(h)
        return torch.stack(states)

    def flops(self, problem: Problem) -> Flops:
        """A reflector is 4dm forward, and 8dm backward: two products and two outer products."""
        reflector = 4.0 * problem.d * problem.m
        ops = self.sequential_ops(problem)
        return Flops(ops * reflector, 2 * ops * reflector)

    def sequential_ops(self, problem: Problem) -> int:
        """n reflectors of V and n of U, at each of T steps."""
        return 2 * problem.n * steps(problem)

    def slides_ops(self, problem: Problem) -> int:
        """O(d) a step."""
        return self.sequential_ops(problem)


def unit_rows(V: Tensor) -> tuple[Tensor, ...]:
    return nn.functional.normalize(V, dim=-1).unbind()


def reflect(rows: tuple[Tensor, ...], h: Tensor) -> Tensor:
    """Each h of a batch (B, d) by the first row, then the second, …"""
    for v in rows:
        h = torch.addr(h, torch.mv(h, v), v, alpha=-2)
    return h


class Spectral(TunedAlgorithm, FactoredLoop):
    """W = U diag(s) Vᵀ from its factors, then one fused recurrence over all steps.

    W does not change within a loop, so one dW goes back through the factors. This is
    what ``svdbench.nn.SpectralRNN`` does.
    """

    name = "spectral"
    kind, builds = "spectral", "W"
    gradients = "closed form, through time and through the factors"
    source = "svdbench; the parametrisation is Zhang, Lei and Dhillon's, ICML 2018"

    def prepare(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> None:
        self.tune_for(U, X.new_empty(len(s), len(s)))

    def block(self, problem: Problem) -> int:
        return super().block(replace(problem, m=problem.d))

    def apply(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(len(s), dtype=X.dtype, device=X.device)
        W = factored.apply(U, s, V, eye)
        return recurrence(drive(M, b, X), W)

    def loop(self, problem: Problem) -> str:
        phi, device = ACTIVATIONS["tanh"], torch.device(problem.device)
        one = runs_in_one_kernel(device, problem.dtype, problem.d, phi)
        return "one Triton kernel" if one else "operations"

    def flops(self, problem: Problem) -> Flops:
        build = factors_flops(replace(problem, m=problem.d), self.block(problem))
        loop = products(problem)
        return Flops(build.forward + loop.forward, build.backward + loop.backward)

    def sequential_ops(self, problem: Problem) -> int:
        return blocks_and_factors(problem, self.block(problem)) + steps(problem)


class TorchGRU(TorchModule):
    """h ← (1 − z) ∘ g + z ∘ h with r, z and g = tanh(M x + c + r ∘ (W h + b))."""

    name = "torch_gru"
    kind = "gru"
    source = "torch.nn.GRU; Cho et al., RNN Encoder-Decoder, EMNLP 2014"
    module = nn.GRU
    gates = 3

    def step(self, x: Tensor, hidden: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        r_x, z_x, g_x = x.chunk(3, -1)
        r_h, z_h, g_h = hidden.chunk(3, -1)
        z = (z_x + z_h).sigmoid()
        return (1 - z) * (g_x + (r_x + r_h).sigmoid() * g_h).tanh() + z * h, c


class TorchLSTM(TorchModule):
    """c ← f ∘ c + i ∘ g, h ← o ∘ tanh c, with i, f, g, o from four products W h + M x."""

    name = "torch_lstm"
    kind = "lstm"
    source = "torch.nn.LSTM; Hochreiter and Schmidhuber, Neural Computation 1997"
    module = nn.LSTM
    gates = 4

    def step(self, x: Tensor, hidden: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (x + hidden).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class TorchRNN(TorchModule):
    """h_t = tanh(W h_{t−1} + b + M x_t + c), W (d, d) free."""

    name = "torch_rnn"
    kind = "rnn"
    source = "torch.nn.RNN; Elman, Finding Structure in Time, Cognitive Science 1990"
    module = nn.RNN
    gates = 1

    def step(self, x: Tensor, hidden: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(x + hidden), c
