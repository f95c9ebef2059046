"""The reference of the command line, from the commands themselves."""

import re
from typing import Any

import typer
from typer.cli import get_docs_for_click

from svdbench.cli.app import app

TAG = re.compile(r"\[/?(?:b|bold|i|dim)\]")


def command_line_page() -> str:
    """Every command with its arguments and options, as Typer writes them down."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="svdbench")
    text = get_docs_for_click(obj=command, ctx=context, name="svdbench", title=" ")
    text = text.replace("$ svdbench", "svdbench")
    for name, each in command.commands.items():  # its list is cut at 45 characters
        short = re.escape(f"* `{name}`: ") + r".*"
        text = re.sub(short, f"* `{name}`: {each.get_short_help_str(limit=300)}", text, count=1)
    # The page has a title of its own.
    return TAG.sub("", re.sub(r"\A\s*#\s*\n", "", text))
