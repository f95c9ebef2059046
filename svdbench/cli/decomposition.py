"""The command that times drivers of the truncated SVD."""

from typing import Annotated

import typer

from svdbench.cli.app import app
from svdbench.cli.options import (
    Budget,
    Force,
    Multirun,
    Name,
    Overrides,
    Quick,
    Resume,
    Seed,
    ShowConfig,
    launch_job,
    names,
    numbers,
    sized,
    timing_options,
)

QUICK_MATRICES = {"sizes.shapes": ["15x784", "128x128", "512x512"], "sizes.ranks": [10, 64]}


@app.command("time-svd")
def time_svd(
    overrides: Overrides = None,
    shapes: Annotated[
        str | None, typer.Option(metavar="MxN,…", help="Shapes; by default 15x784 to 2048x2048.")
    ] = None,
    ranks: Annotated[
        str | None, typer.Option(metavar="K,K,…", help="Ranks; by default 10,64,256.")
    ] = None,
    spectra: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Of polynomial,exponential,step,gaussian."),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Only these, as auto,torch_svd.")
    ] = None,
    budget: Budget = None,
    quick: Quick = False,
    name: Name = None,
    seed: Seed = None,
    resume: Resume = None,
    force: Force = False,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Time drivers of the truncated SVD: ours, torch's, scikit-learn's and scipy's.

    The first k singular triplets of matrices with polynomial, exponential,
    stepped and flat spectra; time against error over the best possible. No driver
    gets a number unless its factors are orthonormal and its error not below the
    best, and, if it promises the best, its singular values agree with float64.

    Writes results/time-svd/NAME: every sample and a summary as CSV, the
    environment, the configuration, and plots. All of it takes some ten minutes.
    """
    given = {"sizes.shapes": names(shapes), "sizes.ranks": numbers(ranks, "--ranks")}
    options = sized(given, quick, QUICK_MATRICES)
    options |= timing_options(budget, name, seed, spectra=spectra, methods=methods)
    launch_job("time_svd", overrides, options, multirun, show_config, resume, force)
