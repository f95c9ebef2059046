"""Processes that end with the one that started them, however that one ends.

A process that is killed can't take its children along, so each of them watches it. The kernel's
own way, ``PR_SET_PDEATHSIG``, looks at the thread that started a process, not at the process,
and only at children: the processes of joblib are started by threads that come and go, and those
of submitit are grandchildren.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from threading import Thread

# Tells a command of ours whose child it is.
PARENT = "SVDBENCH_PARENT"
POLL_S = 1.0

_watched: set[int] = set()


def run_command(words: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
    """Run ``svdbench *words`` in a process that ends with this one."""
    return subprocess.run(
        [sys.executable, "-m", "svdbench", *words],
        env=os.environ | {PARENT: str(os.getpid())},
        check=False,
    )


def end_with_parent() -> None:
    """End with the process that :func:`run_command` was called in, if this is such a command."""
    parent = os.environ.pop(PARENT, "")
    if parent.isdecimal():
        end_with(int(parent))


def end_with(pid: int, grace_s: float = 0.0) -> None:
    """End this process when another ends; at once, if it has ended already.

    What is on the disk is whole at any moment, so a kill loses what was being done, at most.

    Args:
        pid: of a process of this machine.
        grace_s: seconds that this process has to end in order, after an interrupt (SIGINT),
            before it is killed. 0: it is killed without one.
    """
    if pid in _watched:
        return
    _watched.add(pid)
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        _end(grace_s)
    except (AttributeError, OSError):  # not Linux, an old one, or not allowed
        Thread(target=_watch, args=(pid, grace_s), daemon=True).start()
    else:
        Thread(target=_wait, args=(watched, grace_s), daemon=True).start()


def _wait(watched: int, grace_s: float) -> None:
    """Wait for a process by its file descriptor."""
    ended = select.poll()
    ended.register(watched, select.POLLIN)
    while not ended.poll():
        pass
    _end(grace_s)


def _watch(pid: int, grace_s: float) -> None:
    """Wait for a process by polling."""
    parent = os.getppid()
    while os.getppid() == parent and _is_there(pid):
        time.sleep(POLL_S)
    _end(grace_s)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _end(grace_s: float) -> None:
    if grace_s > 0:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(grace_s)
    os.kill(os.getpid(), signal.SIGKILL)
