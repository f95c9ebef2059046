"""Reports as data, and their shapes: on a terminal, as Markdown, as web pages."""

from typing import Literal

Format = Literal["table", "markdown", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "markdown", "csv", "json")
