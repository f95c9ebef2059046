"""Arms in low rank beside the dense network, and beside the best smaller dense network."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdbench.jobs.accelerate.summaries import DENSE, LOSS, LOSS_DIFFERENCE, RIVAL
from svdbench.reporting import plots
from svdbench.reporting.metrics import Metric, Values
from svdbench.reporting.report import Lines, Table, TableCell
from svdbench.reporting.styles import BLACK, lines_of
from svdbench.reporting.words import (
    integer,
    interval,
    number,
    quantity,
    ratio,
    seconds,
    share,
    signed,
)
from svdbench.side_by_side import report as sides
from svdbench.statistics.intervals import Interval, paired_difference

# The part of the rival's loss that would be an improvement worth having.
WORTH = 0.05
# The part of a budget of seconds by which arms may miss it without a warning.
MISSED = 0.15
RULE = (
    "better: the 95% interval of the difference from the best smaller network is below 0; not "
    f"better: the interval excludes a loss that is lower by {share(WORTH)} or more; else can't "
    "tell. The best smaller network has the lowest mean test loss, a choice that favours it"
)
Verdict = Literal["better", "not better", "can't tell"]

SMALLER = Metric(
    "test loss against the best smaller DNN",
    *("smaller_difference", "", "lower", "mean of the seeds' differences", signed),
)
USED = Metric("seconds used", "used_s", "s", "", "median over seeds", seconds)
PRODUCTS = Metric("multiplications", "multiplications", "× DNN", "lower", "counted", ratio)
PARAMETERS = Metric("parameters", "n_params", "fraction", "lower", "counted", share)
BYTES = Metric("bytes in training", "train_bytes", "fraction", "lower", "counted", share)
RATE = Metric("learning rate", "lr", form=number)
STEPS = Metric("steps", "step", "", "", "median over seeds", integer)


@dataclass(frozen=True)
class ArmOutcome:
    """An arm at the end of its training, over all seeds.

    Attributes:
        narrow: whether it is a smaller dense network.
        unchanged: whether it is the dense network: its change never came.
        loss: on the test set, by seed.
        same: its loss less the dense network's.
        smaller: less the best smaller dense network's, where there is one.
        smaller_loss: of that network, the mean.
        costs: seconds used, and multiplications, parameters and bytes as parts of the dense
            network's.
    """

    name: str
    narrow: bool
    unchanged: bool
    loss: pd.Series
    same: Interval
    smaller: Interval | None
    smaller_loss: float
    costs: Values

    @property
    def verdict(self) -> Verdict | None:
        """By :data:`RULE`; None without a smaller network, and of dense networks."""
        if self.smaller is None or self.narrow or self.unchanged:
            return None
        return verdict_of(self.smaller, self.smaller_loss)

    @cached_property
    def metrics(self) -> Values:
        seeds = len(self.loss)
        found = [LOSS.of(float(self.loss.mean()), seeds=seeds, arm=self.name)]
        if self.name != DENSE:
            found.append(LOSS_DIFFERENCE.of_interval(self.same, seeds=seeds, arm=self.name))
        if self.verdict is not None and self.smaller is not None:
            found.append(SMALLER.of_interval(self.smaller, seeds=seeds, arm=self.name))
        return {value.metric: value for value in found} | self.costs


def verdict_of(difference: Interval, loss: float) -> Verdict:
    """Whether an arm is better than a network of this loss, by :data:`RULE`.

    Args:
        difference: the arm's loss less the network's, from pairs of seeds.
    """
    if difference.high < 0:
        return "better"
    if difference.low > -WORTH * loss:
        return "not better"
    return "can't tell"


def outcomes_of(epochs: pd.DataFrame, summary: pd.DataFrame) -> list[ArmOutcome]:
    """All arms, the dense network first, then those in low rank, then the smaller networks.

    Args:
        epochs: those to compare: rows of ``samples.csv``.
        summary: ``summary.csv``.
    """
    losses = {
        name: sides.last_epochs(rows, "test").loc[seeds, "loss"]
        for name, rows, seeds in sides.arms_of(epochs, DENSE)
    }
    if DENSE not in losses:
        return []
    first = summary.groupby("arm", sort=False).first()
    narrow = {name for name in losses if first.loc[name, "method"] == RIVAL}
    whole = [name for name in narrow if len(losses[name]) == len(losses[DENSE])]
    best = min(whole, key=lambda name: losses[name].mean(), default=None)
    used = summary.groupby("arm")[["used_s", "step"]].median()
    changed = set(summary.loc[summary["decompose_s"].notna(), "arm"])
    found = []
    for name, loss in losses.items():
        against = losses[best] if best is not None else None
        found.append(
            ArmOutcome(
                name,
                name in narrow,
                name not in narrow | changed,
                loss,
                _difference(loss, losses[DENSE]),
                None if against is None else _difference(loss, against),
                float("nan") if against is None else float(against.mean()),
                _costs(name, first, used),
            )
        )
    return sorted(found, key=lambda each: (each.name != DENSE, each.narrow))


def _difference(loss: pd.Series, other: pd.Series) -> Interval:
    both = pd.concat([loss, other], axis=1).dropna()
    return paired_difference(list(both.iloc[:, 0]), list(both.iloc[:, 1]))


def _costs(name: str, first: pd.DataFrame, used: pd.DataFrame) -> Values:
    own, dense = first.loc[name], first.loc[DENSE]
    values = [
        USED.of(used.loc[name, "used_s"], arm=name),
        STEPS.of(used.loc[name, "step"], arm=name),
        RATE.of(own["lr"], arm=name),
        *(
            metric.of(own[metric.column] / dense[metric.column], arm=name)
            for metric in (PRODUCTS, PARAMETERS, BYTES)
        ),
    ]
    return {value.metric: value for value in values}


def best_smaller(outcomes: list[ArmOutcome]) -> ArmOutcome | None:
    """The smaller network that all are compared with."""
    narrow = [one for one in outcomes if one.narrow and one.smaller is not None]
    return min(narrow, key=lambda one: abs(one.loss.mean() - one.smaller_loss), default=None)


# ----------------------------------------------------------------------- tables and sentences


def losses_table(outcomes: list[ArmOutcome], given: str) -> Table:
    """A line for each arm: its loss, and that loss less the dense networks'."""
    columns, title = ["test loss", f"− {DENSE}"], f"test loss at equal {given}"
    best = best_smaller(outcomes)
    if best is None:
        table = Table.of(title, ["arm"], columns)
        for one in outcomes:
            difference = "" if one.name == DENSE else difference_of_losses(one.same)
            table.add(sides.name_of(one.name), one.metrics[LOSS], difference)
        return table
    columns.append("− best smaller")
    table = Table.of(title, ["arm"], columns, more_words=["verdict"], note=RULE)
    for before, one in zip([None, *outcomes], outcomes, strict=False):
        if one.narrow and before is not None and not before.narrow:
            table.end_section()
        table.add(
            sides.name_of(one.name) + (" (best smaller)" if one is best else ""),
            one.metrics[LOSS],
            "" if one.name == DENSE else difference_of_losses(one.same),
            "" if one.smaller is None or one is best else difference_of_losses(one.smaller),
            TableCell("dense throughout", "dim")
            if one.unchanged and one.name != DENSE
            else _verdict(one.verdict),
        )
    return table


