"""For inputs that may be wrong: jobs that stop before they begin, and a count of what was tried.

Fast tests try a few inputs, slow ones many, and always the same; with ``SVDBENCH_FUZZ=random``
in the environment (``make fuzz``) each session tries others.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from judge import ENDS, Accepted, hunt

from svdbench.record import store

FAST, FULL = 1, 12
ENVIRONMENT = cache(store.environment)


@pytest.fixture(
    params=[pytest.param(FAST, id="some"), pytest.param(FULL, id="many", marks=pytest.mark.slow)]
)
def hunting(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``hunting(check, cases, examples=N)``: N cases in a fast test, and so many times N else."""
    random = os.environ.get("SVDBENCH_FUZZ") == "random"

    def hunting(check: Any, cases: Any, examples: int, known: Any = None) -> None:
        hunt(check, cases, examples * request.param, random, known)

    return hunting


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to be in, with nothing beside it."""
    folder = tmp_path / "outside" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)


@pytest.fixture(autouse=True)
def _stops_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a run's folder is there, or something is measured or downloaded, there is an end."""
    create = store.Run.create.__func__  # type: ignore[attr-defined]

    def created(cls: type, *given: Any, **options: Any) -> None:
        create(cls, *given, **options).close()
        raise Accepted("a run has begun")

    def accepted(*given: Any, **options: Any) -> None:
        raise Accepted("work has begun")

    monkeypatch.setattr(store, "environment", ENVIRONMENT)
    monkeypatch.setattr(store.Run, "create", classmethod(created))
    monkeypatch.setattr("svdbench.jobs.tune.tune", accepted)
    monkeypatch.setattr("svdbench.jobs.doctor.facts", accepted)
    monkeypatch.setattr("svdbench.jobs.data.download", accepted)
    monkeypatch.setattr("svdbench.jobs.reproduce.reproduce", accepted)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ENDS:
        ends = ", ".join(f"{count:,} {end}" for end, count in sorted(ENDS.items()))
        terminalreporter.write_line(f"fuzz: {sum(ENDS.values()):,} inputs: {ends}")
