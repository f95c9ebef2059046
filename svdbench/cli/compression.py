"""The command that compresses networks while they are trained."""

from typing import Annotated

import typer

from svdbench.cli.app import app
from svdbench.cli.options import (
    Epochs,
    Examples,
    Minutes,
    Multirun,
    Name,
    Net,
    Overrides,
    Rate,
    Seeds,
    ShowConfig,
    TrainingSeed,
    dataset_first,
    launch_job,
    names,
    numbers,
)


@app.command()
def compress(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="[DATASET]", help="digits, mnist, …; by default digits."),
    ] = None,
    overrides: Overrides = None,
    rank: Annotated[
        str | None, typer.Option(metavar="K,K,…", help="Rank of the weights; by default 10.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="rsvd, truncsvd, whitened; by default the first two."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="epoch|batch|N", help="Compress this often; N: batches."),
    ] = None,
    net: Net = None,
    epochs: Epochs = None,
    batch: Examples = None,
    lr: Rate = None,
    seeds: Seeds = None,
    oversampling: Annotated[
        int | None, typer.Option(metavar="P", help="Probes of rsvd beyond the rank.")
    ] = None,
    power_iterations: Annotated[
        int | None, typer.Option(metavar="Q", help="Power iterations of rsvd.")
    ] = None,
    max_minutes: Minutes = None,
    seed: TrainingSeed = None,
    name: Name = None,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Train a network on DATASET with its weights kept at a low rank, beside one without.

    All arms start from the same weights and meet the same batches, epoch by epoch in
    turn. The table says what is different, by how much, and whether that is more than
    noise. Layers become two factors only where that saves; how much is counted, and the
    latency measured.

    experiment=three_layer_published repeats document 002's experiment as its code had
    it, experiment=three_layer_corrected as its text has it.

    Writes results/compress/NAME: every epoch, a summary and the layers as CSV, the
    environment, the configuration, and plots.
    """
    dataset, typed = dataset_first(dataset, overrides)
    options = {
        "data.name": dataset,
        "ranks": numbers(rank, "--rank"),
        "methods": names(method),
        "every": every,
        "net": net,
        "epochs": epochs,
        "batch_size": batch,
        "optimizer.lr": lr,
        "seeds": seeds,
        "compressor.rsvd.oversampling": oversampling,
        "compressor.rsvd.power_iterations": power_iterations,
        "max_minutes": max_minutes,
        "seed": seed,
        "name": name,
    }
    launch_job("compress", typed, options, multirun, show_config)
