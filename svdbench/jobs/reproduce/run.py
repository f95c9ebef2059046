"""Repeats published results: runs, judges, and writes pages.

Every run is an ordinary one, in a process of its own, as a user would type it; its name is
fixed, so a second call resumes where the first stopped, and repeats nothing.
"""

import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console

from svdbench.errors import Interrupted, UserError, as_user_error, one_line
from svdbench.files import LARGEST_YAML, read_text, write_whole
from svdbench.jobs.reproduce.evidence import (
    COMMAND,
    FOLDER,
    JudgedResult,
    Missing,
    Provenance,
    Runs,
    place,
    provenance_of,
    read_evidence,
    write_evidence,
)
from svdbench.jobs.reproduce.judges import measure
from svdbench.jobs.reproduce.numbers import rows
from svdbench.jobs.reproduce.report import VERDICTS, write, write_index
from svdbench.jobs.reproduce.result import (
    FULL,
    QUICK,
    SOURCES,
    NeededRun,
    PublishedResult,
    ResultVerdict,
    all_results,
    lines_of,
    load,
)
from svdbench.members import plain
from svdbench.record.environment import environment
from svdbench.record.lines import as_record_error
from svdbench.reporting.formats import format_table
from svdbench.reporting.render import print_lines, show_block
from svdbench.reporting.report import Lines, Report, Style, Table, TableCell
from svdbench.reporting.words import number
from svdbench.running.output import TableOutput
from svdbench.running.processes import run_command

ALL = "all"
_SOURCES_BELOW = "The reports, and the papers behind them:"
COLUMNS = ("result", "verdict")  # of verdicts.csv, those that are read
# What tables of another kind, torn or edited, come to.
UNREADABLE = (ArithmeticError, LookupError, OSError, TypeError, ValueError)
NOTE = (
    "Minutes are for two cores, at the published size and with --quick. Our verdict is that of the "
    "runs kept in results/reference; yours is that of the runs in your results folder."
)
STYLES: dict[ResultVerdict, Style] = {
    ResultVerdict.holds: "good",
    ResultVerdict.part: "warn",
    ResultVerdict.fails: "bad",
    ResultVerdict.open: "dim",
}


def chosen(names: Sequence[str]) -> list[PublishedResult]:
    """The results of these names, hyphens or underscores; or all."""
    if ALL in names:
        return all_results()
    with as_user_error():
        return [load(canonical(name)) for name in dict.fromkeys(names)]


def canonical(name: str) -> str:
    """The name of a result as its YAML has it; a task's name stands for the result on it, too."""
    name = plain(name)
    return {"addition": "adding", "copy": "copying"}.get(name, name)


def show_listing(root: Path, output: TableOutput) -> None:
    """Show all results, and on a terminal or in Markdown the reports that they are of."""
    made = Report("published results", blocks=[listing(root), Lines([_SOURCES_BELOW])])
    for source in SOURCES.values():
        made.blocks.append(Lines(["", *lines_of(source)]))
    rows = listing(root, headed=False)
    output.show(
        made,
        csv=lambda: format_table(rows, "csv"),
        json=lambda: format_table(rows, "json"),
    )


def listing(
    root: Path, results: Sequence[PublishedResult] | None = None, headed: bool = True
) -> Table:
    """The results of each report: their minutes, our verdict, and that of this folder.

    Args:
        results: those to be listed; by default all.
        headed: whether each report has a row above its results.
    """
    words = ["name", "what is repeated"]
    more = ["our verdict", "yours"]
    table = Table.of("", words, ["minutes", "--quick"], keys=1, more_words=more, note=NOTE)
    chosen = all_results() if results is None else results
    for key, own in groupby(chosen, key=lambda result: result.source):
        table.end_section()
        source = SOURCES[key]
        paper = f"{source.about} ({source.behind.cited})"
        if headed:
            table.add(TableCell(source.cited, "strong"), TableCell(paper, "strong"), *[""] * 4)
        for result in own:
            judged = read_evidence(result, root)
            table.add(
                result.name,
                result.title,
                *(TableCell.number(result.minutes[variant], number) for variant in (FULL, QUICK)),
                _styled(ResultVerdict(result.verdicts[FULL])),
                TableCell("–", "dim") if judged is None else _styled(judged.verdict),
            )
    return table


