"""Reasons, in words, why a method does not run somewhere."""

from importlib import import_module
from importlib.util import find_spec

import torch

from .base import Problem


def not_square(problem: Problem, what: str) -> str | None:
    """Maps of a square parameter have no meaning for n reflectors of another length d."""
    if problem.n == problem.d:
        return None
    return f"{what} needs a square parameter, and here n = {problem.n}, d = {problem.d}"


def half_precision(problem: Problem, what: str, fault: str = "has no kernel") -> str | None:
    """LAPACK works in single and double precision only."""
    if problem.dtype in (torch.float32, torch.float64):
        return None
    return f"{what} {fault} for {str(problem.dtype)[6:]}"


def missing_peer(module: str, package: str) -> str | None:
    """Why the optional ``package`` can't be imported, or None if it can.

    A compiled one may be installed and still not load with this torch, so it is
    imported to know.
    """
    if find_spec(module) is None:
        return f"{package} is not installed (pip install 'svdbench[peers]')"
    try:
        import_module(module)
    except Exception as error:
        cause = str(error).strip().splitlines() or [type(error).__name__]
        return f"{package} does not import with torch {torch.__version__}: {cause[0]}"
    return None
