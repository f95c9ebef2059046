"""The orthogonal parametrisations, with what each says of itself."""

from svdbench.measure.algorithm import Problem
from svdbench.members import METHODS
from svdbench.reporting.report import Table, TableCell

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
    for name in [*METHODS.names(), *packages]:
        method = METHODS.load(name)
        says = method.source
        if missing := method.skip(PROBLEM):
            says += f"; skipped here: {missing}"
        table.add(
            name,
            method.kind,
            method.builds,
            f"{method.flops(PROBLEM).step / 1e9:.3g}",
            TableCell(method.gradients, below=says),
            packages.get(name, "svdbench"),
        )
    return table
