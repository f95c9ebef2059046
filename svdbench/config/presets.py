"""Settings that converge, by task and model: files in ``conf/preset/<task>``.

A preset is a list of keys and values as one would type them, which come before what the
user types: ``default.yaml`` of the task first, then the model's own file. A folder of the user's
own, such as a search writes, has a file for each model, which stands for itself. So has each task
in ``conf/searched``, with what one search found for all models alike.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from svdbench.config.grammar import override
from svdbench.errors import UserError, one_line
from svdbench.files import documents, yaml_names
from svdbench.members import references

# The name of the presets in conf/searched, in place of a folder.
SEARCHED = "searched"
# What a preset may set.
GROUPS = ("model", "task", "optimizer", "trainer")


def preset(task: str, model: str, typed: Sequence[str] = ()) -> list[str]:
    """Overrides for Hydra that a preset stands for; none where there is no file.

    Args:
        task, model: names as in ``conf``.
        typed: the user's own overrides: what they set is left out here, and so is
            what lies below a group chosen anew, as ``optimizer.lr`` is below ``optimizer``.

    Raises:
        UserError: a file that is not a list of keys and values.
    """
    folder = files("svdbench.conf") / "preset" / task
    settings: dict[str, Any] = {}
    for name in ("default", model):
        own = _read(folder / f"{name}.yaml")
        settings = _left(settings, own) | own
    return [override(key, value) for key, value in _left(settings, _keys(typed)).items()]


def own_preset(own: str, task: str, model: str, typed: Sequence[str] = ()) -> list[str]:
    """Overrides for Hydra that a model's file in a folder of presets stands for.

    Args:
        own: the folder, with a file ``<model>.yaml``; or ``searched``.
        typed: as in :func:`preset`.

    Raises:
        UserError: there is no such file, or it is no preset.
    """
    folder, name = _folder_of(own, task)
    path = folder / _file_of(model)
    if not path.is_file():
        there = ", ".join(yaml_names(folder)) or "none"
        raise UserError(
            f"{name} has no preset of {model}, but {there}: give the folder presets of a search"
        )
    settings = _read(path)
    for key, value in settings.items():
        if key.partition(".")[0] not in GROUPS or key in GROUPS[:2] or key == "trainer":
            raise UserError(f"{path} sets {key!r}, which no preset sets: leave it out")
        if references({key: value}):
            raise UserError(f"{path} names code in {key}, which a file may not do: type it instead")
    return [override(key, value) for key, value in _left(settings, _keys(typed)).items()]


def own_file(folder: Path, model: str) -> Path:
    """The file of a model in a folder of presets."""
    return folder / _file_of(model)


def _file_of(model: str) -> str:
    return f"{model.replace(':', '.')}.yaml"


def _folder_of(own: str, task: str) -> tuple[Traversable, str]:
    """A folder of presets, and what to call it."""
    if own == SEARCHED and not Path(own).is_dir():
        return files("svdbench.conf") / SEARCHED / task, f"{SEARCHED} (for {task})"
    return Path(own), own


def sources(
    task: str, model: str, typed: Sequence[str] = (), own: str | None = None
) -> list[tuple[str, str]]:
    """The files of a preset with the keys that they set: ``(file, key)``, the model's first.

    Keys that ``typed`` sets are left out, as in :func:`preset`.

    Args:
        own: a folder of presets in place of ``conf/preset``, or ``searched``.
    """
    if own is not None:
        path = _folder_of(own, task)[0] / _file_of(model)
        return [(str(path), key) for key in _left(_read(path), _keys(typed))]
    folder = files("svdbench.conf") / "preset" / task
    return [
        (f"conf/preset/{task}/{name}.yaml", key)
        for name in (model, "default")
        for key in _left(_read(folder / f"{name}.yaml"), _keys(typed))
    ]


def _read(path: Traversable) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        trees = documents(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} of a preset can't be read: {one_line(error)}") from error
    found = trees[0] if len(trees) == 1 else None
    if not isinstance(found, dict):
        raise UserError(f"{path.name} of a preset is not a list of KEY: VALUE lines")
    return {str(key): value for key, value in found.items()}


def _keys(typed: Sequence[str]) -> dict[str, None]:
    return {given.partition("=")[0].lstrip("+~"): None for given in typed}


def _left(settings: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that ``above`` neither sets nor replaces by a new group."""
    return {
        key: value
        for key, value in settings.items()
        if not any(key == own or key.startswith(f"{own}.") for own in above)
    }
