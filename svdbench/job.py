"""What a door declares: a job with a configuration, or a plain command; and finding them.

A door imports nothing heavy, so that ``svdbench --help`` answers at once. Beside it a job has:

* ``config.py``: its keys, a dataclass that checks itself;
* ``run.py``: ``run(config, text, folder=None)`` does the work and returns the folder with the
  results, ``results/<job>/<name>`` by default, in which ``text`` (the configuration as YAML) is
  kept. ``check(config)``, where there is one, refuses what cannot work before anything starts;
* ``report.py``: ``report(run)`` makes the report from the run's tables.

A user's mistake raises :class:`~svdbench.errors.UserError`, work that was started and failed
``Failed``, and ^C ``Interrupted``, once what is finished has been written.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pkgutil import iter_modules
from typing import Any

from svdbench.errors import UserError, nearest
from svdbench.files import conf_names, is_pretrained

# In the docstring of a command, what stands before its examples, a line each.
EXAMPLES = "\nExamples:\n"
# Facts of the environment that must not change while timings are taken.
MACHINE = ("cpu", "caches", "gpus", "torch", "triton")


@dataclass(frozen=True)
class Subject:
    """The first argument of a command, and the key that it sets.

    Attributes:
        metavar: its placeholder in ``--help``.
        help: what it may be.
        name: the key for a name, as of a data set.
        function: the key for a model of the user's own, see :func:`names_model`.
        choices: a registry of the names that it may be, for completion in a shell.
        several: whether it may be several names, with commas between.
    """

    metavar: str
    help: str
    name: str | None = None
    function: str | None = None
    choices: Any = None
    several: bool = False

    def key(self, text: str | None) -> str | None:
        """The key that a text sets; None where it is not for this job."""
        is_model = self.function is not None and text is not None and names_model(text)
        return self.function if is_model else self.name


def names_model(text: str) -> bool:
    """Whether a first argument is a model, MODULE:BUILD or one of transformers, and no data set."""
    return ":" in text or is_pretrained(text)


@dataclass(frozen=True)
class Flag:
    """An option of a command that is no key of its configuration.

    Attributes:
        choices: the values that it may have, or a registry, for completion in a shell.
        panel: its heading in ``--help``.
        short: its short form.
    """

    flag: str
    help: str
    kind: type = bool
    default: Any = False
    metavar: str | None = None
    choices: Any = None
    panel: str | None = None
    short: str | None = None

    @property
    def keyword(self) -> str:
        return keyword_of(self.flag)


def examples_in(docstring: str | None) -> list[str]:
    """The lines below ``Examples:`` in the docstring of a command."""
    listed = cleandoc(docstring or "").partition(EXAMPLES)[2]
    return [line.strip() for line in listed.splitlines() if line.strip()]


def keyword_of(flag: str) -> str:
    """The name in Python of an option, such as ``max_minutes`` of ``--max-minutes``."""
    return flag.partition("/")[0].lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Job:
    """A command with a configuration, whose runs can be finished, repeated and compared.

    Attributes:
        name: of the folder of results and of the column ``job``.
        config: its keys.
        door: the module that declares it, whose docstring is the text of ``--help``.
        subject: the first argument.
        command: what is typed, where it isn't the name.
        flags: options that are no keys of the configuration.
        switch: the flag that chooses it among the jobs that share its word.
        settings: keys that the command sets itself, before those of the user.
        checkpoint: the key that ``--resume FILE`` sets.
        sweeps: whether a sweep may run it.
        same: facts of the environment that must not change while a run lasts.
        starter: what :meth:`start` calls, as ``"module:function"``.
        entry: the module of the folder that has ``run`` and ``check``.
        panel: the heading of the command in ``svdbench --help``.
        place: the order of commands under their heading: the lowest first.
    """

    name: str
    config: type
    door: str
    subject: Subject | None = None
    command: str = ""
    flags: tuple[Flag, ...] = ()
    switch: Flag | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    sweeps: bool = True
    same: tuple[str, ...] = MACHINE
    starter: str = "svdbench.running.start:start"
    entry: str = "run"
    panel: str | None = None
    place: int = 99

    @property
    def root(self) -> str:
        """The file in ``conf``, and the folder in ``svdbench.jobs``."""
        return self.name.replace("-", "_")

    @property
    def words(self) -> str:
        """What is typed after ``svdbench``."""
        return self.command or self.name

    @property
    def word(self) -> str:
        """The command, which jobs may share: the first of :attr:`words`."""
        return self.words.partition(" ")[0]

    @property
    def help(self) -> str:
        return cleandoc(sys.modules[self.door].__doc__ or "").partition(EXAMPLES)[0].strip()

    @property
    def examples(self) -> list[str]:
        """The commands at the end of the door's docstring."""
        return examples_in(sys.modules[self.door].__doc__)

    @property
    def experiments(self) -> list[str]:
        """Files of ``conf/experiment`` that say that they are for this command."""
        from importlib.resources import files

        found, folder = [], files("svdbench.conf") / "experiment"
        for name in conf_names("experiment"):
            head = (folder / f"{name}.yaml").read_text(encoding="utf-8").partition("defaults:")[0]
            if f"(svdbench {self.words})" in head:
                found.append(name)
        return found

    @property
    def module(self) -> Any:
        """The module with ``run`` and, where there is more to check than ranges, ``check``."""
        return self.part(self.entry)

    def part(self, name: str) -> Any:
        """A module of the job's folder, such as ``run`` or ``report``; imported when needed."""
        return import_module(f"{self.door}.{name}")

    def report(self, run: Any) -> Any:
        """The report of one of the job's runs: a ``Report`` of a ``RecordedRun``."""
        return self.part("report").report(run)

    def start(self, request: "Request") -> Any:
        """Run what was asked for, or show its configuration."""
        return getattr(self.frame, self.starter.partition(":")[2])(request)

    @property
    def frame(self) -> Any:
        """The module that starts runs; ``finish_run`` and ``finish_sweep`` in it finish them."""
        return import_module(self.starter.partition(":")[0])


