"""Numbers of things and ratios, as messages and reports say them."""

import math
from typing import SupportsFloat


def quantity(number: SupportsFloat, thing: str, things: str = "") -> str:
    """A number of things, singular or plural: ``1 epoch``, ``1,200 epochs``.

    Args:
        things: the plural where it is not ``thing`` with an s.
    """
    value = float(number)
    shown = f"{value:,.0f}" if value.is_integer() else f"{value:g}"
    return f"{shown} {thing if value == 1 else things or thing + 's'}"


def ratio(value: float) -> str:
    """A ratio of three digits, never with an exponent: ``0.041×``, ``1.25×``, ``1,360×``."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 99.95:
        return f"{float(f'{value:.3g}'):,.0f}×"
    if size >= 0.0995 or value == 0:
        return f"{value:.{1 if size >= 9.995 else 2}f}×"
    # Of what is small, two digits, wherever they begin.
    return f"{value:.{1 - math.floor(math.log10(size))}f}×"
