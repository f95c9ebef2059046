"""The report of a ``time-compressors`` run: losses at equal numbers, what they cost, a plot."""

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from svdbench.jobs.time_compressors.summaries import (
    DECODING,
    KEPT,
    LATENCY,
    LOSS,
    MEMORY,
    SPENT,
    CompressorSummary,
    more_than,
    summarise,
)
from svdbench.record.reader import UNCOMPRESSED, RecordedRun
from svdbench.reporting.metrics import headline
from svdbench.reporting.plots import (
    add_title_and_legend,
    fix_ticks,
    name_log_ticks,
    panels,
    plot_band,
    plot_line,
    quiet,
)
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import styles_of
from svdbench.reporting.words import known, number, quantity, share, size

# Where a loss rises so many times as much as the best one, the axis is logarithmic.
MOST = 6.0


def report(run: RecordedRun) -> Report:
    summary, samples = run.frame("summary"), run.frame("samples")
    found = summarise(summary, samples)
    model = str(summary["model"].iloc[0])
    dense = float(summary["dense_loss"].dropna().iloc[0]) if len(found) else float("nan")
    parts = [
        (key, list(rows)) for key, rows in groupby(found, lambda each: (each.budget, each.tuned))
    ]
    made = Report(
        model,
        headline(
            [(f"{_place(*key)}, {rows[0].method}", [rows[0].metrics[LOSS]]) for key, rows in parts]
        ),
        frames={"summary": summary},
        metrics=[value for each in found for value in each.metrics.values()],
    )
    made.blocks = [losses_table(*key, rows) for key, rows in parts]
    if found:
        made.blocks.append(costs_table(found))
    made.blocks.append(
        Lines(
            [
                *(conclusion(*key, rows) for key, rows in parts),
                *about(summary, dense),
                *without_result(summary),
            ]
        )
    )
    made.warnings = list(warnings_of(summary))
    if found:
        made.figures["loss_by_budget"] = partial(loss_by_budget, found, model, dense)
    return made


def _place(budget: float, tuned: bool) -> str:
    return f"{share(budget)} of the weights{', fine-tuned' if tuned else ''}"


def losses_table(budget: float, tuned: bool, rows: list[CompressorSummary]) -> Table:
    """A line for each method, from the lowest loss to the highest."""
    against = rows[0].against
    metric = more_than(against)
    columns = ["kept", "loss", "range of draws", f"− {against}", "95% interval"]
    table = Table.of(_place(budget, tuned), ["method"], columns)
    for each in rows:
        more = each.metrics.get(metric)
        range_of = each.metrics[LOSS].interval if each.draws > 1 else "–"
        style: Any = ""
        if each.differs:
            style = "bad" if more is not None and more.value > 0 else "good"
        table.add(
            each.method,
            each.metrics[KEPT],
            each.metrics[LOSS],
            range_of,
            "–" if more is None else TableCell(more.text, style, value=more.value),
            "–" if more is None else more.interval,
            style="strong" if each.method == against else "",
        )
    return table


def costs_table(found: list[CompressorSummary]) -> Table:
    """What each method takes, and how fast its models are."""
    shown = [SPENT, MEMORY, LATENCY, DECODING]
    shown = [
        metric
        for metric in shown
        if any(each.metrics[metric].value == each.metrics[metric].value for each in found)
    ]
    names = {SPENT: "time to compress", MEMORY: "memory", LATENCY: "latency", DECODING: "a token"}
    columns = [
        f"{names[metric]}{' × dense' if metric in (LATENCY, DECODING) else ''}" for metric in shown
    ]
    table = Table.of("costs", ["weights", "method"], columns)
    for (budget, tuned), rows in groupby(found, lambda each: (each.budget, each.tuned)):
        for each in rows:
            cells = (each.metrics[metric] for metric in shown)
            table.add(f"{share(budget)}{', tuned' if tuned else ''}", each.method, *cells)
        table.end_section()
    return table


def conclusion(budget: float, tuned: bool, rows: list[CompressorSummary]) -> str:
    """Which method loses least, and by how much more the one that it is compared with."""
    place, best = f"at {_place(budget, tuned)}", rows[0]
    own = next((each for each in rows if each.method == best.against), None)
    if own is None:
        return f"{place}: {best.method} has the lowest loss, {best.metrics[LOSS].text}"
    rivals = [each for each in rows if each is not own and each.difference is not None]
    if not rivals:
        return f"{place}: the loss of {own.method} is {own.metrics[LOSS].text}"
    metric = more_than(own.method)
    better = [each for each in rivals if each.differs and each.metrics[metric].value < 0]
    if better:
        text = ", ".join(f"{r.method} by {number(-r.metrics[metric].value)}" for r in better)
        return f"{place}: {own.method} loses more than {text}"
    nearest = min(rivals, key=lambda each: each.metrics[metric].value)
    value = nearest.metrics[metric]
    same = [each.method for each in rivals if not each.differs]
    if same:
        return (
            f"{place}: no difference between {own.method} and {', '.join(same)} is more than noise"
        )
    return (
        f"{place}: {own.method} loses least; next is {nearest.method}, {value.text} "
        f"({value.interval})"
    )