def costs_table(outcomes: list[ArmOutcome]) -> Table:
    """A line for each arm: what its training cost, and at which rate."""
    metrics = (USED, STEPS, PRODUCTS, PARAMETERS, BYTES, RATE)
    names = ["seconds", "steps", f"products, × {DENSE}", "parameters", "bytes", "rate"]
    table = Table.of("what the training cost", ["arm"], names)
    for one in outcomes:
        table.add(sides.name_of(one.name), *(one.costs[metric] for metric in metrics))
    return table


def difference_of_losses(found: Interval) -> TableCell:
    """With its sign, half its interval, and a star where it is more than noise."""
    return sides.difference(found, signed, partial(number, digits=2))


def _verdict(verdict: Verdict | None) -> TableCell:
    styles: dict[str, Literal["good", "warn", ""]] = {"better": "good", "not better": "warn"}
    return TableCell("" if verdict is None else verdict, styles.get(verdict or "", ""))


def verdicts(outcomes: list[ArmOutcome]) -> Iterator[str]:
    """A sentence for each arm in low rank."""
    best = best_smaller(outcomes)
    for one in outcomes:
        if one.unchanged and one.name != DENSE:
            yield f"{sides.name_of(one.name)}: its change never came, so it is the dense network"
        elif one.verdict is not None and best is not None:
            yield f"{sides.name_of(one.name)}: {against(one)} {sides.name_of(best.name)}"


def against(one: ArmOutcome) -> str:
    """The verdict with its number, in words that the name of the smaller network follows."""
    assert one.verdict is not None
    value = one.metrics[SMALLER].text
    words = {
        "better": "better than",
        "not better": "not better than",
        "can't tell": "can't tell from",
    }
    return f"test loss {value}, {words[one.verdict]}"


