"""The report of a ``rank-reveal`` run: ranks, their costs, and the answer to a question."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd

from svdbench.jobs.rank_reveal.figures import by_rank, by_size
from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric, MetricValue, Values, headline
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.words import (
    integer,
    interval,
    number,
    plus_minus,
    quantity,
    ratio,
    seconds,
    share,
    signed,
    size,
)
from svdbench.statistics.intervals import Interval, mean_interval

DENSE = "dense"
BUDGETS = {"params": "parameters", "macs": "multiply-adds", "latency": "measured latency"}
ALGORITHMS = ("exact", "frontier", "published")
OVER_SEEDS = "mean over seeds"
KEPT = Metric("weights kept", "kept", "fraction", "lower", OVER_SEEDS, share)
LOSS = Metric("test loss", "loss", "nats", "lower", OVER_SEEDS, partial(number, digits=4))
ACCURACY = Metric("test accuracy", "accuracy", "fraction", "higher", OVER_SEEDS, share)
INCREASE = Metric("test loss against dense", "increase", "nats", "lower", OVER_SEEDS, signed)
PREDICTED = Metric("predicted increase", "predicted", "nats", "lower", OVER_SEEDS, signed)
PARAMETERS = Metric("parameters", "n_params", "", "lower", OVER_SEEDS, integer)
MULTIPLIED = Metric("multiply-adds", "macs", "", "lower", OVER_SEEDS, integer)
LATENCY = Metric("latency", "latency_s", "s", "lower", "median over seeds", seconds)
SPEED = Metric("speed of inference", "speedup", "× dense", "higher", "median over seeds", ratio)


def report(run: RecordedRun) -> Report:
    if not run.has("summary"):
        return Report("ranks")
    values = metrics_of(run.frame("summary"))
    metrics = [value for own in values.values() for value in own.values()]
    if not run.has("samples"):
        kept = run.frame("summary")
        tables = [losses_table(kept, values), costs_table(kept, values)]
        return Report("ranks", _headline(values), [*tables], metrics=metrics)
    frames = {
        name: run.frame(name)
        for name in ("samples", "summary", "curves", "frontier")
        if run.has(name)
    }
    samples, summary = frames["samples"], frames["summary"]
    curves, points = frames.get("curves"), frames.get("frontier")
    found = Report(_title(summary), _headline(values), frames=frames, metrics=metrics)
    found.blocks = [
        ranks_table(samples, found.title),
        losses_table(summary, values),
        costs_table(summary, values),
        Lines([*meanings(summary), *certified(summary)]),
    ]
    if curves is not None:
        found.blocks.append(Lines(answer(summary, samples, curves)))
        found.figures["curves"] = partial(by_rank, curves, samples, summary)
    if points is not None and (points["status"] == "ok").any():
        found.figures["frontier"] = partial(by_size, points, summary)
    return found


def metrics_of(summary: pd.DataFrame) -> dict[str, Values]:
    """The numbers of each network, over the seeds; NaN where there is none."""
    found = {}
    for method, rows in summary.groupby("method", sort=False):
        dense = method == DENSE
        columns = {
            KEPT: 1.0 if dense else rows["kept"].mean(),
            LOSS: rows["loss"].mean(),
            ACCURACY: rows["accuracy"].mean(),
            PARAMETERS: rows["n_params"].mean(),
            MULTIPLIED: rows["macs"].mean(),
            LATENCY: rows["latency_s"].median(),
        }
        if not dense:
            columns |= {
                INCREASE: rows["increase"].mean(),
                PREDICTED: rows["predicted"].mean(),
                SPEED: rows["speedup"].median(),
            }
        seeds = rows["seed"].nunique()
        found[str(method)] = {
            metric: metric.of(value, seeds=seeds, method=method)
            for metric, value in columns.items()
        }
    return found


def _headline(values: dict[str, Values]) -> str:
    """The share of the weights that each algorithm keeps, and the change of the test loss."""
    return headline(
        (method, [own[KEPT], own[INCREASE]])
        for method, own in values.items()
        if method in ALGORITHMS and own[INCREASE].value == own[INCREASE].value
    )


def _title(summary: pd.DataFrame) -> str:
    row, seeds = summary.iloc[0], summary["seed"].nunique()
    return f"ranks of {row['dataset']}, {row['model']}, {quantity(seeds, 'seed')}"


def ranks_table(samples: pd.DataFrame, title: str) -> Table:
    """A line for each weight: the rank that each algorithm chose, and the full rank."""
    methods = [name for name in dict.fromkeys(samples["method"]) if name in ALGORITHMS]
    table = Table.of(title, ["weight", "size"], [*methods, "of"])
    for name in _in_order(samples):
        rows = samples[samples["layer"] == name]
        row = rows.iloc[0]
        found = [_rank(rows[rows["method"] == method]) for method in methods]
        table.add(
            str(name), f"{size(row['rows'])}×{size(row['columns'])}", *found, size(row["full"])
        )
    return table


def _in_order(samples: pd.DataFrame) -> list[str]:
    """All weights, in the order of the algorithm that has most of them."""
    by_method = [list(rows["layer"].unique()) for _, rows in samples.groupby("method")]
    return list(dict.fromkeys(name for names in sorted(by_method, key=len)[::-1] for name in names))


def _rank(rows: pd.DataFrame) -> TableCell:
    if rows.empty:
        return TableCell("")
    if rows["rank"].isna().all():
        return TableCell(DENSE)
    found = ranks_of(rows)
    half = plus_minus(found.halfwidth, partial(number, digits=2))
    return TableCell(number(found.mean) + half, value=found.mean)


def ranks_of(rows: pd.DataFrame) -> Interval:
    """The rank of a weight over the seeds; one that stays dense counts with its full rank."""
    return mean_interval(list(rows["rank"].fillna(rows["full"]).astype(float)))


def losses_table(summary: pd.DataFrame, values: dict[str, Values]) -> Table:
    """A line for each network: the share of the weights it keeps, and its test loss."""
    columns = ["weights", "test loss", "− dense", "± SE", "predicted", "accuracy", "seeds"]
    table = Table.of("loss of the test examples, nats", ["ranks"], columns)
    for method, rows in summary.groupby("method", sort=False):
        own = values[str(method)]
        differences: list[str | TableCell | MetricValue] = ["", "", ""]
        if method != DENSE:
            error = math.sqrt((rows["increase_se"] ** 2).mean())
            differences = [own[INCREASE], TableCell.number(error, _one_digit), own[PREDICTED]]
        seeds = integer(rows["seed"].nunique())
        table.add(str(method), own[KEPT], own[LOSS], *differences, own[ACCURACY], seeds)
    return table


def _one_digit(value: float) -> str:
    return number(value, 1)


def costs_table(summary: pd.DataFrame, values: dict[str, Values]) -> Table:
    """A line for each network: the cost of using it, and the cost of finding it."""
    batch = size(summary["latency_batch"].iloc[0])
    columns = ["parameters", "multiply-adds", f"batch of {batch}", "speed", "tried", "time"]
    table = Table.of("cost", ["ranks"], columns)
    for method, rows in summary.groupby("method", sort=False):
        own, took = values[str(method)], rows["decompose_s"].median()
        made, most = rows["evaluations"].max(), rows["most_evaluations"].min()
        evaluations = "" if made != made else integer(made)
        if most == most:
            evaluations += f" of {integer(most)}"
        table.add(
            str(method),
            *(own[metric] for metric in (PARAMETERS, MULTIPLIED, LATENCY)),
            own.get(SPEED, ""),
            evaluations,
            "" if took != took or not took else TableCell.number(took, seconds),
        )
    return table


def meanings(summary: pd.DataFrame) -> Iterator[str]:
    seeds = summary["seed"].nunique()
    if seeds > 1:
        yield (
            f"ranks: mean ± half the 95% interval (t, {quantity(seeds, 'seed')}); "
            "losses: means; SE: standard error of one network's difference, in pairs of examples"
        )
    else:
        yield "SE: standard error of the difference, in pairs of examples"
    yield (
        "predicted: for frontier, a quadratic model on the calibration examples, too "
        "low where the network has memorised them; for exact, the sum of the "
        "increases of single layers"
    )
    yield "tried: number of networks evaluated; time: of the algorithm"
    by_method = summary.drop_duplicates("method").set_index("method")
    for method in ("exact", "published"):
        if method in by_method.index:
            what = (
                "from this rank of each layer on, the loss stays within {} of the dense one"
                if method == "exact"
                else "the first rank of each layer where one more reduces the loss by less than {}"
            )
            yield f"{method}: {what.format(number(by_method.loc[method, 'epsilon']))}"


def certified(summary: pd.DataFrame) -> Iterator[str]:
    """Whether the budget that held on the searched examples holds on the test examples."""
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
        f"frontier: the smallest network that loses at most {number(allowed)}: "
        f"{signed(rows['searched'].mean())} on the "
        f"{quantity(row['searched_examples'], 'example')} searched; "
        f"{INCREASE.form(rows['increase'].mean())} on the "
        f"{quantity(row['examples'], 'test example')}: {verdict}{where}"
    )


# --------------------------------------------------------- is a rank asked about the right one


def answer(summary: pd.DataFrame, samples: pd.DataFrame, curves: pd.DataFrame) -> Iterator[str]:
    """A sentence for each weight and one for all together, where a rank was asked about."""
    asked = [name for name in summary["method"].unique() if str(name).startswith("rank ")]
    if not asked:
        return
    rank = int(asked[0].removeprefix("rank "))
    epsilon = float(summary.loc[summary["method"] == "exact", "epsilon"].iloc[0])
    less, more = [], []
    for name, own in curves.groupby("layer", sort=False):
        full = int(own["full"].iloc[0])
        if full <= rank:
            yield f"{name}: {rank} is its full rank"
            continue
        at = own[own["rank"] == rank]
        rise = mean_interval(list(at["loss"] - at["dense_loss"]))
        exact = samples[(samples["method"] == "exact") & (samples["layer"] == name)]
        need = mean_interval(list(exact["rank"].astype(float)))
        known = need.count > 1
        if (need.high if known else need.mean) < rank:
            less.append(str(name))
        elif (need.low if known else need.mean) > rank:
            more.append(str(name))
        yield (
            f"{name}: needs rank {_with_interval(need, number)} of {full} to stay within "
            f"{number(epsilon)}; at rank {rank} it loses {_with_interval(rise, signed)}"
        )
    together = summary.loc[summary["method"] == asked[0], "increase"]
    verdict = (
        f"rank {rank} everywhere loses {_with_interval(mean_interval(list(together)), signed)}"
    )
    if more:
        verdict += f"; it is too little for {' and '.join(more)}"
    if less:
        verdict += f"; it is more than {' and '.join(less)} need{'s' * (len(less) == 1)}"
    right = "yes, as far as this run shows" if not more and not less else "no"
    yield f"is {rank} the right rank? {right}: {verdict}"


def _with_interval(found: Interval, form: Callable[[float], str]) -> str:
    if found.count < 2:
        return form(found.mean)
    return f"{form(found.mean)} ({interval(found.low, found.high, form)})"
