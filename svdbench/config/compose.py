"""From a job and its overrides to a composed, checked configuration, and back from a file.

Hydra composes what ``conf/`` says with what the user typed. Its exceptions become one
line.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from svdbench.config.explain import explain
from svdbench.config.fields import comments, key_of
from svdbench.config.grammar import (
    is_for_hydra,
    parsed,
    refuse_nests,
    refuse_overrides,
    refuse_unknown_keys,
)
from svdbench.errors import UserError, is_interrupt, one_line
from svdbench.files import configurations, refuse_interpolations
from svdbench.job import all_jobs, find_job
from svdbench.members import Registry

# Hydra neither sets up logging nor writes files: a run's folder keeps its own config.yaml.
QUIET = ("hydra/job_logging=disabled", "hydra/hydra_logging=disabled", "hydra.output_subdir=null")
COLUMN, WIDTH = 33, 100  # where comments begin, and where lines end


def compose(job: str, overrides: Sequence[str]) -> tuple[Any, str]:
    """The configuration of ``conf/<job>.yaml`` with the overrides, checked, and as YAML.

    Raises:
        UserError: a key, type or value that does not fit, in one line.
    """
    for given in parsed(overrides):
        if is_for_hydra(given):
            raise UserError(f"{given.input_line!r} is for sweeps: add -m, or leave it out")
    with composing() as hydra:
        return checked(composed(hydra, job, overrides), job, overrides)


def show(job: str, overrides: Sequence[str]) -> str:
    """The composed and checked configuration as YAML, each key with its comment."""
    config, text = compose(job, overrides)
    return commented(text, dict(comments(config)))


@contextmanager
def composing() -> Iterator[Any]:
    """Hydra with ``conf/``, for :func:`composed`."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    register()
    with hydra.initialize_config_module("svdbench.conf", version_base="1.3"):
        yield GlobalHydra.instance().hydra


def composed(hydra: Any, job: str, overrides: Sequence[str]) -> Any:
    """What ``conf/<job>.yaml`` says with the overrides, with Hydra's own part.

    Raises:
        UserError: an override that does not fit.
    """
    from hydra.types import RunMode

    refuse_overrides(overrides)
    with in_one_line(job, overrides):
        return hydra.compose_config(
            config_name=job,
            overrides=[*QUIET, *overrides],
            run_mode=RunMode.RUN,
            from_shell=False,
            with_log_configuration=False,
        )


def checked(config: Any, job: str = "", overrides: Sequence[str] = ()) -> tuple[Any, str]:
    """A configuration as dataclasses, whose ``__post_init__`` checks the ranges, and as YAML.

    Hydra's own part, where there is one, is taken away from it.

    Args:
        job: its root in ``conf/``.
        overrides: those that were given, to name the one that does not fit.

    Raises:
        UserError: a value that does not fit.
    """
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with in_one_line(job, overrides):
        with open_dict(config):
            config.pop("hydra", None)
        refuse_unknown_keys(config)
        refuse_nests(config)
        try:
            return OmegaConf.to_object(config), OmegaConf.to_yaml(config, resolve=True)
        except OmegaConfBaseException:  # some are ValueErrors, too
            raise
        except ValueError as error:  # ours, of a __post_init__
            raise UserError(one_line(error)) from error


@contextmanager
def in_one_line(job: str = "", overrides: Sequence[str] = ()) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of many kinds: they check less than they rely on
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        raise UserError(explain(error, job, overrides)) from error


@cache
def register() -> None:
    """Make the configurations and the groups that they name known to Hydra, once a process."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    if "schema" in store.repo:  # which stays, as long as this process does
        return
    for job in all_jobs():
        store.store(group="schema", name=job.root, node=job.config, package="_global_")
        hints = get_type_hints(job.config)
        for each in fields(job.config):
            if (key := key_of(each)) is None or not key.group:
                continue
            for name, kind in _kinds(hints[each.name]).items():
                store.store(group=f"schema/{each.name}", name=name, node=kind)
            if isinstance(key.choices, Registry):
                everyone = [f"{name}@{name}" for name in key.choices.names()]
                store.store(group=each.name, name="all", node={"defaults": everyone})


def _kinds(hint: Any) -> dict[str, type]:
    """The kinds of a group that has several, such as optimisers, by their names."""
    if not (isinstance(hint, type) and is_dataclass(hint)):
        return {}
    return {str(vars(kind)["name"]): kind for kind in hint.__subclasses__()}


def read(job: str, text: str) -> list[Any]:
    """The configurations that a run's ``config.yaml`` has, checked like new ones.

    Args:
        job: its root in ``conf/``.
        text: YAML, a document for each.

    Raises:
        UserError: it is no such configuration, or one that doesn't fit this svdbench.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        trees = configurations(text)
        refuse_interpolations(trees)
    except ValueError as error:
        raise UserError(f"config.yaml {error}: run the command again") from error
    found = []
    try:
        for tree in trees:
            config = find_job(job).config
            schema, hints = OmegaConf.structured(config), get_type_hints(config)
            for group in tree:
                if kinds := _kinds(hints.get(group)):
                    schema[group] = kinds[tree[group]["name"]]
            merged = OmegaConf.merge(schema, tree)
            refuse_nests(merged)
            found.append(OmegaConf.to_object(merged))
    except (OmegaConfBaseException, RecursionError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            "config.yaml is not a configuration of this version of svdbench: "
            f"{explain(error, job)}: run the command again"
        ) from error
    return found


def commented(text: str, comments: dict[str, str]) -> str:
    """YAML with a comment at each key: behind it, or above where a line would be too long."""
    import yaml  # type: ignore[import-untyped]

    lines = text.splitlines()
    for line, fits, key in sorted(_places(yaml.compose(text), ""), reverse=True):
        if (comment := comments.get(key)) is None:
            continue
        behind = f"{lines[line]:<{COLUMN - 1}} # {comment}"
        if fits and len(behind) <= WIDTH:
            lines[line] = behind
        else:
            indent = lines[line][: len(lines[line]) - len(lines[line].lstrip())]
            lines.insert(line, f"{indent}# {comment}")
    return "\n".join([*lines, ""])


def _places(node: Any, above: str) -> Iterator[tuple[int, bool, str]]:
    """The line of each key, whether a comment may stand behind it, and the key in full."""
    import yaml

    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name, line = f"{above}{key.value}", key.start_mark.line
        is_scalar = isinstance(value, yaml.ScalarNode)
        yield line, not is_scalar or value.end_mark.line == line, name
        yield from _places(value, f"{name}.")
