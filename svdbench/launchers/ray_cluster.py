"""To and from Ray: import it, be connected to a cluster, and see what nodes it has."""

import logging
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from svdbench.errors import UserError, one_line

# What Ray has to say of itself, and copies of what workers print.
QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}

# How long a cluster's head may take to answer.
ANSWER_S = 10.0


def imported() -> ModuleType:
    """Ray, imported. Raises UserError if it isn't installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "hydra/launcher=ray needs Ray: install it with pip install 'svdbench[ray]'"
        ) from error
    return ray


@contextmanager
def connected(ray: ModuleType, address: str | None, init: Mapping[str, Any]) -> Iterator[None]:
    """Be connected to a cluster, and leave it at the end, unless somebody else had connected.

    Raises:
        UserError: there is none at this address, or Ray doesn't start.
    """
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        ray.init(address, **(QUIET | dict(init)))
    except OSError as error:  # Ray's ConnectionError, too
        raise UserError(
            f"no Ray cluster at {address!r}: start one with ray start --head, "
            "or set hydra.launcher.address to where one is, or to local"
        ) from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"Ray doesn't start: {one_line(error)}: see hydra.launcher") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise OSError if nobody answers at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), min(int(port), 65535)), ANSWER_S).close()


def check_room(ray: ModuleType, options: Mapping[str, Any], may_grow: bool) -> None:
    """See whether a node is large enough for a job, as Ray would wait for one forever.

    Raises:
        UserError: none is, and no other will come.
    """
    needs: dict[str, float | None] = {
        "CPU": options["num_cpus"],
        "GPU": options["num_gpus"],
        "memory": options["memory"],
        **options["resources"],
    }
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(key, 0) >= (least or 0) for key, least in needs.items()) for node in nodes):
        return
    asked = ", ".join(f"{amount:g} {name}" for name, amount in needs.items() if amount)
    cause = f"hydra.launcher: a job asks for {asked}, and no node of Ray's has that"
    if not may_grow:
        raise UserError(f"{cause}: ask for less, or give the address of a cluster")
    print(f"svdbench: {cause}: the jobs wait for one that has", file=sys.stderr)
