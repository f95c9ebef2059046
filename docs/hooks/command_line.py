"""The reference of the command line, from the commands themselves."""

import re

import typer
from typer.cli import get_docs_for_click

from svdbench.cli.app import app

TAG = re.compile(r"\[/?(?:b|bold|i|dim)\]")


def command_line_page() -> str:
    """Every command with its arguments and options, as Typer writes them down."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="svdbench")
    text = get_docs_for_click(obj=command, ctx=context, name="svdbench", title=" ")
    text = text.replace("$ svdbench", "svdbench")
    # The page has a title of its own.
    return TAG.sub("", re.sub(r"\A\s*#\s*\n", "", text))
