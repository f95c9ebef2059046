"""A SLURM of two nodes on this host, made of Debian's packages, in a folder of its own.

apt-get install slurmctld slurmd slurm-client munge; needs root, as slurmd starts jobs as their
users. No systemd, no accounting: the least that a cluster may have.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NODES = ("node1", "node2")
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
READY_S = 60

CONFIGURATION = """\
ClusterName=svdbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""


def missing() -> list[str]:
    """The programs that aren't here."""
    return [name for name in NEEDED if shutil.which(name) is None]


@contextmanager
def cluster(folder: Path) -> Iterator[Mapping[str, str]]:
    """Start the daemons; the environment in which ``sbatch`` finds them. Ends them all."""
    ports = _free_ports(1 + len(NODES))
    host = socket.gethostname()
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN"
        for name, port in zip(NODES, ports[1:], strict=True)
    )
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=host, port=ports[0], folder=folder, nodes=nodes)
    )
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    munge = _munge(folder)
    commands = [
        munge,
        ["slurmctld", "-D", "-f", str(configuration)],
        *(["slurmd", "-D", "-N", node, "-f", str(configuration)] for node in NODES),
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with open(folder / f"{len(daemons)}-{command[0]}.log", "wb") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if command is munge:
                wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        wait_for(lambda: _idle(environment) == len(NODES), "two idle nodes")
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def wait_for(condition: Callable[[], object], what: str, within_s: float = READY_S) -> None:
    """Raise TimeoutError where it doesn't come about."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {within_s} s for {what}")
        time.sleep(0.2)


def _munge(folder: Path) -> list[str]:
    """The command of a munged of its own, which trusts its folder as it is."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    paths = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder}/munge.{name}" for option, name in paths.items()]
    return ["munged", "--foreground", "--force", f"--key-file={key}", *options]


def _idle(environment: Mapping[str, str]) -> int:
    command = ["sinfo", "--noheader", "--Node", "--format=%t"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    return answer.stdout.split().count("idle")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
