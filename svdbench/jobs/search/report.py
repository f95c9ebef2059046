"""The report of a ``search`` run: what is best for each model, what it cost, and all trials."""

import json
import math
from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.record.schema import GOOD_ENDINGS
from svdbench.reporting.metrics import Metric, MetricValue, headline
from svdbench.reporting.plots import add_title_and_legend, name_log_ticks, panels, quiet
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import HUES
from svdbench.reporting.words import clock_time, integer, quantity, setting, share, size

BEST_LOSS = Metric(
    "validation loss over the baseline",
    *("relative_loss", "fraction", "lower", "best trial of the last round"),
    partial(share, digits=2),
)
STEPS = Metric(
    "steps to the target",
    *("steps_to_target", "steps", "lower", "best trial of the last round"),
    integer,
)
TRIALS = Metric("trials", "trials", "", "", "all rounds", integer)
SECONDS = Metric("training", "elapsed_s", "s", "", "all trials together", clock_time)
NOTE = (
    "trials: number of trainings in all rounds; time: of all trainings together; steps: to the "
    "target; preset: loss with the preset after the same number of steps; at an edge: rates whose "
    "best value is in the outer tenth of their range, and ranges that were widened"
)
# What a picture shows of a loss above the baseline.
HIGHEST = 1.5
# A loss over the baseline's that a model which has learnt nothing can have by chance.
AT_BASELINE = 0.98


def report(run: RecordedRun) -> Report:
    if not run.has("summary"):  # interrupted before the first trial ended
        return Report("search")
    whole = run.frame("summary")
    trials = judged(whole)
    best = run.frame("best") if run.has("best") else pd.DataFrame(columns=["model", "preset"])
    task = str(trials["task_title"].iloc[0])
    found = Report(f"{task}: settings searched", frames={"summary": whole, "best": best})
    values = {
        str(model): values_of(rows, best[best["model"] == model])
        for model, rows in trials.groupby("model", sort=False)
    }
    shown = {
        model: [v for v in own if v.metric in (STEPS, BEST_LOSS)] for model, own in values.items()
    }
    found.headline = headline(
        (model, own[:1] if _known(own[0]) else own[1:]) for model, own in shown.items()
    )
    found.metrics = [value for own in values.values() for value in own]
    found.blocks = [results_table(task, trials, best, values), Lines(failures(trials))]
    found.warnings = list(undecided(trials))
    found.closing = Lines(commands(run, trials, best), wrap=False)
    found.figures["trials"] = partial(losses_by_rate, trials, best, task)
    return found


