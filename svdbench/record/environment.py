"""The environment of a run: all that may explain its numbers, and nothing private.

No host name, no user name, no paths. Everything that can't be found is None.
"""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from svdbench._version import __version__

_CPU = Path("/sys/devices/system/cpu/cpu0")
_SOURCE = (".py", ".yaml")
_DIGITS = 12  # of the hash of the source


def environment() -> dict[str, Any]:
    """Versions, hardware, source and state of this machine, ready for JSON."""
    return {
        "timestamp_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "svdbench": __version__,
        "source": _source(),
        "source_hash": source_hash(),
        "python": platform.python_version(),
        "triton": installed("triton"),
        "numpy": installed("numpy"),
        "platform": platform.platform(),
        **_torch(),
        "cpu": _cpu_model(),
        "cores_physical": _physical_cores(),
        "cores_logical": os.cpu_count(),
        "cores_visible": _visible_cores(),
        "caches": _caches(),
        "governor": _read(_CPU / "cpufreq/scaling_governor"),
        "memory_bytes": _memory_bytes(),
        "load_average": _or_none(lambda: list(os.getloadavg())),
    }


def version_of(environment: Mapping[str, Any]) -> str | None:
    """The svdbench of an environment with the hash of its source, as ``1.0.0+3b2a1f90c41d``.

    Environments of earlier versions have no hash; None where not even a version is known.
    """
    number, source = environment.get("svdbench"), environment.get("source_hash")
    if not number:
        return None
    return f"{number}+{source}" if source else str(number)


def version_in_words(environment: Mapping[str, Any]) -> str:
    """The same for people, with the commit where it is known."""
    words = f"svdbench {version_of(environment) or 'of an unknown version'}"
    source = environment.get("source")
    if isinstance(source, Mapping) and source.get("commit"):
        words += f" (commit {str(source['commit'])[:8]}{' + changes' * bool(source.get('dirty'))})"
    return words


@cache
def source_hash() -> str:
    """A hash of the package's files, which differs for any other version, committed or not.

    The files that were there when this process first asked, which are those that it runs.
    """
    package, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    # In a source tree, the kernels and the configurations are links.
    for folder, folders, names in os.walk(package, followlinks=True):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names) if name.endswith(_SOURCE)):
            digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:_DIGITS]


def _torch() -> dict[str, Any]:
    import torch  # here, as importing it takes seconds

    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "blas": blas.group(1) if blas else None,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
        "gpu_driver": gpu_driver(),
    }


def gpu_driver(path: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """The version of NVIDIA's driver."""
    found = re.search(r"Kernel Module(?: for \S+)? +(\d+\.[\d.]+)", _read(path) or "")
    return found.group(1) if found else None


def _source() -> dict[str, Any] | None:
    """The commit of the running source tree, and whether it has changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: a repository further up is someone else's
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str | None:
    found = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine() or None


def _physical_cores() -> int | None:
    """Different pairs of (package, core) among the processors of /proc/cpuinfo."""
    pairs = re.findall(
        r"^physical id\s*:\s*(\d+)$.*?^core id\s*:\s*(\d+)$",
        _read(Path("/proc/cpuinfo")) or "",
        re.MULTILINE | re.DOTALL,
    )
    return len(set(pairs)) or None


def _visible_cores() -> int | None:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _caches() -> dict[str, str] | None:
    """Sizes of the first core's caches as the kernel writes them, such as ``{"L2": "2048K"}``."""
    caches = {}
    for index in sorted(_CPU.glob("cache/index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        if level and size:
            suffix = {"Data": "d", "Instruction": "i"}.get(kind or "", "")
            caches[f"L{level}{suffix}"] = size
    return caches or None


def _memory_bytes() -> int | None:
    return _or_none(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def installed(package: str) -> str | None:
    """The version of a package; None where it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: Path) -> str | None:
    return _or_none(lambda: path.read_text(encoding="utf-8").strip())


def _or_none(find: Callable[[], Any]) -> Any:
    """The result of ``find``, or None where this system has no such thing."""
    try:
        return find()
    except (OSError, AttributeError, ValueError):
        return None
