"""The command that trains networks faster, in factors of low rank."""

from typing import Annotated

import typer

from svdbench.cli.app import app
from svdbench.cli.options import (
    Epochs,
    Examples,
    Force,
    Minutes,
    Multirun,
    Name,
    Net,
    Overrides,
    Rate,
    Resume,
    Seeds,
    ShowConfig,
    TrainingSeed,
    dataset_first,
    launch_job,
    names,
)
from svdbench.errors import UserError


@app.command()
def accelerate(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="[DATASET]", help="digits, mnist, xor, …; by default digits."),
    ] = None,
    overrides: Overrides = None,
    alpha: Annotated[
        str | None,
        typer.Option(metavar="A,A,…", help="Singular values kept, as a share; by default 0.5."),
    ] = None,
    alpha_meaning: Annotated[
        str | None,
        typer.Option(
            metavar="code|text", help="A share of mn/(m + n), or of the smaller side of a weight."
        ),
    ] = None,
    ranks: Annotated[
        str | None,
        typer.Option(metavar="L,L,…", help="Instead of alpha, by layer, as 154,85,none."),
    ] = None,
    phi: Annotated[
        str | None,
        typer.Option(metavar="P,P,…", help="Share of dense steps; by default 0.1 and 0."),
    ] = None,
    net: Net = None,
    epochs: Epochs = None,
    batch: Examples = None,
    lr: Rate = None,
    seeds: Seeds = None,
    max_minutes: Minutes = None,
    seed: TrainingSeed = None,
    name: Name = None,
    resume: Resume = None,
    force: Force = False,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Train a network on DATASET as SVD-DNN does, beside the same one dense.

    After a share φ of the steps each layer W becomes two factors W₁W₂ of low
    rank, which take fewer multiplications, and at the end one matrix again.
    All arms start from the same weights and meet the same batches, epoch by
    epoch in turn. Beside the speed stands its ceiling, what the saved
    multiplications can explain; accuracy comes with an interval.

    experiment=svd_dnn_mnist_published repeats document 003's experiment as
    its code had it, svd_dnn_mnist_corrected without what is wrong with it;
    likewise svd_dnn_xor_… and svd_dnn_cats_…; svd_dnn_alpha sweeps α.

    Writes results/accelerate/NAME: every epoch, a summary and the layers as
    CSV, the environment, the configuration, and plots.
    """
    dataset, typed = dataset_first(dataset, overrides)
    options = {
        "data.name": dataset,
        "alphas": shares(alpha, "--alpha"),
        "alpha_meaning": alpha_meaning,
        "ranks": names(ranks),
        "phis": shares(phi, "--phi"),
        "net": net,
        "epochs": epochs,
        "batch_size": batch,
        "optimizer.lr": lr,
        "seeds": seeds,
        "max_minutes": max_minutes,
        "seed": seed,
        "name": name,
    }
    launch_job("accelerate", typed, options, multirun, show_config, resume, force)


def shares(text: str | None, option: str) -> list[float] | None:
    """Numbers with commas between.

    Raises:
        UserError: something else, given to ``option``.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"{option} is {text!r}: give numbers with commas between, as in {option} 0.5,0.25"
        ) from None
