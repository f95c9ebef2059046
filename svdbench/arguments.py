"""Numbers as arguments: any integral or real type is taken, as NumPy's and torch's, no bool."""

import operator
from typing import Any


def integer(name: str, value: Any, least: int | None = None) -> int:
    """An integral argument as an int.

    Args:
        name: of the argument, for the message.
        value: what was given.
        least: the lowest value allowed.

    Raises:
        TypeError: the value is not integral, or it is a bool.
        ValueError: it is below ``least``.
    """
    found = as_integer(value)
    if found is None:
        raise TypeError(f"{name} is {value!r}: give a whole number")
    if least is not None and found < least:
        raise ValueError(f"{name} is {found}: give {least} or more")
    return found


def as_integer(value: Any) -> int | None:
    """An integral value as an int; None for anything else, and for a bool."""
    try:
        return None if _is_bool(value) else operator.index(value)
    except TypeError:
        return None


def check_whole(least: int, **values: int) -> None:
    """Raise ValueError for the first that is not a whole number from ``least`` up."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}: give a whole number of at least {least}")


def check_share(**values: float) -> None:
    """Raise ValueError for the first that is not above 0 and below 1."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}: give a number above 0 and below 1")


def number(name: str, value: Any) -> float:
    """A real argument as a float.

    Raises:
        TypeError: the value is not a real number, or it is a bool.
    """
    try:
        if hasattr(value, "__float__") and not _is_bool(value):
            return float(value)
    except (TypeError, ValueError, RuntimeError):  # an array of several, or of complex numbers
        pass
    raise TypeError(f"{name} is {value!r}: give a number")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
