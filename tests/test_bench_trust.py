"""``make bench-trust``: it sees what kills could do to a run, and kills what is to be killed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from promises.commands import Command, commands, write_model
from promises.kills import WHOLE, Wounds, killed

from svdbench.record.run import RunWriter
from svdbench.record.schema import SAMPLES

pytestmark = pytest.mark.usefixtures("elsewhere")

ROW = {"cell": "c", "status": "ok", "method": "fasth"}
RUN = Command("job", "job", False, lambda name: 0)


def finished(name: str) -> Path:
    with RunWriter.create("results", "job", folder=RUN.folder(name), env={}) as record:
        for d in (1, 2, 3):
            record.append(SAMPLES, ROW | {"d": d, "step_s": 0.1 * d})
            record.finish(f"d = {d}")
    return record.folder / "samples.csv"


def change(number: int, line: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    """Of the lines of a table, another one in the place of one."""
    return lambda lines: [*lines[:number], line(lines[number]), *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda lines: lines, {}),
        (change(2, lambda line: line.replace("fasth", "cayley")), {"lost": 1, "different": 1}),
        (lambda lines: [*lines, lines[-1]], {"repeated": 1, "different": 1}),
        (lambda lines: lines[:-1], {"lost": 1, "different": 1}),
        (
            lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0]],
            {"lost": 1, "torn": 1, "different": 1},
        ),
    ],
    ids=["nothing", "another", "twice", "gone", "torn"],
)
def test_what_is_wrong_is_seen(
    damage: Callable[[list[str]], list[str]], found: dict[str, int]
) -> None:
    finished(WHOLE)
    path = finished("killed-0")
    wounds = Wounds()
    wounds.look(path.parent)
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    wounds.judge(RUN, "killed-0")
    counts = {name: getattr(wounds, name) for name in ("lost", "torn", "repeated", "different")}
    assert {name: count for name, count in counts.items() if count} == found


def test_files_that_are_left_behind_are_seen() -> None:
    finished(WHOLE)
    (finished("killed-0").parent / ".env.json.1.partial").write_text("")
    wounds = Wounds()
    wounds.judge(RUN, "killed-0")
    assert wounds.different == 1


@pytest.mark.slow
def test_a_command_is_killed_and_ends(tmp_path: Path) -> None:
    write_model(tmp_path)
    chosen = [command for command in commands() if command.title in ("time-svd", "accelerate")]
    for title, wounds in killed(chosen, 6):
        assert title in ("time-svd", "accelerate")
        assert wounds.kills == 3
        clean = Wounds(kills=3)
        assert wounds == clean
