"""The table and plots of a ``gradients`` run, from its folder and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from svdbench.report.gradient_plots import MOMENTS, draw_all, moments
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.report.training import endings
from svdbench.reporting.words import share

if TYPE_CHECKING:
    import pandas as pd

MEANING = """1 where gradients neither vanish nor explode on their way back through the
sequence; at the start, in the middle and at the end of training
"""


def show_run(folder: Path, console: Console) -> None:
    """Print how the norms of all models differ over t, and draw them."""
    if not (folder / "gradients.csv").exists():  # interrupted before the first look
        return
    norms, summary = norms_of(folder), read_table(folder, "summary")
    console.print(table_of(norms, summary))
    console.print(MEANING, highlight=False)
    ended = endings(summary.assign(label=summary["model"]))
    print_lines(console, (*ended, *caveats(norms), *draw_all(folder, norms, summary)))


def norms_of(folder: Path) -> dict[str, "pd.DataFrame"]:
    """Model ↦ ‖∂L/∂h_t‖, a row for each step of training, a column for each t.

    The median over the seeds that got there; models in the order they were trained.
    """
    rows = read_table(folder, "gradients")
    return {
        str(model): of_model.pivot_table(index="step", columns="t", values="norm", aggfunc="median")
        for model, of_model in rows.groupby("model", sort=False)
    }


def caveats(norms: dict[str, "pd.DataFrame"]) -> list[str]:
    """What the norms don't say."""
    lstm = "an LSTM remembers in its cells: what goes back by them alone is not in its norms"
    return [lstm] if "lstm" in norms else []


def table_of(norms: dict[str, "pd.DataFrame"], summary: "pd.DataFrame") -> Table:
    """A line for each model: first over last norm at the start, the middle and the end."""
    title = f"{summary['task_title'].iloc[0]}: ‖∂L/∂h_1‖ / ‖∂L/∂h_T‖"
    table = new_table(title, ["model"], (*MOMENTS, "‖∂L/∂h_T‖, end", "loss, end"))
    for model, found in norms.items():
        looks = [found.loc[step] for step in moments(found)]
        losses = summary.loc[summary["model"] == model, "relative_loss"].dropna()
        table.add_row(
            model,
            *(_ratio(look.iloc[0], look.iloc[-1]) for look in looks),
            f"{looks[-1].iloc[-1]:.2g}",
            share(losses.median()) if len(losses) else "–",
        )
    return table


def _ratio(first: float, last: float) -> str:
    return f"{first / last:.2g}" if last > 0 else "–"
