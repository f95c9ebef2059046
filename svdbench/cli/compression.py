"""The command that compresses: networks while they are trained, or a model of the user's own."""

from collections.abc import Mapping
from typing import Annotated, Any

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
    numbers,
)
from svdbench.errors import UserError

TRAINED, OWN = "Networks that it trains", "A model of your own"
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}


@app.command()
def compress(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET|MODULE:BUILD]",
            help="digits, mnist, …; by default digits. Or a function that returns a model.",
        ),
    ] = None,
    overrides: Overrides = None,
    rank: Annotated[
        str | None,
        typer.Option(
            metavar="K,K,…", help="Rank of the weights; by default 10.", rich_help_panel=TRAINED
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="rsvd, truncsvd, whitened; by default the first two.",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="epoch|batch|N",
            help="Compress this often; N: batches.",
            rich_help_panel=TRAINED,
        ),
    ] = None,
    net: Net = None,
    epochs: Epochs = None,
    batch: Examples = None,
    seeds: Seeds = None,
    oversampling: Annotated[
        int | None,
        typer.Option(metavar="P", help="Probes of rsvd beyond the rank.", rich_help_panel=TRAINED),
    ] = None,
    power_iterations: Annotated[
        int | None,
        typer.Option(metavar="Q", help="Power iterations of rsvd.", rich_help_panel=TRAINED),
    ] = None,
    max_minutes: Minutes = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Its weights: .safetensors, or a state_dict of torch.save.",
            rich_help_panel=OWN,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:LOADER",
            help="Returns (X, y), batches or a DataLoader; or a dict with the keys calibration, "
            "validation and test.",
            rich_help_panel=OWN,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:LOSS",
            help="Of outputs and targets; by default cross entropy, or mean squared error.",
            rich_help_panel=OWN,
        ),
    ] = None,
    max_loss_increase: Annotated[
        float | None,
        typer.Option(
            metavar="LOSS",
            help="What compression may add, in the loss's unit (nats for cross entropy); by "
            "default 0.01.",
            rich_help_panel=OWN,
        ),
    ] = None,
    params: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Instead: the part of the numbers in the weights to keep.",
            rich_help_panel=OWN,
        ),
    ] = None,
    macs: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Instead: the part of their layers' multiply-adds.",
            rich_help_panel=OWN,
        ),
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Instead: the part of their layers' time, measured.",
            rich_help_panel=OWN,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What counts: kronecker, the loss; whitened, a layer's output; plain, its weight.",
            rich_help_panel=OWN,
        ),
    ] = None,
    multiple_of: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only ranks that are, as 8 or 16.", rich_help_panel=OWN),
    ] = None,
    keep_if: Annotated[
        str | None,
        typer.Option(
            metavar="size|latency",
            help="Factor a layer if it gets smaller; or only if it is measured to be faster.",
            rich_help_panel=OWN,
        ),
    ] = None,
    calibration: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Examples to calibrate on; by default half.", rich_help_panel=OWN
        ),
    ] = None,
    max_examples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Read no more of each split; a loader without an end needs it.",
            rich_help_panel=OWN,
        ),
    ] = None,
    finetune_epochs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Train for so long afterwards.", rich_help_panel=OWN),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="cpu, cuda or cuda:N.", rich_help_panel=OWN),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="Of weights and inputs: fp32, the default, bf16, ….",
            rich_help_panel=OWN,
        ),
    ] = None,
    lr: Rate = None,
    seed: TrainingSeed = None,
    name: Name = None,
    resume: Resume = None,
    force: Force = False,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Keep the weights of a network at a low rank: as it is trained on DATASET, or of a model of
    your own that the function MODULE:BUILD returns.

    DATASET: all arms, with and without compression, start from the same weights and meet
    the same batches, epoch by epoch in turn. The table says what is different, by how
    much, and whether that is more than noise. Layers become two factors only where that
    saves; how much is counted, and the latency measured.

    experiment=three_layer_published repeats document 002's experiment as its code had
    it, experiment=three_layer_corrected as its text has it.

    Writes results/compress/NAME: every epoch, a summary and the layers as CSV, the
    environment, the configuration, and plots.

    MODULE:BUILD: ranks are chosen for all weights together, from one pass over calibration
    examples and a search on true loss, and judged by examples held out. The module is
    looked for in this folder; nothing else of yours is executed.

    Writes results/compress-model/NAME: the model as safetensors and JSON, which
    svdbench.lowrank.load(build(), PATH) restores; a summary, the layers and the frontier
    as CSV, the environment, the configuration, and a plot.
    """
    subject, typed = dataset_first(subject, overrides)
    trained: dict[str, Any] = {
        "data.name": subject,
        "ranks": numbers(rank, "--rank"),
        "methods": names(method),
        "every": every,
        "net": net,
        "epochs": epochs,
        "batch_size": batch,
        "seeds": seeds,
        "compressor.rsvd.oversampling": oversampling,
        "compressor.rsvd.power_iterations": power_iterations,
        "max_minutes": max_minutes,
    }
    own: dict[str, Any] = {
        "model.build": subject,
        "model.weights": weights,
        "model.loader": data,
        "model.max_examples": max_examples,
        "loss": loss,
        "max_loss_increase": max_loss_increase,
        "budget.params": params,
        "budget.macs": macs,
        "budget.latency": latency,
        "kind": kind,
        "multiple_of": multiple_of,
        "keep_if": keep_if,
        "calibration": calibration,
        "finetune.epochs": finetune_epochs,
        "device": device,
        "dtype": None if dtype is None else DTYPES.get(dtype, dtype),
    }
    both: dict[str, Any] = {"seed": seed, "name": name}
    if subject is not None and ":" in subject:
        _refuse(trained, "networks that are trained on a DATASET, and a model is given")
        options = own | {"finetune.lr": lr} | both
        launch_job("compress_model", typed, options, multirun, show_config, resume, force)
    else:
        _refuse(own, "a model of your own: name it first, as my_net:build")
        options = trained | {"optimizer.lr": lr} | both
        launch_job("compress", typed, options, multirun, show_config, resume, force)


# Options whose keys in the configuration have other names.
SPELT = {
    "ranks": "rank",
    "methods": "method",
    "batch_size": "batch",
    "compressor.rsvd.oversampling": "oversampling",
    "compressor.rsvd.power_iterations": "power-iterations",
    "model.weights": "weights",
    "model.loader": "data",
    "model.max_examples": "max-examples",
    "budget.params": "params",
    "budget.macs": "macs",
    "budget.latency": "latency",
    "finetune.epochs": "finetune-epochs",
}


def _refuse(options: Mapping[str, Any], of: str) -> None:
    """Refuse an option of the other form of the command, whose first entry is the subject."""
    for key, value in list(options.items())[1:]:
        if value is not None:
            option = SPELT.get(key, key).replace("_", "-")
            raise UserError(f"--{option} is of {of}")
