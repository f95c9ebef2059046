"""The command that reveals the ranks a network needs."""

from collections.abc import Mapping
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


@app.command("rank-reveal")
def rank_reveal(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET|MODULE:BUILD]",
            help="digits, mnist, …; by default digits. Or a function that returns a model.",
        ),
    ] = None,
    overrides: Overrides = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…", help="Of exact,frontier,published; by default the first two."
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(metavar="NATS", help="exact, published: what one layer may add to the loss."),
    ] = None,
    max_loss_increase: Annotated[
        float | None,
        typer.Option(metavar="NATS", help="frontier: what all layers may add; by default 0.01."),
    ] = None,
    params: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="frontier: instead, the part of the weights."),
    ] = None,
    macs: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="frontier: instead, the part of the multiply-adds."),
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="frontier: instead, the part of the time, measured."),
    ] = None,
    multiple_of: Annotated[
        int | None, typer.Option(metavar="N", help="frontier: only ranks that are, as 8 or 16.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="NAME", help="frontier: kronecker, whitened or plain.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(metavar="K", help="Look at this rank of all weights, too.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of the model: .safetensors, .pt or .pth.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="MODULE:LOADER", help="Returns the model's examples.")
    ] = None,
    max_examples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Read no more of each split of the model's examples."),
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
    """Reveal the rank that each weight of a network needs.

    Trains a network on DATASET, or takes a model of your own, and finds by [b]exact[/b] curves
    of loss against rank, by the [b]frontier[/b] of all sizes, certified on true loss, or by the
    [b]published[/b] algorithm of document 002, which ranks will do. What they come to is
    measured on test examples that nothing was chosen by, beside other ways to choose ranks.

    experiment=rank_reveal_three_layer asks document 002's question: is 10 the right rank?

    Writes results/rank-reveal/NAME: layers, networks, curves and frontiers as CSV, the
    environment, the configuration, and plots.
    """
    dataset, typed = dataset_first(dataset, overrides)
    own = dataset is not None and ":" in dataset
    trained = {"net": net, "epochs": epochs, "batch_size": batch, "optimizer.lr": lr}
    trained |= {"seeds": seeds, "max_minutes": max_minutes}
    brought = {"model.weights": weights, "model.loader": data, "model.max_examples": max_examples}
    _refuse(
        trained if own else brought,
        f"is for {'a data set' if own else 'a model of your own'}, and {dataset or 'digits'} is "
        f"{'a model' if own else 'a data set'}: leave it out",
    )
    options = {
        "model.build" if own else "data.name": dataset,
        **brought,
        **trained,
        "algorithms": names(algorithm),
        "epsilon": epsilon,
        "max_loss_increase": max_loss_increase,
        "budget.params": params,
        "budget.macs": macs,
        "budget.latency": latency,
        "multiple_of": multiple_of,
        "kind": kind,
        "asked_rank": rank,
        "seed": seed,
        "name": name,
    }
    launch_job("rank_reveal", typed, options, multirun, show_config, resume, force)


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raise UserError for the first option that was given."""
    flags = {"model.loader": "data", "batch_size": "batch", "optimizer.lr": "lr"}
    for key, value in options.items():
        if value is not None:
            flag = flags.get(key, key.rpartition(".")[2]).replace("_", "-")
            raise UserError(f"--{flag} {why}")
