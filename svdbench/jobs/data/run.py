"""Lists the data sets, downloads them, and says where they are."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from svdbench.datasets.base import Dataset, DatasetError
from svdbench.datasets.files import FileDataset, data_root
from svdbench.datasets.files import fetch as download
from svdbench.errors import Interrupted, UserError, as_user_error
from svdbench.members import DATASETS
from svdbench.reporting.render import print_lines, screen
from svdbench.reporting.report import Table, TableCell
from svdbench.running.output import TableOutput
from svdbench.user_code import user_code


def show(data_dir: str | None, output: TableOutput) -> None:
    """A row per YAML in ``conf/dataset``; all files that are there are checked."""
    title = f"data sets; files in {_root(data_dir)}"
    table = Table.of(title, ["name", "what"], ["size"], more_words=["licence", "here"])
    notes = []
    for name in DATASETS.known():
        try:
            dataset = _loaded(name, data_dir)
            with user_code(name):
                faults = dataset.faults() if isinstance(dataset, FileDataset) else {}
                here = _here(dataset, faults)
                title = dataset.name if DATASETS.is_ours(name) else name
                table.add(title, _what(dataset), _size(dataset), dataset.licence, here)
        except (AttributeError, UserError) as error:  # such as a class attribute that it lacks
            if DATASETS.is_ours(name):
                raise
            notes.append(f"{name} can't be used: {error}")
            continue
        if isinstance(dataset, FileDataset) and faults:
            notes.append(_note(dataset, faults))
    output.show(table)
    if output.is_screen:
        print_lines(screen(), notes)


def fetch(names: Sequence[str], data_dir: str | None = None) -> None:
    """Download what is missing or damaged of the data sets named, or of ``all``."""
    console = screen()
    everything = "all" in names
    chosen = [_loaded(name, data_dir) for name in (DATASETS.names() if everything else names)]
    try:
        for dataset in chosen:
            line = _fetch(dataset, console, unasked=everything)
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    except DatasetError as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt:
        raise Interrupted("interrupted; complete files are kept") from None


def path(data_dir: str | None = None) -> None:
    print(_root(data_dir))


def _root(data_dir: str | None) -> Path:
    """The folder of the data sets; raises UserError where there can be none."""
    with as_user_error(DatasetError):
        return data_root(data_dir)


class RichBar:
    """A progress bar with the part of tqdm's interface that a download calls, shown by rich."""

    def __init__(self, progress: Progress, name: str, n_bytes: int) -> None:
        self.progress = progress
        self.task = progress.add_task(name, total=n_bytes)

    def update(self, n: int) -> None:
        self.progress.advance(self.task, n)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.update(self.task, visible=False)


def _fetch(dataset: Dataset, console: Console, unasked: bool) -> str:
    if not isinstance(dataset, FileDataset):
        return f"{dataset.name}: needs no files; it is part of {dataset.comes_with}"
    if unasked and not dataset.mirrors and (faults := dataset.faults()):
        return _note(dataset, faults)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        fetched = 0
        for line in download(dataset, lambda name, n_bytes: RichBar(progress, name, n_bytes)):
            console.print(f"{dataset.name}: {line}", highlight=False, markup=False, soft_wrap=True)
            fetched += 1
    how = "complete" if fetched else "already here and intact"
    return f"{dataset.name}: {how}, in {dataset.folder}"


def _loaded(name: str, data_dir: str | None) -> Dataset:
    with as_user_error():
        dataset: Dataset = DATASETS.load(name, data_dir=data_dir)
        return dataset


def _what(dataset: Dataset) -> TableCell:
    train, test = dataset.examples
    shape = "×".join(map(str, dataset.shape))
    unit = " features" if len(dataset.shape) == 1 else ""
    return TableCell(dataset.what, below=f"{train:,} + {test:,} of {shape}{unit}")


def _size(dataset: Dataset) -> str:
    if not isinstance(dataset, FileDataset):
        return "–"
    return decimal(sum(dataset.files[name].n_bytes for name in dataset.published_names()))


def _here(dataset: Dataset, faults: dict[str, str]) -> str | TableCell:
    if not isinstance(dataset, FileDataset):
        return "built in"
    if not faults:
        return TableCell("yes", "good")
    missing = list(faults.values()).count("missing")
    if missing == len(dataset.published_names()):
        return "no"
    return TableCell("damaged" if missing < len(faults) else "in part", "bad")


def _note(dataset: FileDataset, faults: dict[str, str]) -> str:
    """What is wrong with the files of a data set, and what to do."""
    if set(faults.values()) == {"missing"} and len(faults) == len(dataset.published_names()):
        return f"{dataset.name}: {dataset.how_to_get(faults)}"
    listed = ", ".join(f"{name} ({fault})" for name, fault in faults.items())
    return f"{dataset.name}: {listed}; {dataset.how_to_get(faults)}"
