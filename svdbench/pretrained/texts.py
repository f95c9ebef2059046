"""Texts from files: documents, with labels where there are any, perhaps in named parts."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svdbench.errors import UserError, one_line
from svdbench.files import existing_regular_file

# A folder of fewer files is taken by paragraphs.
FILES = 20
ROWS = {".jsonl", ".csv", ".tsv"}
# Names of files, or of splits of a data set, that are a part of their own.
PARTS = {
    "calibration": ("calibration", "train", "training"),
    "search": ("search", "validation", "valid", "val", "dev"),
    "held_out": ("held_out", "test"),
}


@dataclass(frozen=True)
class Texts:
    """Documents of one part.

    Attributes:
        documents: texts, none of them empty.
        labels: a whole number or a name for each; None without any.
        unit: what a document is: a file, a paragraph or a row.
    """

    documents: list[str]
    labels: list[int | str] | None
    unit: str


def read_texts(path: str | Path) -> dict[str, Texts]:
    """The documents in a text file, a table, a folder of text files, or a saved data set.

    Documents of a text file are its paragraphs, which blank lines separate; of a folder of 20
    files or more, the files; of a table (.jsonl, .csv, .tsv), the column ``text`` of its rows,
    with labels in ``label``. In a folder, files called train, validation and test become parts.

    Returns:
        The parts that are named, or all under "".

    Raises:
        UserError: there is no such file, or no text in it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            return _of_dataset(path)
        files = [each for each in sorted(path.rglob("*")) if _is_text_file(each, path)]
        parts = _named_parts(files)
        if parts:
            return {name: _of_file(each) for name, each in parts.items()}
        return {"": _of_files(files, path)}
    return {"": _of_file(path)}


def _of_file(path: Path) -> Texts:
    text = _read(path)
    if path.suffix in ROWS:
        rows = [*_rows(path, text)]
        if not rows or any("text" not in row for row in rows):
            raise UserError(f"{path} has no column text: rename the column with the texts to text")
        return _of_rows(rows, path)
    return _whole(_paragraphs(text), None, "paragraph", path)


def _of_files(files: list[Path], folder: Path) -> Texts:
    texts = [text for text in map(_read_if_text, files) if text is not None]
    if len(texts) >= FILES:
        return _whole(texts, None, "file", folder)
    return _whole([part for text in texts for part in _paragraphs(text)], None, "paragraph", folder)


def _of_dataset(folder: Path) -> dict[str, Texts]:
    try:
        from datasets import load_from_disk
    except ImportError as error:
        raise UserError(
            f"{folder} is a saved data set, which needs datasets: pip install datasets"
        ) from error
    try:
        found = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: {one_line(error)}") from error
    splits = (
        {_part_of(name) or name: each for name, each in found.items()}
        if isinstance(found, dict)
        else {"": found}
    )
    return {
        name: _of_rows([{str(k): v for k, v in row.items()} for row in each], folder)
        for name, each in splits.items()
        if name in ("", *PARTS)
    }


def _of_rows(rows: list[dict[str, Any]], path: Path) -> Texts:
    labels = [row.get("label") for row in rows]
    known = None if any(label in (None, "") for label in labels) else labels
    return _whole([str(row.get("text") or "") for row in rows], known, "row", path)


def _whole(texts: list[str], labels: Any, unit: str, path: Path) -> Texts:
    kept = [i for i, text in enumerate(texts) if text.strip()]
    if not kept:
        raise UserError(f"{path} has no text: give a text file, or a folder of them")
    return Texts(
        [texts[i] for i in kept], None if labels is None else [labels[i] for i in kept], unit
    )


def _rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}, line {number}, is not JSON: {one_line(error)}") from error
            yield row if isinstance(row, dict) else {}
    else:
        import csv

        yield from csv.DictReader(
            text.splitlines(keepends=True), delimiter="\t" if path.suffix == ".tsv" else ","
        )


def _paragraphs(text: str) -> list[str]:
    return [part.strip("\n") for part in re.split(r"\n[ \t\r]*\n", text) if part.strip()]


def _read(path: Path) -> str:
    try:
        return existing_regular_file(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}: check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: give a text file") from error


def _read_if_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def _is_text_file(path: Path, folder: Path) -> bool:
    """Whether a file is visible and begins like text; others of a folder are passed over."""
    inner = path.relative_to(folder).parts
    if not path.is_file() or any(part.startswith((".", "__pycache__")) for part in inner):
        return False
    with open(path, "rb") as file:
        return b"\0" not in file.read(4096)


def _named_parts(files: list[Path]) -> dict[str, Path]:
    """Files that are parts of their own, if all are."""
    parts = {_part_of(path.stem): path for path in files}
    return {str(k): v for k, v in parts.items()} if None not in parts else {}


def _part_of(name: str) -> str | None:
    return next((part for part, names in PARTS.items() if name.lower() in names), None)
