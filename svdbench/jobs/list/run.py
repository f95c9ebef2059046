"""Lists what can be named on the command line, and the runs that there are."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdbench.config.presets import SEARCHED
from svdbench.errors import UserError, as_user_error
from svdbench.files import conf_names
from svdbench.job import all_jobs
from svdbench.jobs.list.kinds import KINDS
from svdbench.members import (
    METHODS,
    TASKS,
    Registry,
    groups,
    headline,
    plain,
    refuse_unknown,
)
from svdbench.record.reader import find_runs, progress, read_run
from svdbench.reporting.report import Table, TableCell
from svdbench.running.output import TableOutput
from svdbench.user_code import user_code

if TYPE_CHECKING:
    from svdbench.measure.algorithm import Problem

GROUPS = {group.plural: group for group in groups()}


def run(what: str | None, results: Path, output: TableOutput) -> None:
    """Show what can be listed, or what there is of one kind."""
    output.show(listed(what, results))


def listed(what: str | None, results: Path) -> Table:
    """What can be listed, or what there is of one kind.

    Args:
        what: a key of ``KINDS``, or its singular.
        results: the folder whose runs are listed.

    Raises:
        UserError: there is no such kind, or no run.
    """
    if what is None:
        table = Table.of("svdbench list WHAT", ["what", "lists"], [])
        for each, lists in KINDS.items():
            table.add(each, lists)
        return table
    kind = plain(what).replace("_", "")
    kind = next((each for each in KINDS if kind in (each, each.removesuffix("s"))), kind)
    with as_user_error():
        refuse_unknown("kind of list", [kind], list(KINDS))
    if kind in _OTHERS:
        return _OTHERS[kind]()
    return _members(kind, GROUPS[kind]) if kind in GROUPS else _runs(results)


def _members(kind: str, group: Registry) -> Table:
    table = Table.of(kind, ["name", "what", "package"], [], keys=1)
    for name, what in group.described().items():
        table.add(name, what, "svdbench")
    for name, package in group.packages().items():
        table.add(name, _said_by(group, name), package)
    return table


def _said_by(group: Registry, name: str) -> str:
    """The first line of the docstring of another package's class, or why there is none.

    A class without one may have its ``title`` or ``source``.
    """
    try:
        with as_user_error():
            kind = group.class_of(name)
        texts = [kind.__doc__, *(getattr(kind, each, None) for each in ("title", "source"))]
        said = next((each.strip() for each in texts if isinstance(each, str) and each.strip()), "")
        return said.partition("\n")[0].rstrip(".")
    except UserError as error:
        return f"can't be used: {error}"


def _methods() -> Table:
    """A row per YAML in ``conf/orthogonal`` and per installed method."""
    from svdbench.measure.algorithm import Problem

    problem = Problem(d=512, n=512, m=32)
    floor = 12 * problem.n * problem.d * problem.m / 1e9
    table = Table.of(
        "methods",
        ["name", "kind", "builds"],
        ["Gflop a step"],
        keys=1,
        more_words=["gradients, and source", "package"],
        note=f"Gflop at d = n = {problem.d}, m = {problem.m}, where 12ndm is {floor:.3g}.",
    )
    packages = METHODS.packages()
    for name in METHODS.known():
        package = packages.get(name, "svdbench")
        try:
            with as_user_error():
                method = METHODS.load(name)
            with user_code(name):
                cells = [*_cells(method, problem)]
        except (AttributeError, UserError) as error:  # such as a class attribute that it lacks
            if package == "svdbench":
                raise
            cells = ["", "", "", f"can't be used: {error}"]
        table.add(name, *cells, package)
    return table


def _cells(method: Any, problem: "Problem") -> Iterator[str | TableCell]:
    yield method.kind
    yield method.builds
    yield f"{method.flops(problem).step / 1e9:.3g}"
    missing = method.skip(problem)
    skipped = f"; skipped here: {missing}" if missing else ""
    yield TableCell(method.gradients, below=method.source + skipped)


def _presets() -> Table:
    table = Table.of("presets", ["task", "model", "option", "what"], [], keys=2)
    for task in TASKS.names():
        for name, what in _described(f"preset/{task}"):
            table.add(task, "every model" if name == "default" else name, "", what)
        for name, what in _described(f"{SEARCHED}/{task}"):
            table.add(task, name, f"--presets {SEARCHED}", what)
        table.end_section()
    return table


def _optimizers() -> Table:
    table = Table.of("optimizers", ["name", "what"], [])
    for name, what in _described("optimizer"):
        table.add(name, what)
    return table


def _experiments() -> Table:
    table = Table.of("experiments", ["name", "command", "what"], [], keys=1)
    folder = files("svdbench.conf") / "experiment"
    for job in sorted(all_jobs(), key=lambda job: job.words):
        for name in job.experiments:
            what = headline(folder / f"{name}.yaml").replace(f" (svdbench {job.words})", "")
            table.add(name, f"svdbench {job.words}", what)
    return table


def _published() -> Table:
    import yaml  # type: ignore[import-untyped]

    table = Table.of("published", ["name", "what"], [])
    folder = files("svdbench.conf") / "reproduce"
    for name in conf_names("reproduce"):
        text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
        table.add(name, yaml.safe_load(text)["title"])
    return table


def _nn() -> Table:
    from svdbench import nn

    table = Table.of("nn", ["name", "what"], [])
    for name in nn.__all__:
        first = (getdoc(getattr(nn, name)) or "").partition("\n\n")[0]
        table.add(f"svdbench.nn.{name}", " ".join(first.replace("``", "").split()).rstrip("."))
    return table


def _columns() -> Table:
    from svdbench.record.columns import MEANINGS, OF_JOB

    table = Table.of("columns", ["column", "command", "meaning"], [], keys=2)
    everywhere = [(name, "", text) for name, text in MEANINGS.items()]
    special = [(name, job, text) for job, own in OF_JOB.items() for name, text in own.items()]
    for name, job, text in sorted(everywhere + special, key=lambda row: row[:2]):
        table.add(name, job, text.replace("`", ""))
    return table


_OTHERS: dict[str, Callable[[], Table]] = {
    "columns": _columns,
    "methods": _methods,
    "presets": _presets,
    "optimizers": _optimizers,
    "experiments": _experiments,
    "published": _published,
    "nn": _nn,
}


def _runs(root: Path) -> Table:
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: give the folder of results as --results")
    table = Table.of("results", ["folder", "command", "state"], [], keys=1, more_words=["started"])
    runs = [read_run(folder) for folder in find_runs(root)]
    for run in sorted(runs, key=lambda run: run.date, reverse=True):
        table.add(str(run.folder), run.job, progress(run), run.date)
    if not runs:
        raise UserError(f"{root} holds no runs: give the folder of results as --results")
    return table


def _described(folder: str) -> Iterator[tuple[str, str]]:
    """The files of a folder of ``conf``, the default first, and the first sentence of each."""
    path = files("svdbench.conf") / folder
    for name in sorted(conf_names(folder), key=lambda name: name != "default"):
        yield name, headline(path / f"{name}.yaml")
