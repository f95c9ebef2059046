"""One module for each result, named like its YAML: ``measure(runs)`` reads its numbers."""

from importlib import import_module

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs


def measure(runs: Runs) -> Measured:
    """The numbers and curves of a result, from its runs.

    Raises:
        svdbench.reproduce.runs.Missing: a run that is not there.
    """
    found: Measured = import_module(f"{__name__}.{runs.result.name}").measure(runs)
    return found
