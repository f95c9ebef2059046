"""Finding them: every YAML in ``conf/matrix_op``, named ``<operation>_<way>`` like its file."""

from svdbench.registry import Group, refuse_unknown

GROUP = Group("matrix_op", "matrix operation", "svdbench.matrix_ops.base.MatrixOp")


def operations() -> list[str]:
    """What there are ways to compute, sorted. Does not import torch."""
    return sorted({operation_of(name) for name in GROUP.names()})


def operation_of(name: str) -> str:
    """The operation that a name speaks of: ``inverse`` of ``inverse_svd``."""
    return name.partition("_")[0]


def check_operations(given: list[str]) -> None:
    """Raise ValueError, with the nearest name and those known, if there is no such operation."""
    refuse_unknown("operation", given, operations())
