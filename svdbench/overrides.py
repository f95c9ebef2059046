"""Overrides of a configuration: writing them in Hydra's grammar, and reading what they set."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from svdbench.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


def override(key: str, value: Any) -> str:
    """``key=value`` in Hydra's grammar, whatever is in the value."""
    return f"{key}={_text(value)}"


def parsed(overrides: Sequence[str]) -> list["Override"]:
    """The overrides as Hydra's own parser reads them.

    Raises:
        UserError: one can't be read.
    """
    found = []
    for given in overrides:
        try:
            found.append(_parsed(given))
        except Exception as error:  # of the grammar, of a function in it, of nests too deep
            raise UserError(f"cannot read {given!r}: {_fault(given, error)}") from error
    return found


def _fault(given: str, error: Exception) -> str:
    """Why an override can't be read, and what to write instead."""
    if match := re.search(r"while evaluating '(.*?)'", str(error)):
        return f"{match[1]} has no value: check its arguments"
    if isinstance(error, RecursionError):
        return "it has too many brackets within brackets"
    key, _, value = given.partition("=")
    if value and not re.search(r"[][{}()'\"$\\\0]", value) and len(value) < 100:
        return f"put the value in quotes, as in \"{key}='{value}'\""
    return f"close its brackets and quotes, and put other text in quotes, as in \"{key}='a b'\""


@lru_cache(maxsize=1024)
def _parsed(given: str) -> "Override":
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(given)


def is_for_hydra(given: "Override") -> bool:
    """Whether an override sets a part of Hydra's own configuration."""
    places = [given.key_or_group, given.package or ""]
    return any(re.split(r"[./]", place)[0] == "hydra" for place in places)


def leaves(given: "Override") -> Iterator[tuple[str, Any]]:
    """Each key that an override sets, also inside mappings, with its value.

    ``model={build: f}`` sets ``model.build``. Of a list, and of a sweep, each value is one.
    """
    yield from _leaves(given.key_or_group, given.value())


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString

    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(key, inner)
    elif isinstance(value, ChoiceSweep):
        yield from _leaves(key, value.list)
    elif isinstance(value, Glob):
        yield from _leaves(key, [*value.include, *value.exclude])
    else:
        yield key, value.text if isinstance(value, QuotedString) else value


def _text(value: Any) -> str:
    """A value in Hydra's grammar, of which JSON's is nearly a part."""
    if isinstance(value, str):
        # A backslash means itself there, but before a quote.
        return "'" + re.sub(r"(\\*)('|$)", _escaped, value) + "'"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(inner) for inner in value) + "]"
    return json.dumps(value)


def _escaped(match: re.Match[str]) -> str:
    return 2 * match[1] + ("\\'" if match[2] else "")
