"""Ways to compute functions of a matrix; their names are ``<operation>_<way>``."""

from svdbench.members import OPERATIONS, refuse_unknown


def operation_names() -> list[str]:
    """The operations, sorted. Does not import torch."""
    return sorted({operation_of(name) for name in OPERATIONS.names()})


def operation_of(name: str) -> str:
    """The operation in a member's name: ``inverse`` of ``inverse_svd``."""
    return name.partition("_")[0]


def check_operations(given: list[str]) -> None:
    """Raise ValueError, with the nearest name and all known ones, for an unknown operation."""
    refuse_unknown("operation", given, operation_names())
