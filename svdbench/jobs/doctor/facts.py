"""Facts about this machine: hardware, packages and GPUs."""

import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from svdbench.record.environment import environment, installed

Facts = dict[str, Any]


# Of the environment's variables, those that say how threads and devices are used.
VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"),
    *("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING"),
    *("PYTORCH_NO_CUDA_MEMORY_CACHING", "TRITON_INTERPRET", "PYTHONDEVMODE", "LD_PRELOAD"),
)


def facts(root: Path = Path("/")) -> Facts:
    """Everything but the load, which takes time to measure.

    Args:
        root: of ``/proc`` and ``/sys``, another in tests.
    """
    env = environment()
    return {
        "versions": _versions(env),
        "packages": list(packages()),
        "cpu": _cpu(env, root),
        "frequency": _frequency(root),
        "threads": _threads(env),
        "gpus": gpus(),
        "memory": _memory(env, root),
        "data": _data(),
    }


def throttled(root: Path = Path("/")) -> int | None:
    """How often the cores were throttled by heat since boot; None where it is not counted."""
    counts = root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    found = [number(read(path)) for path in counts]
    return int(sum(n or 0 for n in found)) if found else None


def _versions(env: Facts) -> Facts:
    import torch

    said = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", said)
    onednn = re.search(r"MKL-DNN v([\d.]+)", said)
    openmp = re.search(r"OpenMP \d+ \(a\.k\.a\. (OpenMP [\d.]+)\)", said)
    names = ("svdbench", "source", "python", "torch", "cuda", "triton", "numpy", "platform")
    return {name: env.get(name) for name in names} | {
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
        "blas": env.get("blas"),
        "mkl": mkl.group(1) if mkl else None,
        "onednn": onednn.group(1) if onednn else None,
        "openmp": openmp.group(1) if openmp else None,
        "hydra": installed("hydra-core"),
        "scipy": installed("scipy"),
    }


def _cpu(env: Facts, root: Path) -> Facts:
    import torch

    flags = re.search(r"^flags\s*:(.+)$", read(root / "proc/cpuinfo") or "", re.MULTILINE)
    words = flags.group(1).split() if flags else []
    nodes = list((root / "sys/devices/system/node").glob("node[0-9]*"))
    return {
        **{name: env.get(name) for name in ("cpu", "caches")},
        **{f"cores_{of}": env.get(f"cores_{of}") for of in ("physical", "logical", "visible")},
        "affinity": _affinity(),
        "quota_cores": _quota(root),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "low_precision": [
            word for word in ("avx512_bf16", "amx_bf16", "avx512_fp16") if word in words
        ],
        "numa_nodes": len(nodes) or None,
        "virtual": "hypervisor" in words if words else None,
    }


def _affinity() -> str | None:
    """The cores that this process may run on, as 0-3,8."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    spans: list[list[int]] = []
    for core in sorted(os.sched_getaffinity(0)):
        if spans and core == spans[-1][1] + 1:
            spans[-1][1] = core
        else:
            spans.append([core, core])
    return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in spans)


def _quota(root: Path) -> float | None:
    """How many cores' time a container may take; None without a limit."""
    if text := read(root / "sys/fs/cgroup/cpu.max"):  # cgroups, version 2
        quota, period = (*text.split(), "100000")[:2]
    else:
        folder = root / "sys/fs/cgroup/cpu"
        quota, period = (read(folder / f"cpu.cfs_{what}_us") or "" for what in ("quota", "period"))
    share, of = number(quota), number(period)
    return share / of if share and of and share > 0 else None


def _frequency(root: Path) -> Facts:
    cpu = root / "sys/devices/system/cpu"
    turbo_off = number(read(cpu / "intel_pstate/no_turbo"))
    boost = number(read(cpu / "cpufreq/boost"))
    if turbo_off is not None:
        boost = 1 - turbo_off
    said = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", read(root / "proc/cpuinfo") or "", re.MULTILINE)
    most = number(read(cpu / "cpu0/cpufreq/cpuinfo_max_freq"))
    supplies = [read(path) for path in (root / "sys/class/power_supply").glob("A*/online")]
    return {
        "governor": read(cpu / "cpu0/cpufreq/scaling_governor"),
        "boost": not turbo_off
        if turbo_off is not None
        else bool(boost)
        if boost is not None
        else None,
        "mhz": [round(float(mhz)) for mhz in said] or None,
        "max_mhz": most / 1000 if most else None,
        "throttled": throttled(root),
        "on_battery": "1" not in supplies if supplies else None,
    }


def _threads(env: Facts) -> Facts:
    return {
        "torch": env.get("threads"),
        "interop": env.get("interop_threads"),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _memory(env: Facts, root: Path) -> Facts:
    said = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read(root / "proc/meminfo") or "", re.MULTILINE))
    known = {name: 1024 * int(value) for name, value in said.items()}
    limit = number(read(root / "sys/fs/cgroup/memory.max"))
    swap = "SwapTotal" in known and "SwapFree" in known
    return {
        "total_bytes": env.get("memory_bytes"),
        "available_bytes": known.get("MemAvailable"),
        "limit_bytes": int(limit) if limit else None,
        "swap_used_bytes": known["SwapTotal"] - known["SwapFree"] if swap else None,
    }


