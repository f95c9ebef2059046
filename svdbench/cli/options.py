"""Commands from jobs: an option for every key of the configuration that has a flag.

``--help`` shows commands in panels, no types of Python, and examples at the end.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from enum import Enum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from svdbench.config import completion
from svdbench.config.base import MACHINE, OWN, RUN, TRAINED
from svdbench.config.fields import Leaf
from svdbench.job import Command, Flag, Job, declared
from svdbench.running.output import output_flags, output_of
from svdbench.running.request import (
    Spelling,
    former_spellings,
    frame_of,
    perform,
    request_of,
    spellings,
    switches,
)

# The panels of commands in their order; what names none of them comes last.
PANELS = ("Timing", "Training", "Low rank", "Results", "This machine")


def place_of(each: Job | Command) -> tuple[int, int, str]:
    """Where a command stands in ``svdbench --help``."""
    panel = PANELS.index(each.panel) if each.panel in PANELS else len(PANELS)
    return panel, each.place, each.name


def flowing(text: str) -> str:
    """Paragraphs whose lines end where the terminal does."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def shown_examples(lines: Sequence[str]) -> str | None:
    """Commands as the end of a help text; None without any."""
    shown = "\n".join("  " + line.replace("[", r"\[") for line in lines)
    return f"Examples:\n{shown}" if lines else None


def without_types(parameters: Sequence[Any]) -> list[Any]:
    """The parameters of a command; where they name no value, their help names no type either."""
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None
        elif getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return list(parameters)


class PlainCommand(TyperCommand):
    """A command whose options may be spelt with underscores, or as in earlier versions.

    Where its function has an attribute ``make``, that makes the function with all parameters, once
    they are asked for: ``svdbench --help`` needs none of any command.
    """

    _params: list[Any]

    @property
    def params(self) -> list[Any]:
        """Arguments and options."""
        if (make := getattr(self.callback, "make", None)) is not None:
            alone = typer.Typer(add_completion=False)
            alone.command()(make())
            made: Any = typer.main.get_command(alone)
            self._params, self.callback = made.params, made.callback
        return self._params  # click takes options from it

    @params.setter
    def params(self, params: list[Any]) -> None:
        self._params = params

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters; ``--help`` stands with the other options of the frame."""
        found = without_types(super().get_params(ctx))
        if any(getattr(each, "rich_help_panel", None) == RUN for each in found):
            found[-1].rich_help_panel = RUN
        return found

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command, with its options as they are spelt today."""
        _ = self.params  # made before the attribute is read
        former = getattr(self.callback, "former", {})
        return super().parse_args(ctx, _today(args, former))


def _today(words: Sequence[str], former: Any) -> list[str]:
    found: list[str] = []
    for number, word in enumerate(words):
        if word == "--":
            return [*found, *words[number:]]
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
            name = former.get(name, name)
        found.append(f"{name}{equals}{value}")
    return found