def judged(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials as the search judges them: one that failed has no loss, however low it was."""
    ended = trials["status"].isin(GOOD_ENDINGS)
    return trials.assign(relative_loss=trials["relative_loss"].where(ended))


def _known(value: MetricValue) -> bool:
    return value.value == value.value


def values_of(trials: pd.DataFrame, best: pd.DataFrame) -> list[MetricValue]:
    """Steps and loss of the best trial, then the trials and their seconds."""
    model = str(trials["model"].iloc[0])
    row = last_of(trials, None if best.empty else int(best["trial"].iloc[0]))
    return [
        STEPS.of(_number(row["steps_to_target"]), model=model),
        BEST_LOSS.of(_number(row["relative_loss"]), model=model),
        TRIALS.of(len(trials), model=model),
        SECONDS.of(trials["elapsed_s"].sum(), model=model),
    ]


def last_of(trials: pd.DataFrame, trial: int | None) -> "pd.Series":
    """A trial in the last round that it was in; by default the one with the lowest loss."""
    rows = trials if trial is None else trials[trials["trial"] == trial]
    last = rows[rows["round"] == rows["round"].max()]
    found: pd.Series = last.sort_values("relative_loss").iloc[0]
    return found


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def results_table(
    task: str,
    trials: pd.DataFrame,
    best: pd.DataFrame,
    values: dict[str, list[MetricValue]],
) -> Table:
    """A line for each model."""
    table = Table.of(
        f"{task}: best settings",
        ["model"],
        ["trials", "time", "steps", "loss", "preset"],
        more_words=["best", "at an edge"],
        note=NOTE,
    )
    for model, (steps, loss, count, spent) in values.items():
        rows, own = trials[trials["model"] == model], best[best["model"] == model]
        preset = BEST_LOSS.of(_number(last_of(rows, 0)["relative_loss"]))
        cells = ["not finished", "–"] if own.empty else [_said(own.iloc[0]), _edges(own.iloc[0])]
        table.add(model, count, spent, steps, loss, preset, *cells)
    return table


def _said(row: "pd.Series") -> str:
    """The settings of the best trial."""
    if row["status"] != "ok":
        return "no trial has a loss"
    if row["trial"] == 0:
        return "the preset"
    found = json.loads(row["settings"])
    return ", ".join(f"{key.partition('.')[2]} {setting(value)}" for key, value in found.items())


def _edges(row: "pd.Series") -> TableCell:
    edge, widened = (row[key] if isinstance(row[key], str) else "" for key in ("edge", "widened"))
    words = [edge.replace("optimizer.", "")] if edge else ["no"]
    words += [f"widened: {widened.replace('optimizer.', '')}"] if widened else []
    return TableCell("; ".join(words), "warn" if edge else "")


def failures(trials: pd.DataFrame) -> Iterator[str]:
    """How many trials of a model have no loss, and why."""
    failed = trials[trials["status"].isin(["nan", "failed", "oom"])]
    for model, rows in failed.groupby("model", sort=False):
        yield f"{model}: {quantity(len(rows), 'trial')} without a loss; {rows['reason'].iloc[0]}"


def undecided(trials: pd.DataFrame) -> Iterator[str]:
    """Models whose trials all stay at the baseline, which ranks them by chance."""
    for model, rows in trials.groupby("model", sort=False):
        if rows["relative_loss"].min() >= AT_BASELINE:
            yield (
                f"{model}: no trial is clearly better than the baseline, so its settings are "
                "chosen by chance: give more --minutes"
            )


def commands(run: RecordedRun, trials: pd.DataFrame, best: pd.DataFrame) -> Iterator[str]:
    """How to train with what was found."""
    models = [str(model) for model in best.loc[best["preset"].notna(), "model"]]
    if models:
        task = str(trials["task"].iloc[0])
        yield (
            f"svdbench train {','.join(models)} --task {task} --presets {run.folder / 'presets'}"
        )


def losses_by_rate(trials: pd.DataFrame, best: pd.DataFrame, task: str) -> Figure:
    """The loss of every trial by its learning rate, a panel a model; larger marks train longer."""
    models = list(dict.fromkeys(trials["model"].astype(str)))
    figure, grid = panels(len(models), min(3, len(models)), (5.0, 3.8), (2.2, 0.9), sharey=True)
    for axes, model in zip(grid, models, strict=True):
        rows = trials[trials["model"] == model]
        for number_, own in rows.groupby("round"):
            _scatter(axes, own, int(number_))
        own = best[best["model"] == model]
        _mark(axes, last_of(rows, 0), "the preset", "+")
        if not own.empty:
            _mark(axes, last_of(rows, int(own["trial"].iloc[0])), "the best", "x")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.axhline(1, color="#6e6e6e", lw=1, ls=":")
        axes.set_title(model, loc="left", fontsize=10)
        axes.set_xlabel("learning rate")
        quiet(axes)
        name_log_ticks(axes.xaxis, size)
        name_log_ticks(axes.yaxis, partial(share, digits=2))
    grid[0].set_ylabel("lowest validation loss / baseline")
    add_title_and_legend(figure, f"{task}: trials of the search")
    return figure


def _loss(row: "pd.Series") -> float:
    """What is drawn of a trial: those without a loss, and far above the baseline, at the top."""
    loss = _number(row["relative_loss"])
    return min(loss, HIGHEST) if loss == loss else HIGHEST


def _scatter(axes: Axes, rows: pd.DataFrame, of_round: int) -> None:
    color = HUES[(of_round - 1) % len(HUES)]
    axes.scatter(
        rows["lr"],
        [_loss(row) for _, row in rows.iterrows()],
        s=16 * 2.0 ** (of_round - 1),
        facecolor=color if of_round == 1 else "none",
        edgecolor=color,
        linewidth=1.3,
        label=f"round {of_round}",
    )


def _mark(axes: Axes, row: "pd.Series", label: str, marker: str) -> None:
    axes.plot(row["lr"], _loss(row), marker, color="black", ms=10, mew=1.5, label=label, zorder=5)
