"""What a training run says when it is done: a table, reasons and plots.

A run is a folder with tables, or a folder of such folders: one for each model, or one
for each combination of a sweep.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.record.reader import RecordedRun
from svdbench.record.schema import WELL
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.report.training_plots import best_first, draw_all, medians, short
from svdbench.reporting.words import share

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("params", "last", "test", "accuracy", "steps", "seconds", "steps/s")

# Keys of a configuration that say where a run goes, not what it is.
_PLACE = ("name", "results")


def show_run(folder: Path, console: Console) -> None:
    """Print the table of a ``train`` run or of a folder of runs, and draw its plots."""
    samples, summary, swept = read_runs(folder)
    if summary.empty:
        return
    console.print(_title(summary), style="bold", highlight=False)
    console.print(results_table(summary, swept))
    if summary["label"].nunique() > 1:  # those of one run were told as they came
        print_lines(console, endings(summary))
    print_lines(console, draw_all(folder, samples, summary, swept))


def read_runs(folder: Path) -> tuple["pd.DataFrame", "pd.DataFrame", list[str]]:
    """``samples.csv`` and ``summary.csv`` of all runs of a folder, and what a sweep changed.

    Both tables have ``label``, what to call a row's line in a plot: its model, where there
    are several, and the values of the keys, as ``model.m1``, in which runs of one model
    differ. The keys are the third part, and further columns, of text, of the tables.
    """
    import pandas as pd

    folders = [folder] if (folder / "config.yaml").exists() else _inside(folder)
    settings = [_settings(run) for run in folders]
    swept = _swept(settings)
    tables: dict[str, list[pd.DataFrame]] = {"samples": [], "summary": []}
    several = len({setting.get("model_name") for setting in settings}) > 1
    for run, setting in zip(folders, settings, strict=True):
        values = {key: _shown(setting.get(key)) for key in swept}
        words = [f"{short(key)} = {value}" for key, value in values.items()]
        label = ", ".join([str(setting.get("model_name"))] * (several or not words) + words)
        for name, found in tables.items():
            found.append(read_table(run, name).assign(label=label, **values))
    samples, summary = (
        pd.concat(found, ignore_index=True) if found else pd.DataFrame()
        for found in tables.values()
    )
    return samples, summary, swept


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _inside(folder: Path) -> list[Path]:
    """Its runs, in the order of their numbers, or of their names."""
    runs = [path.parent for path in folder.glob("*/summary.csv")]
    return sorted(runs, key=lambda run: (len(run.name) if run.name.isdecimal() else 0, run.name))


def _settings(run: Path) -> dict[str, Any]:
    """The configuration of a run, flat: ``{"model.m1": 16, …}``."""
    found = RecordedRun(run).settings
    return {key: value for key, value in found.items() if key not in _PLACE}


def _swept(settings: list[dict[str, Any]]) -> list[str]:
    """The keys in which runs of one model differ, in the order of the configuration.

    Of keys that always have the same value, as m₂ = m₁, the first stands for all.
    """
    found: dict[str, list[Any]] = {}
    for model in {setting.get("model_name") for setting in settings}:
        runs = [setting for setting in settings if setting.get("model_name") == model]
        for key in runs[0]:
            values = [run.get(key) for run in settings]
            if any(run.get(key) != runs[0][key] for run in runs) and values not in found.values():
                found[key] = values
    return list(found)


def _title(summary: "pd.DataFrame") -> str:
    of = medians(summary, "; medians of {}")
    return f"{summary['task_title'].iloc[0]}: loss / baseline, steps and seconds to the target{of}"


def results_table(summary: "pd.DataFrame", swept: list[str]) -> Table:
    """A line for each model or combination, best first; medians over seeds, and a range."""
    several = summary["model"].nunique() > 1 or not swept
    columns = (*map(short, swept), *_COLUMNS)
    table = new_table(None, ["model"] * several, columns, padding=(0, 1, 0, 0), pad_edge=False)
    for label in best_first(summary):
        rows = summary[summary["label"] == label]
        table.add_row(
            *(rows["model"].iloc[:1] if several else ()),
            *(rows[key].iloc[0] for key in swept),
            f"{rows['n_params'].iloc[0]:,}",
            _share(rows["relative_loss"]) + _range(rows["relative_loss"]),
            _share(rows["test_loss"] / rows["baseline_loss"]),
            _share(rows["test_accuracy"].fillna(rows["accuracy"])),
            _reached(rows),
            _number(rows["seconds_to_target"], ".3g"),
            _number(rows["steps_per_s"], ".3g"),
        )
    return table


def _share(values: "pd.Series[float]") -> str:
    values = values.dropna()
    return "–" if values.empty else share(values.median(), 2)


def _range(values: "pd.Series[float]") -> str:
    """Below the value, in percent as it is."""
    ends = (share(value, 2).removesuffix(" %") for value in (values.min(), values.max()))
    return "\n" + "–".join(ends) if values.count() > 1 else ""


def _number(values: "pd.Series[float]", form: str) -> str:
    values = values.dropna()
    return "–" if values.empty else format(values.median(), form)


def _reached(rows: "pd.DataFrame") -> str:
    """Median steps to the target, and how many seeds got there where not all did."""
    reached = rows["steps_to_target"].notna().sum()
    some = f" ({reached}/{len(rows)})" if 0 < reached < len(rows) else ""
    return _number(rows["steps_to_target"], ",.0f") + some


def endings(summary: "pd.DataFrame") -> list[str]:
    """Why trainings ended that didn't end well."""
    ended = summary[~summary["status"].isin(WELL)]
    return [f"{row['label']}, seed {row['seed']}: {row['reason']}" for _, row in ended.iterrows()]
