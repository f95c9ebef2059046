"""The curvature of a loss at a model's output, as random directions that are propagated back.

With J the derivative of an output y by a weight, the generalised Gauss-Newton matrix of a loss
is JᵀHJ, H the loss's Hessian at y. Of a random v with E[v vᵀ] = H, the gradients Jᵀv have it as
their second moment: they take the place of the loss's own gradients, whose second moment, the
empirical Fisher matrix, is the curvature only of a likelihood that the model has fitted well, and
zero where each example's loss is at its minimum.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.arguments import integer
from svdbench.lowrank.drivers.base import working
from svdbench.lowrank.losses import (
    IGNORED,
    Distillation,
    cross_entropy_direction,
    usual_direction,
    usual_loss,
)
from svdbench.lowrank.ranks.outputs import each_output
from svdbench.members import refuse_unknown

CurvatureKind = Literal["auto", "ggn", "fisher"]
CURVATURES: tuple[str, ...] = get_args(CurvatureKind)

# Directions for each example, which there is a backward pass for.
DIRECTIONS = 4

# Hessian-vector products for a direction, at most, and the numbers that their vectors may be.
STEPS, NUMBERS = 24, 2**26

# (output, target, signs) ↦ a direction, as `usual_direction`.
Direction = Callable[[Any, Any, Tensor], Tensor]


class Curvature:
    """How the moments of gradients are made of a loss; decided on the first batch.

    Args:
        loss: of the model's output and targets, the mean over a batch.
        kind: "ggn", the generalised Gauss-Newton matrix; "fisher", the loss's own gradients;
            "auto", the first of the two that the loss has.
        directions: of the Gauss-Newton matrix for each example.
        seed: of the directions, which are the same in each pass.

    Attributes:
        used: "ggn" by the closed form of a known loss, "ggn-lanczos" by Hessian-vector products
            at the output, or "fisher"; "" before the first batch.

    Sources: Martens, "New insights and perspectives on the natural gradient method", JMLR 2020,
    for the Gauss-Newton and the empirical Fisher matrix; Chow and Saad, "Preconditioned Krylov
    subspace methods for sampling multivariate Gaussian distributions", SIAM J. Sci. Comput. 2014,
    for H^½z by Lanczos.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        kind: CurvatureKind = "auto",
        directions: int = DIRECTIONS,
        seed: int = 0,
    ) -> None:
        refuse_unknown("curvature", [kind], CURVATURES)
        if kind == "fisher" and needs_teacher(loss):
            raise ValueError(
                "the gradients of a distillation are zero at the dense model: choose curvature=ggn"
            )
        self.loss, self.kind, self.seed = loss, kind, seed
        self.directions = integer("directions", directions, 1)
        self.closed = closed_form(loss)
        self.used = ""
        self.generator: torch.Generator | None = None

    def restart(self) -> None:
        """Begin a pass over the data."""
        self.generator = None

    def backward(self, output: Any, target: Any, value: Tensor, examples: int) -> None:
        """Propagate the directions of a batch back through the model.

        Args:
            output, target: what the loss was of.
            value: of the loss, with its graph.
            examples: in the batch.
        """
        if not self.used:
            self.used = self._decided(output, target, examples)
        if self.used == "fisher":
            # Of a mean over the batch: times B, gradients are an example's own.
            (value * examples).backward()
            return
        scale = self.directions**-0.5
        for left in reversed(range(self.directions)):
            found = self._draw(self.used, output, target, examples)
            if not found:  # of a batch on which the loss is constant
                continue
            tensors, directions = zip(*found, strict=True)
            torch.autograd.backward(
                tensors, [scale * each for each in directions], retain_graph=left > 0
            )

    def draws(self, output: Any, target: Any, examples: int) -> list[list[tuple[Tensor, Tensor]]]:
        """Tensors of an output and directions at them, drawn several times, as by a backward pass.

        Args:
            output: whose floating-point tensors have a graph.
        """
        if self.used == "fisher":
            own, leaves, again = _detached(output)
            value = self.loss(again, target) * examples
            slopes = torch.autograd.grad(value, leaves, materialize_grads=True, allow_unused=True)
            return [list(zip(own, slopes, strict=True))]
        return [self._draw(self.used, output, target, examples) for _ in range(self.directions)]

    def _decided(self, output: Any, target: Any, examples: int) -> str:
        if self.kind != "fisher":
            for used in ["ggn"] if self.closed else ["ggn-lanczos"]:
                found = self._draw(used, output, target, examples)
                if _curved(found, examples):
                    self.generator = None
                    return used
            if self.kind == "ggn":
                raise ValueError(
                    "the loss has no curvature at the model's output, as of one that is piecewise "
                    "linear: choose curvature=fisher, or another loss"
                )
        return "fisher"

    def _draw(
        self, used: str, output: Any, target: Any, examples: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Tensors of the output and their directions."""
        if used == "ggn":
            assert self.closed is not None
            with torch.no_grad():
                return [(output, self.closed(output, target, self._signs(output)))]
        return _by_lanczos(self.loss, output, target, examples, self._signs)

    def _signs(self, like: Tensor) -> Tensor:
        """±1 at random."""
        if self.generator is None:
            self.generator = torch.Generator(like.device).manual_seed(self.seed)
        bits = torch.randint(2, like.shape, generator=self.generator, device=like.device)
        return (2 * bits - 1).to(like.dtype)


def needs_teacher(loss: Any) -> bool:
    """Whether the targets of a loss are the dense model's own outputs."""
    return bool(getattr(loss, "needs_teacher", False))


def closed_form(loss: Any) -> Direction | None:
    """The direction of a loss whose Hessian is known, else None."""
    if isinstance(loss, Distillation):
        return loss.direction
    if loss in (usual_loss, F.mse_loss):
        return usual_direction
    if loss is F.cross_entropy:
        return cross_entropy_direction
    if type(loss) is nn.MSELoss and loss.reduction == "mean":
        return usual_direction
    if type(loss) is nn.CrossEntropyLoss and loss.reduction == "mean" and loss.weight is None:
        plain = loss.label_smoothing == 0 and loss.ignore_index == IGNORED
        return cross_entropy_direction if plain else None
    return None


def without_targets(loss: Any, target: Any) -> int:
    """How many examples of a batch have no target that cross entropy counts."""
    counts = closed_form(loss) in (usual_direction, cross_entropy_direction)
    if not counts or not isinstance(target, Tensor) or target.is_floating_point():
        return 0
    return int((target == IGNORED).reshape(len(target), -1).all(1).sum()) if target.numel() else 0


def _curved(found: Sequence[tuple[Tensor, Tensor]], examples: int) -> bool:
    """Whether more than half of the examples have a direction that is not zero."""
    if not found:
        return False
    nonzero = [v.reshape(examples, -1).any(-1) for _, v in found if len(v) == examples]
    if not nonzero:
        return any(bool(v.any()) for _, v in found)
    return int(torch.stack(nonzero).any(0).sum()) * 2 > examples


def _by_lanczos(
    loss: Callable[..., Any],
    output: Any,
    target: Any,
    examples: int,
    signs: Callable[[Tensor], Tensor],
) -> list[tuple[Tensor, Tensor]]:
    """H^½z of random signs z for each example's Hessian H, of which negative parts are dropped.

    Q diag(T^½) of the tridiagonal T = QᵀHQ in the Krylov space of z: exact once that space is
    full. Of a mean over the batch the Hessian is one block for each example, and one product with
    it serves all of them; else, as of a contrastive loss, it is one block for the batch.

    Returns:
        Tensors of the output that the loss depends on, and their directions; none where the loss
        is not twice differentiable.
    """
    own, leaves, again = _detached(output)
    try:
        value = loss(again, target) * examples
        slopes = torch.autograd.grad(value, leaves, create_graph=True, allow_unused=True)
    except RuntimeError:  # once differentiable, or not at all
        return []
    used = [i for i, slope in enumerate(slopes) if slope is not None and slope.requires_grad]
    if not used:
        return []
    own, leaves = [own[i] for i in used], [leaves[i] for i in used]
    curved = [slopes[i] for i in used]

    def joined(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([working(each).reshape(blocks, -1) for each in parts], -1)

    def parted(x: Tensor) -> list[Tensor]:
        sizes = [each.numel() // blocks for each in leaves]
        parts = zip(x.split(sizes, -1), leaves, strict=True)
        return [part.reshape(leaf.shape).to(leaf.dtype) for part, leaf in parts]

    def product(x: Tensor) -> Tensor:
        found = torch.autograd.grad(
            curved, leaves, parted(x), retain_graph=True, materialize_grads=True
        )
        return joined(found).detach()

    blocks = examples if all(len(each) == examples for each in leaves) else 1
    z = joined([signs(each) for each in leaves])
    try:
        if blocks > 1:
            first = product(z * (torch.arange(blocks, device=z.device) % 2).unsqueeze(-1))[::2]
            if first.any():  # where the others alone were changed: examples are compared
                blocks, z = 1, z.reshape(1, -1)
        directions = parted(_root_times(product, z))
    except RuntimeError:
        return []
    return list(zip(own, directions, strict=True))


def _root_times(product: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """H^½z (B, N) by Lanczos, for symmetric H of each row, with all vectors kept orthogonal."""
    steps = min(STEPS, max(2, NUMBERS // z.numel()), z.shape[-1])
    norm = z.norm(dim=-1, keepdim=True)
    q = z / norm
    Q, T = [q], z.new_zeros(len(z), steps, steps)
    for i in range(steps):
        w = product(q)
        T[:, i, i] = (q * w).sum(-1)
        size = w.norm(dim=-1, keepdim=True)
        basis = torch.stack(Q, -1)
        for _ in range(2):  # twice is enough
            w = w - (basis @ (basis.mT @ w.unsqueeze(-1))).squeeze(-1)
        if i + 1 == steps:
            break
        beta = w.norm(dim=-1, keepdim=True)
        # Where the space is full, what is left is rounding: the rest of that row stays zero.
        beta = beta.where(beta > 1e2 * torch.finfo(z.dtype).eps * size, 0.0)
        q = torch.where(beta > 0, w / beta.clamp(min=torch.finfo(z.dtype).tiny), 0.0)
        T[:, i, i + 1] = T[:, i + 1, i] = beta.squeeze(-1)
        Q.append(q)
        if not beta.any():
            break
    values, vectors = torch.linalg.eigh(T)
    first = vectors[:, 0, :] * values.clamp(min=0).sqrt()
    root = (vectors @ first.unsqueeze(-1)).squeeze(-1)[:, : len(Q)]
    return norm * (torch.stack(Q, -1) @ root.unsqueeze(-1)).squeeze(-1)


def _detached(output: Any) -> tuple[list[Tensor], list[Tensor], Any]:
    """Tensors of an output that have a graph, leaves in their places, and the output of those."""
    own: list[Tensor] = []
    leaves: list[Tensor] = []

    def replaced(found: Tensor) -> Tensor:
        if not found.requires_grad:
            return found
        own.append(found)
        leaves.append(found.detach().requires_grad_())
        return leaves[-1]

    return own, leaves, each_output(output, replaced)
