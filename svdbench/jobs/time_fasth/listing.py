"""Lists the orthogonal parametrisations and what each says of itself."""

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from svdbench.measure.algorithm import Problem
from svdbench.members import METHODS

PROBLEM = Problem(d=512, n=512, m=32)


def run() -> None:
    """A few lines per YAML in ``conf/orthogonal``."""
    console = Console()
    installed = METHODS.installed()
    width = max(map(len, [*METHODS.names(), *installed]))
    for name in [*METHODS.names(), *installed]:
        method = METHODS.load(name)
        flops = method.flops(PROBLEM).step / 1e9
        console.print(
            f"[bold]{name:{width}}[/]  {method.kind}; builds {method.builds}; "
            f"{flops:.3g} Gflop a step",
            highlight=False,
        )
        says = [f"gradients: {method.gradients}", method.source]
        if name in installed:
            says.append("from another package")
        if missing := method.skip(PROBLEM):
            says.append(f"skipped here: {missing}")
        console.print(Padding(escape("\n".join(says)), (0, 0, 0, width + 2)), style="dim")
    floor = 12 * PROBLEM.n * PROBLEM.d * PROBLEM.m / 1e9
    console.print(
        f"(flop at d = n = {PROBLEM.d}, m = {PROBLEM.m}, where 12ndm is {floor:.3g} Gflop)",
        highlight=False,
    )
