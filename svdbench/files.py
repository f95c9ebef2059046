"""Atomic file replacement; regular files only; YAML and JSON as svdbench writes them; ``conf``.

Whoever reads a run may not know who made it: nothing in a file is executed or looked up, and
values are plain and of limited size. What is wrong is a ValueError, whose text is to be put
after the name of the file.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdbench.errors import one_line

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A file to be written, which takes the place of ``path`` once it is on the disk as a whole.

    Those that processes of this machine have left behind when they were killed are removed.

    Raises:
        OSError: it can't be written; what was at ``path`` is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    for left in path.parent.glob(f".{escape(path.name)}.*.partial"):
        if not _is_running(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replace_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _is_running(process: str) -> bool:
    """Whether a process with this number exists here, perhaps another than the one meant."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):  # another user's, or no number
        return True
    return True


def belongs(path: Path, folder: Path) -> bool:
    """Whether a file is a regular one of the folder, and no link to somewhere else."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a link to itself
        return False


def existing_regular_file(path: str | Path) -> Path:
    """The path of a file to be read, which is no pipe and no device: those may never end.

    Raises:
        OSError: it is none, or is not there.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # NUL in its name
        raise OSError(errno.EINVAL, "a file name can't hold NUL", str(path)) from error
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return Path(path)


def is_pretrained(name: str) -> bool:
    """Whether a name is of a model of transformers: a folder with a config.json, or a/b."""
    return ":" not in name and ("/" in name or os.path.isfile(os.path.join(name, "config.json")))


LARGEST_YAML, LARGEST_JSON = 4 << 20, 8 << 20  # bytes
MOST_EVENTS = 250_000  # of a YAML text: values, and beginnings and ends of mappings and lists
DEEPEST = 64  # mappings and lists in each other
LARGEST_NUMBER = 2**64

_LONG = re.compile(r"[-+]?(0[xXbBoO])?[\d_:a-fA-F]{65,}")

# The kinds of the facts in ``env.json`` that somebody relies on; others are shown as they are.
_TEXT, _WHOLE = (str, type(None)), (int, type(None))
_FACTS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("timestamp_utc", "svdbench", "source_hash", "python", "platform", "cpu", "torch"), _TEXT
    ),
    **dict.fromkeys(("triton", "numpy", "cuda", "gpu_driver", "blas", "governor"), _TEXT),
    **dict.fromkeys(("cores_physical", "cores_logical", "cores_visible"), _WHOLE),
    **dict.fromkeys(("threads", "interop_threads", "memory_bytes"), _WHOLE),
    "gpus": (list, type(None)),
    "source": (dict, type(None)),
    "caches": (dict, type(None)),
}


def read_yaml(path: str | Path) -> Any:
    """The one document of a YAML file.

    Raises:
        OSError: it can't be read, or is no regular file.
        ValueError: it is no such file.
    """
    found = documents(read_text(path, LARGEST_YAML))
    if len(found) > 1:
        raise ValueError(f"has {len(found)} YAML documents instead of one")
    return found[0] if found else None


def configuration(path: str | Path) -> dict[str, Any]:
    """A run's ``config.yaml``, flat: ``{"sizes.m": 32, …}``.

    Of several models the keys of all but the first have their number in front, from 2 on.

    Raises:
        OSError, ValueError: as :func:`read_yaml`.
    """
    found: dict[str, Any] = {}
    for number, tree in enumerate(configurations(read_text(path, LARGEST_YAML)), start=1):
        found |= flat(tree, "" if number == 1 else f"{number}.")
    return found


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree of mappings: ``("sizes.d", [64, 128]), …``"""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def refuse_interpolations(value: Any) -> None:
    """Raise ValueError where OmegaConf would put something else in the place of a text."""
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"has the interpolation {_shown(value)}, which svdbench never writes")
    if isinstance(value, dict | list):
        for each in inner:
            refuse_interpolations(each)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; raises as :func:`read_yaml`."""
    return json_value(read_text(path, LARGEST_JSON))


def read_environment(path: str | Path) -> dict[str, Any]:
    """The content of ``env.json``; raises as :func:`read_yaml`."""
    return facts(read_json(path))


def facts(found: Any) -> dict[str, Any]:
    """The content of ``env.json``; raises ValueError where it is none."""
    if not isinstance(found, dict):
        raise ValueError("was not written by svdbench: it holds no environment")
    for key, kinds in _FACTS.items():
        if key in found and not isinstance(found[key], kinds):
            raise ValueError(f"was not written by svdbench: {key} is {_shown(found[key])}")
    if not all(isinstance(name, str) for name in found.get("gpus") or ()):
        raise ValueError("was not written by svdbench: gpus is not a list of names")
    return found


