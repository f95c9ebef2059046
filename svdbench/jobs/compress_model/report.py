"""The report of ``compress MODULE:BUILD``: each weight, totals, certificate, frontier."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric, MetricValue, headline
from svdbench.reporting.plots import name_log_ticks, new_figure, plot_line, quiet
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import BLUE, GREEN, VERMILLION
from svdbench.reporting.words import (
    change,
    count,
    known,
    number,
    quantity,
    seconds,
    share,
    signed,
    size,
)

# Of a large model every layer may have one.
MOST_WARNINGS = 5
KEPT = Metric("weights kept", "kept", "fraction", "lower", "", share)
INCREASE = Metric("loss on held-out examples", "increase", "", "lower", "mean of examples", signed)
SEARCHED = Metric("loss on searched examples", "searched", "", "lower", "mean of examples", signed)


def report(run: RecordedRun) -> Report:
    layers, summary = run.frame("layers"), run.frame("summary")
    row = summary.to_dict("records")[0]
    taken = layers[layers["status"] == "ok"].to_dict("records")
    factored = [layer for layer in taken if layer["form"] == "factors"]
    skipped = layers[layers["status"] == "skipped"]
    values = metrics_of(row)
    found = Report(
        str(row["model"]),
        headline([(str(row["model"]), [values[KEPT], values[INCREASE]])]),
        frames={"layers": layers, "summary": summary},
        warnings=list(warnings_of(row)),
        metrics=list(values.values()),
    )
    found.blocks = [
        sizes_table(taken, found.title),
        *([measured_table(factored)] if factored else ()),
        Lines(
            f"{layer} left as it is: {why}"
            for layer, why in zip(skipped["layer"], skipped["reason"], strict=True)
        ),
        totals_table(row),
        Lines(certificate(row)),
    ]
    found.closing.append(how_to_load(row))
    if run.has("frontier"):
        found.figures["frontier"] = partial(frontier, run.frame("frontier"), row)
    return found


def metrics_of(row: dict[Any, Any]) -> dict[Metric, MetricValue]:
    """The share of the weights that is kept, and the changes of the loss."""
    of = {"model": row["model"]}
    kept = KEPT.of(row["weights"] / row["dense_weights"], **of)
    changes = (metric.of(row[metric.column], **of) for metric in (INCREASE, SEARCHED))
    return {value.metric: value for value in (kept, *changes)}


def sizes_table(layers: list[dict[Any, Any]], title: str) -> Table:
    """A line for each weight: its size, its rank, numbers and multiply-adds before and after."""
    numbers = ["size", "rank", "params", "params after", "macs", "macs after"]
    table = Table.of(title, ["weight"], numbers)
    for layer in layers:
        dense = layer["form"] == "dense"
        shape = f"{size(layer['rows'])}×{size(layer['columns'])}"
        table.add(
            layer["layer"],
            shape,
            "dense" if dense else TableCell.number(layer["rank"], size),
            TableCell.number(layer["dense_numbers"], count),
            "" if dense else TableCell.number(layer["numbers"], count),
            TableCell.number(layer["dense_macs"], count),
            "" if dense else TableCell.number(layer["macs"], count),
        )
    return table


def measured_table(layers: list[dict[Any, Any]]) -> Table:
    """A line for each factored weight: its layer's latency, and the error of its output.

    The error has a bound on the calibration examples alone; on those held out it is measured,
    and may be above that.
    """
    columns = ["latency", "latency after", "calibration ≤", "held out"]
    table = Table.of("factored weights: latency, error", ["weight"], columns)
    for layer in layers:
        table.add(
            layer["layer"],
            *(TableCell.number(layer[name], seconds) for name in ("dense_latency_s", "latency_s")),
            *(TableCell.number(layer[name], share) for name in ("error_bound", "error")),
        )
    return table


def totals_table(row: dict[Any, Any]) -> Table:
    table = Table.of("the whole model", [""], ["before", "after", "change"])
    weights = KEPT.of(row["weights"] / row["dense_weights"])
    table.add("weights kept", share(1.0), weights, "")
    names = {
        "parameters": ("n_params", count),
        "bytes": ("bytes", count),
        "multiply-adds": ("macs", count),
        f"latency, batch of {row['latency_batch']}": ("latency_s", seconds),
    }
    for what, (name, form) in names.items():
        before, after = row[f"dense_{name}"], row[name]
        if before == before:
            changed = TableCell.number(after / before - 1, change) if before else ""
            cells = (TableCell.number(value, form) for value in (before, after))
            table.add(what, *cells, changed)
    return table


def certificate(row: dict[Any, Any]) -> Iterator[str]:
    """The budget and the measured loss, each a line."""
    tuned = row["tuned_epochs"] == row["tuned_epochs"]
    yield (
        "error: relative error of a layer's output; calibration ≤: bound on the "
        "calibration examples, from the spectrum; held out: measured on held-out examples"
        f"{', before fine-tuning' if tuned else ''}, which the bound does not cover"
    )
    yield f"examples: {row['splits']}"
    yield from judged_by(row)
    if tuned:
        yield (
            f"fine-tuned for {quantity(row['tuned_epochs'], 'epoch')}: the loss on the search "
            f"examples went from {_loss(row['untuned_loss'])} to {_loss(row['tuned_loss'])} at "
            "its lowest"
        )
    foretold = row["predicted"] == row["predicted"]
    units = ("batch", "batches") if row.get("unit") == "batch" else ("example", "examples")
    predicted = f"; predicted: {signed(row['predicted'])}" if foretold else ""
    yield (
        f"search: the loss changed by {_increase(row, 'searched', 'searched_se')} from "
        f"{_loss(row['dense_searched'])} on "
        f"{quantity(row['searched_examples'], *units)}{predicted}; "
        f"{quantity(row['evaluations'], 'evaluation')}"
    )
    change = (
        f"held out: the loss changed by {_increase(row, 'increase', 'increase_se')} from "
        f"{_loss(row['dense_loss'])} on {quantity(row['examples'], *units)} not "
        "used for choosing"
    )
    yield from perplexities(row)
    if row["budget_of"] == "loss":
        yield f"{change}: {_verdict(row)} {number(row['budget'])} that was allowed"
    else:
        yield f"{change}, for {share(row['budget'])} of the {_BUDGETS[row['budget_of']]}"
    yield (
        f"kept: {share(row['weights'] / row['dense_weights'])} of the parameters of the weights "
        f"that can be factored, {share(row['n_params'] / row['dense_n_params'])} of the whole "
        "model's parameters"
    )


def judged_by(row: dict[Any, Any]) -> Iterator[str]:
    """The loss, and the curvature by which it was predicted, a line."""
    if isinstance(row.get("loss"), str):  # runs before 0.3 don't have it
        curvature = _CURVATURES.get(str(row.get("curvature")), "")
        yield f"loss: {row['loss']}{curvature and f'; curvature: {curvature}'}"


_CURVATURES = {
    "ggn": "generalised Gauss-Newton",
    "ggn-lanczos": "generalised Gauss-Newton, by Hessian-vector products",
    "fisher": "empirical Fisher, of the loss's own gradients",
}


def perplexities(row: dict[Any, Any]) -> Iterator[str]:
    """The perplexity of a language model before and after, a line."""
    if row.get("perplexity", math.nan) == row.get("perplexity"):

        def told(name: str) -> str:
            low, high = (known(row[f"{name}_{end}"], number) for end in ("low", "high"))
            return f"{number(row[name])} ({low} to {high})"

        yield (
            f"perplexity: {told('dense_perplexity')} before and {told('perplexity')} after, "
            f"{told('perplexity_ratio')} times as high; on {quantity(row['tokens'], 'token')}, "
            f"with 95% intervals over {quantity(row['documents'], row['document'])} held out"
        )


def warnings_of(row: dict[Any, Any]) -> Iterator[str]:
    """What the compression warned of, a line each."""
    if row["warnings"] == row["warnings"]:
        lines = str(row["warnings"]).split(" | ")
        yield from (f"warning: {line}" for line in lines[:MOST_WARNINGS])
        if (more := len(lines) - MOST_WARNINGS) > 0:
            yield f"and {quantity(more, 'more warning')}, in summary.csv"


_BUDGETS = {
    "params": "parameters of the weights that can be factored",
    "macs": "multiply-adds of their layers",
    "latency": "time of their layers",
}


def _verdict(row: dict[Any, Any]) -> str:
    """Whether the increase is below the budget, and how certain that is."""
    room = row["budget"] - row["increase"]
    if room != room:
        return "not confirmed (not a number), against the"
    if abs(room) < 2 * row["increase_se"]:
        return "within two standard errors of the"
    return "confirmed, below the" if room >= 0 else "not confirmed, above the"


def _increase(row: dict[Any, Any], name: str, error: str) -> str:
    return f"{known(row[name], signed)} ± {known(row[error], partial(number, digits=2))}"


def _loss(value: float) -> str:
    return known(value, partial(number, digits=4))


def how_to_load(row: dict[Any, Any]) -> str:
    module, _, function = str(row["model"]).partition(":")
    if not function:  # a model of transformers
        return (
            "load it: from svdbench.pretrained import from_pretrained; "
            f"model = from_pretrained({str(Path(row['file']).parent)!r})"
        )
    return (
        f"load it: import {module}, svdbench.lowrank; "
        f"model = svdbench.lowrank.load({module}.{function}(), {str(row['file'])!r})"
    )


def frontier(points: pd.DataFrame, row: dict[Any, Any]) -> Figure:
    """Predicted loss by the numbers kept, with the point that was chosen as it was measured."""
    whole = row["dense_weights"]
    figure = new_figure(8.2, 4.8)
    axes = figure.add_subplot()
    kept = 100 * points["params"] / whole
    if row["predicted"] == row["predicted"]:  # in the unit of the loss
        style: dict[str, Any] = {"color": BLUE, "lw": 1.8, "label": "frontier, predicted"}
        plot_line(axes, kept, points["predicted"], **style)
    axes.set_xlim(0.9 * kept.min(), 110)
    chosen = 100 * row["weights"] / whole
    known = []  # a single example has no standard error
    for i, (name, label) in enumerate((("searched", "search"), ("increase", "held-out")), 1):
        increase, error = row[name], row[f"{name}_se"]
        error = error if math.isfinite(error) else 0.0
        if math.isfinite(increase):
            known.append((increase, error))
        axes.errorbar(
            chosen,
            increase,
            yerr=2 * error,
            label=f"chosen, on the {label} examples",
            color=(VERMILLION, GREEN)[i - 1],
            marker="so"[i - 1],
            ms=(9, 5)[i - 1],  # at the same place: the one around the other
            markerfacecolor=("none", GREEN)[i - 1],
            ls="none",
            capsize=(6, 3)[i - 1],
        )
    if row["budget_of"] == "loss":
        axes.axhline(row["budget"], color="black", lw=1, ls=":", label="allowed")
    axes.set_xscale("log")
    # Linear below what can be told from nothing.
    least = max(min((error for _, error in known), default=0.0), 1e-6)
    axes.set_yscale("symlog", linthresh=least)
    lowest = min((increase - 2 * error for increase, error in known), default=0.0)
    axes.set_ylim(bottom=min(1.3 * lowest, -least / 3))
    name_log_ticks(axes.xaxis, lambda x: f"{size(x)}%")
    axes.set_xlabel("parameters kept in the weights")
    axes.set_ylabel("increase of the loss (bars: two standard errors)")
    axes.set_title(f"{row['model']}: size and loss", loc="left")
    quiet(axes)
    axes.legend(frameon=False, fontsize=9)
    return figure
