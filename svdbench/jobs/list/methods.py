"""The orthogonal parametrisations, with what each says of itself."""

from collections.abc import Iterator
from typing import Any

from svdbench.errors import UserError, as_user_error
from svdbench.measure.algorithm import Problem
from svdbench.members import METHODS
from svdbench.reporting.report import Table, TableCell
from svdbench.user_code import user_code

PROBLEM = Problem(d=512, n=512, m=32)


def methods() -> Table:
    """A row per YAML in ``conf/orthogonal`` and per installed method."""
    floor = 12 * PROBLEM.n * PROBLEM.d * PROBLEM.m / 1e9
    table = Table.of(
        "methods",
        ["name", "kind", "builds"],
        ["Gflop a step"],
        keys=1,
        more_words=["gradients, and source", "package"],
        note=f"Gflop at d = n = {PROBLEM.d}, m = {PROBLEM.m}, where 12ndm is {floor:.3g}.",
    )
    packages = METHODS.packages()
    for name in METHODS.known():
        package = packages.get(name, "svdbench")
        try:
            with as_user_error():
                method = METHODS.load(name)
            with user_code(name):
                cells = [*_cells(method)]
        except (AttributeError, UserError) as error:  # such as a class attribute that it lacks
            if package == "svdbench":
                raise
            cells = ["", "", "", f"can't be used: {error}"]
        table.add(name, *cells, package)
    return table


def _cells(method: Any) -> Iterator[str | TableCell]:
    yield method.kind
    yield method.builds
    yield f"{method.flops(PROBLEM).step / 1e9:.3g}"
    missing = method.skip(PROBLEM)
    skipped = f"; skipped here: {missing}" if missing else ""
    yield TableCell(method.gradients, below=method.source + skipped)