class OrderedGroup(TyperGroup):
    """Commands in the order in which they were added."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, without types."""
        return without_types(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, those that have commands of their own in their place, too."""
        if ctx.parent is not None:
            return list(self.commands)
        order = {each.name: place_of(each) for each in declared()}
        return sorted(self.commands, key=lambda name: order.get(name, (0, 0, "")))


KEYS = "Any key of the configuration, such as seed=1; --show-config lists them all."
SHOW_CONFIG = Flag(
    "--show-config", "Print the configuration with all its keys, explained.", panel=RUN
)


def command_of(jobs: Sequence[Job]) -> Callable[..., None]:
    """A function whose parameters are the options of the jobs that share a word, for Typer."""
    options = spellings(jobs)

    def callback(**given: Any) -> None:
        for keyword, spelling in options.items():
            if spelling.first.key.turns_off and given[keyword] is not None:
                given[keyword] = not given[keyword]
        output = output_of(given["format"], given["output"])
        with redirect_stdout(sys.stderr) if output.claims_stdout else nullcontext():
            result = perform(request_of(jobs, options, given))
        if not (output.is_screen or given["show_config"]):
            output.show(_made(result))
        if not getattr(result, "well", True):  # no seed or job of it went well
            raise typer.Exit(1)

    parameters = list(_parameters(jobs, options))
    callback.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {each.name: each.annotation for each in parameters}
    callback.__doc__ = "\n\n".join(job.help for job in jobs)
    vars(callback)["former"] = former_spellings(options)
    return callback


def later(jobs: Sequence[Job]) -> Callable[..., None]:
    """What stands for :func:`command_of` until its parameters are asked for."""

    def placeholder() -> None:
        """Replaced by what ``make`` returns."""

    placeholder.__doc__ = "\n\n".join(job.help for job in jobs)
    vars(placeholder)["examples"] = [line for job in jobs for line in job.examples]
    vars(placeholder)["make"] = lambda: command_of(jobs)
    return placeholder


def _made(result: Any) -> Any:
    """What there is to show of a job: a table that it returns, or the report of its run."""
    from svdbench.running.result import load

    folder = getattr(result, "folder", result)
    return load(folder).report if isinstance(folder, Path) else result


def _parameters(jobs: Sequence[Job], options: Mapping[str, Spelling]) -> Iterator[Parameter]:
    job = jobs[0]
    if job.subject is not None:
        subject = job.subject
        declared = typer.Argument(
            metavar=subject.metavar,
            help=subject.help,
            autocompletion=completion.first_argument(subject, jobs),
        )
        yield _parameter("subject", str | None, declared)
    declared = typer.Argument(
        metavar="KEY=VALUE", help=KEYS, autocompletion=completion.overrides(jobs)
    )
    yield _parameter("overrides", list[str] | None, declared)
    for flag in (*job.flags, *switches(jobs)):
        yield _of_flag(flag)
    order = (None, *(flag.panel for flag in switches(jobs)), TRAINED, OWN, MACHINE, RUN)
    for keyword, spelling in sorted(options.items(), key=lambda pair: order.index(_panel(pair[1]))):
        yield _of_key(keyword, spelling, job)
    for flag in (*frame_of(jobs), SHOW_CONFIG, *output_flags(RUN)):
        yield _of_flag(flag)


def _of_key(keyword: str, spelling: Spelling, job: Job) -> Parameter:
    leaf = spelling.first
    kind = leaf.kind if leaf.kind in (int, float, bool) else str
    declared = typer.Option(
        leaf.key.flag,
        metavar=leaf.key.metavar,
        help=leaf.help(job.settings.get(leaf.name)),
        rich_help_panel=_panel(spelling),
        autocompletion=_values(leaf),
    )
    return _parameter(keyword, kind | None, declared)


def _panel(spelling: Spelling) -> str | None:
    """The heading of an option in ``--help``; None of those that only this command has."""
    common = spelling.first.key.panel
    return spelling.form or (common if common in (MACHINE, RUN) else None)


def _values(leaf: Leaf) -> Callable[[str], list[str]] | None:
    """What completes the value of an option."""
    if isinstance(leaf.kind, type) and issubclass(leaf.kind, Enum):
        return completion.names([each.value for each in leaf.kind])
    if leaf.name.rpartition(".")[2] == "device":
        return completion.devices
    if leaf.key.choices is not None:
        return completion.names(leaf.key.choices, leaf.is_list)
    metavar = leaf.key.metavar or ""
    if metavar in ("FILE", "FOLDER"):
        return completion.paths
    return completion.names(metavar.split("|")) if metavar.islower() else None


def _of_flag(flag: Flag) -> Parameter:
    names = (flag.flag,) if flag.short is None else (flag.flag, flag.short)
    kind = flag.kind if flag.default is not None else flag.kind | None
    complete = None if flag.choices is None else completion.names(flag.choices)
    if flag.metavar is not None and flag.metavar.startswith("RUN"):
        complete = completion.runs
    declared = typer.Option(
        *names,
        metavar=flag.metavar,
        help=flag.help,
        show_default=False,
        rich_help_panel=flag.panel,
        autocompletion=complete,
    )
    return _parameter(flag.keyword, kind, declared, flag.default)


def _parameter(name: str, kind: Any, declared: Any, default: Any = None) -> Parameter:
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared]
    )
