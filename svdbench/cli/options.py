"""Commands from jobs: an option for every key of the configuration that has a flag."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

from svdbench.config.fields import leaves
from svdbench.job import Flag, Job
from svdbench.running.request import Spelling, perform, request_of, spellings

KEYS = "Keys of the configuration to set, in Hydra's syntax."
RESUME = "Folder of an interrupted run to finish; takes no other options."
CHECKPOINT = " Or a checkpoint to start from, such as last.pt."
FORCE = Flag("--force", "Resume even if svdbench has changed since the run was started.")
QUICK = Flag("--quick", "A first look, within half a minute.")
MULTIRUN = Flag("--multirun", "Sweep: one run per combination of a,b,c values.")
SHOW_CONFIG = Flag("--show-config", "Print the composed configuration and exit.")


def command_of(jobs: Sequence[Job]) -> Callable[..., None]:
    """A function whose parameters are the options of the jobs that share a word, for Typer."""
    options = spellings(jobs)

    def callback(**given: Any) -> None:
        result = perform(request_of(jobs, options, given))
        if not getattr(result, "well", True):  # no seed or job of it went well
            raise typer.Exit(1)

    parameters = list(_parameters(jobs, options))
    callback.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {each.name: each.annotation for each in parameters}
    callback.__doc__ = "\n\n".join(job.help for job in jobs)
    return callback


def _parameters(jobs: Sequence[Job], options: Mapping[str, Spelling]) -> Iterator[Parameter]:
    job = jobs[0]
    if job.subject is not None:
        yield _parameter(
            "subject",
            str | None,
            typer.Argument(metavar=job.subject.metavar, help=job.subject.help),
        )
    yield _parameter(
        "overrides", list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=KEYS)
    )
    for flag in job.flags:
        yield _of_flag(flag)
    for keyword, spelling in options.items():
        leaf = spelling.first
        kind = leaf.kind if leaf.kind in (int, float) else str
        declared = typer.Option(
            leaf.key.flag,
            metavar=leaf.key.metavar,
            help=leaf.help(job.settings.get(leaf.name)),
            rich_help_panel=spelling.form,
        )
        yield _parameter(keyword, kind | None, declared)
    frame = []
    if any(leaf.key.quick is not None for leaf in leaves(job.config)):
        frame.append(QUICK)
    help, metavar = (RESUME + CHECKPOINT, "RUN|FILE") if job.checkpoint else (RESUME, "RUN")
    frame.append(Flag("--resume", help, str, None, metavar))
    frame += [FORCE] if job.same else []
    frame += [MULTIRUN] if job.sweeps else []
    for flag in [*frame, SHOW_CONFIG]:
        yield _of_flag(flag)


def _of_flag(flag: Flag) -> Parameter:
    names = (flag.flag, "-m") if flag is MULTIRUN else (flag.flag,)
    kind = flag.kind if flag.default is not None else flag.kind | None
    declared = typer.Option(*names, metavar=flag.metavar, help=flag.help, show_default=False)
    return _parameter(flag.keyword, kind, declared, flag.default)


def _parameter(name: str, kind: Any, declared: Any, default: Any = None) -> Parameter:
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared]
    )
