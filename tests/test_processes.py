"""Processes end with the one that started them, however that one ends."""

import os
import signal
import subprocess
import sys

import pytest

from svdbench.running.processes import PARENT

# A process without an end of its own, unless it is interrupted and heeds that.
CHILD = """
import os, signal, sys, time
from svdbench.running import processes
if sys.argv[2] == "looked for":
    del os.pidfd_open
    processes.POLL_S = 0.01
def heed(*_):
    os.write(1, b"interrupted\\n")
    os._exit(0)
signal.signal(signal.SIGINT, heed if sys.argv[4] == "heeds" else signal.SIG_IGN)
processes.end_with(int(sys.argv[1]), float(sys.argv[3]))
os.write(1, b"watches\\n")  # at once, as another writes there, too
while True:
    time.sleep(0.1)
"""
# Starts one as its own child, and one as a grandchild, as submitit does.
PARENT_OF_TWO = """
import os, signal, subprocess, sys
signal.alarm(300)  # where a child fails to start, nothing else ends this
child = [sys.executable, "-c", sys.argv[1], str(os.getpid()), *sys.argv[2:]]
subprocess.Popen(child)
subprocess.Popen([sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
                 + child)
sys.stdin.read()
"""


def parent_of(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, CHILD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", ["waited for", "looked for"])
@pytest.mark.parametrize(
    ("grace_s", "child", "said"),
    [("0", "heeds", ""), ("600", "heeds", "interrupted\n" * 2), ("0.1", "ignores", "")],
)
def test_a_killed_process_takes_children_and_grandchildren_along(
    how: str, grace_s: str, child: str, said: str
) -> None:
    parent = parent_of(PARENT_OF_TWO, how, grace_s, child)
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(2)] == ["watches\n"] * 2
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == said  # its end: nobody is left that could write


@pytest.mark.parametrize("how", ["waited for", "looked for"])
def test_a_process_whose_parent_is_gone_already_does_not_begin(how: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    child = [sys.executable, "-c", CHILD, str(gone.pid), how, "0", "heeds"]
    assert subprocess.run(child, stdout=subprocess.PIPE).returncode == -signal.SIGKILL


def test_a_command_whose_parent_is_gone_already_does_not_begin() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "svdbench", "--version"]
    ended = subprocess.run(command, env=os.environ | {PARENT: str(gone.pid)})
    assert ended.returncode == -signal.SIGKILL
    alive = os.environ | {PARENT: str(os.getpid())}
    assert subprocess.run(command, env=alive, stdout=subprocess.DEVNULL).returncode == 0
