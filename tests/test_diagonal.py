"""``diagonal_recurrence``, some steps at a time, against the same operation by operation."""

import pytest
import torch
from torch import Tensor

from svdbench.nn import diagonal
from svdbench.nn.diagonal import diagonal_recurrence, diagonal_states

BATCH, D, N = 2, 3, 2


def given(T: int, first: bool) -> list[Tensor]:
    shapes = (T, BATCH, D), (2 * N, D), (D, 2 * N), (D,), (BATCH, 2 * N)
    u, B, C, skip, h0 = (torch.randn(*shape, dtype=torch.float64) for shape in shapes)
    eigenvalues = torch.polar(torch.rand(N).double(), 6 * torch.rand(N).double())
    tensors = [u, eigenvalues, B, C, skip] + [h0] * first
    return [tensor.requires_grad_() for tensor in tensors]


def plain(u: Tensor, eigenvalues: Tensor, B: Tensor, C: Tensor, D: Tensor, *h0: Tensor) -> Tensor:
    """Step by step, in complex numbers."""
    h = torch.view_as_complex(h0[0].unflatten(-1, (-1, 2))) if h0 else torch.zeros(1, len(B) // 2)
    b, c = torch.complex(B[0::2], B[1::2]), torch.complex(C[:, 0::2], -C[:, 1::2])
    outputs = []
    for x in u:
        h = eigenvalues * h + x.to(b.dtype) @ b.t()
        outputs.append((h @ c.t()).real + D * x)
    return torch.stack(outputs)


@pytest.mark.parametrize("first", [False, True], ids=["from zero", "from h0"])
@pytest.mark.parametrize(("T", "rows"), [(1, 4), (5, 4), (4, 4), (3, 1), (5, 400)])
def test_outputs_and_gradients(
    T: int, rows: int, first: bool, monkeypatch: pytest.MonkeyPatch, poisoned: None
) -> None:
    """Of T steps, none or one or two at a time, the last time fewer."""
    monkeypatch.setattr(diagonal, "ROWS", rows)
    arguments = given(T, first)
    outputs = diagonal_recurrence(*arguments)
    torch.testing.assert_close(outputs, plain(*arguments))
    torch.testing.assert_close(outputs, diagonal_states(*arguments)[0])
    assert torch.autograd.gradcheck(diagonal_recurrence, arguments)


def test_second_derivatives_and_some_gradients_alone() -> None:
    arguments = given(3, True)
    assert torch.autograd.gradgradcheck(diagonal_recurrence, arguments)
    arguments[0].requires_grad_(False)
    arguments[4].requires_grad_(False)
    assert torch.autograd.gradgradcheck(diagonal_recurrence, arguments)


def test_strides_do_not_matter() -> None:
    u, eigenvalues, B, C, D = given(4, False)
    G = torch.randn(BATCH, 4, D.numel(), dtype=torch.float64).transpose(0, 1)
    turned = u.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    wide = B.detach().t().contiguous().t().requires_grad_()
    found = torch.autograd.grad(
        diagonal_recurrence(turned, eigenvalues, wide, C, D), (turned, wide), G
    )
    wanted = torch.autograd.grad(plain(u, eigenvalues, B, C, D), (u, B), G)
    torch.testing.assert_close(found, wanted)


def test_long_sequences_in_float32() -> None:
    """Eigenvalues close to the circle add up 3,000 steps: as in float64, but for the rounding."""
    T, exact = 3000, given(1, False)
    exact[0] = torch.randn(T, BATCH, D, dtype=torch.float64)
    exact[1] = torch.polar(torch.tensor([0.9999, 1.0]).double(), torch.tensor([0.1, 3.0]).double())
    exact = [tensor.detach().requires_grad_() for tensor in exact]
    rough = [
        t.detach().to(torch.complex64 if t.is_complex() else torch.float32).requires_grad_()
        for t in exact
    ]
    wanted, found = (diagonal_recurrence(*tensors) for tensors in (exact, rough))
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
    both = [
        torch.autograd.grad(y.square().mean(), tensors)
        for y, tensors in ((found, rough), (wanted, exact))
    ]
    for ours, right in zip(*both, strict=True):
        error = (ours.to(right.dtype) - right).norm() / right.norm()
        assert error < 1e-3


def test_no_step_is_refused() -> None:
    u, *rest = given(1, False)
    with pytest.raises(ValueError, match="T of at least 1"):
        diagonal_recurrence(u[:0], *rest)


def test_a_gradient_with_a_graph_is_the_same_where_two_layers_share_their_weights() -> None:
    """The inputs of the second depend on the weights, which autograd must not count twice."""
    u, *weights = given(4, False)

    def twice(u: Tensor, *weights: Tensor) -> Tensor:
        return diagonal_recurrence(torch.tanh(diagonal_recurrence(u, *weights)), *weights)

    outputs = twice(u, *weights)
    both = [
        torch.autograd.grad(outputs.square().sum(), weights, retain_graph=True, create_graph=graph)
        for graph in (False, True)
    ]
    torch.testing.assert_close(*both)
    assert torch.autograd.gradgradcheck(twice, (u, *weights))


def test_no_sequence_and_a_state_in_any_order_of_memory() -> None:
    u, *weights, h0 = given(3, True)
    empty = u[:, :0].detach().requires_grad_()
    diagonal_recurrence(empty, *weights).sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == (3, 0, D)
    turned = h0.detach().t().contiguous().t()
    assert turned.stride(-1) != 1
    torch.testing.assert_close(
        diagonal_recurrence(u, *weights, turned), diagonal_recurrence(u, *weights, h0)
    )


@pytest.mark.parametrize("at", range(1, 6))
def test_shapes_and_dtypes_that_do_not_fit_are_refused(at: int) -> None:
    tensors = [t.detach() for t in given(3, True)]
    other = [*tensors[:at], tensors[at][..., :-1], *tensors[at + 1 :]]
    with pytest.raises(ValueError, match=r"need (eigenvalues|B|C|D|h0) of shape"):
        diagonal_recurrence(*other)
    to = torch.complex64 if tensors[at].is_complex() else torch.float32
    with pytest.raises(TypeError, match=r"inputs are torch.float64, so"):
        diagonal_recurrence(*tensors[:at], tensors[at].to(to), *tensors[at + 1 :])
