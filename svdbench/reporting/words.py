"""Numbers as people read them, in one form everywhere; files keep plain seconds and bytes.

A per cent sign follows its number (``97.1%``), the minus sign is ``−`` (U+2212), thousands are
set off with commas (``15,040``), a ratio ends in ``×``, and a number that is not known is a dash.
Nothing else formats numbers for people.
"""

import math
from collections.abc import Callable, Sequence
from typing import SupportsFloat

_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


def quantity(number: SupportsFloat, thing: str, things: str = "") -> str:
    """A number of things, singular or plural: ``1 epoch``, ``1,200 epochs``."""
    value = float(number)
    shown = f"{value:,.0f}" if value.is_integer() else f"{value:g}"
    return f"{shown} {thing if value == 1 else things or thing + 's'}"


MINUS = "−"
UNKNOWN = "–"


def ratio(value: float) -> str:
    """A ratio of three digits, never with an exponent: ``0.041×``, ``1.25×``, ``1,360×``."""
    if math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{_digits(value)}×"


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 99.95:
        return _minus(f"{float(f'{value:.3g}'):,.0f}")
    if size >= 0.0995 or value == 0:
        return _minus(f"{value:.{1 if size >= 9.995 else 2}f}")
    # Of what is small, two digits, wherever they begin.
    return _minus(f"{value:.{1 - math.floor(math.log10(size))}f}")


def number(value: float, digits: int = 3) -> str:
    """A number of so many significant digits: ``0.0123``, ``15,000``, ``1.2e−6``."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    shown = f"{value:.{digits}g}"
    if "e+" in shown:  # as 1.23e+04
        shown = f"{float(shown):,.0f}" if abs(value) < 1e9 else shown.replace("e+0", "e")
        return _minus(shown.replace("e+", "e"))
    if "e-" in shown:
        return _minus(shown.replace("e-0", "e-"))
    if abs(value) >= 1000:
        return _minus(f"{float(shown):,.0f}")
    return _minus(shown)


def fixed(value: float, decimals: int = 2) -> str:
    """A number with so many decimals, for columns that are compared downwards: ``2.50``."""
    return _minus(f"{value:,.{decimals}f}")


def integer(value: float) -> str:
    """A count, whole: ``15,040``."""
    return _minus(f"{value:,.0f}")


def size(value: float) -> str:
    """A size or a setting, as it is typed: ``1024``."""
    return f"{value:g}" if value < 1e6 else f"{value:.0f}"


def grid(value: float) -> str:
    """A tick of an axis of numbers, not rounded: ``0.5``, ``15,000``."""
    return _minus(f"{value:,g}")


def power(value: float) -> str:
    """The order of a number, such as a rounding error: ``3e−7``."""
    return _minus(f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e"))


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign: ``+0.012``, ``−1.5``."""
    return ("+" if value >= 0 else "") + number(value, digits)


def points(value: float, decimals: int = 2) -> str:
    """A difference of two fractions in percentage points, with its sign: ``+0.31``."""
    shown = fixed(100 * value, decimals)
    return shown if shown.startswith(MINUS) else f"+{shown}"


def percent(value: float, decimals: int = 2) -> str:
    """A fraction in percent with so many decimals: ``97.13%``; see also :func:`share`."""
    return fixed(100 * value, decimals) + "%"


def change(value: float) -> str:
    """A relative change in whole percent: ``+12%``, ``−40%``."""
    return ("+" if value >= 0 else "") + percent(value, 0)


def interval(low: float, high: float, form: Callable[[float], str]) -> str:
    """Both ends: ``1.02–1.15×``, and with a word where one of them is negative: ``−1 to 3``."""
    first, last = form(low), form(high)
    for unit in ("%", "×", " s", " ms", " µs", " ns"):
        if first.endswith(unit) and last.endswith(unit):
            first = first.removesuffix(unit)
            break
    negative = MINUS in first[:1] + last[:1]
    return f"{first} to {last}" if negative or "+" in first[:1] else f"{first}–{last}"


def plus_minus(value: float, form: Callable[[float], str]) -> str:
    """Half an interval behind its middle: `` ± 0.2``; nothing where it is 0 or not known."""
    return f" ± {form(value)}" if math.isfinite(value) and value > 0 else ""


def _minus(text: str) -> str:
    return text.replace("-", MINUS)


def setting(value: object) -> str:
    """A value of a configuration, as it was typed."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def known(value: float, form: Callable[[float], str]) -> str:
    """A number in this form; a dash where it is not known."""
    return form(value) if value == value else UNKNOWN


def few(parts: Sequence[str], most: int = 4) -> str:
    """The first parts, and how many more there are: ``a; b; c; d; 2 more``."""
    more = [f"{len(parts) - most} more"] if len(parts) > most else []
    return "; ".join([*parts[:most], *more])


def seconds(value: float) -> str:
    """Three digits and a unit: 1.23 ms."""
    number, unit = _scaled(value)
    return f"{number:#.3g}".rstrip(".") + f" {unit}"


def tick(value: float) -> str:
    """A tick of a logarithmic axis of seconds: 10 ms."""
    number, unit = _scaled(value * (1 + 1e-9))  # 10⁻³ may come as a little less
    return f"{number:g} {unit}"


def share(value: float, digits: int = 3) -> str:
    """A fraction in percent, to ``digits`` significant digits: ``0.97%``."""
    percent = 100 * value
    whole = abs(percent) >= 10**digits - 0.5
    return _minus(f"{percent:,.0f}%" if whole else f"{percent:.{digits}g}%")


def mebibytes(value: float) -> str:
    """Bytes as ``1,024 MiB``."""
    return f"{value / 2**20:,.0f} MiB"


def count(value: float) -> str:
    """A number of things, of three digits from a thousand up: 812, 1.23 k, 45.6 M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + f" {unit}"
    return f"{value:.0f}"


def clock_time(value: float) -> str:
    """Minutes and seconds, or hours too: 1:02:03."""
    minutes, s = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def spark(values: Sequence[float], lowest: float, highest: float, width: int) -> str:
    """Positive values as at most ``width`` bars on a logarithmic scale."""
    n = len(values)
    if n > width:  # evenly, the last one among them
        values = [values[(i + 1) * n // width - 1] for i in range(width)]
    span = math.log(highest / lowest)
    bars = []
    for value in values:
        height = math.log(max(value, lowest) / lowest) / span
        bars.append("▁▂▃▄▅▆▇█"[min(7, int(8 * height))])
    return "".join(bars)


def _scaled(value: float) -> tuple[float, str]:
    """The number and its unit, the largest in which the number is at least 1."""
    unit, size = next(((u, s) for u, s in _UNITS if value >= s), _UNITS[-1])
    return value / size, unit
