"""From a command and its overrides to a composed, checked configuration and a job.

Hydra composes what ``conf/`` says with what the user typed. Its exceptions become one
line. Several jobs at once are a sweep: ``svdbench.sweeps``.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from svdbench.errors import Interrupted, UserError, one_line
from svdbench.overrides import is_for_hydra, parsed
from svdbench.refusals import refuse_nests, refuse_overrides


def launch(job: str, overrides: Sequence[str]) -> Any:
    """Run ``svdbench.jobs.<job>`` on ``conf/<job>.yaml`` with the overrides; what it returns.

    Raises:
        UserError: a key, type or value that does not fit, in one line.
        Interrupted: ^C.
    """
    checked, text = compose(job, overrides)
    try:
        return import_module(f"svdbench.jobs.{job}").run(checked, text)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; what was finished is kept") from None


def show(job: str, overrides: Sequence[str]) -> str:
    """The composed and checked configuration as YAML."""
    return compose(job, overrides)[1]


def compose(job: str, overrides: Sequence[str]) -> tuple[Any, str]:
    """The configuration of ``conf/<job>.yaml`` with the overrides, checked, and as YAML.

    Raises:
        UserError: a key, type or value that does not fit, in one line.
    """
    for given in parsed(overrides):
        if is_for_hydra(given):
            raise UserError(
                f"{given.input_line!r} is for sweeps, of several jobs: add -m, or leave it out"
            )
    with composing() as hydra:
        return checked(composed(hydra, job, overrides))


@contextmanager
def composing() -> Iterator[Any]:
    """Hydra with ``conf/``, for :func:`composed`."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from svdbench.schemas import register

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
    with in_one_line():
        return hydra.compose_config(
            config_name=job,
            overrides=list(overrides),
            run_mode=RunMode.RUN,
            from_shell=False,
            with_log_configuration=False,
        )


def checked(config: Any) -> tuple[Any, str]:
    """A configuration as dataclasses, whose ``__post_init__`` checks the ranges, and as YAML.

    Hydra's own part, where there is one, is taken away from it.

    Raises:
        UserError: a value that does not fit.
    """
    from omegaconf import OmegaConf, open_dict

    with in_one_line():
        with open_dict(config):
            config.pop("hydra", None)
        refuse_nests(config)
        try:
            return OmegaConf.to_object(config), OmegaConf.to_yaml(config, resolve=True)
        except ValueError as error:  # ours, of a __post_init__
            raise UserError(one_line(error)) from error


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn whatever Hydra and OmegaConf have against a configuration into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of many kinds: they check less than they rely on
        raise UserError(explain(error)) from error


def explain(error: BaseException) -> str:
    """What Hydra or OmegaConf complains of, as cause and remedy in one line."""
    text = one_line(error)
    if override := getattr(error, "override", None):
        return f"cannot read {override!r}: {text}"
    cause = error.__cause__
    detail = one_line(cause) if cause is not None else ""
    if match := re.search(r"Key '(.+?)' is not in struct|Key '(.+?)' not in '", detail):
        key = _key(text) or match[1] or match[2]
        return f"there is no key {key!r}: --show-config lists those there are"
    if key := _key(text):
        return f"cannot set {key!r}: {detail or text}"
    return text if not detail or detail in text else f"{text} ({detail})"


def _key(text: str) -> str | None:
    match = re.search(r"[Cc]ould not override '([^']+)'|Error merging override ([^= ]+)", text)
    return (match[1] or match[2]) if match else None
