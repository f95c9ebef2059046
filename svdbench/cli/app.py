"""The command line's frame: what all commands are registered with, and how a mistake ends."""

import os
import sys
from inspect import getdoc
from typing import Annotated

import typer

from svdbench.errors import UserError, one_line, out_of_memory

LONGEST = 1000  # characters of a message

app = typer.Typer(
    name="svdbench",
    help="Benchmarks and experiments for neural networks whose weights carry an SVD.",
    epilog="Every key of a command's configuration can be set as [b]key=value[/b] after its "
    "options, as in [b]svdbench time-fasth sizes.m=64 dtype=float64[/b].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from svdbench import __version__

        typer.echo(f"svdbench {__version__}")
        raise typer.Exit


def flow_help(app: typer.Typer) -> None:
    """Let the lines of each command's description end where the terminal does."""
    for command in app.registered_commands:
        text = command.help or getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            flow_help(group.typer_instance)


def main(arguments: list[str] | None = None) -> None:
    """The console script: a mistake of the user's is one line on stderr and exit code 2."""
    os.environ["MPLBACKEND"] = "agg"  # plots go into files, whatever the user's backend is
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:
        if out_of_memory(error):
            _fail(f"there is too little memory: {one_line(error)}: ask for smaller sizes")
        if not hasattr(error, "format_message"):  # not a mistake on the command line
            raise
        message = error.format_message()
        if not message:  # no arguments at all: the help is the answer
            sys.exit(2)
        _fail(f"{message} (see --help)")
    else:
        sys.exit(code or 0)


def _fail(message: str, code: int = 2) -> None:
    print(f"svdbench: {_shown(message)}", file=sys.stderr)
    sys.exit(code)


def _shown(message: str) -> str:
    """One line that can be read, whatever was typed or found in a file."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
