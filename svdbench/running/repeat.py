"""The command that repeats a run: what its configuration has that the defaults have not."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from svdbench.config.compose import compose
from svdbench.config.grammar import override
from svdbench.config.presets import preset
from svdbench.errors import UserError, one_line
from svdbench.files import configurations, flat
from svdbench.job import all_jobs, find_job
from svdbench.record.schema import PLACE
from svdbench.reporting.claims import experiment
from svdbench.reporting.html.page import Repeat
from svdbench.running.sweeps import read_sweep

# The keys that the arguments of the command stand for.
SPOKEN = {"model_name", "task_name", "model.build"}
# A model of the user's own takes these, and is refused without them.
BROUGHT = {"model.weights", "model.loader"}
TRAIN = ("train", "gradients")
PLAIN = re.compile(
    r"(?!(?:true|false|null|inf|nan)$)[a-z_][\w.-]*|\d+(?:-\d+)+", re.IGNORECASE | re.ASCII
)


def repeat(job: str, config: str | None, environment: Mapping[str, Any]) -> Repeat:
    """The command, as a shell takes it, and what keeps it from being exact.

    Args:
        environment: of the run: the version that it was made by.
    """
    try:
        command, notes = _command(job, config)
    except KeyError as error:
        return Repeat(None, [f"the command is unknown: config.yaml has no {error.args[0]}"])
    except (UserError, ValueError, TypeError, RecursionError) as error:
        return Repeat(None, [f"the command is unknown: {one_line(error)}"])
    return Repeat(command, [*notes, *_source(environment)])


def repeat_sweep(folder: Path) -> Repeat:
    """The command of a sweep, as it was typed."""
    try:
        words = read_sweep(folder).words
    except UserError as error:
        return Repeat(None, [f"the command is unknown: {error}"])
    return Repeat(" ".join(["svdbench", *map(_quoted, words)]))


def _command(job: str, config: str | None) -> tuple[str, list[str]]:
    if config is None:
        raise UserError("there is no config.yaml")
    if job not in [own.name for own in all_jobs()]:
        raise UserError(f"{job} is not an svdbench command")
    runs = _settings(config)
    rest, notes = _typed(job, runs[0])
    if any(_typed(job, run)[0] != rest for run in runs[1:]):
        raise UserError("config.yaml has several configurations, which no single command produces")
    words = [f"svdbench {find_job(job).words}", *_subject(job, runs), *map(_quoted, rest)]
    return " ".join(words), notes


def _settings(text: str) -> list[dict[str, Any]]:
    """The leaves of each document; raises UserError for what no run writes."""
    try:
        trees = configurations(text)
    except ValueError as error:
        raise UserError(f"config.yaml {error}") from error
    return [dict(flat(tree)) for tree in trees]


def _subject(job: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The arguments of the command before its keys."""
    if job in TRAIN:
        models = ",".join(run["model_name"] for run in runs)
        return [models, "--task", runs[0]["task_name"]]
    build = runs[0].get("model.build")
    return [_quoted(str(build))] if build else []


def _typed(job: str, ours: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What is typed after the arguments; and how the keys of then and of today differ."""
    groups, explicit = _groups(job, ours), _explicit(job, ours)
    stood_for = [_override(key, ours[key]) for key in sorted(explicit | SPOKEN & set(ours))]
    if job in TRAIN:
        model, task = (_name(ours[key]) for key in ("model_name", "task_name"))
        stood_for += [f"model={model}", f"task={task}", *preset(task, model, groups)]
    theirs = _settings(compose(find_job(job).root, [*stood_for, *groups])[1])[0]
    keys = [
        key
        for key, value in ours.items()
        if key in explicit or (key in theirs and value != theirs[key])
    ]
    typed = [_override(key, ours[key]) for key in keys if key not in SPOKEN.union(PLACE)]
    return [*groups, *typed], list(_drift(set(ours), set(theirs)))


def _name(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"\w+", value):
        return value
    raise UserError(f"{value!r} names no model and no task")


def _groups(job: str, ours: Mapping[str, Any]) -> list[str]:
    """The experiment, or the optimiser, that is not the default."""
    if (name := experiment(ours)) is not None:
        return [f"experiment={name}"]
    usual = "sgd" if job == "compress" else "adam"
    optimizer = ours.get("optimizer.name", usual)
    return [] if optimizer == usual else [f"optimizer={optimizer}"]


def _explicit(job: str, ours: Mapping[str, Any]) -> set[str]:
    """Keys that are always typed."""
    if job == "gradients":  # the command has defaults of its own
        return set(find_job(job).settings)
    return {key for key in BROUGHT if ours.get(key) is not None}


def _quoted(word: str) -> str:
    """For a shell, in double quotes where there are single ones already."""
    simple = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if simple else shlex.quote(word)


def _override(key: str, value: Any) -> str:
    """Without quotes where Hydra needs none."""
    plain = isinstance(value, str) and PLAIN.fullmatch(value)
    return f"{key}={value}" if plain else override(key, value)


def _drift(ours: set[str], theirs: set[str]) -> Iterator[str]:
    """Where the configurations of then and of today have different keys."""
    if gone := sorted(ours - theirs):
        yield f"the run has keys that this svdbench does not know: {_listed(gone)}"
    if new := sorted(theirs - ours - set(PLACE)):
        yield f"keys added since then have their defaults: {_listed(new)}"


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
    return ", ".join(keys[:6]) + more


def _source(environment: Mapping[str, Any]) -> Iterator[str]:
    source = environment.get("source")
    if isinstance(source, dict) and source.get("commit"):
        state = ", changed since" if source.get("dirty") else ""
        version = environment.get("svdbench", "")
        yield f"made by svdbench {version} at commit {str(source['commit'])[:12]}{state}"
