"""Docstrings as Markdown: roles such as :func:`run` become links where there is something to link.

A plugin of griffe, which reads the docstrings for mkdocstrings.
"""

import re

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(~?)([^`]+)`")


def as_markdown(text: str) -> str:
    """Roles as code that links to what they name, if that is documented."""

    def linked(found: re.Match[str]) -> str:
        short, name = found.groups()
        shown = name.rpartition(".")[2] if short else name
        return f'<autoref optional identifier="{name}"><code>{shown}</code></autoref>'

    return ROLE.sub(linked, text)


class Roles(Extension):
    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