def headline_of(outcomes: list[ArmOutcome]) -> str:
    """The verdicts in a line, the best arm first."""
    best = best_smaller(outcomes)
    judged = sorted(
        (one for one in outcomes if one.verdict is not None), key=lambda one: one.loss.mean()
    )
    if best is None or not judged:
        return ""
    first = judged[0]
    counted = sum(one.verdict == "better" for one in judged)
    words = f"{sides.name_of(first.name)}: {against(first)} {sides.name_of(best.name)}"
    if len(judged) > 1:
        arms = quantity(len(judged), "arm")
        words += f"; {counted or 'none'} of {arms} better than the best smaller network"
    return words


def missed_budgets(epochs: pd.DataFrame, outcomes: list[ArmOutcome]) -> Iterator[str]:
    """A line where arms used other seconds than they were given."""
    given = epochs["budget_s"].iloc[0]
    used = [one.costs[USED].value / given for one in outcomes]
    if given == given and (min(used) < 1 - MISSED or max(used) > 1 + MISSED):
        yield (
            f"warning: the arms used {interval(min(used), max(used), ratio)} of the seconds that "
            "they were given: steps took longer or shorter than when they were timed, repeat the "
            "run on an idle machine"
        )


def search_cost(summary: pd.DataFrame) -> Lines:
    """What choosing the rates cost, and how."""
    known = summary["search_s"].dropna()
    if known.empty:
        return Lines()
    return Lines(
        [
            f"learning rates: chosen for each arm on a part of the training set, with one seed, in "
            f"{seconds(float(known.iloc[0]))}"
        ]
    )


# ------------------------------------------------------------------------------- the figure


def loss_over_seconds(
    run: pd.DataFrame, outcomes: list[ArmOutcome], scale: sides.LossScale
) -> Figure:
    """Test loss over the seconds used, medians of the seeds, a line for each arm.

    Of the smaller networks the best has a label; the others are thin and grey.
    """
    figure = plots.new_figure(9.0, 5.2)
    axes = figure.add_subplot()
    best = best_smaller(outcomes)
    drawn = [one.name for one in outcomes if not one.narrow]
    styles = lines_of(drawn, run["epoch"].max())
    others = [one.name for one in outcomes if one.narrow and one is not best]
    thin = {"color": "#b5b5b5", "linewidth": 0.9, "zorder": 1}
    run = run[run["split"] == "test"]
    for one in outcomes:
        rows = run[run["arm"] == one.name].groupby("epoch")
        across, middle = rows["used_s"].median(), rows["loss"].median()
        label = sides.name_of(one.name)
        if one is best:
            dashed = {"color": BLACK, "linestyle": (0, (4, 1.5)), "linewidth": 1.6}
            plots.plot_line(axes, across, middle, label=label, **dashed)
        elif one.narrow:
            label = "other smaller DNNs" if one.name == others[0] else "_other"
            plots.plot_line(axes, across, middle, label=label, **thin)
        else:
            style = styles[one.name]
            plots.plot_line(axes, across, middle, label=label, **style)
            low, high = rows["loss"].min(), rows["loss"].max()
            plots.plot_band(axes, across, low, high, style["color"], 0.1)
    axes.set_xlabel("seconds of training")
    plots.start_at_zero(axes, run["used_s"].max())
    plots.quiet(axes)
    axes.set_yscale("log")
    plots.name_log_ticks(axes.yaxis, number)
    axes.set_title(f"test loss, {scale.unit}", loc="left", fontsize=10)
    draw_baseline(axes, scale)
    figure.suptitle(
        sides.about(run, "median of {} seeds, bands from lowest to highest"), x=0.01, ha="left"
    )
    figure.draw_without_rendering()
    plots.label_lines(axes)
    return figure


def draw_baseline(axes: Axes, scale: sides.LossScale) -> None:
    """A dotted line at the loss of the best answer that remembers nothing, where a task has one."""
    if scale.baseline is not None:
        dotted: dict[str, Any] = {
            "color": "#777777",
            "linestyle": ":",
            "linewidth": 1.2,
            "zorder": 0,
        }
        axes.axhline(scale.baseline, label="baseline", **dotted)


def given_of(epochs: pd.DataFrame) -> str:
    """What all arms were given alike, in words."""
    row = epochs.iloc[0]
    if row["budget_of"] == "seconds":
        return f"seconds, {seconds(float(row['budget_s']))} for each arm"
    return str(row["budget_of"])


def has_costs(epochs: pd.DataFrame) -> bool:
    """Whether a run has what these tables need; those of earlier versions don't."""
    return "used_s" in epochs and bool(epochs["used_s"].notna().any())
