"""The report of an ``accelerate`` run: scores, speed beside its ceiling, claims, curves."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdbench.jobs.accelerate.map import add_map
from svdbench.jobs.accelerate.outcomes import (
    ArmOutcome,
    costs_table,
    difference_of_losses,
    draw_baseline,
    given_of,
    has_costs,
    headline_of,
    loss_over_seconds,
    losses_table,
    missed_budgets,
    outcomes_of,
    search_cost,
    verdicts,
)
from svdbench.jobs.accelerate.summaries import (
    CEILING,
    DENSE,
    FINAL_LOSS,
    LOSS,
    LOSS_DIFFERENCE,
    SPEED,
    SWITCHED,
    TRAINED,
    AcceleratedArmSummary,
    summarise_arms,
)
from svdbench.record.reader import RecordedRun
from svdbench.reporting import plots
from svdbench.reporting.claims import Answer, Claims, PublishedNumber, beside, departures, published
from svdbench.reporting.metrics import EPOCH, Metric, MetricValue, Values, headline
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import lines_of
from svdbench.reporting.words import (
    UNKNOWN,
    integer,
    number,
    points,
    quantity,
    ratio,
    setting,
    share,
)
from svdbench.side_by_side import report as sides
from svdbench.statistics.intervals import Interval, next_run_interval

IMPOSSIBLE = "more than the multiplications can explain"
# Columns that may have published numbers: in words, and their format specifications.
WHAT = {
    "speed": ("speed", "×"),
    "train_loss": ("final loss", ".4f"),
    "train_accuracy": ("train", ".2%"),
    "test_accuracy": ("test", ".2%"),
}


def report(run: RecordedRun) -> Report:
    return sides.report_of(run, "acceleration", DENSE, partial(_whole, run))


def _whole(run: RecordedRun, frames: sides.SidesFrames) -> Report | None:
    epochs, layers = frames.epochs, frames.layers
    arms = summarise_arms(epochs, frames.summary)
    if not arms:
        return None
    equal = _equal_steps(epochs)  # else epochs of other arms are other work
    scale = sides.LossScale.of(frames.summary)
    outcomes = outcomes_of(epochs, frames.summary) if has_costs(epochs) else []
    chosen = outcomes and bool(frames.summary["search_s"].notna().any())
    by_loss = chosen or any(one.narrow for one in outcomes) or not equal
    told = (sides.ACCURACY, LOSS, *([SPEED] if equal else []))
    # What the tables by loss say, too.
    known = (LOSS, LOSS_DIFFERENCE) if by_loss else ()
    found = Report(
        _title(epochs, equal),
        headline((sides.name_of(arm.name), _of(arm.metrics, *told)) for arm in arms),
        frames={"samples": frames.samples, "summary": frames.summary},
        warnings=list(impossible(arms)) if equal else [],
        metrics=[
            value
            for arm in arms
            for metric, value in arm.metrics.items()
            if metric not in known and (equal or metric not in (SPEED, SWITCHED, CEILING))
        ],
    )
    found.blocks = [
        scores_table(arms, found.title, by_loss),
        speed_table(arms),
        Lines(
            [
                _meaning(arms, _metric(frames.summary), equal, by_loss),
                *filter(None, [scale.words]),
                *(conclusions(arms) if equal else ()),
                *frames.failed,
            ]
        ),
        Lines(() if layers is None else ranks_of_layers(layers)),
    ]
    if not equal:
        del found.blocks[1]
    if by_loss:
        _add_outcomes(found, epochs, frames.summary, outcomes, scale)
    add_map(found, frames.summary, sides.about(epochs, "mean of {} seeds", _batches(epochs)))
    if answers := answers_of(run, arms):
        found.blocks.append(Claims(answers))
    found.figures["loss"] = partial(loss, epochs, arms, scale)
    if equal and any(arm.speed is not None for arm in arms):
        found.figures["speed"] = partial(draw_speeds, epochs, arms)
    return found


def _metric(summary: pd.DataFrame) -> str:
    """What the accuracy of a task is the share of, in words; empty without one."""
    known = list(summary["metric"].dropna()) if "metric" in summary else []
    return str(known[0]) if known else ""


def _equal_steps(epochs: pd.DataFrame) -> bool:
    return "budget_of" not in epochs or bool((epochs["budget_of"] == "steps").all())


def _add_outcomes(
    found: Report,
    epochs: pd.DataFrame,
    summary: pd.DataFrame,
    outcomes: list[ArmOutcome],
    scale: sides.LossScale,
) -> None:
    """The dense networks, smaller ones too, beside the arms: first, as that is the answer."""
    found.headline = headline_of(outcomes) or found.headline
    found.metrics += [value for one in outcomes for value in one.metrics.values()]
    tables = [losses_table(outcomes, given_of(epochs)), costs_table(outcomes)]
    found.blocks = [*tables, Lines(verdicts(outcomes)), search_cost(summary), *found.blocks]
    found.warnings += missed_budgets(epochs, outcomes)
    found.figures["loss_over_seconds"] = partial(loss_over_seconds, epochs, outcomes, scale)


def _of(values: Values, *metrics: Metric) -> list[MetricValue]:
    return [values[metric] for metric in metrics if metric in values]


def _title(epochs: pd.DataFrame, equal: bool) -> str:
    row, seeds = epochs.iloc[0], epochs["seed"].nunique()
    rounds = quantity(epochs["epoch"].max(), "epoch" if equal else "round")
    return (
        f"{row['dataset']}, {row['model']}, {rounds}, "
        f"batches of {row['batch_size']}, {quantity(seeds, 'seed')}{_execution(row)}"
    )


def _execution(row: Any) -> str:
    """How steps were computed, where it isn't as they are written; runs of before say nothing."""
    words = ", products in bfloat16" if row.get("dtype") == "bfloat16" else ""
    return words + (", compiled" if str(row.get("compiled")) == "True" else "")


