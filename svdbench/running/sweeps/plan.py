"""The jobs of a sweep: one for each combination of values, all checked before the first starts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from svdbench.config.compose import checked, composed, composing, in_one_line
from svdbench.config.grammar import (
    is_for_hydra,
    override,
    parsed,
    refuse_many_jobs,
    refuse_overrides,
)
from svdbench.errors import UserError, as_user_error
from svdbench.job import find_job
from svdbench.members import refuse_repeated
from svdbench.record.schema import PLACE
from svdbench.running.sweeps import ray as launchers
from svdbench.running.sweeps.engines import (
    Engine,
    check_installed,
    check_nodes,
    check_slurm,
    engine_of,
    is_timed,
    nodes_of,
    refuse_timing,
)


@dataclass(frozen=True)
class SweepSource:
    """Overrides, some with several values: ``seed=0,1``, ``range(4)``, ``glob(*)``, ….

    Attributes:
        name: what the folders of its jobs begin with.
        swept: whether to look for sweeps; if not, this is one job.
    """

    overrides: tuple[str, ...]
    name: str = ""
    swept: bool = True


@dataclass(frozen=True)
class Sweep:
    """All that it takes to run a sweep, and to run it again.

    Attributes:
        job: the module in ``svdbench.jobs`` and the file in ``conf``.
        bases: each one or more jobs.
        words: the command that was typed, without the name of the run.
    """

    job: str
    bases: tuple[SweepSource, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep.

    Attributes:
        folder: its name in the sweep's.
        values: of the keys that are swept, as text.
    """

    folder: str
    overrides: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        words = [] if self.folder.isdecimal() else [self.folder]
        words += [f"{key}={value}" for key, value in self.values.items()]
        return " ".join(words) or self.folder

    @property
    def identity(self) -> tuple[str, tuple[str, ...]]:
        """The configuration without the keys that say where results go."""
        kept = (text for text in self.overrides if _key(text) not in PLACE)
        return self.folder, tuple(sorted(kept))


@dataclass(frozen=True)
class PreparedSweep:
    """A sweep that may be launched.

    Attributes:
        name: of the command, as rows have it.
        timed: whether the point of its jobs is seconds.
        master: a configuration with Hydra's own part: the launcher and its options.
    """

    job: str
    name: str
    folder: Path
    timed: bool
    jobs: list[SweepJob]
    engine: Engine
    master: Any
    loader: Any


def prepare(sweep: Sweep, folder: Path | None = None) -> PreparedSweep:
    """Check all jobs and the launcher, and choose the folder."""
    for_hydra = engine_overrides(sweep)
    own_job = find_job(sweep.job)
    check = getattr(own_job.module, "check", None)
    launchers.register()
    with composing() as hydra:
        check_installed(for_hydra, hydra.config_loader.get_group_options("hydra/launcher"))
        with in_one_line():
            jobs = jobs_of(sweep, hydra)
        config: Any = None
        nodes = set()
        for number, job in enumerate(jobs, 1):
            with _naming(job, number, len(jobs)):
                config = checked(
                    composed(hydra, sweep.job, job.overrides), sweep.job, job.overrides
                )[0]
                if check is not None:
                    check(config)
                nodes.add(nodes_of(config))
        if folder is None:
            name = config.name or datetime.now().strftime("%Y%m%d-%H%M%S")
            folder = Path(config.results) / own_job.name / name
        own = [
            override("hydra.sweep.dir", str(folder.absolute())),
            override("hydra.job.name", f"svdbench-{own_job.name}"),
        ]
        master = composed(hydra, sweep.job, [*jobs[0].overrides, *for_hydra, *own])
        launcher = master.hydra.runtime.choices["hydra/launcher"]
        engine = engine_of(master.hydra.launcher, launcher, len(jobs))
        check_nodes(engine, master.hydra.launcher, nodes)
        refuse_timing(engine, config)
        check_slurm(engine)
        timed = is_timed(config)
        return PreparedSweep(
            sweep.job, own_job.name, folder, timed, jobs, engine, master, hydra.config_loader
        )


@contextmanager
def _naming(job: SweepJob, number: int, count: int) -> Iterator[None]:
    """Name the job whose configuration doesn't fit, where there are several."""
    try:
        yield
    except UserError as error:
        if count == 1:
            raise
        raise UserError(f"job {number} of {count} ({job.label}): {error}") from error


def jobs_of(sweep: Sweep, hydra: Any) -> list[SweepJob]:
    """The jobs, always the same ones in the same order."""
    found = [job for base in sweep.bases for job in _expanded(base, hydra.config_loader)]
    if not found:
        raise UserError("there is nothing to run: a swept key has no value")
    return found


def engine_overrides(sweep: Sweep) -> list[str]:
    """Those for Hydra: which launcher, and its options; the same for all jobs."""
    found = [given for given in parsed(sweep.bases[0].overrides) if is_for_hydra(given)]
    for given in found:
        key = given.key_or_group
        ours = key == "hydra/launcher" or key.startswith("hydra.launcher.")
        if not ours or "_target_" in key:
            raise UserError(
                f"{given.input_line!r} is not allowed in a sweep: of Hydra's own "
                "keys, only hydra/launcher=NAME and its options, hydra.launcher.KEY=VALUE, are"
            )
    refuse_overrides(sweep.bases[0].overrides)
    return [str(given.input_line) for given in found]


def _expanded(base: SweepSource, loader: Any) -> Iterator[SweepJob]:
    own = [str(given.input_line) for given in parsed(base.overrides) if not is_for_hydra(given)]
    if not base.swept:
        yield SweepJob(base.name, tuple(own))
        return
    for number, (overrides, values) in enumerate(combinations(own, loader)):
        folder = f"{base.name}-{number}" if base.name else str(number)
        yield SweepJob(folder, tuple(overrides), values)


def combinations(
    overrides: Sequence[str], loader: Any
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Each combination as overrides of single values, and the values of the swept keys.

    The grammar is Hydra's: https://hydra.cc/docs/advanced/override_grammar/extended
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    refuse_many_jobs(overrides)
    parser = OverridesParser.create(config_loader=loader)
    every = parser.parse_overrides(list(overrides))
    # Of a key that was given twice, the later counts.
    last = {override.get_key_element(): override for override in every}
    swept = [key for key, override in last.items() if override.is_sweep_override()]
    for key in swept:
        if _key(key) in PLACE:
            raise UserError(f"{key} can't be swept: all jobs of a sweep share one folder")
        if not last[key].is_discrete_sweep():
            raise UserError(f"{key} has no end: list the values, for example {key}=1,2,3")
        with as_user_error():
            refuse_repeated(key, list(_values(last[key])))
    for combination in BasicSweeper.split_arguments(every, None)[0]:
        by_key = dict(zip(last, combination, strict=True))
        yield (
            combination,
            {_key(key): str(parser.parse_override(by_key[key]).value()) for key in swept},
        )


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+")


def _values(swept: Any) -> Iterator[Any]:
    """The values of a swept key; numbers as numbers, however they are written."""
    from hydra.core.override_parser.types import QuotedString

    for value in swept.sweep_iterator():
        yield value.text if isinstance(value, QuotedString) else value
