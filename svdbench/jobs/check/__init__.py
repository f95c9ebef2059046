"""The command that checks a member: a class of the user's own, an installed one, or one of ours."""

from typing import Annotated

import typer

from svdbench.job import Command


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:CLASS",
            help="A class in a module of this folder or on the path, or a name (`svdbench list`).",
        ),
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Arguments of its constructor."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="Group, such as methods, if the name is in several."),
    ] = None,
    limit: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="Time limit for each test; by default 30.",
            show_default=False,
        ),
    ] = 30.0,
) -> None:
    """Check that your own method, model, task, … meets the requirements of its kind.

    The class derives from a base class of svdbench.extend, which determines the tests: shapes,
    dtypes, values against its reference, gradients, side effects, reproducibility and counts.
    svdbench's own members pass the same tests. Each failure comes with advice.

    Exit code 1 if a test fails, 2 if there is no such class.

    Examples:
        svdbench check my_net:MyMethod
        svdbench check spectral-rnn
    """
    from svdbench.jobs.check import run as job

    job.run(name, options or [], group, limit)


COMMAND = Command("check", check, panel="This machine", place=4)