def _data() -> Facts:
    """Where the data sets are looked for, and which are there, whole."""
    try:
        from svdbench.datasets.files import FileDataset, data_root
        from svdbench.members import DATASETS

        sets = [DATASETS.load(name) for name in DATASETS.names()]
        here = {
            one.name: ("built in" if not isinstance(one, FileDataset) else _state(one))
            for one in sets
        }
        return {"folder": str(data_root()), "sets": here}
    except (ImportError, OSError, ValueError):
        return {"folder": None, "sets": {}}


def _state(dataset: Any) -> str:
    faults = dataset.faults()
    if not faults:
        return "here"
    return "missing" if set(faults.values()) == {"missing"} else "damaged"


def read(path: Path) -> str | None:
    """The text of a small file; None where there is none to be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def number(text: str | None) -> float | None:
    """The number that a text is; None where it is none."""
    try:
        return float(text or "")
    except ValueError:
        return None


# What each extra of pyproject.toml is for.
EXTRAS = {
    "cats": "read the cat pictures (HDF5)",
    "slurm": "spread sweeps over a cluster with SLURM, or over local processes (submitit)",
    "peers": "time orthogonal maps of other libraries beside ours",
    "hf": "compress models of Hugging Face transformers",
    "zoo": "test compression on real models",
    "ray": "spread sweeps over a Ray cluster",
    "docs": "build the documentation as a site",
    "tensorboard": "follow a training in TensorBoard",
    "dev": "test, lint, type-check and build svdbench itself",
}


_CHECKOUT = Path(__file__).resolve().parents[2]


def packages(requirements: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """A package for each requirement: its version, whether that fits, and for which extra.

    Args:
        requirements: as package metadata have them; by default svdbench's own.
    """
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        return
    for text in _own() if requirements is None else requirements:
        try:
            need = Requirement(text)
        except InvalidRequirement:
            continue
        named = re.search(r"""extra == ['"]([^'"]+)['"]""", str(need.marker or ""))
        extra = named.group(1) if named else None
        elsewhere = need.marker is not None and not need.marker.evaluate({"extra": extra or ""})
        if need.name == "svdbench" or elsewhere:
            continue
        found = installed(need.name)
        yield {
            "package": need.name,
            "needs": str(need.specifier),
            "installed": found,
            "fits": found is not None and need.specifier.contains(found, prereleases=True),
            "extra": extra,
        }


def _own() -> list[str]:
    """Of the checkout that runs, as its metadata may be older; else of the installed package."""
    try:
        project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
        if project["name"] == "svdbench":
            extras = project.get("optional-dependencies", {})
            return [
                *project["dependencies"],
                *(_of_extra(need, extra) for extra, needs in extras.items() for need in needs),
            ]
    except (OSError, ValueError, KeyError):
        pass
    try:
        return requires("svdbench") or []
    except PackageNotFoundError:
        return []


def _of_extra(need: str, extra: str) -> str:
    """As metadata would say that the extra needs it."""
    need, _, marker = need.partition(";")
    both = f"({marker.strip()}) and " if marker else ""
    return f"{need}; {both}extra == '{extra}'"


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
    "uuid": "uuid",
}
# What older drivers call it, and those that will have dropped that name.
_RENAMED = {"clocks_throttle_reasons.active": "clocks_event_reasons.active"}
# Without persistence mode nvidia-smi waits for the driver to load, GPU by GPU.
_PATIENCE_S = 20.0


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
    """The output of a command; None where there is none within twenty seconds."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_PATIENCE_S
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def gpus(ask: Callable[[Sequence[str]], str | None] = ask) -> list[dict[str, Any]]:
    """What is known of each; None for what isn't.

    ``device`` is torch's name for it, which numbers GPUs in an order of its own and only those
    that CUDA_VISIBLE_DEVICES shows; "" of one that torch does not see.

    Args:
        ask: runs a command, another in tests.
    """
    seen = list(_seen_by_torch())
    devices = {gpu["uuid"]: gpu["device"] for gpu in seen}
    found: list[dict[str, Any]] = []
    for line in _said_by_driver(ask).splitlines():
        values = [_known(value) for value in line.split(",")]
        if len(values) == len(_ASKED):
            gpu: dict[str, Any] = dict(zip(_ASKED, values, strict=True))
            gpu |= {name: number(gpu[name]) for name in _NUMBERS}
            found.append(gpu | {"slowed_by": _reasons(gpu["slowed_by"])})
    named = not seen or any(gpu["uuid"] in devices for gpu in found)  # not of parts of a GPU (MIG)
    for gpu in found:
        gpu["device"] = devices.get(gpu["uuid"], "") if named else None
    return found or [dict.fromkeys(_ASKED) | gpu for gpu in seen]


def _said_by_driver(ask: Callable[[Sequence[str]], str | None]) -> str:
    """A line for each GPU by its bus ID, also for those that CUDA_VISIBLE_DEVICES hides."""
    names = list(_ASKED.values())
    for asked in (names, [_RENAMED.get(name, name) for name in names]):
        query = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader,nounits"]
        if (said := ask(query)) is not None:
            return said
    return ""


def _seen_by_torch() -> Iterator[dict[str, Any]]:
    import torch

    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(i)
        uuid = getattr(properties, "uuid", None)
        yield {
            "device": f"cuda:{i}",
            "uuid": f"GPU-{uuid}" if uuid else None,
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
