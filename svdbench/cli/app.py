"""The command line's frame: a command for each door, and how a mistake ends."""

import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from inspect import getdoc
from io import StringIO
from itertools import groupby
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

import svdbench
from svdbench.cli.options import (
    OrderedGroup,
    PlainCommand,
    flowing,
    later,
    place_of,
    shown_examples,
)
from svdbench.cli.streams import OutputLost, standard_streams
from svdbench.config import completion
from svdbench.errors import (
    Failed,
    Interrupted,
    UserError,
    as_user_error,
    check_text,
    is_interrupt,
    name_too_long,
    one_line,
    out_of_memory,
)
from svdbench.job import EXAMPLES, Command, Job, declared, examples_in

LONGEST = 1000  # characters of a message
TRACEBACK = "--traceback"

app = typer.Typer(
    name="svdbench",
    cls=OrderedGroup,
    help="Benchmarks and experiments for neural networks whose weights carry an SVD.",
    epilog="Start with [b]svdbench time-fasth --quick[/b]. [b]svdbench COMMAND --help[/b] lists "
    "the options of a command, with examples; [b]svdbench list[/b] lists methods, models, data "
    "sets and runs. Every key of a command's configuration can also be set as KEY=VALUE, as in "
    "[b]svdbench time-fasth measure.precision=0.01[/b].",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    traced: Annotated[
        bool, typer.Option(TRACEBACK, help="Show the full traceback of an error.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"svdbench {svdbench.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def _add_commands() -> None:
    """Register every command, in the order of the panels of ``--help``."""

    def word(each: Job | Command) -> str:
        return each.word if isinstance(each, Job) else each.name

    found = [list(sharing) for _, sharing in groupby(sorted(declared(), key=word), key=word)]
    for sharing in sorted(found, key=lambda sharing: place_of(sharing[0])):
        if jobs := [each for each in sharing if isinstance(each, Job)]:
            _add_function(app, jobs[0].word, later(jobs), jobs[0].panel)
        for command in sharing:
            if isinstance(command, Command):
                _add_command(app, command)


def _add_command(app: typer.Typer, command: Command) -> None:
    if command.function is not None:
        function = command.function
        vars(function)["former"] = command.former
        _add_function(app, command.name, function, command.panel, hidden=command.hidden)
    if command.commands:
        several = typer.Typer(cls=OrderedGroup, help=command.help, no_args_is_help=True)
        app.add_typer(several, name=command.name, rich_help_panel=command.panel)
        for each in command.commands:
            _add_command(several, each)


def _add_function(
    app: typer.Typer,
    name: str,
    function: Callable[..., Any],
    panel: str | None,
    hidden: bool = False,
) -> None:
    text = getdoc(function) or ""
    examples = getattr(function, "examples", None) or examples_in(text)
    register = app.command(
        name,
        cls=PlainCommand,
        help=flowing(text.partition(EXAMPLES)[0]),
        epilog=shown_examples(examples),
        rich_help_panel=panel,
        hidden=hidden,
    )
    register(function)


def main(arguments: list[str] | None = None) -> None:
    """The command line: an error is one line on stderr and an exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    traced = TRACEBACK in typed
    typed = [word for word in typed if word != TRACEBACK]
    os.environ["MPLBACKEND"] = "agg"  # plots are written to files, not shown
    with standard_streams() as output:
        try:
            code, message = _run(typed), ""
            sys.stdout.flush()
        except OutputLost:
            code, message = Failed.exit_code, ""
        except KeyboardInterrupt:
            code, message = Interrupted.exit_code, "interrupted"
        except Exception as error:
            if traced:
                traceback.print_exc()
            code, message = _ending(error, typed)
        if output is not None and output.fault is not None:
            code, message = Failed.exit_code, output.message(message)
        if message:
            print(f"svdbench: {_shown(message)}", file=sys.stderr)
    sys.exit(code)


def _run(typed: list[str]) -> int:
    """Run the command that was typed; its exit code."""
    for word in typed:  # no shell passes such words on, but a program may
        with as_user_error():
            check_text(f"{word!r}", word)
    if completion.VARIABLE in os.environ:  # asked by a shell
        return _complete(typed)
    command = typer.main.get_command(app)
    try:
        with command.make_context("svdbench", typed) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _complete(typed: list[str]) -> int:
    """Answer a shell that asks for completions, or for the script that asks."""
    known, answer = completion.rejoin_words(), StringIO()
    try:
        with redirect_stdout(answer):
            return app(typed, prog_name="svdbench", standalone_mode=False) or 0
    finally:
        for line in answer.getvalue().splitlines():
            print(line.removeprefix(known))


def _ending(error: Exception, typed: list[str]) -> tuple[int, str]:
    """The exit code and the line that an exception stands for; none where help was shown."""
    if isinstance(error, UserError):
        return error.exit_code, str(error)
    if type(error).__name__ == "NoArgsIsHelpError":  # which has shown it
        return 0, ""
    if hasattr(error, "format_message"):  # of the command line itself, from click or typer
        message = (_rejected(error, typed) or error.format_message()).rstrip(".")
        return 2, f"{message} (see --help)" if message else ""
    if is_interrupt(error):
        return Interrupted.exit_code, "interrupted"
    if message := name_too_long(error):
        return UserError.exit_code, message
    if out_of_memory(error):
        return 2, f"{one_line(error)}: use smaller sizes"
    what = f"internal error: {type(error).__name__}: {one_line(error)}"
    return 1, f"{what}: please report it{_saved(typed)}"


def _saved(typed: list[str]) -> str:
    """Where the traceback of the current exception is kept."""
    head = f"svdbench {svdbench.__version__} {shlex.join(typed)}\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="svdbench-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(head + traceback.format_exc())
    except OSError:
        return f", with what {TRACEBACK} shows"
    return f" with {file.name}; {TRACEBACK} shows the same"


def _rejected(error: Any, typed: list[str]) -> str | None:
    """What is wrong with the value of an option that is no number, or out of range."""
    parameter, context = getattr(error, "param", None), getattr(error, "ctx", None)
    if parameter is None or context is None or type(error).__name__ != "BadParameter":
        return None
    hint = get_type_hints(context.command.callback, include_extras=True).get(parameter.name)
    if get_origin(hint) is not Annotated:
        return None
    kind, declared = get_args(hint)[:2]
    kinds = get_args(kind) or (kind,)
    words = "a whole number" if int in kinds else "a number" if float in kinds else None
    if words is None:
        return None
    least = "" if declared.min is None else f" of at least {declared.min:g}"
    option = max(parameter.opts, key=len)
    value = _value_of(parameter.opts, typed)
    given = "" if value is None else f" is {value!r}"
    return f"{option}{given}: give {words}{least}"


def _value_of(options: Sequence[str], typed: Sequence[str]) -> str | None:
    """What was typed last for an option."""
    value = None
    for word, after in zip(typed, [*typed[1:], None], strict=True):
        name, equals, rest = word.partition("=")
        if name in options:
            value = rest if equals else after
    return value


def _shown(message: str) -> str:
    """A message as one readable line: shortened, with unprintable characters escaped."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


_add_commands()
