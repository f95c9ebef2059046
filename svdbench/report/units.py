"""Numbers as people read them. Files keep plain seconds and bytes."""


def seconds(value: float) -> str:
    """Three digits and a unit: 1.23 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:#.3g} {unit}".replace(". ", " ")
    return f"{value / 1e-9:.3g} ns"
