"""Starts a job: its configuration is composed and checked, then it runs, or each job of a sweep."""

from collections.abc import Sequence
from typing import Any

from svdbench.config.compose import compose, show
from svdbench.errors import Interrupted
from svdbench.job import Request, find_job


def launch(job: str, overrides: Sequence[str]) -> Any:
    """Run a job on ``conf/<job>.yaml`` with the overrides; what it returns.

    Raises:
        UserError: a key, type or value that does not fit, in one line.
        Interrupted: ^C.
    """
    checked, text = compose(job, overrides)
    try:
        return find_job(job).module.run(checked, text)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; what was finished is kept") from None


def start(request: Request) -> None:
    """Run what was asked for, or show its configuration.

    Raises:
        UserError: as :func:`launch`.
    """
    job = request.job
    if request.show_config:
        print(show(job.root, request.overrides), end="")
    elif request.multirun:
        from svdbench.sweeps import Sweep, SweepSource, run_sweep

        subject = [] if request.subject is None or job.command == "" else [request.subject]
        words = [job.words, *subject, "-m"]
        words += [text for text in request.overrides if not text.startswith("name=")]
        run_sweep(Sweep(job.root, (SweepSource(request.overrides),), tuple(words))).check()
    else:
        launch(job.root, request.overrides)
