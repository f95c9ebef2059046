"""Commands that time methods: orthogonal maps, matrix operations, recurrent loops."""

from typing import Annotated

import typer

from svdbench.cli.app import app
from svdbench.cli.options import (
    QUICK_SIZES,
    Budget,
    Force,
    Methods,
    Multirun,
    Name,
    Overrides,
    Quick,
    Resume,
    Seed,
    ShowConfig,
    Sizes,
    launch_job,
    numbers,
    sized,
    timing_options,
)

QUICK_LOOPS = {
    "sizes.hidden": [32, 64],
    "sizes.length": [50],
    "rnn.fasth_each_step.tune": False,
    "rnn.spectral.tune": False,
}


@app.command("time-fasth")
def time_fasth(
    overrides: Overrides = None,
    d: Sizes = None,
    methods: Methods = None,
    budget: Budget = None,
    quick: Quick = False,
    name: Name = None,
    seed: Seed = None,
    resume: Resume = None,
    force: Force = False,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Time a gradient-descent step for every way to parametrise an orthogonal matrix.

    One step is φ(V)·X with its gradients in V and X, for V (d, d) and X (d, 32).
    No method gets a number unless its output, its orthogonality and both
    gradients agree with float64, before its timing and after.

    Writes results/time-fasth/NAME: every sample and a summary as CSV, the
    environment, the configuration, and plots.
    """
    options = sized({"sizes.d": numbers(d)}, quick, QUICK_SIZES)
    options |= timing_options(budget, name, seed, methods=methods)
    launch_job("time_fasth", overrides, options, multirun, show_config, resume, force)


@app.command("time-svd-ops")
def time_svd_ops(
    overrides: Overrides = None,
    d: Sizes = None,
    ops: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Only these operations, as inverse,logdet.")
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
    """Time matrix operations through the factors of W = UΣVᵀ against torch.linalg.

    Inverse, log-determinant, exponential and Cayley map of W (d, d) on
    X (d, 32). One step is the value with its gradients in U, Σ, V and X, or in
    W and X. No method gets a number unless it agrees with float64, before its
    timing and after; the tables show its error beside its time.

    Writes results/time-svd-ops/NAME: every sample and a summary as CSV, the
    environment, the configuration, and a plot.
    """
    options = sized({"sizes.d": numbers(d)}, quick, QUICK_SIZES)
    options |= timing_options(budget, name, seed, ops=ops)
    launch_job("time_svd_ops", overrides, options, multirun, show_config, resume, force)


@app.command("time-rnn")
def time_rnn(
    overrides: Overrides = None,
    hidden: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Hidden sizes; by default 64,128,256.")
    ] = None,
    length: Annotated[
        str | None, typer.Option(metavar="T,T,…", help="Steps of a sequence; by default 200.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Only these, as spectral,torch_rnn.")
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
    """Time the loop of a recurrent network over T steps, forward and backward.

    Of the Spectral-RNN: reflectors one by one at every step, FastH at every
    step, W built once. Beside them torch.nn.RNN, LSTM and GRU. One step is all
    states of 128 sequences with the gradients in the inputs and all parameters.
    No way gets a number unless it agrees with float64, before its timing and
    after.

    Writes results/time-rnn/NAME: every sample and a summary as CSV, the
    environment, the configuration, and plots.
    """
    given = {
        "sizes.hidden": numbers(hidden, "--hidden"),
        "sizes.length": numbers(length, "--length"),
    }
    options = sized(given, quick, QUICK_LOOPS)
    options |= timing_options(budget, name, seed, methods=methods)
    launch_job("time_rnn", overrides, options, multirun, show_config, resume, force)


@app.command()
def methods() -> None:
    """List the orthogonal parametrisations: what each builds, its gradients, its cost."""
    from svdbench.jobs import methods as job

    job.run()
