"""The nodes that train one model together: which of them this is, and where they meet.

As for `torchrun`, MASTER_ADDR, MASTER_PORT and NODE_RANK describe them; what of these isn't
there is asked of SLURM, if it started a task on each node.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from svdbench.errors import UserError, one_line

NODE_RANK, SLURM_RANK = "NODE_RANK", "SLURM_PROCID"
PORT = 29500  # torchrun's
# Below those that Linux hands out by itself; a job's own, as jobs may share a node.
SLURM_PORTS = range(20_000, 30_000)


@dataclass(frozen=True)
class Node:
    """One of those that train together.

    Attributes:
        rank: of this node, 0 to ``count`` − 1; the first is the one that writes.
        count: how many there are.
        host, port: of the first, where it waits for the others.
    """

    rank: int = 0
    count: int = 1
    host: str = "localhost"
    port: int = 0

    @property
    def meeting(self) -> str:
        return f"{self.host}:{self.port}"


def this_node(count: int, environment: Mapping[str, str]) -> Node:
    """The node that a process runs on, one of ``count``."""
    if count == 1:
        return Node()
    by_slurm = NODE_RANK not in environment and "SLURM_STEP_NUM_TASKS" in environment
    if by_slurm:
        _check_tasks(count, environment)
    rank = _number(environment, SLURM_RANK if by_slurm else NODE_RANK)
    if rank is None:
        raise UserError(
            f"trainer.nodes is {count}, but nothing says which node this is: start it with "
            f"srun --nodes={count} --ntasks-per-node=1, or on each node with "
            "NODE_RANK=0 (1, 2, …) and MASTER_ADDR=HOST, the name of the first"
        )
    if rank >= count:
        raise UserError(f"NODE_RANK is {rank}: give a number from 0 to {count - 1}")
    port = _number(environment, "MASTER_PORT") or (_slurm_port(environment) if by_slurm else PORT)
    host = environment.get("MASTER_ADDR") or (_first_of_slurm(environment) if by_slurm else "")
    if port not in range(1, 2**16):
        raise UserError(f"MASTER_PORT is {port}: ports are 1 to 65535")
    if not host:
        raise UserError("MASTER_ADDR is not set: set it to the name of the node with NODE_RANK=0")
    return Node(rank, count, host, port)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{name} is {text!r}: give a whole number of at least 0")
    return int(text)


def _check_tasks(count: int, environment: Mapping[str, str]) -> None:
    """Raise UserError unless SLURM started one task on each node."""
    for name in ("SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"):
        if (found := environment.get(name)) != str(count):
            raise UserError(
                f"trainer.nodes is {count}, but {name} is {found}: start one task on "
                f"each node, for example with srun --nodes={count} --ntasks-per-node=1"
            )


def _slurm_port(environment: Mapping[str, str]) -> int:
    """A port that all nodes of a step choose, and most other steps do not."""
    job, step = (_number(environment, f"SLURM_{name}_ID") or 0 for name in ("JOB", "STEP"))
    return SLURM_PORTS[(job + 997 * step) % len(SLURM_PORTS)]


def _first_of_slurm(environment: Mapping[str, str]) -> str:
    """The address at which SLURM itself finds the first node of the step."""
    names = _scontrol("hostnames", environment.get("SLURM_STEP_NODELIST", ""))
    first, *_ = names.split() or [""]
    described = dict(word.split("=", 1) for word in _scontrol("node", first).split() if "=" in word)
    return described.get("NodeAddr", first)


def _scontrol(*what: str) -> str:
    command = ["scontrol", "--oneliner", "show", *what]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"can't ask SLURM for the first node ({one_line(error)}): give its name as MASTER_ADDR"
        ) from error
    return answer.stdout
