"""What ``--help`` looks like: commands in panels, no types of Python, examples at the end."""

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from svdbench.config.base import RUN
from svdbench.job import Command, Job, declared

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