def commands(results: Sequence[PublishedResult], variant: str) -> list[str]:
    """What each run is typed as, those that several results share once."""
    typed = (f"svdbench {run.typed(variant)}" for result in results for run in result.runs)
    return list(dict.fromkeys(typed))


def reproduce(
    results: Sequence[PublishedResult],
    root: Path,
    variant: str,
    console: Console,
    *,
    run: bool = True,
) -> bool:
    """Run what is missing, judge, and write all pages; whether every result could be measured.

    Args:
        root: where runs and pages go.
        variant: full or quick.
        run: False: judge existing runs only, or stored numbers where there are none.
    """
    failed, verdicts = [], []
    for result in results:
        console.rule(f"[bold]{result.title}[/] ({result.name})", align="left")
        runs = result.runs if run else []
        faults = list(filter(None, (_run(one, root, variant, console) for one in runs)))
        try:
            judged = _judged(result, root, variant)
        except Missing as error:
            # Numbers without their runs, as in a reference set, still make a page.
            before = None if run else read_evidence(result, root)
            if before is None:
                failed.append(f"{result.name}: {'; '.join(faults) or error}")
                continue
            judged = before
        except UNREADABLE as error:
            failed.append(f"{result.name}: its runs can't be judged: {one_line(error)}")
            continue
        with as_record_error(root):
            write_evidence(judged, root)
            # Pages are drawn from the kept digits, so that drawing them again gives the same.
            write(read_evidence(result, root) or judged, root, variant)
        verdicts.append(judged)
    if root.is_dir():
        with as_record_error(root):
            write_index(root, variant)
    if verdicts:
        show_block(_verdicts(verdicts), console)
        print_lines(console, [root / "index.html"])
    print_lines(console, failed)
    return not failed


def flips(root: Path, before: Mapping[str, str]) -> list[str]:
    """A line for each verdict below ``root`` that is another than it was before."""
    now = read_verdicts(root)
    return [
        f"{name}: {before[name]} before, {verdict} now"
        for name, verdict in now.items()
        if name in before and before[name] != verdict
    ]


def read_verdicts(root: Path) -> dict[str, str]:
    try:
        return {row["result"]: row["verdict"] for row in rows(root / VERDICTS, COLUMNS)}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{root} has no verdicts: give a folder that svdbench reproduce wrote"
        ) from error


def _run(run: NeededRun, root: Path, variant: str, console: Console) -> str | None:
    """Make a run that is not finished; why it failed."""
    typed, folder = f"svdbench {run.typed(variant)}", place(root, run)
    if (done := folder / COMMAND).exists():
        try:
            before = read_text(done, LARGEST_YAML).strip()
        except (OSError, ValueError) as error:
            raise UserError(
                f"can't read {done}: {one_line(error)}: delete {folder}, or choose another "
                "--results"
            ) from error
        if before != typed:
            raise UserError(
                f"{folder} was made by another command ({before}): "
                "delete it, or choose another --results"
            )
        return None
    console.print(f"$ {typed}", style="bold", markup=False, highlight=False, soft_wrap=True)
    words = [*shlex.split(run.typed(variant)), "--name", run.name, f"results={root / FOLDER}"]
    try:
        code = run_command(words).returncode
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command resumes") from None
    if code == Interrupted.exit_code:
        raise Interrupted("interrupted; the same command resumes")
    if code:
        return f"{run.run} ended with exit code {code}"
    write_whole(done, typed + "\n")
    return None


def _judged(result: PublishedResult, root: Path, variant: str) -> JudgedResult:
    runs = Runs(root, result, variant)
    return JudgedResult(result, measure(runs), runs.made() or [_here(result, variant)])


def _here(result: PublishedResult, variant: str) -> Provenance:
    """Of a result without runs: computed here and now."""
    quick = " --quick" * (variant == QUICK)
    return provenance_of(result.name, f"svdbench reproduce {result.name}{quick}", environment())


def _verdicts(found: Sequence[JudgedResult]) -> Table:
    table = Table.of("published results, reproduced", ["result", "verdict", "claims"], [], keys=2)
    for judged in found:
        table.add(judged.result.title, _styled(judged.verdict), judged.reason)
    return table


def _styled(verdict: ResultVerdict) -> TableCell:
    return TableCell(verdict.value, STYLES[verdict])