@dataclass(frozen=True)
class Command:
    """A command without a configuration: a function whose parameters Typer reads, or several.

    Attributes:
        former: older spellings of its options, with today's; they are still understood.
        panel, place: as those of a :class:`Job`.
        hidden: whether ``svdbench --help`` leaves it out, as an older name of another command.
    """

    name: str
    function: Callable[..., Any] | None = None
    help: str | None = None
    commands: tuple["Command", ...] = ()
    former: Mapping[str, str] = field(default_factory=dict)
    panel: str | None = None
    place: int = 99
    hidden: bool = False


@dataclass(frozen=True)
class Request:
    """A job as it was asked for.

    Attributes:
        overrides: all that sets a key, in Hydra's grammar: ``options``, then ``typed``.
        options: values by key, of options and of the command itself.
        typed: KEY=VALUE, as typed.
        subject: the first argument.
        flags: values of :attr:`Job.flags`, by keyword.
        functions: of the user's own, that were named.
        resume: the folder of a run to be finished instead.
    """

    job: Job
    overrides: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    subject: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    functions: Sequence[str] = ()
    multirun: bool = False
    show_config: bool = False
    resume: str | None = None
    force: bool = False


@cache
def declared() -> tuple[Job | Command, ...]:
    """What the doors declare, by the names of their modules."""
    return tuple(each for name in _doors() for each in _declared_by(name))


def all_jobs() -> Iterator[Job]:
    """Every job."""
    return (each for each in declared() if isinstance(each, Job))


def find_job(name: str) -> Job:
    """The job of a name, or of a root in ``conf``. Imports no other door.

    Raises:
        UserError: there is none, with the nearest name.
    """
    root = name.replace("-", "_")
    if root in _doors():
        for each in _declared_by(root):
            if isinstance(each, Job):
                return each
    close = nearest(name, [job.name for job in all_jobs()])
    hint = f": did you mean {close!r}?" if close else ""
    raise UserError(f"{name!r} is not an svdbench job{hint}")


def _doors() -> list[str]:
    jobs = import_module("svdbench.jobs")
    return sorted(info.name for info in iter_modules(jobs.__path__) if info.ispkg)


def _declared_by(name: str) -> list[Job | Command]:
    door = import_module(f"svdbench.jobs.{name}")
    return [each for each in vars(door).values() if isinstance(each, Job | Command)]
