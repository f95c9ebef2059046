"""Whether a folder may be written: a new run's, or that of the same run to be resumed."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from svdbench.errors import one_line
from svdbench.files import LARGEST_YAML, facts, read_environment, read_text, refuse_name
from svdbench.record.environment import version_in_words, version_of
from svdbench.record.journal import NAME as JOURNAL
from svdbench.record.journal import read_resumed
from svdbench.record.lines import RecordError, as_record_error, refuse_special_files

CONFIG, ENVIRONMENT = "config.yaml", "env.json"
_mixing: ContextVar[bool] = ContextVar("mixing", default=False)


def may_mix_versions() -> bool:
    """Whether :func:`mixing_versions` allows it."""
    return _mixing.get()


@contextmanager
def mixing_versions(allowed: bool) -> Iterator[None]:
    """Allow timings to be resumed with another version of svdbench, or not."""
    before = _mixing.set(allowed)
    try:
        yield
    finally:
        _mixing.reset(before)


def run_folder(root: Path, job: str, name: str | None) -> Path:
    """The folder ``root/job/name``; without a name, a new one."""
    try:
        refuse_name(job, "job")
        refuse_name(name)
    except ValueError as error:
        raise RecordError(str(error)) from error
    if name is not None:
        return root / job / name
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    with as_record_error(root / job):
        (root / job).mkdir(parents=True, exist_ok=True)
        for i in count(1):
            folder = root / job / (stamp if i == 1 else f"{stamp}-{i}")
            try:
                folder.mkdir()  # which decides between runs that start in the same second
                break
            except FileExistsError:
                continue
    return folder


def refuse_foreign_folder(folder: Path, remedy: str) -> None:
    """Make ``folder`` if need be; raise RecordError if it holds something without a journal."""
    with as_record_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / JOURNAL).is_file():
            raise RecordError(f"{folder} already holds results: {remedy}, or delete it")
        refuse_special_files(folder)


def refuse_other_run(
    folder: Path, config: str, env: Mapping[str, Any], same: Collection[str], remedy: str
) -> dict[str, Any]:
    """The environment in which the run of ``folder`` began, if this is the same run."""
    try:
        path = folder / CONFIG
        began_with = read_text(path, LARGEST_YAML)
        path = folder / ENVIRONMENT
        began = read_environment(path)
    except OSError as error:
        raise RecordError(
            f"can't resume {folder}: {one_line(error)}: {remedy}, or delete it"
        ) from error
    except ValueError as error:
        raise RecordError(
            f"can't resume {folder}: {path.name} {error}: {remedy}, or delete it"
        ) from error
    if began_with != config:
        raise RecordError(
            f"{folder} already holds results of another configuration: {remedy}, or delete it"
        )
    if other := [
        f"{key} was {began.get(key)}, is {env.get(key)}"
        for key in same
        if began.get(key) != env.get(key)
    ]:
        raise RecordError(
            f"{folder} was started elsewhere ({'; '.join(other)}), and timings can't be mixed: "
            f"{remedy}"
        )
    return began


def refuse_other_version(
    folder: Path,
    began: Mapping[str, Any],
    versions: Collection[str],
    env: Mapping[str, Any],
    remedy: str,
) -> None:
    """Refuse to resume timings that only other versions of svdbench wrote, unless allowed.

    Args:
        began: the environment in which they began.
        versions: those that wrote the existing rows.
        env: where this runs.

    Raises:
        RecordError: this is another version, with both.
    """
    if not (_mixing.get() or version_of(env) in versions):
        raise RecordError(
            f"{folder} was started with {version_in_words(began)}, but this is "
            f"{version_in_words(env)}: {remedy}, or continue with --force and get timings of both"
        )


def versions_of(began: Mapping[str, Any], resumed: Collection[Mapping[str, Any]]) -> list[str]:
    """The versions of svdbench that wrote a run, the first one first.

    Args:
        began: the environment in which it began.
        resumed: each time that it was taken up again, what of the environment was new.
    """
    environments = [began, *({**began, **news} for news in resumed)]
    return list(dict.fromkeys(filter(None, map(version_of, environments))))


def read_versions(folder: Path) -> list[str]:
    """The versions of svdbench that wrote the run of a folder, or the runs in it."""
    return list(dict.fromkeys(filter(None, map(version_of, read_environments(folder)))))


def read_environments(folder: Path) -> list[dict[str, Any]]:
    """Where the run of a folder, or the runs in it, began and were taken up again."""
    inside = sorted(path.parent for path in folder.glob(f"*/{JOURNAL}"))
    found = []
    for run in (folder, *inside):
        with suppress(OSError, ValueError, TypeError):
            began = read_environment(run / ENVIRONMENT)
            found += [began, *(facts({**began, **news}) for news in read_resumed(run))]
    return found
