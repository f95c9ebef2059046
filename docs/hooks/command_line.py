"""The reference of the command line, from the commands themselves."""

import re
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import typer
from typer.cli import get_docs_for_click

from svdbench.cli.app import app

TAG = re.compile(r"\[/?(?:b|bold|i|dim)\]")
EXAMPLES = re.compile(r"^Examples:\n((?:  .+\n)+)", re.MULTILINE)


def command_line_page() -> str:
    """Every command with its arguments and options, as Typer writes them down."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="svdbench")
    text = get_docs_for_click(obj=command, ctx=context, name="svdbench", title=" ")
    text = text.replace("$ svdbench", "svdbench")
    for name, short in _descriptions(command):  # the lists are cut at 45 characters
        cut = re.escape(f"* `{name}`: {short[:20]}") + r".*\.\.\.$"
        text = re.sub(cut, lambda _, n=name, s=short: f"* `{n}`: {s}", text, flags=re.MULTILINE)
    text = EXAMPLES.sub(lambda found: _block(found.group(1).replace(r"\[", "[")), text)
    # The page has a title of its own.
    return TAG.sub("", re.sub(r"\A\s*#\s*\n", "", text))


def _block(lines: str) -> str:
    return f"**Examples**:\n\n```sh\n{dedent(lines)}```\n"


def _descriptions(command: Any) -> Iterator[tuple[str, str]]:
    """The name of each command and its first sentence, those of groups too."""
    for name, each in getattr(command, "commands", {}).items():
        yield name, each.get_short_help_str(limit=300)
        yield from _descriptions(each)
