"""What a ``rank-reveal`` run says: the ranks, what they cost and save, and whether they hold."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.report.reveal_plots import draw_all
from svdbench.report.reveal_question import answer
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.reporting.words import quantity, ratio, seconds, share
from svdbench.statistics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    import pandas as pd

DENSE = "dense"
BUDGETS = {"params": "numbers", "macs": "multiply-adds", "latency": "measured latency"}
ALGORITHMS = ("exact", "frontier", "published")


def show_run(folder: Path, console: Console) -> None:
    """Print the tables and what follows from them, and draw the plots."""
    tables = {
        name: read_table(folder, name)
        for name in ("samples", "summary", "curves", "frontier")
        if (folder / f"{name}.csv").exists()
    }
    if "samples" not in tables:
        return
    samples, summary = tables["samples"], tables["summary"]
    console.print(ranks_table(samples, _title(summary)))
    console.print(losses_table(summary))
    console.print(costs_table(summary))
    print_lines(console, [*meanings(summary), *certified(summary)])
    if "curves" in tables:
        print_lines(console, answer(summary, samples, tables["curves"]))
    print_lines(console, draw_all(folder, tables))


def _title(summary: "pd.DataFrame") -> str:
    row, seeds = summary.iloc[0], summary["seed"].nunique()
    of = f", {quantity(seeds, 'seed')}" if seeds > 1 else ""
    return f"ranks of {row['dataset']}, {row['model']}{of}"


def ranks_table(samples: "pd.DataFrame", title: str) -> Table:
    """A line for each weight: the rank that each algorithm finds it to need, of all it has."""
    methods = [name for name in dict.fromkeys(samples["method"]) if name in ALGORITHMS]
    table = new_table(title, ["weight", "size"], [*methods, "of"])
    for name in _in_order(samples):
        rows = samples[samples["layer"] == name]
        row = rows.iloc[0]
        found = [_rank(rows[rows["method"] == method]) for method in methods]
        table.add_row(
            str(name), f"{row['rows']:.0f}×{row['columns']:.0f}", *found, f"{row['full']:.0f}"
        )
    return table


def _in_order(samples: "pd.DataFrame") -> list[str]:
    """All weights, in the order of the algorithm that looked at most of them."""
    by_method = [list(rows["layer"].unique()) for _, rows in samples.groupby("method")]
    return list(dict.fromkeys(name for names in sorted(by_method, key=len)[::-1] for name in names))


def _rank(rows: "pd.DataFrame") -> str:
    if rows.empty:
        return ""
    if rows["rank"].isna().all():
        return DENSE
    found = ranks_of(rows)
    return f"{found.mean:.3g}" + plus_minus(found, ".2g")


def ranks_of(rows: "pd.DataFrame") -> Interval:
    """The rank of a weight over the seeds; one that stays dense counts with its full rank."""
    return mean_interval(list(rows["rank"].fillna(rows["full"]).astype(float)))


def plus_minus(interval: Interval, form: str) -> str:
    """Half the interval, where there is one."""
    half = interval.halfwidth
    return f" ± {half:{form}}" if math.isfinite(half) and half > 0 else ""


def losses_table(summary: "pd.DataFrame") -> Table:
    """A line for each network: how much of the weights it keeps, and its test loss."""
    columns = ["weights", "test loss", "− dense", "± SE", "predicted", "accuracy"]
    table = new_table("loss of the test examples, nats", ["ranks"], columns)
    for method, rows in summary.groupby("method", sort=False):
        accuracy = rows["accuracy"].mean()
        numbers = [f"{rows['loss'].mean():.4g}"]
        kept = share(1.0)
        if method == DENSE:
            numbers += ["", "", ""]
        else:
            kept = share(rows["kept"].mean())
            error = math.sqrt((rows["increase_se"] ** 2).mean())
            predicted = rows["predicted"].mean()
            numbers += [
                f"{rows['increase'].mean():+.2g}",
                f"{error:.1g}",
                "" if predicted != predicted else f"{predicted:+.2g}",
            ]
        table.add_row(str(method), kept, *numbers, "–" if accuracy != accuracy else share(accuracy))
    return table


def costs_table(summary: "pd.DataFrame") -> Table:
    """A line for each network: what it takes, and what finding it took."""
    batch = summary["latency_batch"].iloc[0]
    columns = ["parameters", "multiply-adds", f"batch of {batch:.0f}", "tried", "time"]
    table = new_table("cost", ["ranks"], columns)
    for method, rows in summary.groupby("method", sort=False):
        speed = "" if method == DENSE else f" {ratio(rows['speedup'].median())}"
        made, most = rows["evaluations"].max(), rows["most_evaluations"].min()
        evaluations = "" if made != made else f"{made:,.0f}"
        if most == most:
            evaluations += f" of {most:.0f}"
        took = rows["decompose_s"].median()
        table.add_row(
            str(method),
            f"{rows['n_params'].mean():,.0f}",
            f"{rows['macs'].mean():,.0f}",
            seconds(rows["latency_s"].median()) + speed,
            evaluations,
            "" if took != took or not took else seconds(took),
        )
    return table


def meanings(summary: "pd.DataFrame") -> Iterator[str]:
    """What the numbers are."""
    seeds = summary["seed"].nunique()
    if seeds > 1:
        yield (
            f"ranks: mean ± half the interval of 95 % (t, {quantity(seeds, 'seed')}); "
            "losses: means; SE: standard error of one network's difference, in pairs of examples"
        )
    else:
        yield "SE: standard error of the difference, in pairs of examples"
    yield (
        "predicted: by frontier from a parabola at the examples it was calibrated on, too little "
        "where the network has learnt these by heart; by exact the sum of what layers lose alone"
    )
    yield "tried: networks whose loss was evaluated; time: of the algorithm"
    by_method = summary.drop_duplicates("method").set_index("method")
    for method in ("exact", "published"):
        if method in by_method.index:
            what = (
                "each layer's loss stays within {:g} of the dense one from its rank on"
                if method == "exact"
                else "the first rank of each layer from which one more gains less than {:g}"
            )
            yield f"{method}: {what.format(by_method.loc[method, 'epsilon'])}"


def certified(summary: "pd.DataFrame") -> Iterator[str]:
    """Whether what was allowed on the examples searched held on the test examples."""
    rows = summary[summary["method"] == "frontier"]
    if rows.empty:
        return
    row: Any = rows.iloc[0]
    allowed = row["allowed"]
    if allowed != allowed:
        name, part = str(row["budget"]).split()
        what = f"{share(float(part))} of the dense layers' {BUDGETS[name]}"
        yield f"frontier: the lowest predicted loss within {what}"
        return
    held = int((rows["increase"] <= allowed).sum())
    where = f" in {held} of {quantity(len(rows), 'seed')}" if len(rows) > 1 else ""
    verdict = "it holds" if held else "it does not hold"
    yield (
        f"frontier: the smallest of all sizes that loses {allowed:g} at most: "
        f"{rows['searched'].mean():+.2g} on the "
        f"{quantity(row['searched_examples'], 'example')} searched; "
        f"{rows['increase'].mean():+.2g} on the {quantity(row['examples'], 'test example')}: "
        f"{verdict}{where}"
    )
