"""Finding the tasks: every YAML in ``conf/task`` is one, named like its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svdbench.registry import Group, plain

if TYPE_CHECKING:  # listing the names must not wait for torch
    from .base import Task

GROUP = Group("task", "task", "svdbench.tasks.base.Task")


def task_names() -> list[str]:
    """The names of all tasks, sorted. Does not import torch."""
    return GROUP.names()


def load_task(name: str, **overrides: Any) -> Task:
    """The task ``name`` with the options of its YAML, some of them overridden.

    Raises:
        ValueError: there is no such task or option, or an option is out of its range.
    """
    task: Task = GROUP.load(plain(name), **overrides)
    return task
