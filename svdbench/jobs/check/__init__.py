"""The command that checks a member: a class of the user's own, an installed one, or one of ours."""

from typing import Annotated

import typer

from svdbench.job import Command


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:CLASS",
            help="A class in a module of this folder or on the path, or the name of a member.",
        ),
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Arguments of its constructor."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="The group, such as methods, where a name is in two."),
    ] = None,
    limit: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="Time limit for each question; by default 30.",
            show_default=False,
        ),
    ] = 30.0,
) -> None:
    """Check that a class of your own does what its group asks for.

    The class derives from a base class of svdbench.extend, which decides the questions: shapes,
    dtypes, values against its reference, gradients, side effects, reproducibility and counts. They
    are those that svdbench's own members are tested with. Each wrong answer comes with advice.

    Exit code 1 if an answer is wrong, 2 if there is no such class.

    Examples:
        svdbench check my_net:MyMethod
        svdbench check spectral-rnn
    """
    from svdbench.jobs.check import run as job

    job.run(name, options or [], group, limit)


COMMAND = Command("check", check, panel="This machine", place=4)