def about(summary: pd.DataFrame, dense: float) -> Iterator[str]:
    row = summary.iloc[0]
    draws = summary["draw"].nunique()
    yield (
        f"dense: loss {known(dense, partial(number, digits=4))}; "
        f"{quantity(draws, 'draw')} of the calibration examples; {row['splits']}"
    )
    yield (
        "95% intervals are those of paired differences, over examples or over draws, whichever is "
        "wider; kept: share of the parameters of the weights that are compressed"
    )
    for method, rows in summary.groupby("method", sort=False):
        yield f"{method}: {rows['source'].iloc[0]}; needs {rows['needs'].iloc[0]}"


def without_result(summary: pd.DataFrame) -> Iterator[str]:
    """Methods and budgets that have no result, with the reason, each once."""
    rows = summary[summary["status"] != "ok"]
    for (method, reason), own in rows.groupby(["method", "reason"], sort=False):
        budgets = ", ".join(share(budget) for budget in sorted(set(own["budget"]), reverse=True))
        yield f"{method} at {budgets}: {own['status'].iloc[0]}, {reason}"


def warnings_of(summary: pd.DataFrame) -> Iterator[str]:
    """What is doubtful about the examples, each once, a few."""
    texts = dict.fromkeys(
        line for text in summary["warnings"].dropna() for line in str(text).split(" | ")
    )
    lines = [line for line in texts if line]
    yield from (f"warning: {line}" for line in lines[:3])
    if len(lines) > 3:
        yield f"and {quantity(len(lines) - 3, 'more warning')}, in summary.csv"


def loss_by_budget(found: list[CompressorSummary], model: str, dense: float) -> Figure:
    """The loss of every method by the part of the weights kept; bands from draw to draw.

    With one budget alone, a line for each method with the range of its draws.
    """
    if len({each.budget for each in found}) == 1:
        return losses_of_one_budget(found, model, dense)
    tunings = sorted({each.tuned for each in found})
    figure, places = panels(len(tunings), 2, (5.2, 4.4), (2.6, 0.9), sharey=True)
    methods = sorted({each.method for each in found})
    styles = styles_of([*methods, UNCOMPRESSED])
    budgets = sorted({each.budget for each in found})
    lowest, highest = min(each.lowest for each in found), max(each.highest for each in found)
    # Where losses lie far apart, only a logarithmic axis shows them all.
    best = max(min(e.loss for e in found if e.budget == budget) for budget in budgets)
    is_wide = highest > dense + MOST * max(best - dense, 0.02 * abs(dense)) and lowest > 0
    for axes, tuned in zip(places, tunings, strict=True):
        for method in methods:
            own = sorted(
                (each for each in found if each.method == method and each.tuned == tuned),
                key=lambda each: each.budget,
            )
            if not own:
                continue
            x = [100 * each.kept for each in own]
            plot_line(axes, x, [each.loss for each in own], label=method, **styles[method])
            low, high = [each.lowest for each in own], [each.highest for each in own]
            plot_band(axes, x, low, high, styles[method]["color"])
        axes.axhline(dense, color=styles[UNCOMPRESSED]["color"], lw=1, ls=":", label=UNCOMPRESSED)
        fix_ticks(axes.xaxis, [100 * budget for budget in budgets], lambda x: f"{size(x)}%")
        axes.set_xlabel("parameters kept in the weights")
        axes.set_title("fine-tuned" if tuned else "compressed", loc="left", fontsize=10)
        if is_wide:
            axes.set_yscale("log")
            name_log_ticks(axes.yaxis, size)
            # The loss of a model that is its own teacher is rounding noise: left out.
            axes.set_ylim((dense if dense > lowest / 10 else lowest) * 0.9, highest * 1.1)
        quiet(axes)
    places[0].set_ylabel("loss on held-out examples")
    add_title_and_legend(figure, f"{_about(found, model)}, bands from the lowest to the highest")
    return figure


def losses_of_one_budget(found: list[CompressorSummary], model: str, dense: float) -> Figure:
    """A panel for compressed and for fine-tuned models, each with a line for every method."""
    tunings = sorted({each.tuned for each in found})
    methods = list(dict.fromkeys(each.method for each in found))
    styles = styles_of([*sorted(methods), UNCOMPRESSED])
    height = 0.45 * len(methods)
    figure, places = panels(len(tunings), 2, (5.2, height), (2.6, 1.5), sharey=True)
    for axes, tuned in zip(places, tunings, strict=True):
        for each in (each for each in found if each.tuned == tuned):
            y, color = methods.index(each.method), styles[each.method]["color"]
            axes.plot([each.lowest, each.highest], [y, y], color=color, lw=3, alpha=0.4)
            axes.plot(each.loss, y, "o", color=color)
        axes.axvline(dense, color=styles[UNCOMPRESSED]["color"], lw=1, ls=":", label=UNCOMPRESSED)
        axes.set_yticks(range(len(methods)), methods)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.set_xlabel("loss on held-out examples")
        axes.set_title("fine-tuned" if tuned else "compressed", loc="left", fontsize=10)
        quiet(axes)
    budget = share(found[0].budget)
    title = f"{_about(found, model)} at {budget} of the weights, with their range"
    add_title_and_legend(figure, title)
    return figure


def _about(found: list[CompressorSummary], model: str) -> str:
    return f"{model}: mean of {quantity(max(each.draws for each in found), 'draw')}"
