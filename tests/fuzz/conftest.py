"""For inputs that may be wrong: jobs that stop before they begin, and a count of what was tried.

Fast tests try a few inputs, slow ones many, and always the same; with ``SVDBENCH_FUZZ=random``
in the environment (``make fuzz``) each session tries others.
"""

import os
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from judge import ENDS, FINDINGS, LIMIT_S, Accepted, hunt

from svdbench.record import run as record

RANDOM = os.environ.get("SVDBENCH_FUZZ") == "random"
FAST, FULL = 1, 24 if RANDOM else 8
ENVIRONMENT = cache(record.environment)


@pytest.fixture(
    params=[pytest.param(FAST, id="some"), pytest.param(FULL, id="many", marks=pytest.mark.slow)]
)
def hunting(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``hunting(check, cases, examples=N)``: N cases in a fast test, and so many times N else."""

    def hunting(check: Any, cases: Any, examples: int, known: Any = None) -> None:
        hunt(check, cases, examples * request.param, RANDOM, known)

    return hunting


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to be in, with nothing beside it."""
    folder = tmp_path / "outside" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "outside"))  # where what is written shows
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture(autouse=True, scope="session")
def _imported() -> None:
    """What jobs import late costs seconds, once, which are none of an input's."""
    for module in ("compress_model", "doctor", "rank_reveal", "report", "reproduce"):
        import_module(f"svdbench.jobs.{module}.run")


@pytest.fixture(autouse=True)
def _stops_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a run's folder is there, or something is measured or downloaded, there is an end."""
    create = record.RunWriter.create.__func__  # type: ignore[attr-defined]

    def created(cls: type, *given: Any, **options: Any) -> None:
        create(cls, *given, **options).close()
        raise Accepted("a run has begun")

    def accepted(*given: Any, **options: Any) -> None:
        raise Accepted("work has begun")

    monkeypatch.setattr(record, "environment", ENVIRONMENT)
    monkeypatch.setattr(record.RunWriter, "create", classmethod(created))
    monkeypatch.setattr("svdbench.running.sweeps.run.own_folder", accepted)
    monkeypatch.setattr("svdbench.jobs.tune.shapes.tune", accepted)
    monkeypatch.setattr("svdbench.jobs.doctor.run.facts", accepted)
    monkeypatch.setattr("svdbench.jobs.data.run.download", accepted)
    monkeypatch.setattr("svdbench.jobs.reproduce.run.reproduce", accepted)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands its counts to the one that started it."""
    if (sent := getattr(session.config, "workeroutput", None)) is not None:
        sent["fuzz"] = dict(ENDS), {kind: sorted(found) for kind, found in FINDINGS.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    ends, findings = getattr(node, "workeroutput", {}).get("fuzz", ({}, {}))
    ENDS.update(ends)
    for kind, found in findings.items():
        FINDINGS[kind].update(found)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ENDS or any(FINDINGS.values()):
        refused, valid = ENDS["refused"], ENDS["accepted"]
        terminalreporter.write_line(
            f"fuzz: {refused + valid:,} inputs tried: {refused:,} refused, {valid:,} valid after "
            f"all; {len(FINDINGS['tracebacks'])} tracebacks or foreign words, "
            f"{len(FINDINGS['hangs'])} hangs over {LIMIT_S} s, "
            f"{len(FINDINGS['files outside'])} files written outside"
        )
