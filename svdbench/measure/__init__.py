"""Measuring honestly: a clock, a fair plan, a gate of correctness, and probes."""

from collections.abc import Iterable

# Cores of other processes from which on they are not.
BUSY = 0.25
# A floor over the time that was measured: above 1 only by the error of the machine's rates,
# which are measured to a few percent. From here on the floor is void: its rates were measured
# while other processes had the cores.
LARGEST_FRACTION = 1.05


def voids_floor(of_floors: Iterable[float]) -> bool:
    """Whether a time lies below one of its floors, given as fractions of the time; NaN: none."""
    return any(fraction > LARGEST_FRACTION for fraction in of_floors)
