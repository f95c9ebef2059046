"""From a command and its overrides to a composed, checked configuration and a job.

Hydra composes what ``conf/`` says with what the user typed. Its exceptions become one
line. Several jobs at once are a sweep: ``svdbench.sweeps``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from svdbench.errors import Interrupted, UserError, is_interrupt, one_line
from svdbench.explanations import explain
from svdbench.overrides import is_for_hydra, parsed
from svdbench.refusals import refuse_nests, refuse_overrides, refuse_unknown_keys


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
        return checked(composed(hydra, job, overrides), job, overrides)


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
    with in_one_line(job, overrides):
        return hydra.compose_config(
            config_name=job,
            overrides=list(overrides),
            run_mode=RunMode.RUN,
            from_shell=False,
            with_log_configuration=False,
        )


def checked(config: Any, job: str = "", overrides: Sequence[str] = ()) -> tuple[Any, str]:
    """A configuration as dataclasses, whose ``__post_init__`` checks the ranges, and as YAML.

    Hydra's own part, where there is one, is taken away from it.

    Args:
        job: its root in ``conf/``.
        overrides: those that were given, to tell which doesn't fit.

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
    """Turn whatever Hydra and OmegaConf have against a configuration into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of many kinds: they check less than they rely on
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        raise UserError(explain(error, job, overrides)) from error
