"""Every field of every schema, with values of another type or out of any range."""

import math
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from judge import judged

from svdbench.config.fields import leaves
from svdbench.config.grammar import override
from svdbench.job import all_jobs
from svdbench.training.config import Adam

Hunting = Callable[..., None]

# For each configuration the command, and what it needs besides.
NEEDS: dict[str, list[str]] = {
    "time-fasth": ["methods=[fasth]", "sizes.d=[8]"],
    "time-svd-ops": ["sizes.d=[8]"],
    "time-layers": ["sizes.width=[8]", "sizes.batch=[4]"],
    "time-rnn": ["sizes.hidden=[8]", "sizes.reflectors=[4]"],
    "time-svd": ["sizes.shapes=[8x9]", "sizes.ranks=[3]"],
    "tune": ["sizes.d=[8]"],
    "train": ["lstm", "task.length=4"],
    "gradients": ["lstm", "task.length=4"],
    "search": ["lstm", "task.length=4"],
    "accelerate": ["xor"],
    "accelerate-when": ["widths=[8]", "rows=[4]"],
    "compress": ["xor"],
    "rank-reveal": ["xor"],
    "time-compressors": ["no_such:build", "--data", "no_such:loader"],
    "compress-model": ["no_such:build", "--data", "no_such:loader"],
}
COMMANDS = {job.config: [*job.words.split(), *NEEDS[job.name]] for job in all_jobs()}
# Chosen by name on the command line, or anything that the user likes.
NOT_HERE = {"model_name", "task_name", "model.hidden_size"}
NOT_HERE |= {"compressor.rsvd.oversampling", "compressor.rsvd.power_iterations"}
NOT_HERE |= {"rnn.fasth_each_step.tune", "rnn.spectral.tune"}

WRONG_TEXT = st.sampled_from(["", "many", "../up", "a b", "1,5", "0x1g", "é", "none", "cpu", "-"])
LISTS = st.lists(st.integers(-1, 3), max_size=2)
TREES = st.dictionaries(st.sampled_from(["a", "lr", "d"]), st.integers(), min_size=1, max_size=1)
EDGES = [0, -1, -(2**63), 2**31, 2**63, 2**64, 10**30]
NOT_FINITE = [math.nan, math.inf, -math.inf]
REALS = [0.0, -1.0, 1e-320, 1e300, -0.0, *NOT_FINITE]
REAL_OR_TREE = st.sampled_from(REALS) | TREES
TEXTS = [
    "",
    ".",
    "..",
    "../up",
    "a\0b",
    "a\nb",
    " ",
    "é",
    "\ud800",
    "x" * 5000,
    "null",
    "a,a",
    "1-2",
    "-1",
]

# None is there where these tests run but for the processor.
DEVICES = [
    "cudaxyz",
    "cuda:-1",
    "cuda:",
    "cuda:1.5",
    "cuda:99999999999",
    "meta",
    "CPU",
    "cpu:0",
    "cpu:7",
]


def keys(kind: type) -> list[tuple[str, Any]]:
    """The keys of a configuration, and of one of its optimisers, with their types."""
    own = [(leaf.name, leaf.hint) for leaf in leaves(kind)]
    if "optimizer.lr" in dict(own):
        own += [(f"optimizer.{leaf.name}", leaf.hint) for leaf in leaves(Adam)]
    return [(name, hint) for name, hint in dict(own).items() if name not in NOT_HERE]


def parts(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether it may be None."""
    if get_origin(hint) in (Union, UnionType):
        own = [one for one in get_args(hint) if one is not NoneType]
        return own[0], len(own) < len(get_args(hint))
    return hint, False


def wrong(hint: Any) -> SearchStrategy[Any]:
    """Values that are none of this type, nor can be read as one."""
    kind, may_be_none = parts(hint)
    none = [] if may_be_none else [st.none()]
    if get_origin(kind) is list:
        inner = wrong(get_args(kind)[0]) | LISTS | TREES
        return st.one_of(st.integers(), TREES, st.lists(inner, min_size=1, max_size=2), *none)
    if get_origin(kind) is dict:
        return st.one_of(st.integers(), WRONG_TEXT.filter(bool))  # a list is one of groups
    if kind is str:
        return st.one_of(LISTS, TREES, *none)
    if is_dataclass(kind):  # lr is a key of an optimiser
        return st.one_of(st.integers(), WRONG_TEXT, TREES.filter(lambda tree: "lr" not in tree))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.one_of(WRONG_TEXT, st.floats(), LISTS, TREES, *none)
    if kind is bool:
        return st.one_of(
            WRONG_TEXT.filter(lambda text: text != ""), st.floats(2, 9), LISTS, TREES, *none
        )
    if kind is int:
        return st.one_of(WRONG_TEXT, st.just(1.5), st.sampled_from(NOT_FINITE), LISTS, TREES, *none)
    assert kind is float, kind
    return st.one_of(WRONG_TEXT, LISTS, TREES, st.just(math.nan), *none)


def edges(hint: Any) -> SearchStrategy[Any]:
    """Values of this type that are hardly ever in range."""
    kind, _ = parts(hint)
    if get_origin(kind) is list:
        return st.lists(edges(get_args(kind)[0]), max_size=3)
    if get_origin(kind) is dict:
        return st.dictionaries(
            st.sampled_from(["a", "fasth", "hidden_size"]), REAL_OR_TREE, max_size=2
        )
    if is_dataclass(kind):
        return TREES
    if kind is str:
        return st.one_of(
            st.sampled_from(TEXTS), st.text(st.characters(exclude_characters="/"), max_size=5)
        )
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from([one.value.upper() for one in kind])
    if kind is bool:
        return st.booleans()
    return st.sampled_from(EDGES if kind is int else REALS)


@st.composite
def lines(draw: st.DrawFn, strategy: Callable[[Any], SearchStrategy[Any]], kind: type) -> list[str]:
    key, hint = draw(st.sampled_from(keys(kind)))
    values = strategy(hint)
    if key.endswith("device"):
        values |= st.sampled_from(DEVICES)
    return [*COMMANDS[kind], override(key, draw(values))]


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_another_type_is_refused(kind: type, hunting: Hunting) -> None:
    hunting(lambda line: judged(line, codes=(2,)), lines(wrong, kind), examples=3)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_a_value_is_taken_or_refused(kind: type, hunting: Hunting) -> None:
    hunting(lambda line: judged(line, codes=(0, 2)), lines(edges, kind), examples=3)


# As they are typed, in no quotes but their own.
TYPED = ["abc", "", "-3", "1.5", "9" * 20, "nan", "inf", "null", "[1,2]", "[]", "7", "{a:1}", "1,2"]
TYPED += ["${seed}", "${nosuch}", "${oc.env:HOME}", "é", "true", "x" * 100_000, "[a,b]", "[[1]]"]
TYPED += ["'", "[1", "a b", "0", "a:b", "8,8", "[8,8]", "'1'", "1e400", "~", "${..seed}", "{}"]


@st.composite
def typed(draw: st.DrawFn, kind: type) -> list[str]:
    key = draw(st.sampled_from([key for key, _ in keys(kind)]))
    sign = draw(st.sampled_from(["", "", "", "+", "++", "~"]))
    return [*COMMANDS[kind], f"{sign}{key}={draw(st.sampled_from(TYPED))}"]


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_a_text_is_taken_or_refused(kind: type, hunting: Hunting) -> None:
    hunting(lambda line: judged(line, codes=(0, 2)), typed(kind), examples=2)
