"""``scan`` and ``gated_scan`` against plain loops, their derivatives, and what they refuse."""

import pytest
import torch
from torch import Tensor

from svdbench.nn.scans import gated_scan, scan

T, B, N = 5, 2, 3


def plain(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    h, states = torch.zeros_like(b[0]) if h0 is None else h0, []
    for t in range(len(b)):
        h = (a if a.ndim == 1 else a[t]) * h + b[t]
        states.append(h)
    return torch.stack(states)


def given(dtype: torch.dtype, constant: bool, steps: int = T) -> tuple[Tensor, ...]:
    shapes = (N,) if constant else (steps, B, N), (steps, B, N), (B, N)
    return tuple(torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("constant", [False, True], ids=["by step", "constant"])
@pytest.mark.parametrize("first", [False, True], ids=["from zero", "from h0"])
@pytest.mark.parametrize("steps", [1, T])
def test_states_and_derivatives(
    dtype: torch.dtype, constant: bool, first: bool, steps: int
) -> None:
    a, b, h0 = given(dtype, constant, steps)
    arguments = (a, b, h0) if first else (a, b)
    torch.testing.assert_close(scan(*arguments), plain(*arguments))
    assert torch.autograd.gradcheck(scan, arguments)
    assert torch.autograd.gradgradcheck(scan, arguments)


@pytest.mark.parametrize("first", [False, True], ids=["from zero", "from h0"])
@pytest.mark.parametrize("steps", [1, T])
def test_gated_states_and_derivatives(first: bool, steps: int) -> None:
    p, c, h0 = given(torch.float64, False, steps)
    arguments = (p, c, h0) if first else (p, c)
    wanted = plain(torch.sigmoid(-p), torch.sigmoid(p) * c, *arguments[2:])
    torch.testing.assert_close(gated_scan(*arguments), wanted)
    assert torch.autograd.gradcheck(gated_scan, arguments)
    assert torch.autograd.gradgradcheck(gated_scan, arguments)
    G = torch.randn_like(c)[..., :1].expand_as(c)  # strides of zero
    found, wanted = (torch.autograd.grad(h, arguments, G) for h in (gated_scan(*arguments), wanted))
    torch.testing.assert_close(found, wanted)


def test_goes_on_where_it_was() -> None:
    a, b, h0 = given(torch.float64, False)
    whole = scan(a, b, h0)
    torch.testing.assert_close(scan(a[2:], b[2:], whole[1]), whole[2:])


def test_strides_do_not_matter() -> None:
    a, b = (torch.randn(B, N, T, dtype=torch.float64).permute(2, 0, 1) for _ in range(2))
    a.requires_grad_(), b.requires_grad_()
    G = torch.randn(B, T, N, dtype=torch.float64).transpose(0, 1)
    ours, theirs = scan(a, b), plain(a, b)
    torch.testing.assert_close(ours, theirs)
    found, wanted = (torch.autograd.grad(h, (a, b), G) for h in (ours, theirs))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.ones(3), torch.ones(4, 3)), ValueError, r"inputs must be \(T, B, n\)"),
        ((torch.ones(3), torch.ones(0, 2, 3)), ValueError, "T of at least 1"),
        (
            (torch.ones(2), torch.ones(5, 2, 3)),
            ValueError,
            r"gates must be \(5, 2, 3\) or \(3,\), not \(2,\)",
        ),
        (
            (torch.ones(3), torch.ones(5, 2, 3), torch.ones(3)),
            ValueError,
            r"h0 must be \(2, 3\), not \(3,\)",
        ),
        ((torch.ones(3).double(), torch.ones(5, 2, 3)), TypeError, "convert one"),
    ],
)
def test_what_does_not_fit_is_refused(
    arguments: tuple[Tensor, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        scan(*arguments)


@pytest.mark.parametrize("alone", [0, 1, 2])
def test_second_derivatives_where_one_argument_alone_is_differentiated(alone: int) -> None:
    tensors = [t.detach() for t in given(torch.float64, False)]
    tensors[alone].requires_grad_()

    def at_one(t: Tensor) -> Tensor:
        return gated_scan(*(t if i == alone else other for i, other in enumerate(tensors)))

    assert torch.autograd.gradgradcheck(at_one, (tensors[alone],))


def test_a_gradient_with_a_graph_is_the_same_where_content_is_made_of_the_gates() -> None:
    """Autograd goes from content to gates itself, which must not be counted twice."""
    p, *_ = given(torch.float64, False)

    def made_of_one(p: Tensor) -> Tensor:
        return gated_scan(p, torch.tanh(2 * p), p[0].sin())

    both = [
        torch.autograd.grad(made_of_one(p).square().sum(), p, create_graph=graph)[0]
        for graph in (False, True)
    ]
    torch.testing.assert_close(*both)
    assert torch.autograd.gradgradcheck(made_of_one, (p,))
