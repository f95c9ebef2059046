"""The experiment of ``conf/experiment`` that a run was made from, and where it departs from it."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from svdbench.files import documents, flat

# Keys that say how often, where and which arms: the numbers of an arm don't depend on them.
_FREE = {
    *("seeds", "seed", "threads", "device", "max_minutes", "name", "results", "data.dir"),
    *("methods", "alphas", "phis"),
}


def experiment(settings: Mapping[str, Any]) -> str | None:
    """The experiment that the run has most of, if it had one.

    It had that of the same published numbers; without any, one all of whose settings it has.

    Args:
        settings: the configuration of the run, flat: ``{"optimizer.lr": 0.01, …}``.
    """
    likeness = {}
    for name in _names():
        theirs = _settings(name)
        published = theirs.pop("published", [])
        alike = [settings.get(key) == value for key, value in theirs.items()]
        if all(alike) or (published and _same(published, settings.get("published"))):
            likeness[name] = sum(alike)
    return max(sorted(likeness), key=likeness.__getitem__, default=None)


def departures(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings in which a run differs from its experiment: ``{"epochs": "1 (10)"}``.

    Ours stands first, the published one in brackets; nothing of a run that had no experiment.
    """
    name = experiment(settings)
    if name is None:
        return {}
    return {
        key: f"{_shown(settings.get(key))} ({_shown(value)})"
        for key, value in _settings(name).items()
        if key not in _FREE and key != "published" and settings.get(key) != value
    }


def _names() -> list[str]:
    folder = files("svdbench.conf").joinpath("experiment")
    return [path.name[:-5] for path in folder.iterdir() if path.name.endswith(".yaml")]


def _settings(name: str) -> dict[str, Any]:
    """What an experiment sets, flat."""
    path = files("svdbench.conf").joinpath("experiment", f"{name}.yaml")
    tree = documents(path.read_text(encoding="utf-8"))[0]
    tree.pop("defaults", None)
    return dict(flat(tree))


def _same(published: list[dict[str, Any]], ours: Any) -> bool:
    """Whether the numbers are those, whatever keys have been filled in."""
    return (
        isinstance(ours, list)
        and len(ours) == len(published)
        and all(
            isinstance(own, Mapping) and all(own.get(key) == value for key, value in n.items())
            for n, own in zip(published, ours, strict=True)
        )
    )


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
