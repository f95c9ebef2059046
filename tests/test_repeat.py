"""Every job: finished, the same command once and twice more leaves every file as it was."""

import os
from pathlib import Path

import pytest
from promises.commands import Command, commands, write_model

# Those that once were not left as they were are always tested.
OFTEN = ("accelerate", "tune")
COMMANDS = [
    pytest.param(
        command, id=command.title, marks=[] if command.title in OFTEN else pytest.mark.slow
    )
    for command in commands()
]


@pytest.mark.usefixtures("elsewhere", "known_rates", "one_thread")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_finished_run_is_left_as_it_is(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    assert command.run("one") == 0
    finished = contents(command.folder("one"))
    assert finished
    for _ in range(2):
        assert command.run("one") == 0
        again = contents(command.folder("one"))
        assert [
            path for path in {**again, **finished} if again.get(path) != finished.get(path)
        ] == []


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
