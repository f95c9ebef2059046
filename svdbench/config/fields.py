"""One key of a configuration: its default, help, range and spelling on the command line.

A key is declared once, as a dataclass field made by :func:`option`. From it come the comment
in ``--show-config``, the command-line option, the Python keyword, the range check, the value
that ``--quick`` takes, and whether the value names a function of the user's own.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from svdbench.errors import check_text
from svdbench.members import Registry, plain, refuse_repeated, refuse_unknown

_KEY = "svdbench"
# An upper limit above this is no advice, but there to refuse a slip of the finger.
MOST_SHOWN = 1000


@dataclass(frozen=True)
class Key:
    """What is declared of a key besides its type and its default.

    Attributes:
        help: a phrase for its comment and for ``--help``, without a full stop.
        null: what null means, in words.
        default_text: the default in words, for ``--help``, where its value does not say enough.
        off: what the option does, for ``--help``, if it turns the key off: ``--no-embeddings``.
        typed: its option on the command line and the placeholder of its value, ``--d D,D,…``. Of
            one that is true by default the option turns it off: ``--no-embeddings``.
        former: older spellings of the option; they are still understood.
        at_least, above, at_most, below: range of the value, or of each value of a list.
        choices: the values allowed: names, or a registry.
        noun: one choice, in words.
        pattern: a regular expression that matches the whole of the text.
        remedy: what to do about a value that doesn't fit, in place of the range in words.
        unique, not_empty: whether a list may repeat a value, or be empty.
        aliases: other spellings of values.
        quick: the value that ``--quick`` takes.
        calls: whether the value names a function of the user's own, as MODULE:FUNCTION.
        panel: the heading of the option in ``--help``.
        group: whether Hydra composes it from a folder of ``conf``; defaults below it vary.
        members: options of the members of a group that have a spelling of their own, by key.
    """

    help: str
    null: str | None = None
    default_text: str | None = None
    off: str | None = None
    typed: str | None = None
    former: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: Sequence[str] | Registry | None = None
    noun: str | None = None
    pattern: str | None = None
    remedy: str | None = None
    unique: bool = False
    not_empty: bool = False
    aliases: Mapping[str, str] | None = None
    quick: Any = None
    calls: bool = False
    panel: str | None = None
    group: bool = False
    members: Mapping[str, "Member"] | None = None

    @property
    def flag(self) -> str | None:
        return None if self.typed is None else self.typed.partition(" ")[0]

    @property
    def turns_off(self) -> bool:
        """Whether the option makes the value false."""
        return self.flag is not None and self.flag.startswith("--no-")

    @property
    def metavar(self) -> str | None:
        return None if self.typed is None else self.typed.partition(" ")[2] or None

    def canonical(self, value: Any) -> Any:
        """A value with its names as ``conf`` spells them; hyphens and capitals do not matter."""
        if isinstance(value, list):
            return [self.canonical(each) for each in value]
        if not isinstance(value, str):
            return value
        value = (self.aliases or {}).get(value, value)
        if isinstance(self.choices, Registry):
            return self.choices.canonical(value)
        known = {plain(choice): choice for choice in self.choices or ()}
        return known.get(plain(value), value)

    def check(self, name: str, value: Any) -> None:
        """Refuse a value out of range.

        Raises:
            ValueError: the cause, then the remedy, in one line.
        """
        if value is None:
            return
        values, verb = (value, "has") if isinstance(value, list) else ([value], "is")
        if self.not_empty and not values:
            raise ValueError(f"{name} is empty: give at least one value")
        if self.unique:
            refuse_repeated(name, values)
        for each in values:
            if isinstance(each, str):
                check_text(name, each)
            if each is not None and not self._allows(each):
                shown = f"{each!r}" if isinstance(each, str) else f"{each}"
                remedy = self.remedy or self._range(each, verb)
                raise ValueError(f"{name} {verb} {shown}: {remedy}")
        if isinstance(self.choices, Registry):
            self.choices.check(values)
        elif self.choices is not None:
            refuse_unknown(self.noun or name.rpartition(".")[2], values, self.choices)

    def _allows(self, value: Any) -> bool:
        if self.pattern is not None:
            return re.fullmatch(self.pattern, value, re.ASCII) is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        if self.at_least is None and self.above is None and self.at_most is None:
            return True
        high = math.inf if self.below is None else self.below
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and value < high
        )

    @property
    def limits(self) -> str:
        """The range of a number in words, such as ``at least 1``; empty without one."""
        low = f"above {self.above:g}" if self.above is not None else ""
        if self.at_least is not None and (self.at_least, self.below) != (0, None):
            low = f"at least {self.at_least:g}"
        high = f"at most {self.at_most:g}" if self.at_most is not None else ""
        if self.at_most is not None and self.at_most > MOST_SHOWN:
            high = ""
        if self.below is not None:
            high = f"below {self.below:g}"
        return " and ".join(filter(None, (low, high)))

    def _range(self, value: Any, verb: str) -> str:
        """What is allowed, in words."""
        it = "each" if verb == "has" else "it"
        finite = ", and finite" if isinstance(value, float) else ""
        low = f"above {self.above:g}" if self.above is not None else f"from {self.at_least}"
        if self.at_most is not None:
            return f"{it} must be {low} to {self.at_most}"
        if self.below is not None:
            return f"{it} must be {low} to below {self.below:g}"
        if self.above is not None:
            return f"{it} must be {low}{finite}"
        return f"{it} must be {self.at_least} or more{finite}"


@dataclass(frozen=True)
class Member:
    """A key of a member of a group, as ``rsvd.oversampling``: its type and what is declared."""

    kind: type
    key: Key


def option(default: Any, help: str, typed: str | None = None, **declared: Any) -> Any:
    """A key of a configuration; the others are attributes of :class:`Key`.

    Example:
        >>> @dataclass
        ... class Sizes:
        ...     d: list[int] = option([64, 128], "lengths of a reflector", typed="--d D,D,…")
    """
    metadata = {_KEY: Key(help, typed=typed, **declared)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def several(default: list[Any] | None, help: str, typed: str, **declared: Any) -> Any:
    """A key with at least one value, none of them twice."""
    return option(default, help, typed, unique=True, not_empty=True, **declared)


def shares(default: list[float], help: str, typed: str, **declared: Any) -> Any:
    """Parts of a whole: at least one, none of them twice."""
    remedy = "give numbers above 0 and at most 1"
    return several(default, help, typed, above=0, at_most=1, remedy=remedy, **declared)


def group(kind: type, help: str, **declared: Any) -> Any:
    """Keys that Hydra composes from a folder of ``conf``, such as an optimiser's."""
    return field(default_factory=kind, metadata={_KEY: Key(help, group=True, **declared)})


