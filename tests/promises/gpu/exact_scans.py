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


ERRORS = {
    "scan": scan,
    "gated_scan": gated_scan,
    "gated_gradient": gated_gradient,
}
