"""Overrides in Hydra's grammar: written, read, and refused where they reach too far."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from svdbench.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_JOBS = 10_000


def override(key: str, value: Any) -> str:
    """``key=value`` in Hydra's grammar, with the value quoted as needed."""
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


def refuse_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides that reach further than a configuration may.

    Classes are named by files of this package alone, files are chosen in the folder of their
    group, and no resolver is called, which could read the environment. Nothing that a job
    needs is taken out or put elsewhere.

    Raises:
        UserError: an override does any of that, or can't be read.
    """
    for given in parsed(overrides):
        text, key = given.input_line, given.key_or_group
        values = list(leaves(given))
        if any("_target_" in re.split(r"[./]", own) for own in (key, *(own for own, _ in values))):
            raise UserError(
                f"{text!r} names a class, which only svdbench's own files may do: choose methods, "
                "models, tasks and launchers by their names"
            )
        if given.is_delete():
            raise UserError(
                f"{text!r} takes a key out of the configuration, and the job needs all keys: leave "
                "it in, or set another value"
            )
        if given.package is not None:
            raise UserError(f"{text!r} moves a group to another key: leave out @{given.package}")
        words = [value for _, value in values if isinstance(value, str)]
        if _is_group(key) and any(".." in word for word in words):
            raise UserError(f"{text!r} points outside the folder of its group: give a name in it")
        if any(map(_calls_resolver, words)):
            raise UserError(
                f"{text!r} calls a resolver, such as oc.env, which svdbench does not allow: write "
                "the value itself"
            )


def _calls_resolver(text: str) -> bool:
    """Whether OmegaConf would call a function for it, as for ``${oc.env:HOME}``."""
    if "${" not in text:
        return False
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar_parser import OmegaConfGrammarParser, parse

    def calls(node: Any) -> bool:
        if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
            return True
        return any(map(calls, getattr(node, "children", None) or ()))

    try:
        return calls(parse(text))
    except GrammarParseError:  # reported when the configuration is composed
        return False


def refuse_many_jobs(overrides: Sequence[str]) -> None:
    """Refuse a sweep of more jobs than anybody means, which would take ages to list.

    Raises:
        UserError: there are more than MOST_JOBS, a number that is none, or an override can't be
            read.
    """
    from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

    jobs = 1.0
    for given in parsed(overrides):
        values: Any = given.value()
        if isinstance(values, ChoiceSweep):
            jobs *= len(values.list)
        elif isinstance(values, RangeSweep):
            start, stop, step = values.start or 0, values.stop or 0, values.step
            jobs *= (stop - start) / step if step else math.inf
        if not jobs <= MOST_JOBS:
            raise UserError(
                f"{given.input_line!r} makes a sweep of more than {MOST_JOBS:,} jobs: leave out "
                "some values"
            )


def _is_group(key: str) -> bool:
    """Whether a key chooses a file in a folder of ``conf``, or in one of Hydra's."""

    if not all(part.isidentifier() for part in key.split("/")):
        return False
    return "/" in key or key in _groups()


@lru_cache
def _groups() -> frozenset[str]:
    """The folders of ``conf``; listed, as a key may be longer than any path."""
    from importlib.resources import files

    return frozenset(each.name for each in files("svdbench.conf").iterdir() if each.is_dir())


def refuse_nests(config: Any) -> None:
    """Refuse lists and mappings in a list of numbers or words, which OmegaConf lets pass.

    Raises:
        UserError: there are some.
    """
    from omegaconf import Container, ListConfig

    plain = {int: "a whole number", float: "a number", str: "a word"}
    words: dict[Any, str] = plain | {kind | None: word for kind, word in plain.items()}
    for key in config:
        node = config._get_node(key)
        if not isinstance(node, Container) or node._is_none() or node._is_missing():
            continue
        if node._is_interpolation():  # what it refers to is looked at there
            continue
        if not isinstance(node, ListConfig):
            refuse_nests(node)
        elif word := words.get(node._metadata.element_type):
            for inner in node._iter_ex(resolve=False):
                if isinstance(inner, Container):
                    whole = node._get_full_key(None)
                    raise UserError(f"cannot set {whole!r}: {inner} is given where {word} belongs")


def refuse_unknown_keys(config: Any) -> None:
    """Refuse keys that no schema declares, which +KEY=VALUE adds and nothing would look at.

    Raises:
        UserError: there are some.
    """
    from omegaconf import DictConfig, OmegaConf

    kind = OmegaConf.get_type(config)
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else None
    for key in config:
        node = config._get_node(key)
        if known is not None and key not in known:
            whole = config._get_full_key(key)
            raise UserError(f"there is no key {whole!r}: --show-config lists all keys")
        if isinstance(node, DictConfig) and not (
            node._is_none() or node._is_missing() or node._is_interpolation()
        ):
            refuse_unknown_keys(node)