# -------------------------------------------------------------------- tables and sentences


def scores_table(arms: list[AcceleratedArmSummary], title: str, short: bool = False) -> Table:
    """A line for each arm after its last epoch; without accuracies, its losses alone.

    Args:
        short: whether another table has the test losses.
    """
    if arms[0].accuracy_difference is None:
        tested = () if short else ("test loss", f"− {DENSE}")
        table = Table.of(title, ["arm"], ["training loss", *tested, "seeds"])
        for arm in arms:
            own, cells = arm.metrics, []
            if not short:
                less = difference_of_losses(arm.loss_difference)
                cells = [own[LOSS], "" if arm.name == DENSE else less]
            table.add(sides.name_of(arm.name), own[FINAL_LOSS], *cells, integer(arm.seeds))
        return table
    columns = ["final loss", "train", "test", f"− {DENSE}, points", "seeds"]
    table = Table.of(title, ["arm"], columns)
    for arm in arms:
        own, found = arm.metrics, arm.accuracy_difference
        points_less: str | TableCell = ""
        if arm.name != DENSE and found is not None:
            points_less = sides.difference(found, points, sides.points_of)
        table.add(
            sides.name_of(arm.name),
            own[FINAL_LOSS],
            own[TRAINED],
            own[sides.ACCURACY],
            points_less,
            integer(arm.seeds),
        )
    return table


def speed_table(arms: list[AcceleratedArmSummary]) -> Table:
    """A line for each arm: the time of an epoch, and the speed beside its ceiling."""
    columns = ["epoch", "switched", "training", "95% interval", "ceiling", "seeds"]
    table = Table.of(f"speed of training, × {DENSE}'s", ["arm"], columns)
    for arm in arms:
        own, seeds = arm.metrics, integer(arm.seeds)
        if arm.name == DENSE:
            table.add(arm.name, own[EPOCH], "", "", "", "", seeds)
            continue
        speed = own.get(SPEED)
        table.add(
            sides.name_of(arm.name),
            own[EPOCH],
            own.get(SWITCHED, UNKNOWN),
            UNKNOWN if speed is None else _speed(speed, arm),
            UNKNOWN if speed is None else speed.interval,
            own[CEILING],
            seeds,
        )
    return table


def _speed(speed: MetricValue, arm: AcceleratedArmSummary) -> TableCell:
    if arm.impossible:
        return TableCell(f"{speed.text} !", "bad", value=speed.value)
    return TableCell(speed.text, value=speed.value)


