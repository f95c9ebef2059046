"""The command that compares two runs."""

import math
from typing import Annotated

import typer

from svdbench.config.completion import runs
from svdbench.errors import UserError
from svdbench.job import Command
from svdbench.running.output import FormatOption, OutputOption, output_of


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The earlier run: its folder or name.", autocompletion=runs
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(metavar="B", help="The later run: its folder or name.", autocompletion=runs),
    ],
    threshold: Annotated[
        float,
        typer.Option(
            metavar="RATIO",
            help="Slowdown (B / A) from which a cell counts as a regression; by default 1.05.",
            show_default=False,
        ),
    ] = 1.05,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Columns to compare, such as fwd_s,bwd_s; by default times, then scores.",
        ),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Probability of at least one false alarm when nothing changed; by default 0.05.",
            show_default=False,
        ),
    ] = 0.05,
    force: Annotated[
        bool, typer.Option("--force", help="Compare even if the environments do not match.")
    ] = False,
    fail_undecided: Annotated[
        bool, typer.Option("--fail-undecided", help="Also fail if a cell is undecided or missing.")
    ] = False,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Compare two runs: what is faster, slower, the same, or undecided.

    A cell is a method at one size, or a model on one task. Times are compared by a Mann–Whitney
    test of all samples; a difference must also show between bursts of repetitions. Results of
    training are compared seed by seed. Each cell has an interval of the ratio B / A, corrected
    for the number of cells. A folder with several runs of the same cells counts as one side.

    Exit code 0: no regression. 1: a significant regression beyond the threshold, or a cell
    that works in A and fails in B. 2: usage error. 3: the runs are not comparable, because
    job, CPU, GPU, threads, device or dtype differ. 4, with --fail-undecided: no regression,
    but a cell of A is undecided or missing in B.

    Examples:
        svdbench compare results/time-fasth/before results/time-fasth/after
        svdbench compare before after --threshold 1.1 --format markdown --output comparison.md
    """
    if not (math.isfinite(threshold) and threshold >= 1):
        raise UserError(f"--threshold is {threshold:g}: give a ratio of at least 1, such as 1.05")
    if not 0 < alpha < 1:
        raise UserError(f"--alpha is {alpha:g}: give a probability between 0 and 1, such as 0.05")
    shown = output_of(format, output)
    from svdbench.jobs.compare import report
    from svdbench.jobs.compare.comparison import compare as compare_runs
    from svdbench.jobs.compare.runs import load

    found = compare_runs(
        load(a),
        load(b),
        metrics=None if metrics is None else [name.strip() for name in metrics.split(",")],
        threshold=threshold,
        alpha=alpha,
        force=force,
        fail_undecided=fail_undecided,
    )
    shown.show(
        report.report(found), json=lambda: report.as_json(found), csv=lambda: report.as_csv(found)
    )
    raise typer.Exit(found.exit_code)


COMMAND = Command("compare", compare, former={"--metric": "--metrics"}, panel="Results", place=2)
