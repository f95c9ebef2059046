"""What commands share: the options that they have alike, and what becomes of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from svdbench.errors import UserError
from svdbench.overrides import override

QUICK_SIZES = {"sizes.d": [64, 128, 256]}

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the configuration to set, Hydra's way."),
]
Sizes = Annotated[
    str | None,
    typer.Option("--d", metavar="D,D,…", help="Sizes d to sweep; by default 64 to 1024."),
]
Methods = Annotated[
    str | None, typer.Option(metavar="NAME,…", help="Only these methods; `svdbench methods` lists.")
]
Budget = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Measuring time, all sizes together.")
]
Quick = Annotated[bool, typer.Option("--quick", help="A first look, within half a minute.")]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the run's folder; by default the time.")
]
Seed = Annotated[int | None, typer.Option(help="Of the random inputs and the order of rounds.")]
Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="Sweep: one run per combination of a,b,c values.")
]
Resume = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Finish a run that was cut short: its folder, nothing else."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Finish the run although svdbench has changed since it began."),
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Print the composed configuration and stop.")
]
Model = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="spectral-rnn, lstm, …; several as a,b; or all."),
]
Task = Annotated[str, typer.Option(metavar="TASK", help="addition, copy, smnist or pmnist.")]
TrainingSeed = Annotated[int | None, typer.Option(help="Of the initialisation and the samples.")]
Rate = Annotated[float | None, typer.Option(metavar="RATE", help="Learning rate.")]
Seeds = Annotated[
    int | None, typer.Option(metavar="K", help="Train K times, with seed, seed + 1, ….")
]
Net = Annotated[str | None, typer.Option(metavar="SIZES", help="Layers, as 784-512-256-10.")]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Epochs of training.")]
Examples = Annotated[int | None, typer.Option(metavar="B", help="Examples in a batch.")]
Minutes = Annotated[
    float | None, typer.Option(metavar="MINUTES", help="Stop all training by the clock.")
]
# Keys whose values are functions of the user's own, as MODULE:FUNCTION.
FUNCTIONS = ("model.build", "model.loader", "loss")


def overrides_of(options: Mapping[str, Any]) -> list[str]:
    """The options, by key, as overrides; what is ``None`` was not given."""
    return [override(key, value) for key, value in options.items() if value is not None]


def timing_options(
    budget: float | None, name: str | None, seed: int | None, **chosen: str | None
) -> dict[str, Any]:
    """What all timing commands have, by key; ``chosen`` are names with commas between."""
    return {
        **{key: names(text) for key, text in chosen.items()},
        "measure.budget_s": budget,
        "name": name,
        "seed": seed,
    }


def dataset_first(dataset: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """The data set and what was typed after it; where there is none, KEY=VALUE stands first."""
    typed = list(overrides or ())
    if dataset is not None and "=" in dataset:
        return None, [dataset, *typed]
    return dataset, typed


def sized(given: Mapping[str, Any], quick: bool, small: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes to time, by key: those given; with ``--quick``, else ``small``, and briefly."""
    options = {"measure": "quick", **small} if quick else {}
    return options | {key: value for key, value in given.items() if value is not None}


def names(text: str | None) -> list[str] | None:
    """Names with commas between."""
    return None if text is None else [name.strip() for name in text.split(",")]


def numbers(text: str | None, option: str = "--d") -> list[int] | None:
    """Whole numbers from 1 up with commas between.

    Raises:
        UserError: something else, given to ``option``.
    """
    if text is None:
        return None
    try:
        found = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise UserError(
            f"{option} is {text!r}: give whole numbers from 1 up, as in {option} 64,128"
        )
    return found


def key_values(typed: list[str] | None) -> list[str]:
    """The overrides that were typed, if they are any.

    Raises:
        UserError: one is not KEY=VALUE.
    """
    typed = typed or []
    for given in typed:
        # After -- may stand what looks like an option; Hydra has some, one of which runs a pickle.
        if given.startswith(("-", "=")) or ("=" not in given and not given.startswith("~")):
            raise UserError(f"{given!r} is not KEY=VALUE: write it as in sizes.m=64")
    return typed


def launch_job(
    job: str,
    typed: list[str] | None,
    options: Mapping[str, Any],
    multirun: bool = False,
    show_config: bool = False,
    resume: str | None = None,
    force: bool = False,
) -> None:
    """Run a job, or show its configuration: with ``options`` by key, over which ``typed`` win.

    Args:
        resume: the folder of a run to be finished instead.
        force: finish a run of timings that another version of svdbench began.
    """
    typed = key_values(typed)
    from svdbench.record.resumption import mixing_versions

    with mixing_versions(force):
        _launch_job(job, typed, options, multirun, show_config, resume)


def _launch_job(
    job: str,
    typed: list[str],
    options: Mapping[str, Any],
    multirun: bool,
    show_config: bool,
    resume: str | None,
) -> None:
    if resume is not None:
        named = {key: options[key] for key in FUNCTIONS if options.get(key) is not None}
        rest = {key: value for key, value in options.items() if key not in named}
        others = [*overrides_of(rest), *typed, *(["-m"] if multirun else [])]
        go_on(resume, job, others, list(named.values()))
        return
    given = [*overrides_of(options), *typed]
    from svdbench.launch import launch, show

    if show_config:
        typer.echo(show(job, given), nl=False)
    elif multirun:
        from svdbench.sweeps import Sweep, SweepSource, run_sweep

        command = {"compress_model": ["compress", options.get("model.build")]}
        words = [*map(str, command.get(job, [job.replace("_", "-")])), "-m"]
        words += [text for text in given if not text.startswith("name=")]
        run_sweep(Sweep(job, (SweepSource(tuple(given)),), tuple(words))).check()
    else:
        launch(job, given)


def go_on(run: str, job: str, given: list[str], functions: Sequence[str] = ()) -> Any:
    """Finish a run of a job's command; returns what the job does.

    Args:
        functions: of the user's own, which a file alone can't have called.

    Raises:
        UserError: something else was given, which the run's own configuration says already.
    """
    if given:
        raise UserError(
            f"--resume finishes a run as it was begun: leave out {given[0]}, or begin another run"
        )
    from svdbench.jobs.resume import resume

    return resume(run, job, functions)
