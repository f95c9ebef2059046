"""What each Triton kernel should write, in float64, from what it was given.

A kernel is judged by its own inputs, so that a wrong one doesn't make those after it look wrong.
``ERRORS`` has, for each kernel, a function of its arguments before the launch and after it, all
tensors flat, in float64 and on the CPU, which returns relative errors.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from promises.gpu import exact_scans
from promises.gpu.exact_scans import Arguments, relative


def inverse_of_half_triangle(S: Tensor) -> Tensor:
    """The inverse of striu(S) + ½ diag(S), where a zero on the diagonal counts as 2."""
    diagonal = S.diagonal(dim1=-2, dim2=-1) / 2
    half = S.triu(1) + torch.where(diagonal == 0, 1.0, diagonal).diag_embed()
    eye = torch.eye(S.shape[-1], dtype=S.dtype).expand_as(S)
    return torch.linalg.solve_triangular(half, eye, upper=True)


def scaled_rows(a: Arguments, k: int, nb: int) -> Tensor:
    """B (p, nb, k, d): the rows of V times their scale, filled up with zeros."""
    n, d = a["n"], a["d"]
    V = a["p_V"].view(-1, n, d)
    B = torch.nn.functional.pad(V, (0, 0, 0, nb * k - n)).view(-1, nb, k, d)
    return B * a["p_scale"].view(-1, nb, k, 1)


def matrices(t: Tensor, count: int, stride: int, rows: int, columns: int) -> Tensor:
    """Matrices that are ``stride`` numbers apart."""
    return torch.as_strided(t, (count, rows, columns), (stride, columns, 1))


def _scale(before: Arguments, after: Arguments, scale: Tensor) -> float:
    """How far the largest entry of a scaled row is from 1 … 2, and a scale from a power of two."""
    n, d = before["n"], before["d"]
    largest = before["p_V"].view(-1, n, d).abs().amax(-1)
    found = scale.view(len(largest), -1)[:, :n]
    top = torch.where(largest > 0, largest * found, 1.0)
    outside = (1 - top).clamp(min=0) + (top - 2).clamp(min=0)
    rounded = (scale.log2() - scale.log2().round()).abs()
    return float(outside.max() + rounded.max())


def factors(before: Arguments, after: Arguments) -> Iterator[float]:
    base, split = before["K"], before["SPLIT"]
    k = base * split
    nb = -(-before["n"] // k)
    yield _scale(before, after, after["p_scale"])
    B = scaled_rows(after, k, nb)
    S = (B @ B.mT).view(-1, k, k)
    T = after["p_T"].view(-1, k, k)
    for i in range(0, k, base):
        part = slice(i, i + base)
        yield relative(T[:, part, part], inverse_of_half_triangle(S[:, part, part]))


def join(before: Arguments, after: Arguments) -> Iterator[float]:
    h = before["HALF"]
    k = 2 * h
    B = scaled_rows(before, k, -(-before["n"] // k)).view(-1, k, before["d"])
    T = before["p_T"].view(-1, k, k)
    wanted = -T[:, :h, :h] @ (B[:, :h] @ B[:, h:].mT) @ T[:, h:, h:]
    yield relative(after["p_T"].view(-1, k, k)[:, :h, h:], wanted)


def sweep(before: Arguments, after: Arguments) -> Iterator[float]:
    d, m, nb, k = (before[name] for name in ("d", "m", "nb", "K"))
    B = scaled_rows(before, k, nb)
    T = before["p_T"].view(-1, nb, k, k)
    A = before["p_X"].view(-1, d, m)
    states, Zs = torch.empty(len(A), nb, d, m).double(), torch.empty(len(A), nb, k, m).double()
    for i in range(nb) if before["transpose"] else reversed(range(nb)):
        states[:, i] = A
        Zs[:, i] = (T[:, i].mT if before["transpose"] else T[:, i]) @ (B[:, i] @ A)
        A = A - B[:, i].mT @ Zs[:, i]
    yield relative(after["p_out"].view_as(A), A)
    if before["KEEP"]:
        yield relative(after["p_states"].view_as(states), states)
        yield relative(after["p_Z"].view_as(Zs), Zs)


def gradient(before: Arguments, after: Arguments) -> Iterator[float]:
    d, m, k = before["d"], before["m"], before["K"]
    nb = -(-before["n"] // k)
    A, G = (before[name].view(-1, nb, d, m) for name in ("p_A", "p_G"))
    Z, W = (before[name].view(-1, nb, k, m) for name in ("p_Z", "p_W"))
    yield _gradient(before, after, A, G, Z, W, _symmetric(W @ Z.mT, bool(before["transpose"])))


def _symmetric(product: Tensor, transpose: bool) -> Tensor:
    """F + Fᵀ, F the half triangle: with one on the diagonal, from one side of it."""
    half = product.tril() if transpose else product.triu()
    both = half + half.mT
    return both - torch.diag_embed(product.diagonal(dim1=-2, dim2=-1))


def _gradient(
    before: Arguments, after: Arguments, A: Tensor, G: Tensor, Z: Tensor, W: Tensor, F: Tensor
) -> float:
    """Of dV = scale · ((F + Fᵀ) B − W Aᵀ − Z Gᵀ); it may vanish, so against its parts."""
    n, d, nb, k = before["n"], before["d"], A.shape[1], Z.shape[2]
    scale = before["p_scale"].view(-1, nb, k, 1)
    parts = [scale * (F @ scaled_rows(before, k, nb)), scale * (W @ A.mT), scale * (Z @ G.mT)]
    wanted = (parts[0] - parts[1] - parts[2]).reshape(-1, nb * k, d)[:, :n]
    size = sum(float(part.norm()) for part in parts)
    return float((after["p_dV"].view_as(wanted) - wanted).norm()) / (size or 1.0)


def scale(before: Arguments, after: Arguments) -> Iterator[float]:
    yield _scale(before, after, after["p_scale"])


def whole_gram(a: Arguments) -> Tensor:
    """S, which is computed in parts that are to be added."""
    return a["p_S"].view(a["parts"], -1).sum(0)


def first_part(a: Arguments) -> Tensor:
    return a["p_S"].view(a["parts"], -1)[0]


def gram(before: Arguments, after: Arguments) -> Iterator[float]:
    k, nb = before["k"], before["nb"]
    B = scaled_rows(before, k, nb)
    S = whole_gram(after).view(-1, nb, k, k)
    yield relative(S.triu(), (B @ B.mT).triu())


def invert(before: Arguments, after: Arguments) -> Iterator[float]:
    k, tile = before["k"], 2 * before["HALF"]
    S, T = whole_gram(before).view(-1, k, k), after["p_T"].view(-1, k, k)
    for i in range(0, k, tile):
        part = slice(i, i + tile)
        yield relative(T[:, part, part], inverse_of_half_triangle(S[:, part, part]))


def _pairs(t: Tensor, k: int, half: int) -> Iterator[tuple[Tensor, ...]]:
    """Of a matrix (k, k), for each pair of halves: the first, above it, the second, below it."""
    t = t.view(-1, k, k)
    for i in range(0, k, 2 * half):
        a, b = slice(i, i + half), slice(i + half, i + 2 * half)
        yield t[:, a, a], t[:, a, b], t[:, b, b], t[:, b, a]


def join_strip(before: Arguments, after: Arguments) -> Iterator[float]:
    k, half = before["k"], before["HALF"]
    S, T = _pairs(whole_gram(before), k, half), _pairs(before["p_T"], k, half)
    for s, t, found in zip(S, T, _pairs(after["p_T"], k, half), strict=True):
        yield relative(found[1], -t[0] @ s[1] @ t[2])


def join_tile(before: Arguments, after: Arguments) -> Iterator[float]:
    k, half, second = before["k"], before["half"], before["SECOND"]
    T = _pairs(before["p_T"], k, half)
    # The first pass writes below the diagonal of the first part of S, and the second reads there.
    S = _pairs(first_part(before) if second else whole_gram(before), k, half)
    out = _pairs(after["p_T"] if second else first_part(after), k, half)
    for s, t, found in zip(S, T, out, strict=True):
        # Below the diagonal T has no meaning.
        if second:
            yield relative(found[1], -t[0].triu() @ s[3])
        else:
            yield relative(found[3], s[1] @ t[2].triu())


def rows(before: Arguments, after: Arguments) -> Iterator[float]:
    d, m, k, nb, block = (before[name] for name in ("d", "m", "k", "nb", "block"))
    B = scaled_rows(before, k, nb)[:, block]
    A = matrices(before["p_A"], len(B), before["stride_A"], d, m)
    Y = after["p_Y"].view(len(B), before["parts"], k, m)
    yield relative(Y.sum(1), B @ A)


def triangle(before: Arguments, after: Arguments) -> Iterator[float]:
    m, k, nb, block = (before[name] for name in ("m", "k", "nb", "block"))
    T = before["p_T"].view(-1, nb, k, k)[:, block].triu()
    Y = before["p_Y"].view(len(T), before["parts"], k, m).sum(1)
    Z = matrices(after["p_Z"], len(T), before["stride_Z"], k, m)
    yield relative(Z, (T.mT if before["TRANSPOSE"] else T) @ Y)


def update(before: Arguments, after: Arguments) -> Iterator[float]:
    d, m, k, nb, block = (before[name] for name in ("d", "m", "k", "nb", "block"))
    B = scaled_rows(before, k, nb)[:, block]
    A = matrices(before["p_A"], len(B), before["stride_A"], d, m)
    Z = matrices(before["p_Z"], len(B), before["stride_Z"], k, m)
    out = matrices(after["p_out"], len(B), before["stride_out"], d, m)
    yield relative(out, A - B.mT @ Z)


def _segment(a: Arguments, name: str, rows: int) -> Tensor:
    """Of the blocks of a segment, (p, count, rows, m)."""
    first, count, m = a["first"], a["count"], a["m"]
    own = name in ("p_Z", "p_A")  # which have all blocks
    t = a[name].view(-1, a["nb"] if own else count, rows, m)
    return t[:, first : first + count] if own else t


def half_product(before: Arguments, after: Arguments) -> Iterator[float]:
    k = before["k"]
    Z, W = _segment(before, "p_Z", k), _segment(before, "p_W", k)
    F = after["p_F"].view(-1, before["count"], k, k)
    yield relative(F, _symmetric(W @ Z.mT, before["TRANSPOSE"]))


def tile_gradient(before: Arguments, after: Arguments) -> Iterator[float]:
    n, d, m, k, nb = (before[name] for name in ("n", "d", "m", "k", "nb"))
    first, count = before["first"], before["count"]
    Z, W = _segment(before, "p_Z", k), _segment(before, "p_W", k)
    A, p = _segment(before, "p_A", d), len(Z)
    stride = before["stride_G"]
    G = torch.as_strided(before["p_G"], (p, count, d, m), (stride, d * m, m, 1))
    F = before["p_F"].view(p, count, k, k)
    B = scaled_rows(before, k, nb)[:, first : first + count]
    scale = before["p_scale"].view(p, nb, k, 1)[:, first : first + count]
    parts = [scale * (F @ B), scale * (W @ A.mT), scale * (Z @ G.mT)]
    wanted = (parts[0] - parts[1] - parts[2]).reshape(p, count * k, d)
    last = min(n, (first + count) * k)
    found = after["p_dV"].view(p, n, d)[:, first * k : last]
    size = sum(float(part.norm()) for part in parts)
    yield float((found - wanted[:, : last - first * k]).norm()) / (size or 1.0)


ERRORS: dict[str, Callable[[Arguments, Arguments], Iterator[float]]] = {
    "factors": factors,
    "join": join,
    "sweep_resident": sweep,
    "sweep_streamed": sweep,
    "gradient": gradient,
    "scale": scale,
    "gram": gram,
    "invert": invert,
    "join_strip": join_strip,
    "join_tile": join_tile,
    "rows": rows,
    "triangle": triangle,
    "update": update,
    "half_product": half_product,
    "tile_gradient": tile_gradient,
    **exact_scans.ERRORS,
}
