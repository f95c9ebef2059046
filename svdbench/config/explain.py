"""What Hydra and OmegaConf have against a configuration, in plain words: the cause and a remedy."""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from svdbench.config.fields import leaves, without_none
from svdbench.config.grammar import parsed
from svdbench.errors import name_too_long, nearest, one_line
from svdbench.files import conf_names
from svdbench.job import find_job
from svdbench.members import Registry, refuse_unknown

SHOWN = 60  # characters of a value
LONGEST_NAME = 255  # bytes of a file's name, on the usual file systems

# One of a kind, and several of it.
KINDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false each"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "names"),
}
LIST_OR_KEYS = "a list stands where keys belong, or keys where a list belongs"


def explain(error: BaseException, job: str = "", overrides: Sequence[str] = ()) -> str:
    """What is wrong with a configuration, in one line.

    Args:
        error: what composing it, or turning it into dataclasses, ended with.
        job: its root in ``conf/``.
        overrides: those that were given.
    """
    text, cause = one_line(error), error.__cause__
    detail = one_line(cause) if cause is not None else ""
    typed = {given.key_or_group: given.input_line or "" for given in parsed(overrides)}
    if missing := getattr(error, "missing_cfg_file", None):
        return _no_member(str(missing), getattr(error, "options", None))
    if match := re.match(r"Ambiguous value for argument '(.*)'$|Sweep parameters '(.*)' req", text):
        return _several_values(match[1] or match[2], job)
    if "override must be a string or a list" in text:
        return _no_choice(typed)
    if name_too_long(error):  # of a file of the group that a key may be
        longest = max(typed, key=len)
        return _no_key(longest, job) if len(longest) > LONGEST_NAME else _no_choice(typed)
    if match := re.search(r"Key '(.+?)' is not in struct|Key '(.+?)' not in '", detail or text):
        key = _key(text) or match[1] or match[2]
        return _no_key(key, job)
    if match := re.search(
        r"An item is already at '([^']+)'|^(\S+) appears more than once in the final", text
    ):
        return f"cannot add {match[1] or match[2]!r}, which is there already: leave out the +"
    if match := re.match(r"In '(.+)': \w+ raised while composing config", text):
        return _no_fit(match[1], str(error))
    key = _key(text) or getattr(error, "full_key", None)
    if key and "No match in the defaults list" in text:
        return _no_key(key, job)
    if not key:
        key = next((own for own, line in typed.items() if "${" in line), None)
    if not key:
        return _otherwise(error, text, detail)
    given = typed.get(key, "").partition("=")[2]
    if "${" in given:
        reason = "it refers to no key, or to one that doesn't fit: write the value itself"
    elif expected := _expected(key, _hint(job, key), given) or _converted(detail or text):
        reason = f"give {expected}"
    else:
        reason = LIST_OR_KEYS if "Cannot merge" in f"{text} {detail}" else detail or text
    value = f" to {_short(given)}" if key in typed else ""
    return f"cannot set {key!r}{value}: {reason}"


def _no_key(key: str, job: str) -> str:
    near = _nearest_key(key, job) if job and len(key) < SHOWN else None
    hint = "" if near is None else f"did you mean {near!r}? "
    return f"there is no key {key!r}: {hint}--show-config lists all keys"


def _nearest_key(key: str, job: str) -> str | None:
    """A key of a job that is spelt much like this one; None if there is none.

    None, too, for a key of a member that was not chosen, as ``model.m1`` is of an LSTM.
    """
    known: set[str] = set()
    for leaf in leaves(find_job(job).config):
        group = leaf.key.choices
        if not (leaf.key.group and isinstance(group, Registry)):
            known.add(leaf.name)
        elif key.startswith(f"{leaf.name}."):
            for member in group.names():
                for option in group.options_of(member):
                    known |= {f"{leaf.name}.{option}", f"{leaf.name}.{member}.{option}"}
    if key in known:
        return None
    alike = [each for each in known if each.count(".") == key.count(".")]
    return nearest(key, alike, cutoff=0.88)


def _key(text: str) -> str | None:
    match = re.search(r"[Cc]ould not override '([^']+)'|Error merging override ([^= ]+)", text)
    return (match[1] or match[2]).lstrip("+~") if match else None


def _no_member(path: str, members: Sequence[str] | None) -> str:
    """There is no such file in ``conf/``, but others."""
    group, _, name = path.rpartition("/")
    if not members:
        return f"there is no {path!r} in the configuration: --show-config lists its keys"
    try:
        refuse_unknown(group, [name], list(members))
    except ValueError as error:
        return str(error)
    return f"{path} can't be read"


def _no_fit(file: str, text: str) -> str:
    """A file of a group that was chosen has what this command hasn't."""
    if match := re.search(r"Key '(.+?)' (?:is )?not in", text):
        return f"{file} is not for this command, which has no key {match[1]!r}: choose another"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{file} does not fit this command ({lines[min(1, len(lines) - 1)]}): choose another"


def _several_values(line: str, job: str) -> str:
    key, _, values = line.partition("=")
    key = key.lstrip("+~")
    is_list = get_origin(without_none(_hint(job, key))[0]) is list and "(" not in values
    as_list = f"write {key}=[{values}] for a list, or " if is_list else ""
    return f"{_short(line)} has several values: {as_list}add -m to have a run for each"


def _no_choice(typed: dict[str, str]) -> str:
    """A group was given something else than the name of a member."""
    for key, line in typed.items():
        known = conf_names(key) if key.isidentifier() and len(key) <= LONGEST_NAME else []
        value = line.partition("=")[2]
        if known and value.strip("'\"") not in known:
            return f"cannot set {key!r} to {_short(value)}: give a name of {', '.join(known)}"
    return "a group of the configuration must be chosen by a name"


def _hint(job: str, key: str) -> Any:
    """The declared type of a key; None where there is none."""
    kind: Any = find_job(job).config if job else None
    for part in key.split("."):
        kind = without_none(kind)[0]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            return None
        declared = [get_type_hints(each) for each in (kind, *kind.__subclasses__())]
        kind = next((hints[part] for hints in declared if part in hints), None)
    return kind


def _expected(key: str, hint: Any, given: str) -> str | None:
    """What may be given for a key; None where its type isn't declared."""
    kind, may_be_none = without_none(hint)
    other = ", or null" if may_be_none else ""
    if get_origin(kind) is list:
        inner = without_none(get_args(kind)[0])[0]
        several = KINDS[inner][1] if inner in KINDS else "values"
        single = given != "null" and re.fullmatch(r"[\w.+-]+", given)
        example = given if single and inner in KINDS else "…,…"
        return f"a list of {several}, as in {key}=[{example}]{other}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(each.value for each in kind)}{other}"
    if isinstance(kind, type) and is_dataclass(kind):
        return f"its keys one by one, as in {key}.{fields(kind)[0].name}=…"
    if kind in KINDS:
        return f"{KINDS[kind][0]}{other}"
    return None


def _otherwise(error: BaseException, text: str, detail: str) -> str:
    """What is left: messages of ours and of OmegaConf's, and exceptions of neither."""
    if isinstance(error, TypeError | AttributeError | KeyError | RecursionError):
        return "a value stands where keys belong, or keys where a value belongs"
    if "Cannot merge" in text:
        return LIST_OR_KEYS
    return text if not detail or detail in text else f"{text} ({detail})"


def _converted(text: str) -> str | None:
    """What may be given, by what OmegaConf says of a value that may not."""
    for sign, kind in (("to Integer", int), ("to Float", float), ("valid bool", bool)):
        if sign in text:
            return KINDS[kind][0]
    return None


def _short(value: str) -> str:
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")
