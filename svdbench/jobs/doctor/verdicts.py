"""What would make timings on this machine unreliable, and what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from svdbench.measure import BUSY
from svdbench.reporting.words import fixed, number, percent, quantity, share

# From which on the quartiles of one product, or its two halves, are too far apart.
_UNSTEADY = 0.05
_STEAL = 0.01

# Variables that make everything slow, by the value that does.
_SLOW = {
    "CUDA_LAUNCH_BLOCKING": "every kernel launch blocks",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "every tensor is allocated by the driver",
    "TRITON_INTERPRET": "Triton's kernels are interpreted, thousands of times slower",
    "PYTHONDEVMODE": "Python checks its memory",
}


@dataclass(frozen=True)
class Verdict:
    """Something about this machine.

    Attributes:
        level: ``unreliable``, timings can't be trusted; ``note``, they may mislead.
        cause, remedy: in words.
    """

    level: Literal["unreliable", "note"]
    cause: str
    remedy: str


def verdicts(facts: dict[str, Any]) -> list[Verdict]:
    """The worse first.

    Args:
        facts: of ``doctor_facts.facts`` with ``load`` beside; None values are ignored.
    """
    found = [
        *_load(facts["load"]),
        *_cores(facts["cpu"], facts["threads"]),
        *_clocks(facts["frequency"]),
        *_memory(facts["memory"]),
        *_gpus(facts["gpus"], facts["versions"]),
        *_software(facts["packages"], facts["threads"]["variables"]),
    ]
    return sorted(found, key=lambda verdict: verdict.level != "unreliable")


def _load(load: dict[str, Any]) -> Iterator[Verdict]:
    if (cores := load["foreign_cores"] or 0) > BUSY:
        yield Verdict(
            "unreliable",
            f"other processes keep {fixed(cores, 1)} cores busy",
            "stop them, or wait until `top` shows none",
        )
    if (steal := load["steal"] or 0) > _STEAL:
        yield Verdict(
            "unreliable",
            f"the hypervisor gave {share(steal, 2)} of the cores' time to other machines (steal)",
            "repeat at another hour, or on a machine of your own",
        )
    if load["spread"] > _UNSTEADY:
        yield Verdict(
            "unreliable",
            "the same product took varying times: their middle half spans "
            f"{share(load['spread'], 2)} of the median",
            "see the other causes listed here; measure longer (--budget)",
        )
    if load["drift"] > _UNSTEADY:
        yield Verdict(
            "unreliable",
            f"the same product took {share(load['drift'], 2)} longer in one half of the test than "
            "in the other",
            "let the machine settle, and watch its clocks",
        )
    if load["throttled"]:
        yield Verdict(
            "unreliable",
            f"heat throttled the cores {quantity(load['throttled'], 'time')} within a second",
            "cool the machine, or lower its clocks",
        )


def _cores(cpu: dict[str, Any], threads: dict[str, Any]) -> Iterator[Verdict]:
    n, visible, physical = threads["torch"], cpu["cores_visible"], cpu["cores_physical"]
    quota = cpu["quota_cores"]
    if n and visible and n > visible:
        yield Verdict(
            "unreliable",
            f"torch has {n} threads for {quantity(visible, 'core')} that it may use",
            f"set threads={visible}, or OMP_NUM_THREADS={visible}",
        )
    elif n and physical and n > physical:
        yield Verdict(
            "unreliable",
            f"torch has {n} threads for {quantity(physical, 'physical core')}, so "
            "that two share a core",
            f"set threads={physical}, or OMP_NUM_THREADS={physical}",
        )
    if n and quota and n > quota:
        yield Verdict(
            "unreliable",
            f"the container may use {number(quota)} cores, but torch has {n} threads: they are "
            "throttled",
            f"set threads={max(1, int(quota))}, or give the container more",
        )
    if visible and cpu["cores_logical"] and visible < cpu["cores_logical"]:
        yield Verdict(
            "note",
            f"this process may use {visible} of {quantity(cpu['cores_logical'], 'core')} "
            f"({cpu['affinity']})",
            "use the same cores in every run that you compare",
        )
    if cpu["virtual"]:
        yield Verdict(
            "note",
            "a virtual machine: other machines on its host show only as steal; their "
            "use of caches and clocks does not show",
            "repeat runs in turns, and let `svdbench compare` judge",
        )
    if (cpu["numa_nodes"] or 1) > 1 and visible == cpu["cores_logical"]:
        yield Verdict(
            "note",
            f"{cpu['numa_nodes']} NUMA nodes: memory of the other node is slower",
            "stay on one, for example with `numactl --cpunodebind=0 --membind=0`",
        )


def _clocks(frequency: dict[str, Any]) -> Iterator[Verdict]:
    if frequency["on_battery"]:
        yield Verdict("unreliable", "the machine runs on its battery", "plug it in")
    if frequency["governor"] not in (None, "performance"):
        yield Verdict(
            "note",
            f"the frequency governor is {frequency['governor']!r}: clocks follow the load",
            "`sudo cpupower frequency-set -g performance`",
        )
    if frequency["boost"]:
        yield Verdict(
            "note",
            "turbo is on: clocks depend on heat and on how many cores work",
            "write 0 to /sys/devices/system/cpu/cpufreq/boost, or 1 to …/intel_pstate/no_turbo",
        )
    if frequency["throttled"]:
        yield Verdict(
            "note",
            f"heat throttled the cores {quantity(frequency['throttled'], 'time')} since boot",
            "watch its clocks in long runs; cool it",
        )


def _memory(memory: dict[str, Any]) -> Iterator[Verdict]:
    total, free = memory["total_bytes"], memory["available_bytes"]
    if total and free is not None and free < 0.1 * total:
        yield Verdict(
            "unreliable",
            f"{fixed(free / 1e9, 1)} GB of {fixed(total / 1e9, 1)} GB of memory are left",
            "stop the processes that use it",
        )
    if total and (memory["swap_used_bytes"] or 0) > 0.02 * total:
        yield Verdict(
            "note",
            f"{fixed(memory['swap_used_bytes'] / 1e9, 1)} GB are swapped out",
            "`sudo swapoff -a && sudo swapon -a` brings them back",
        )


def _gpus(gpus: list[dict[str, Any]], versions: dict[str, Any]) -> Iterator[Verdict]:
    if gpus and versions["cuda"] is None:
        yield Verdict(
            "note",
            f"there is a GPU ({gpus[0]['name']}), but torch {versions['torch']} is a build without "
            "CUDA",
            "install torch from its CUDA index to use it",
        )
    elif gpus and all(gpu["device"] == "" for gpu in gpus):
        yield Verdict(
            "note",
            f"there is a GPU ({gpus[0]['name']}), but torch, built for CUDA {versions['cuda']}, "
            "sees none",
            "see whether CUDA_VISIBLE_DEVICES hides it, or the driver is too old for that CUDA",
        )
    for i, gpu in enumerate(gpus):
        name = f"GPU {i}"
        if gpu["slowed_by"]:
            yield Verdict(
                "unreliable",
                f"{name} is slowed down by {', '.join(gpu['slowed_by'])}",
                "cool it, or lock lower clocks with `nvidia-smi -lgc`",
            )
        if (gpu["busy_percent"] or 0) > 5:
            yield Verdict(
                "unreliable",
                f"{name} is {percent(gpu['busy_percent'] / 100, 0)} busy with other work",
                "`nvidia-smi` lists the processes: wait for it, or choose another device",
            )
        if gpu["persistence"] == "Disabled":
            yield Verdict(
                "note",
                f"{name} is not in persistence mode: its first call waits for the driver to load",
                "`sudo nvidia-smi -pm 1`",
            )


def _software(packages: list[dict[str, Any]], variables: dict[str, str]) -> Iterator[Verdict]:
    for name, why in _SLOW.items():
        if variables.get(name, "0") not in ("", "0"):
            yield Verdict("unreliable", f"{name} is set: {why}", f"`unset {name}`")
    for one in packages:
        wrong = one["installed"] is not None and not one["fits"]
        if wrong or (one["extra"] is None and one["installed"] is None):
            yield Verdict(
                "note",
                f"{one['package']} {one['installed'] or 'is missing'}, svdbench needs "
                f"{one['needs'] or 'it'}",
                f"`pip install '{one['package']}{one['needs']}'`",
            )
