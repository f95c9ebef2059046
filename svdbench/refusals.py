"""What Hydra and OmegaConf would let pass in a configuration, and svdbench doesn't."""

import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from svdbench.errors import UserError
from svdbench.overrides import leaves, parsed

MOST_JOBS = 10_000

# No dot in front and no separator: such a name stays inside its folder, and visible.
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def refuse_name(name: str | None, what: str = "run") -> None:
    """Refuse what is no plain name of a folder; None is none.

    Raises:
        ValueError: with what is allowed.
    """
    if name is not None and not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} can't name a {what}: use letters, digits, '.', '_' and '-', with no '.' in "
            "front"
        )


def refuse_repeated(what: str, values: Sequence[Any]) -> None:
    """Refuse a list that has something twice, which would be the same work twice.

    Raises:
        ValueError: with what stands there twice.
    """
    for number, value in enumerate(values):
        if value in values[:number]:
            text = "null" if value is None else value
            raise ValueError(f"{what} has {text} twice: give it once")


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
                f"{text!r} names a class, which is for svdbench's own files: choose methods, "
                "models, tasks and launchers by their names"
            )
        if given.is_delete():
            raise UserError(
                f"{text!r} takes a key out of the configuration, all of which the job needs: leave "
                "it in, or set another value"
            )
        if given.package is not None:
            raise UserError(f"{text!r} moves a group to another key: leave out @{given.package}")
        words = [value for _, value in values if isinstance(value, str)]
        if _is_group(key) and any(".." in word for word in words):
            raise UserError(f"{text!r} leaves the folder of its group: give a name in it")
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
    except GrammarParseError:  # which the one who composes the configuration tells
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
                    raise UserError(f"cannot set {whole!r}: {inner} stands where {word} belongs")


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
            raise UserError(f"there is no key {whole!r}: --show-config lists those there are")
        if isinstance(node, DictConfig) and not (
            node._is_none() or node._is_missing() or node._is_interpolation()
        ):
            refuse_unknown_keys(node)
