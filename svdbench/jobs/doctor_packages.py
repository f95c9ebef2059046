"""What svdbench needs and what its extras would add: which of it is installed."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

# What each extra of pyproject.toml is for.
EXTRAS = {
    "cats": "read the cat pictures (HDF5)",
    "slurm": "spread sweeps over a cluster with SLURM, or over local processes (submitit)",
    "peers": "time orthogonal maps of other libraries beside ours",
    "ray": "spread sweeps over a Ray cluster",
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


def installed(package: str) -> str | None:
    """Its version; None where it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
