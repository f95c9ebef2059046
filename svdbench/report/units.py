"""Numbers as people read them. Files keep plain seconds and bytes."""

_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


def seconds(value: float) -> str:
    """Three digits and a unit: 1.23 ms."""
    number, unit = _scaled(value)
    return f"{number:#.3g}".rstrip(".") + f" {unit}"


def tick(value: float) -> str:
    """A tick of a logarithmic axis of seconds: 10 ms."""
    number, unit = _scaled(value * (1 + 1e-9))  # 10⁻³ may come as a little less
    return f"{number:g} {unit}"


def _scaled(value: float) -> tuple[float, str]:
    """The number in the largest unit of which there is at least one."""
    unit, size = next(((u, s) for u, s in _UNITS if value >= s), _UNITS[-1])
    return value / size, unit
