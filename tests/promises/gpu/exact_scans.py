"""What the kernels of linear recurrences should write, as ``promises.gpu.exact`` says of others."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]


def relative(got: Tensor, wanted: Tensor) -> float:
    """‖got − wanted‖/‖wanted‖; the absolute error where zeros are wanted; NaN stays NaN."""
    size = float(wanted.norm())
    return float((got - wanted).norm()) / (size or 1.0)


def _numbers(a: Arguments, name: str) -> Tensor:
    """Complex ones from pairs, if they are."""
    t: Tensor = a[name]
    return torch.view_as_complex(t.view(-1, 2)) if a["COMPLEX"] else t


def scan(before: Arguments, after: Arguments) -> Iterator[float]:
    T, m, n = (before[name] for name in ("T", "m", "n"))
    a, b = _numbers(before, "p_a"), _numbers(before, "p_b").view(T, m)
    a = a.repeat(m // n).expand(T, m) if before["CONSTANT"] else a.view(T, m)
    h = _numbers(before, "p_first")[:m] if before["FIRST"] else torch.zeros_like(b[0])
    wanted = torch.empty_like(b)
    for step in range(T):
        t = T - 1 - step if before["BACKWARD"] else step
        factor = t + 1 if before["BACKWARD"] else t
        h = wanted[t] = b[t] + (a[factor] * h if step or before["FIRST"] else 0)
    yield relative(_numbers(after, "p_h").view(T, m), wanted)


def _gates(a: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """z, 1 − z and c."""
    p, c = (a[name].view(a["T"], a["m"]) for name in ("p_gates", "p_content"))
    return torch.sigmoid(p), torch.sigmoid(-p), c


def gated_scan(before: Arguments, after: Arguments) -> Iterator[float]:
    z, rest, c = _gates(before)
    h = before["p_first"][: before["m"]] if before["FIRST"] else torch.zeros_like(c[0])
    wanted = torch.empty_like(c)
    for t in range(len(c)):
        h = wanted[t] = rest[t] * h + z[t] * c[t]
    yield relative(after["p_h"].view_as(c), wanted)


def gated_gradient(before: Arguments, after: Arguments) -> Iterator[float]:
    z, rest, c = _gates(before)
    h, G = (before[name].view_as(c) for name in ("p_h", "p_G"))
    first = before["p_first"][: before["m"]] if before["FIRST"] else torch.zeros_like(c[0])
    behind = torch.cat([first.unsqueeze(0), h[:-1]])
    delta, carried = torch.empty_like(c), torch.zeros_like(c[0])
    for t in reversed(range(len(c))):
        delta[t] = G[t] + carried
        carried = rest[t] * delta[t]
    yield relative(after["p_dcontent"].view_as(c), z * delta)
    yield relative(after["p_dgates"].view_as(c), z * rest * (c - behind) * delta)
    yield relative(after["p_dfirst"], carried)


def _chunks(before: Arguments) -> Iterator[tuple[Tensor, ...]]:
    """Keys (Z, R, d_k), queries, P and coefficients (Z, R, 1) of each chunk."""
    N, Z, R, C, d_k = (before[name] for name in ("N", "Z", "R", "C", "d_k"))
    K, Q = before["p_K"].view(N, Z, R, d_k), before["p_Q"].view(N, Z, C, d_k)
    P, b = before["p_P"].view(N, Z, R, R), before["p_b"].view(N, Z, R, 1)
    return zip(K, Q, P, b, strict=True)


def _steps(t: Tensor, before: Arguments, *shape: int) -> Tensor:
    """Of (T, Z, …) the steps of each chunk, (N, Z, C, …), with zeros after the last."""
    T, N, Z, C = (before[name] for name in ("T", "N", "Z", "C"))
    t = t.view(T, Z, *shape)
    whole = torch.cat([t, t.new_zeros(N * C - T, Z, *shape)])
    return whole.unflatten(0, (N, C)).transpose(1, 2)


def delta_states(before: Arguments, after: Arguments) -> Iterator[float]:
    T, N, Z, R, C, r, d_k, d_v = (
        before[name] for name in ("T", "N", "Z", "R", "C", "r", "d_k", "d_v")
    )
    M = before["p_MD"].view(N, Z, C, R)
    V = torch.zeros(N, Z, R, d_v, dtype=M.dtype)
    if before["WRITES"]:
        V = _steps(before["p_V"], before, r, d_v).flatten(2, 3)
    H = before["p_H"].view(N + 1, Z, d_k, d_v)[0]
    states, w, O = [H], [], []
    for n, (K, Q, P, b) in enumerate(_chunks(before)):
        w.append(P.mT @ (V[n] - K @ H))
        O.append(Q @ H + M[n] @ w[-1])
        H = H + (K * b).mT @ w[-1]
        states.append(H)
    yield relative(after["p_H"].view(N + 1, Z, d_k, d_v), torch.stack(states))
    yield relative(after["p_w"].view(N, Z, R, d_v), torch.stack(w))
    outputs = torch.stack(O).transpose(1, 2).flatten(0, 1)[:T]
    yield relative(after["p_O"].view(T, Z, d_v), outputs)


def delta_gradient(before: Arguments, after: Arguments) -> Iterator[float]:
    N, Z, R, C, d_k, d_v = (before[name] for name in ("N", "Z", "R", "C", "d_k", "d_v"))
    G, M = _steps(before["p_G"], before, d_v), before["p_M"].view(N, Z, C, R)
    A = torch.zeros(Z, d_k, d_v, dtype=G.dtype)
    Y, at = [], []
    for n, (K, Q, P, b) in reversed(list(enumerate(_chunks(before)))):
        if before["STATES"]:
            A = A + before["p_S"].view(N, Z, d_k, d_v)[n]
        at.append(A)
        Y.append(P @ (b * (M[n].mT @ G[n] + K @ A)))
        A = A + Q.mT @ G[n] - K.mT @ Y[-1]
    at.append(A)
    yield relative(after["p_Y"].view(N, Z, R, d_v), torch.stack(Y[::-1]))
    yield relative(after["p_A"].view(N + 1, Z, d_k, d_v), torch.stack(at[::-1]))


ERRORS = {
    "scan": scan,
    "gated_scan": gated_scan,
    "gated_gradient": gated_gradient,
    "delta_states": delta_states,
    "delta_gradient": delta_gradient,
}
