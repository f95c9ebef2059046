"""Looks at the machine, and prints what was found."""

import json
from dataclasses import asdict

from rich.console import Console

from svdbench.errors import Interrupted
from svdbench.jobs.doctor.facts import facts
from svdbench.jobs.doctor.load import load
from svdbench.jobs.doctor.report import report
from svdbench.jobs.doctor.verdicts import verdicts
from svdbench.reporting.render import show


def run(output: str = "table", console: Console | None = None) -> None:
    """Look at the machine for about two seconds, and print what was found.

    Args:
        output: ``table`` for people, ``json`` for programs.

    Raises:
        Interrupted: ^C.
    """
    try:
        found = facts()
        found["load"] = load()
    except KeyboardInterrupt:
        raise Interrupted("interrupted before all checks were done") from None
    judged = verdicts(found)
    if output == "json":
        told = found | {"verdicts": [asdict(verdict) for verdict in judged]}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        show(report(found, judged), console or Console())
