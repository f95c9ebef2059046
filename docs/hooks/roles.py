"""Docstrings as Markdown: roles such as :func:`run` become links where there is something to link,
tables and blocks of code those of Markdown.

A plugin of griffe, which reads the docstrings for mkdocstrings.
"""

import re
from collections.abc import Iterator
from textwrap import dedent, indent

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(~?)([^`]+)`")
RULE = re.compile(r"=+(?: +=+)+")
CODE = re.compile(r"^( *)\.\. code-block:: (\w+)\n\n((?:\1    .*\n?|\n)+)", re.MULTILINE)


def as_markdown(text: str) -> str:
    """What Sphinx would read, as Markdown; roles as code that links to what they name."""

    def linked(found: re.Match[str]) -> str:
        short, name = found.groups()
        shown = name.rpartition(".")[2] if short else name
        return f'<autoref optional identifier="{name}"><code>{shown}</code></autoref>'

    text = CODE.sub(_fenced, ROLE.sub(linked, text))
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    text = text.replace("Class attributes:\n", "Attributes:\n")
    return "\n".join(_tables(text.splitlines()))


def _fenced(found: re.Match[str]) -> str:
    margin, language, code = found.groups()
    code = indent(dedent(code).strip(), margin)
    return f"{margin}```{language}\n{code}\n{margin}```\n"


def _tables(lines: list[str]) -> Iterator[str]:
    """Lines with the simple tables of reStructuredText as those of Markdown."""
    rules = [number for number, line in enumerate(lines) if RULE.fullmatch(line.strip())]
    spans: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if number in rules:
            place = rules.index(number) % 3  # above the head, below it, below the table
            spans = [found.span() for found in re.finditer(r"=+", line)]
            if place == 1:
                yield "|" + "---|" * len(spans)
            elif place == 2:
                spans = []
        elif spans:
            ends = [end for _, end in spans[:-1]] + [len(line)]
            cells = (line[start:end].strip() for (start, _), end in zip(spans, ends, strict=True))
            yield "| " + " | ".join(cells) + " |"
        else:
            yield line


class Roles(Extension):
    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