def _meaning(arms: list[AcceleratedArmSummary], metric: str, speeds: bool, short: bool) -> str:
    """What the columns mean.

    Args:
        metric: what the accuracy is the share of, where it isn't that of right labels.
        speeds: whether there is a table of them.
        short: see :func:`scores_table`.
    """
    scores = "final loss: geometric mean over seeds; train, test: mean accuracy"
    if arms[0].accuracy_difference is None:
        scores = "training loss: geometric mean over seeds" + ("" if short else "; test loss: mean")
    elif metric:
        scores += f", the share of {metric}"
    words = [sides.noise(arms[0].seeds), scores]
    if speeds:
        words.append(
            "switched: speed of the epochs with factors, median of pairs; training: speed of the "
            "whole training; ceiling: the speed that the saved multiplications allow"
        )
    return "; ".join(words)


def impossible(arms: list[AcceleratedArmSummary]) -> Iterator[str]:
    """A line for each arm that is faster than it can be."""
    for arm in arms:
        if arm.impossible and arm.speed is not None:
            yield (
                f"warning: {sides.name_of(arm.name)} was {ratio(arm.speed.mean)} as fast, "
                f"{IMPOSSIBLE} ({ratio(arm.ceiling)}): other processes disturbed the run, "
                "repeat it on an idle machine"
            )


def conclusions(arms: list[AcceleratedArmSummary]) -> Iterator[str]:
    for arm in arms:
        if arm.name == DENSE or arm.speed is None:
            continue
        own = arm.metrics
        against = f"of {own[CEILING].text} that the multiplications allow"
        if arm.impossible:
            against = f"{IMPOSSIBLE} ({own[CEILING].text})"
        pace = f"{own[SPEED].text} as fast, {against}"
        found = arm.accuracy_difference
        scored = _loss(arm) if found is None else _accuracy(found)
        yield f"{sides.name_of(arm.name)}: {pace}; {scored}"


def _accuracy(found: Interval) -> str:
    if found.count < 2:
        return f"test accuracy {points(found.mean)} points, from one seed"
    if not found.mean:
        return "the same test accuracy"
    return f"test accuracy {points(found.mean)} points, {sides.verdict(found, 0)}"


def _loss(arm: AcceleratedArmSummary) -> str:
    words = f"test loss {arm.metrics[LOSS_DIFFERENCE].text}"
    if arm.seeds < 2:
        return f"{words}, from one seed"
    return f"{words}, {sides.verdict(arm.loss_difference, 0)}"


def ranks_of_layers(layers: pd.DataFrame) -> Iterator[str]:
    """Rank and form of each weight, a line for each choice of ranks."""
    for _, rows in layers.groupby(layers["alpha"].fillna(0), sort=False):
        one = rows[rows["arm"] == rows["arm"].iloc[0]]
        words = [_layer(row) for row in one.to_dict("records")]
        alpha = one["alpha"].iloc[0]
        what = f"α {setting(alpha)}" if alpha == alpha else "ranks given"
        if alpha != alpha and one["kept"].isna().all():
            what = sides.name_of(one["arm"].iloc[0])
        yield f"{what}: {'; '.join(words)}"


def _layer(row: Any) -> str:
    size = f"{row['rows']}×{row['columns']}"
    if row["form"] == "dense":
        return f"{size} dense, {row['reason']}"
    kept, of = integer(row["numbers"]), integer(row["dense_numbers"])
    return f"{size} at rank {integer(row['kept'])}, {kept} of {of} parameters"


# ----------------------------------------------------------------------- published numbers


def answers_of(run: RecordedRun, arms: list[AcceleratedArmSummary]) -> list[Answer]:
    """Our number for each in ``published`` that this run has too.

    Losses and accuracies were those of one run, so their interval is that of one more run.
    """
    differing = departures(run.settings)
    found = []
    for stated in published(run, WHAT):
        arm = next((arm for arm in arms if _is_of(arm, stated)), None)
        if arm is None:
            continue
        ours = arm.speed
        if stated.column != "speed":
            values = getattr(arm, stated.column)
            ours = next_run_interval(values, stated.column == "train_loss")
        if ours is not None:
            what, form = WHAT[stated.column]
            what = f"{sides.name_of(arm.name).removeprefix('SVD-DNN ')}: {what}"
            found.append(beside(what, ours, stated, form, differing))
    return found