def members(registry: Registry, **declared: Any) -> Any:
    """The options of all members of a registry, by their names."""
    return group(dict, f"options of each {registry.what}", choices=registry, **declared)


def section(kind: type) -> Any:
    """Keys that belong together, declared by a dataclass of their own."""
    return field(default_factory=kind)


@dataclass(frozen=True)
class Leaf:
    """A key of a configuration with its place and type.

    Attributes:
        name: in full, as ``sizes.d``.
        hint: its type.
        default: of the dataclass.
        varies: whether what Hydra composes has another default.
        bases: how many bases the class has that declares it.
    """

    name: str
    hint: Any
    default: Any
    key: Key
    varies: bool
    bases: int

    @property
    def keyword(self) -> str | None:
        """The name of its option in Python; None without a flag."""
        if self.key.flag is None:
            return None
        return self.key.flag.removeprefix("--no-").lstrip("-").replace("-", "_")

    @property
    def is_list(self) -> bool:
        return get_origin(self.kind) is list

    @property
    def kind(self) -> Any:
        """Its type without None."""
        return without_none(self.hint)[0]

    def help(self, set_by_command: Any = None) -> str:
        """What ``--help`` says: the phrase, the range and the default."""
        if self.key.off is not None:
            return f"{self.key.off[0].upper()}{self.key.off[1:]}."
        text = self.key.help[0].upper() + self.key.help[1:]
        default = self._default() if set_by_command is None else _in_words(set_by_command)
        says = [self.key.limits, f"by default {default}" if default else ""]
        return "; ".join(filter(None, (text, *says))) + "."

    def _default(self) -> str | None:
        if self.key.default_text is not None:
            return self.key.default_text
        if self.varies:
            return None
        if self.default is None:
            return self.key.null
        return _in_words(self.default)


