"""What ``svdbench doctor`` finds out about this machine. What can't be found is None."""

import os
import re
from pathlib import Path
from typing import Any

from svdbench.jobs.doctor_gpus import gpus
from svdbench.jobs.doctor_packages import installed, packages
from svdbench.record.environment import environment

Facts = dict[str, Any]

# Of the environment's variables, those that say how threads and devices are used.
VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"),
    *("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING"),
    *("PYTORCH_NO_CUDA_MEMORY_CACHING", "TRITON_INTERPRET", "PYTHONDEVMODE", "LD_PRELOAD"),
)

_LOW_PRECISION = ("avx512_bf16", "avx512_fp16", "amx_bf16")


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
    """How often the cores were throttled by heat since boot; None where nobody counts."""
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