def _is_of(arm: AcceleratedArmSummary, stated: PublishedNumber) -> bool:
    alpha, phi = stated.of.get("alpha"), stated.of.get("phi")
    if phi is None:
        return arm.name == DENSE
    return arm.name != DENSE and arm.alpha == alpha and arm.phi == phi


# ----------------------------------------------------------------------------- the figures


def loss(run: pd.DataFrame, arms: list[AcceleratedArmSummary], scale: sides.LossScale) -> Figure:
    """Training loss over epochs and over seconds, and over seconds the test error, or loss."""
    figure = plots.new_figure(13.5, 4.6)
    grid = figure.subplots(1, 3)
    styles = lines_of([arm.name for arm in arms], run["epoch"].max())
    run = run[run["split"] == "test"].assign(error=1 - run["accuracy"])
    last = "loss" if arms[0].accuracy_difference is None else "error"
    panels = (("epoch", "train_loss"), ("elapsed_s", "train_loss"), ("elapsed_s", last))
    titles = {
        "train_loss": f"training loss, {scale.unit}",
        "error": "test error",
        "loss": f"test loss, {scale.unit}",
    }
    for axes, (x, y) in zip(grid, panels, strict=True):
        for arm in arms:
            rows = run[run["arm"] == arm.name].groupby("epoch")
            across, middle = rows[x].median(), rows[y].median()
            style = styles[arm.name]
            plots.plot_line(axes, across, middle, label=sides.name_of(arm.name), **style)
            plots.plot_band(axes, across, rows[y].min(), rows[y].max(), style["color"], 0.12)
        turn = "epoch" if _equal_steps(run) else "round"
        axes.set_xlabel({"epoch": turn, "elapsed_s": "seconds of training"}[x])
        plots.start_at_zero(axes, run[x].max())
        plots.quiet(axes)
        _scale(axes, logarithmic=bool((run[y] > 0).all()))
        plots.name_ticks(axes.yaxis, share if y == "error" else number)
        axes.set_title(titles[y], loc="left", fontsize=10)
        if y != "error":
            draw_baseline(axes, scale)
    plots.count_epochs(grid[0], run["epoch"].max())
    title = sides.about(run, "median of {} seeds, lowest to highest", _batches(run))
    plots.add_title_and_legend(figure, title)
    return figure


def _batches(run: pd.DataFrame) -> str:
    return f", batches of {run['batch_size'].iloc[0]}"


def _scale(axes: Axes, logarithmic: bool) -> None:
    """A logarithmic height, unless there are zeros, as of an error."""
    if not logarithmic:
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log")
    plots.set_log_ticks(axes.yaxis)


def draw_speeds(run: pd.DataFrame, arms: list[AcceleratedArmSummary]) -> Figure:
    """How many times faster the whole training is, under what the multiplications allow."""
    others = [arm for arm in arms if arm.speed is not None]
    styles = lines_of([arm.name for arm in arms])
    figure = plots.new_figure(9.0, 1.7 + 0.55 * len(others))
    axes = figure.add_subplot()
    for y, arm in enumerate(others):
        found = arm.speed
        assert found is not None
        known = found.halfwidth < float("inf")
        ends = [[found.mean - found.low], [found.high - found.mean]] if known else None
        color = styles[arm.name]["color"]
        axes.barh(y, found.mean, height=0.55, color=color, alpha=0.85)
        axes.errorbar(found.mean, y, xerr=ends, color="black", capsize=4, lw=1.4)
        label = "ceiling: the multiplications alone" if not y else None
        axes.plot([arm.ceiling] * 2, [y - 0.38, y + 0.38], color="#c00000", lw=2.4, label=label)
        axes.text(0.03, y, ratio(found.mean), va="center", color="white", fontsize=9.5)
    axes.axvline(1, color="black", lw=1.5, label=f"{DENSE}, 1×")
    axes.set_yticks(range(len(others)), [sides.name_of(arm.name) for arm in others])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(f"speed of the whole training, × {DENSE}'s (median of pairs, 95% interval)")
    plots.name_ticks(axes.xaxis, lambda x: f"{number(x)}×")
    plots.quiet(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    plots.add_title_and_legend(
        figure, sides.about(run, "", _batches(run)), "lower right", columns=2
    )
    return figure
