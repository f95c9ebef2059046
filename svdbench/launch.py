"""From a command and its overrides to a composed, checked configuration and a job.

Hydra composes what ``conf/`` says with what the user typed, and runs the job
once, or once per combination with ``--multirun``. Its exceptions become one line.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from svdbench.errors import Interrupted, UserError, one_line


def launch(
    job: str,
    overrides: Sequence[str],
    multirun: bool = False,
    on_result: Callable[[Any], None] = lambda result: None,
) -> None:
    """Run ``svdbench.jobs.<job>`` on ``conf/<job>.yaml`` with the overrides.

    Args:
        on_result: called after every run with what the job returned.

    Raises:
        UserError: a key, type or value that does not fit, in one line.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    from svdbench.schemas import register

    mistakes: list[UserError] = []

    def run(config: DictConfig) -> None:
        if mistakes:  # of a sweep's earlier run
            return
        own = HydraConfig.get()
        folder = own.runtime.output_dir if own.mode == RunMode.MULTIRUN else None
        try:
            checked = _checked(config)
            text = OmegaConf.to_yaml(config, resolve=True)
            on_result(import_module(f"svdbench.jobs.{job}").run(checked, text, folder))
        except UserError as error:  # raised in here, Hydra would add lines of its own
            mistakes.append(error)
        except KeyboardInterrupt:
            mistakes.append(Interrupted("interrupted; what was finished is kept"))

    register()
    program = [f"svdbench {job.replace('_', '-')}", *overrides, *(["-m"] if multirun else [])]
    with _arguments(program), _in_one_line():
        hydra.main(version_base="1.3", config_path="pkg://svdbench.conf", config_name=job)(run)()
    if mistakes:
        raise mistakes[0]


def show(job: str, overrides: Sequence[str]) -> str:
    """The composed and checked configuration as YAML."""
    return compose(job, overrides)[1]


def compose(job: str, overrides: Sequence[str]) -> tuple[Any, str]:
    """The configuration of ``conf/<job>.yaml`` with the overrides, checked, and as YAML.

    Raises:
        UserError: a key, type or value that does not fit, in one line.
    """
    import hydra
    from omegaconf import OmegaConf

    from svdbench.schemas import register

    register()
    with (
        _in_one_line(),
        hydra.initialize_config_module("svdbench.conf", version_base="1.3"),
    ):
        config = hydra.compose(job, list(overrides))
        return _checked(config), OmegaConf.to_yaml(config, resolve=True)


def _checked(config: Any) -> Any:
    """The configuration as dataclasses, whose ``__post_init__`` checks the ranges."""
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_object(config)
    except ValueError as error:
        raise UserError(one_line(error)) from error


@contextmanager
def _arguments(argv: list[str]) -> Iterator[None]:
    """Hydra reads ``sys.argv``; with HYDRA_FULL_ERROR it leaves exceptions to us."""
    before, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = before
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


@contextmanager
def _in_one_line() -> Iterator[None]:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
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