def read_text(path: str | Path, largest: int) -> str:
    """The text of a regular file of limited size; raises as :func:`read_yaml`."""
    with open(existing_regular_file(path), "rb") as file:
        data = file.read(largest + 1)
    _check_size(len(data), largest)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: {error.reason} at byte {error.start:,}") from error


def documents(text: str) -> list[Any]:
    """The documents of a YAML text.

    Raises:
        ValueError: it is none, or has what svdbench never writes: aliases, values of other kinds,
            too much of anything.
    """
    import yaml  # type: ignore[import-untyped]

    _check_size(len(text), LARGEST_YAML)
    try:
        fault = _fault(text)
        found = [] if fault else list(yaml.load_all(text, _loader()))
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {_of_yaml(error)}") from error
    except (ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"is not YAML: {one_line(error)}") from error
    if fault:
        raise ValueError(fault)
    for tree in found:
        _check(tree)
    return found


def json_value(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError as :func:`documents`."""
    _check_size(len(text), LARGEST_JSON)
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"is nested more than {DEEPEST} deep") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {one_line(error)}") from error
    _check(found)
    return found


def configurations(text: str) -> list[dict[str, Any]]:
    """The documents of a run's ``config.yaml``; raises ValueError as :func:`documents`."""
    found = documents(text)
    if not found or not all(isinstance(tree, dict) for tree in found):
        raise ValueError("is not a configuration")
    return found


def _of_yaml(error: Any) -> str:
    """The fault and its line."""
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark is not None else ""
    return f"{getattr(error, 'problem', None) or one_line(error)}{where}"


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise ValueError(f"is larger than {largest >> 20} MiB, more than svdbench ever writes")


def _fault(text: str) -> str | None:
    """The first construct that svdbench never writes; some of these take long to read."""
    import yaml

    depth = 0
    for number, event in enumerate(yaml.parse(text, _loader())):
        if number > MOST_EVENTS:
            return f"has more than {MOST_EVENTS:,} values"
        if isinstance(event, yaml.AliasEvent):
            return "has aliases, which svdbench never writes"
        if getattr(event, "tag", None) is not None:
            return "has YAML tags, which svdbench never writes"
        # Of some, the time to read them grows as the square of their length.
        if isinstance(event, yaml.ScalarEvent) and not event.style and _LONG.fullmatch(event.value):
            return "has a number of more than 64 digits"
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return f"is nested more than {DEEPEST} deep"
    return None


@cache
def _loader() -> Any:
    """PyYAML's safe loader, reading numbers as OmegaConf does, and leaving dates as text."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    others = (":timestamp", ":merge", ":value")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if not tag.endswith(others)]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    # 4e9 is a number, though YAML 1.1 asks for a dot in it.
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*[eE][-+]?\d+$"), list("-+0123456789")
    )
    return Loader


def _check(value: Any, depth: int = 0) -> None:
    """Raise ValueError for anything but plain values."""
    if depth > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"has the key {_shown(key)}, which is not text")
            _check(key)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, str):
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("has an unpaired surrogate")
    elif isinstance(value, int):
        if abs(value) >= LARGEST_NUMBER:
            raise ValueError("has an integer of more than 64 bits")
    elif not (value is None or isinstance(value, float)):
        raise ValueError(f"has a value of the type {type(value).__name__}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


# No dot in front and no separator: such a name stays inside its folder, and visible.
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def refuse_name(name: str | None, what: str = "run") -> None:
    """Refuse what is no plain name of a folder; None is none.

    Raises:
        ValueError: with what is allowed.
    """
    if name is not None and not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} can't name a {what}: use letters, digits, '.', '_' and '-', "
            "and no '.' in front"
        )


def conf_names(folder: str) -> list[str]:
    """The names of the YAML files in a folder of ``conf``, sorted; none if it does not exist."""
    from importlib.resources import files

    return yaml_names(files("svdbench.conf") / folder)


def yaml_names(folder: "Traversable") -> list[str]:
    """The names of the YAML files in a folder, sorted; none if it does not exist."""
    listed = folder.iterdir() if folder.is_dir() else ()
    return sorted(each.name[:-5] for each in listed if each.name.endswith(".yaml"))
