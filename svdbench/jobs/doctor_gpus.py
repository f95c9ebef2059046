"""The GPUs of this machine, as their driver tells it, else as torch sees them."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# What nvidia-smi calls it; numbers are those with a unit in their name.
_ASKED = {
    "name": "name",
    "driver": "driver_version",
    "capability": "compute_cap",
    "memory_mib": "memory.total",
    "temperature_c": "temperature.gpu",
    "clock_mhz": "clocks.sm",
    "max_clock_mhz": "clocks.max.sm",
    "slowed_by": "clocks_throttle_reasons.active",
    "busy_percent": "utilization.gpu",
    "persistence": "persistence_mode",
}
_NUMBERS = ("memory_mib", "temperature_c", "clock_mhz", "max_clock_mhz", "busy_percent")

# Bits of the reasons; an idle GPU, or one whose clocks were set, is none to worry about.
_SLOWED = {
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "heat (driver)",
    0x40: "heat (hardware)",
    0x80: "the power supply's brake",
}


def ask(command: Sequence[str]) -> str | None:
    """The output of a command; None where there is none within three seconds."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=3).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def gpus(ask: Callable[[Sequence[str]], str | None] = ask) -> list[dict[str, Any]]:
    """What is known of each; None for what isn't.

    Args:
        ask: runs a command, another in tests.
    """
    query = f"--query-gpu={','.join(_ASKED.values())}"
    found = []
    for line in (ask(["nvidia-smi", query, "--format=csv,noheader,nounits"]) or "").splitlines():
        values = [_known(value) for value in line.split(",")]
        if len(values) == len(_ASKED):
            gpu: dict[str, Any] = dict(zip(_ASKED, values, strict=True))
            gpu |= {name: _number(gpu[name]) for name in _NUMBERS}
            found.append(gpu | {"slowed_by": _reasons(gpu["slowed_by"])})
    return found or [dict.fromkeys(_ASKED) | gpu for gpu in _seen_by_torch()]


def _seen_by_torch() -> Iterator[dict[str, Any]]:
    import torch

    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(i)
        yield {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_mib": properties.total_memory / 2**20,
        }


def _reasons(bits: str | None) -> list[str] | None:
    try:
        active = int(bits or "", 16)
    except ValueError:
        return None
    return [reason for bit, reason in _SLOWED.items() if active & bit]


def _known(value: str) -> str | None:
    """What nvidia-smi says, unless it is that it doesn't know."""
    value = value.strip()
    return None if not value or value.startswith("[") else value


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
