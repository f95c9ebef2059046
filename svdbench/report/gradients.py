"""The table and plots of a ``gradients`` run, from its folder and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from svdbench.report.gradient_plots import MOMENTS, draw_all, moments
from svdbench.report.training import endings
from svdbench.report.units import share

if TYPE_CHECKING:
    import pandas as pd

MEANING = """1 where gradients neither vanish nor explode on their way back through the
sequence; at the start, in the middle and at the end of training
"""


def show_run(folder: Path, console: Console) -> None:
    """Print how the norms of all models differ over t, and draw them."""
    if not (folder / "gradients.csv").exists():  # interrupted before the first look
        return
    norms, summary = norms_of(folder), _read(folder / "summary.csv")
    console.print(table_of(norms, summary))
    console.print(MEANING, highlight=False)
    for text in (*endings(summary.assign(label=summary["model"])), *caveats(norms)):
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    for path in draw_all(folder, norms, summary):
        console.print(str(path), highlight=False, soft_wrap=True)


def norms_of(folder: Path) -> dict[str, "pd.DataFrame"]:
    """Model ↦ ‖∂L/∂h_t‖, a row for each step of training, a column for each t.

    The median over the seeds that got there; models in the order they were trained.
    """
    rows = _read(folder / "gradients.csv")
    return {
        str(model): of_model.pivot_table(index="step", columns="t", values="norm", aggfunc="median")
        for model, of_model in rows.groupby("model", sort=False)
    }


def caveats(norms: dict[str, "pd.DataFrame"]) -> list[str]:
    """What the norms don't say."""
    lstm = "an LSTM remembers in its cells: what goes back by them alone is not in its norms"
    return [lstm] if "lstm" in norms else []


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def table_of(norms: dict[str, "pd.DataFrame"], summary: "pd.DataFrame") -> Table:
    """A line for each model: first over last norm at the start, the middle and the end."""
    table = Table(
        title=f"{summary['task_title'].iloc[0]}: ‖∂L/∂h_1‖ / ‖∂L/∂h_T‖",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
    )
    table.add_column("model", no_wrap=True)
    for name in (*MOMENTS, "‖∂L/∂h_T‖, end", "loss, end"):
        table.add_column(name, justify="right", no_wrap=True)
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
