"""Commands that train models on tasks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from svdbench.cli.app import app
from svdbench.cli.options import (
    Model,
    Multirun,
    Name,
    Overrides,
    Rate,
    Resume,
    Seeds,
    ShowConfig,
    Task,
    TrainingSeed,
    go_on,
    key_values,
    overrides_of,
)
from svdbench.errors import UserError

GRADIENT_STEPS, GRADIENTS_EVERY = 2000, 50


@app.command()
def train(
    model: Model = None,
    overrides: Overrides = None,
    task: Task = "addition",
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps of the optimiser, at most.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Stop each training by the clock.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Stop where loss ≤ SHARE × baseline; 0: don't."),
    ] = None,
    hidden: Annotated[int | None, typer.Option(metavar="N", help="Hidden units.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="B", help="Sequences in a batch.")] = None,
    lr: Rate = None,
    orthogonal_lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="The same, of what makes the recurrent weight."),
    ] = None,
    seeds: Seeds = None,
    seed: TrainingSeed = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="Processes to divide each batch among.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|FILE",
            help="Finish a run that was cut short: its folder, nothing else. Or begin a new one "
            "from a checkpoint, as last.pt.",
        ),
    ] = None,
    preset: Annotated[
        bool, typer.Option("--preset/--no-preset", help="Start from what conf/preset has.")
    ] = True,
    name: Name = None,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Train MODEL on TASK and watch its loss against the baseline.

    Starts from settings that converge, of conf/preset, over which all options and
    KEY=VALUE win. Evaluates as it goes on sequences held out, keeps the best and the
    last weights, stops at the target, and looks at the test set once, at the end.

    Writes results/train/NAME: every evaluation and a summary as CSV, checkpoints, the
    environment, the configuration, and plots against iterations and seconds. With
    several models, or --multirun, a folder for each and plots of all.
    """
    options = {
        "trainer.steps": steps,
        "trainer.max_minutes": max_minutes,
        "trainer.target": target,
        "trainer.batch_size": batch,
        "trainer.seeds": seeds,
        "model.hidden_size": hidden,
        "optimizer.lr": lr,
        "optimizer.orthogonal_lr": orthogonal_lr,
        "trainer.processes": processes,
        "seed": seed,
    }
    given = [*overrides_of(options), *key_values(overrides)]
    if resume is not None and (model is None or Path(resume).is_dir()):
        typed = [*given, *([model] if model else []), *(["--name"] if name else [])]
        if not go_on(resume, "train", typed).well:
            raise typer.Exit(1)
        return
    model = _named(model)
    given += overrides_of({"trainer.resume": resume})
    from svdbench.jobs import train_models as job

    if show_config:
        typer.echo(job.configurations(model, task, given, presets=preset), nl=False)
    elif not job.train(model, task, given, name=name, presets=preset, multirun=multirun):
        raise typer.Exit(1)


@app.command()
def gradients(
    model: Model = None,
    overrides: Overrides = None,
    task: Task = "addition",
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps of the optimiser.")
    ] = GRADIENT_STEPS,
    every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps from look to look.")
    ] = GRADIENTS_EVERY,
    seed: TrainingSeed = None,
    name: Name = None,
    resume: Resume = None,
    show_config: ShowConfig = False,
) -> None:
    """Train MODEL on TASK and look at ‖∂L/∂h_t‖ for every step t of the sequence.

    Trains as `svdbench train` does, with its presets and keys, but to the last
    step and without checkpoints. Gradients that vanish or explode show as a
    slope over t.

    Writes results/gradients/NAME: norms, evaluations and a summary as CSV, the
    environment, the configuration, heat maps over t and training, and curves.
    """
    options: dict[str, Any] = {"trainer.steps": steps, "trainer.evaluate_every": every}
    options |= {"trainer.target": 0, "trainer.checkpoint": False, "seed": seed}
    if resume is not None:
        go_on(resume, "gradients", [*key_values(overrides), *([model] if model else [])])
        return
    model = _named(model)
    given = [*overrides_of(options), *key_values(overrides)]
    from svdbench.jobs import gradients as job

    if show_config:
        typer.echo(job.configurations(model, task, given), nl=False)
    else:
        job.run(model, task, given, name=name)


def _named(model: str | None) -> str:
    """The first argument, if it is one."""
    if model is None or "=" in model:
        given = "" if model is None else f", not {model!r}"
        raise UserError(f"the first argument is MODEL{given}: as in svdbench train lstm")
    return model
