"""What a shell offers for the values of options, of arguments, and of KEY=VALUE.

It must answer at once: names are read from the folders of ``conf`` and from installed packages,
and neither torch nor Hydra is imported.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path

from svdbench.config.base import EXPERIMENT
from svdbench.config.fields import Leaf, leaves
from svdbench.files import conf_names
from svdbench.job import Job, Subject
from svdbench.members import Registry

VARIABLE = "_SVDBENCH_COMPLETE"
MOST_RUNS = 200

Completer = Callable[[str], list[str]]


def names(choices: Registry | Sequence[str] | None, several: bool = False) -> Completer | None:
    """Completes one of the names, or with ``several`` the last of a list with commas."""
    if choices is None:
        return None

    def complete(incomplete: str) -> list[str]:
        known = choices.known() if isinstance(choices, Registry) else choices
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = before.split(",")
        return [
            f"{before}{comma}{name}"
            for name in known
            if name.startswith(last.lower().replace("-", "_")) and name not in taken
        ]

    return complete


def first_argument(subject: Subject, jobs: Sequence[Job]) -> Completer:
    """Completes a first argument, in whose place KEY=VALUE may stand, too."""
    named, keys = names(subject.choices or (), subject.several), overrides(jobs)

    def complete(incomplete: str) -> list[str]:
        found = named(incomplete) if named is not None else []
        return found or keys(incomplete)

    return complete


def devices(incomplete: str) -> list[str]:
    """Completes a device: of GPUs, those that the system has a file for."""
    gpus = sorted(Path("/dev").glob("nvidia[0-9]*"))
    known = ["cpu", "cuda", *(f"cuda:{number}" for number in range(len(gpus)))]
    return [name for name in known if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Completes the folder of a run below ``results``, the newest first; else any path."""
    found = []
    with suppress(OSError):
        for job in filter(os.path.isdir, map(Path, Path("results").glob("*"))):
            found += [each for each in job.iterdir() if (each / "progress.jsonl").is_file()]
        found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    fitting = [str(each) for each in found if str(each).startswith(incomplete)]
    return fitting[:MOST_RUNS] or paths(incomplete)


def paths(incomplete: str) -> list[str]:
    """Completes a path; folders end with a slash."""
    folder, slash, name = incomplete.rpartition("/")
    found = []
    with suppress(OSError):
        for each in os.scandir(f"{folder}{slash}" or "."):
            if each.name.startswith(name) and (name.startswith(".") or each.name[0] != "."):
                found.append(f"{folder}{slash}{each.name}" + ("/" if each.is_dir() else ""))
    return sorted(found)


def overrides(jobs: Sequence[Job]) -> Completer:
    """Completes the key of KEY=VALUE, then its value where the values are known."""

    def complete(incomplete: str) -> list[str]:
        key, equals, value = incomplete.partition("=")
        if equals:
            known = _values(jobs, key.replace("-", "_"))
            return [f"{key}={each}" for each in known if each.startswith(value)]
        return sorted({each for job in jobs for each in _keys(job) if each.startswith(key)})

    return complete


def _keys(job: Job) -> Iterator[str]:
    if job.experiments:
        yield f"{EXPERIMENT}="
    for leaf in leaves(job.config):
        if leaf.key.group and isinstance(leaf.key.choices, Registry):
            yield f"{leaf.name}."
        else:
            yield f"{leaf.name}="


def _values(jobs: Sequence[Job], key: str) -> list[str]:
    """The values that a key may have; none where any number or text may stand."""
    if key == EXPERIMENT:
        return sorted({name for job in jobs for name in job.experiments})
    for leaf in (leaf for job in jobs for leaf in leaves(job.config) if leaf.name == key):
        if leaf.key.group:
            return conf_names(leaf.name)
        return _choices(leaf)
    return []


def _choices(leaf: Leaf) -> list[str]:
    if leaf.kind is bool:
        return ["true", "false"]
    if isinstance(leaf.kind, type) and issubclass(leaf.kind, Enum):
        return [str(each.value) for each in leaf.kind]
    if isinstance(leaf.key.choices, Registry):
        return leaf.key.choices.known()
    return list(leaf.key.choices or ())


def published(incomplete: str) -> list[str]:
    """Completes the name of a published result, or all."""
    return [name for name in [*conf_names("reproduce"), "all"] if name.startswith(incomplete)]


def rejoin_words() -> str:
    """Undo how bash splits words at an equals sign; returns what it must not be told again.

    bash passes ``measure=sh`` on as three words, and replaces only the last of them.
    """
    if os.environ.get(VARIABLE) != "complete_bash":
        return ""
    cursor = int(os.environ.get("COMP_CWORD", "0"))
    try:
        words = shlex.split(os.environ.get("COMP_WORDS", ""))[: cursor + 1]
    except ValueError:  # an open quote
        return ""
    words += [""] * (cursor + 1 - len(words))
    joined = words[:1]
    for word in words[1:]:
        if word == "=" or joined[-1].endswith("="):
            joined[-1] += word
        else:
            joined.append(word)
    os.environ["COMP_WORDS"] = shlex.join(joined)
    os.environ["COMP_CWORD"] = str(len(joined) - 1)
    key, equals, _ = joined[-1].partition("=")
    return key + equals if equals and words[-1] != joined[-1] else ""