def _in_words(value: Any) -> str:
    """A default as ``--help`` shows it; of a switch that is off, nothing."""
    if isinstance(value, bool):
        return "on" if value else ""
    if isinstance(value, Enum):
        return str(value.value)
    values = value if isinstance(value, list) else [value]
    words = [f"{each:g}" if isinstance(each, float) else str(each) for each in values]
    return ",".join(words) or "none"


@cache
def leaves(config: type) -> tuple[Leaf, ...]:
    """Every key of a configuration that has a value of its own, in the order of its fields."""
    return tuple(_leaves(config, "", False, None))


def _leaves(kind: type, above: str, varies: bool, bases: int | None) -> Iterator[Leaf]:
    hints = get_type_hints(kind)
    for each in fields(kind):
        name, hint, declared = f"{above}{each.name}", hints[each.name], key_of(each)
        place = _bases(kind, each.name) if bases is None else bases
        below = varies or (declared is not None and declared.group)
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _leaves(hint, f"{name}.", below, place)
        if declared is None:
            continue
        default = each.default if each.default_factory is MISSING else each.default_factory()
        yield Leaf(name, hint, default, declared, below, place)
        for inner, member in (declared.members or {}).items():
            yield Leaf(f"{name}.{inner}", member.kind, None, member.key, True, place)


def _bases(kind: type, name: str) -> int:
    """How many bases the first class has that declares a field."""
    declaring = [b for b in kind.__mro__ if name in vars(b).get("__annotations__", {})]
    return len(declaring[-1].__mro__)


def key_of(each: "Field[Any]") -> Key | None:
    """What :func:`option` declared of a field; None of a section."""
    found: Key | None = each.metadata.get(_KEY)
    return found


def without_none(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether it may be None."""
    others = [each for each in get_args(hint) if each is not NoneType]
    if NoneType in get_args(hint) and len(others) == 1:
        return others[0], True
    return hint, False


def functions_of(config: type) -> tuple[str, ...]:
    """The keys whose values name functions of the user's own."""
    return tuple(leaf.name for leaf in leaves(config) if leaf.key.calls)


def value_at(config: Any, name: str) -> Any:
    """The value of a key, as ``sizes.d``."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def check_config(config: Any, above: str = "") -> None:
    """Check every value against its declaration, then the relations between values.

    Those are what a configuration, or a section of one, checks in its method ``check``.

    Raises:
        ValueError: the cause, then the remedy, in one line.
    """
    for each in fields(config):
        name, value, declared = f"{above}{each.name}", getattr(config, each.name), key_of(each)
        if is_dataclass(value):
            check_config(value, f"{name}.")
        elif declared is not None and not declared.group:
            if (value := declared.canonical(value)) != getattr(config, each.name):
                setattr(config, each.name, value)
            declared.check(name, value)
            for inner in value if isinstance(value, list) else ():
                if is_dataclass(inner):
                    check_config(inner, f"{name}.")
    if (relations := getattr(config, "check", None)) is not None:
        relations()


def comments(config: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Each key of a configuration with what its comment says."""
    for each in fields(config):
        name, value, declared = f"{above}{each.name}", getattr(config, each.name), key_of(each)
        if declared is not None:
            null = f"; null: {declared.null}" if declared.null else ""
            yield name, f"{declared.help}{null}"
        if is_dataclass(value):
            yield from comments(value, f"{name}.")
