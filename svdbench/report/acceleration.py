"""The report of an ``accelerate`` run: scores, speed beside its ceiling, claims, curves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from rich.console import Console
from rich.table import Table

from svdbench.record.reader import RecordedRun
from svdbench.report.published import departures
from svdbench.report.side_by_side import arms_of, difference, ended, failures, last_epochs, noise
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.reporting.claims import Claim, Claims, PublishedNumber, published
from svdbench.reporting.plots import HUES, plot_band, plot_line, quiet, save, tick_digits
from svdbench.reporting.render import show_block
from svdbench.reporting.words import quantity, seconds
from svdbench.statistics.intervals import (
    Interval,
    next_run_interval,
    paired_difference,
)
from svdbench.statistics.summaries import geometric_mean_or_nan, mean_or_nan, summarise

if TYPE_CHECKING:
    import pandas as pd


DENSE = "DNN"


@dataclass(frozen=True)
class Arm:
    """An arm after its last epoch, over all seeds.

    Attributes:
        name, alpha, phi, ranks: what it is; NaN where it has none.
        train_loss, train_accuracy, test_accuracy: a value for each seed.
        accuracy_difference: of the test set, this arm's less the dense arm's.
        epoch_s: a median epoch after the switch.
        after: the dense arm's time over this one's, epoch by epoch after the switch: the
            median, and an interval that assumes no distribution.
        speed: the same of the whole training, with dense steps and the switch.
        ceiling: of ``speed``, if there were nothing but multiplications.
    """

    name: str
    alpha: float
    phi: float
    ranks: str
    train_loss: list[float]
    train_accuracy: list[float]
    test_accuracy: list[float]
    accuracy_difference: Interval
    epoch_s: float
    after: Interval | None
    speed: Interval | None
    ceiling: float

    @property
    def impossible(self) -> bool:
        """Whether it is faster than the multiplications can explain."""
        return self.speed is not None and self.speed.low > self.ceiling


def compare(run: "pd.DataFrame", summary: "pd.DataFrame") -> list[Arm]:
    """All arms, the dense one first; none without an epoch of it.

    Args:
        run: epochs to compare: rows of ``samples.csv``.
        summary: ``summary.csv``.
    """
    dense = run[run["arm"] == DENSE]
    ceilings = summary.groupby("arm")["ceiling"].median()
    return [
        _arm(rows, dense, seeds, float(ceilings[name])) for name, rows, seeds in arms_of(run, DENSE)
    ]


def _arm(rows: "pd.DataFrame", dense: "pd.DataFrame", seeds: list[int], ceiling: float) -> Arm:
    first = rows.iloc[0]
    train, test = last_epochs(rows, "train"), last_epochs(rows, "test")
    base = last_epochs(dense, "test")
    factored, after = _after_switch(rows, dense)
    speed = None
    if after is not None:
        share = _switch_share(rows, dense)
        speed = _through(after, lambda r: 1 / (first["phi"] + (1 - first["phi"]) / r + share))
    return Arm(
        name=str(first["arm"]),
        alpha=first["alpha"],
        phi=first["phi"],
        ranks=str(first["rank"]),
        train_loss=list(train["loss"]),
        train_accuracy=list(train["accuracy"]),
        test_accuracy=list(test.loc[seeds, "accuracy"]),
        accuracy_difference=paired_difference(
            list(test.loc[seeds, "accuracy"]), list(base.loc[seeds, "accuracy"])
        ),
        epoch_s=float((rows if factored.empty else factored)["epoch_s"].median()),
        after=after,
        speed=speed,
        ceiling=ceiling,
    )


def _after_switch(
    rows: "pd.DataFrame", dense: "pd.DataFrame"
) -> tuple["pd.DataFrame", Interval | None]:
    """The epochs wholly in factors, and how many times longer the dense arm's are."""
    own = rows[rows["split"] == "test"]
    switched = own[own["decompose_s"].notna()].set_index("seed")["epoch"]
    own = own[own["epoch"] > own["seed"].map(switched)]
    pairs = own.merge(dense[dense["split"] == "test"], on=["seed", "epoch"], suffixes=("", "_d"))
    if pairs.empty:
        return own, None
    found = summarise(list(pairs["epoch_s_d"] / pairs["epoch_s"]))
    return own, Interval(found.median, found.low, found.high, found.reps)


def _switch_share(rows: "pd.DataFrame", dense: "pd.DataFrame") -> float:
    """What the switch takes, of the time of the dense arm's whole training."""
    epochs = dense["epoch"].max()
    return float(rows["decompose_s"].median() / (epochs * dense["epoch_s"].median()))


def _through(interval: Interval, rising: Callable[[float], float]) -> Interval:
    """An interval of a function of what this one is of."""
    low = rising(interval.low) if interval.low > 0 else interval.low
    return Interval(rising(interval.mean), low, rising(interval.high), interval.count)


def values_of(arm: Arm, column: str) -> list[float]:
    """A value for each seed of what a published number may be of."""
    values: dict[str, Any] = {
        "train_loss": arm.train_loss,
        "train_accuracy": arm.train_accuracy,
        "test_accuracy": arm.test_accuracy,
    }
    return list(values[column])


if TYPE_CHECKING:
    import pandas as pd


IMPOSSIBLE = "more than the multiplications can explain"


# Published numbers: what they are in words, and how they are written.
WHAT = {
    "speed": ("speed", ".2f"),
    "train_loss": ("final loss", ".4f"),
    "train_accuracy": ("train", ".2%"),
    "test_accuracy": ("test", ".2%"),
}


def show_run(folder: Path, console: Console) -> None:
    """Print the tables and what follows from them, and draw the plots."""
    if not (folder / "samples.csv").exists():
        return
    samples, summary, layers = (
        read_table(folder, name) for name in ("samples", "summary", "layers")
    )
    run = ended(samples, summary, DENSE)
    arms = compare(run, summary)
    if not arms:
        return
    console.print(scores_table(arms, _title(run)))
    console.print(speed_table(arms))
    print_lines(console, [_meaning(arms), *conclusions(arms), *failures(summary, DENSE)])
    print_lines(console, _layers(layers))
    found = claims(folder, arms)
    if found:
        show_block(Claims(found), console)
    print_lines(console, draw_all(folder, run, arms))


def _title(run: "pd.DataFrame") -> str:
    row, seeds = run.iloc[0], run["seed"].nunique()
    return (
        f"{row['dataset']}, {row['model']}, {quantity(run['epoch'].max(), 'epoch')}, "
        f"batches of {row['batch_size']}, {quantity(seeds, 'seed')}"
    )


def scores_table(arms: list[Arm], title: str) -> Table:
    """A line for each arm after its last epoch: means over seeds, of the loss the geometric one."""
    columns = ["final loss", "train", "test", f"− {DENSE}, points"]
    table = new_table(title, ["arm"], columns)
    for arm in arms:
        table.add_row(
            arm.name,
            f"{geometric_mean_or_nan(arm.train_loss):.5f}",
            _percent(mean_or_nan(arm.train_accuracy)),
            _percent(mean_or_nan(arm.test_accuracy)),
            difference(arm.accuracy_difference, 100, ".2f") if arm.name != DENSE else "",
        )
    return table


def speed_table(arms: list[Arm]) -> Table:
    """A line for each arm: the time of an epoch, and the speed beside its ceiling."""
    columns = ["epoch", "switched", "whole training", "ceiling"]
    table = new_table(f"speed of training, × {DENSE}'s", ["arm"], columns)
    for arm in arms:
        if arm.name == DENSE:
            table.add_row(arm.name, seconds(arm.epoch_s), "", "", "")
            continue
        mark = " [bold red]![/]" if arm.impossible else ""
        table.add_row(
            arm.name,
            seconds(arm.epoch_s),
            "–" if arm.after is None else f"{arm.after.mean:.2f}",
            _ratio(arm.speed) + mark,
            f"{arm.ceiling:.2f}",
        )
    return table


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.2f} %"


def _ratio(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    known = interval.halfwidth < float("inf")
    ends = f" ({interval.low:.2f}–{interval.high:.2f})" if known else ""
    return f"{interval.mean:.2f}{ends}"


def _meaning(arms: list[Arm]) -> str:
    return (
        f"{noise(arms[0].accuracy_difference.count)}; "
        "final loss: geometric mean of the seeds; train, test: mean accuracy; "
        "switched: epochs in factors alone, the median of pairs; "
        "ceiling: of the whole training, what the multiplications allow"
    )


def conclusions(arms: list[Arm]) -> Iterator[str]:
    """A sentence for each arm in factors."""
    for arm in arms:
        if arm.name == DENSE or arm.speed is None:
            continue
        against = f"of {arm.ceiling:.2f} × that the multiplications allow"
        pace = f"{arm.speed.mean:.2f} × as fast, {against}"
        if arm.impossible:
            pace = f"{arm.speed.mean:.2f} × as fast, {IMPOSSIBLE} ({arm.ceiling:.2f} ×)"
        yield f"{arm.name}: {pace}; {_accuracy(arm.accuracy_difference)}"


def _accuracy(found: Interval) -> str:
    if found.count < 2:
        return f"test accuracy {100 * found.mean:+.2f} points, from one seed"
    if not found.mean:
        return "the same test accuracy"
    verdict = "more than noise" if found.excludes(0) else "within noise"
    return f"test accuracy {100 * found.mean:+.2f} points, {verdict}"


def _layers(layers: "pd.DataFrame") -> Iterator[str]:
    """What became of each weight, a line for each choice of ranks."""
    for _, rows in layers.groupby(layers["alpha"].fillna(0), sort=False):
        one = rows[rows["arm"] == rows["arm"].iloc[0]]
        words = [_layer(row) for row in one.to_dict("records")]
        alpha = one["alpha"].iloc[0]
        yield ("ranks given" if alpha != alpha else f"α {alpha:g}") + f": {'; '.join(words)}"


def _layer(row: Any) -> str:
    size = f"{row['rows']}×{row['columns']}"
    if row["form"] == "dense":
        return f"{size} dense, {row['reason']}"
    return f"{size} at rank {row['kept']:.0f}, {row['numbers']:,} of {row['dense_numbers']:,}"


def claims(folder: Path, arms: list[Arm]) -> list[Claim]:
    """A claim for each number in ``published`` that this run has too.

    Losses and accuracies were those of one run, so their interval is that of one more run.
    """
    differing = departures(RecordedRun(folder).settings)
    found = []
    for number in published(RecordedRun(folder), WHAT):
        arm = next((arm for arm in arms if _is_of(arm, number)), None)
        if arm is None:
            continue
        ours = arm.speed
        if number.column != "speed":
            ours = next_run_interval(values_of(arm, number.column), number.column == "train_loss")
        if ours is not None:
            what, form = WHAT[number.column]
            what = f"{arm.name.removeprefix('SVD-DNN ')}: {what}"
            claim = Claim(what, ours, number.value, number.tolerance, form, settings=differing)
            found.append(claim)
    return found


def _is_of(arm: Arm, number: PublishedNumber) -> bool:
    alpha, phi = number.of.get("alpha"), number.of.get("phi")
    if phi is None:
        return arm.name == DENSE
    return arm.name != DENSE and arm.alpha == alpha and arm.phi == phi


if TYPE_CHECKING:
    import pandas as pd


DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))


def draw_all(folder: Path, run: "pd.DataFrame", arms: list[Arm]) -> list[Path]:
    """Write the plots into the run's folder; returns their paths."""
    figures = {"loss.png": loss(run, arms)}
    if any(arm.speed is not None for arm in arms):
        figures["speed.png"] = speed(run, arms)
    return save(folder, figures)


def _styles(arms: list[Arm]) -> dict[str, dict[str, Any]]:
    """The dense arm is black and thick; one hue for each choice of ranks, a dash for each φ."""
    others = [arm for arm in arms if arm.name != DENSE]
    ranks = list(dict.fromkeys(arm.ranks for arm in others))
    phis = sorted({arm.phi for arm in others}, reverse=True)
    styles: dict[str, dict[str, Any]] = {DENSE: {"color": "black", "lw": 2.2, "zorder": 2}}
    for arm in others:
        styles[arm.name] = {
            "color": HUES[ranks.index(arm.ranks) % len(HUES)],
            "ls": DASHES[phis.index(arm.phi) % len(DASHES)],
            "lw": 1.6,
            "zorder": 3,
        }
    return styles


def loss(run: "pd.DataFrame", arms: list[Arm]) -> Figure:
    """Training loss over epochs and over seconds, and test accuracy over seconds."""
    figure = Figure(figsize=(13.5, 4.6), layout="constrained", dpi=150)
    grid = figure.subplots(1, 3)
    styles = _styles(arms)
    run = run[run["split"] == "test"].assign(error=1 - run["accuracy"])
    panels = (("epoch", "train_loss"), ("elapsed_s", "train_loss"), ("elapsed_s", "error"))
    for axes, (x, y) in zip(grid, panels, strict=True):
        for arm in arms:
            rows = run[run["arm"] == arm.name].groupby("epoch")
            across, middle = rows[x].median(), rows[y].median()
            style = styles[arm.name]
            plot_line(axes, across, middle, label=arm.name, **style)
            low, high = rows[y].min(), rows[y].max()
            plot_band(axes, across, low, high, style["color"], 0.12)
        axes.set_xlabel({"epoch": "epoch", "elapsed_s": "seconds of training"}[x])
        axes.set_xlim(left=0)
        quiet(axes)
        _scale(axes, logarithmic=bool((run[y] > 0).all()))
    grid[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes, title in zip(
        grid, ("training loss, nats", "training loss, nats", "test error"), strict=True
    ):
        axes.set_title(title, loc="left", fontsize=10)
    for axes in grid[:2]:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    grid[2].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    figure.suptitle(_plot_title(run), x=0.01, ha="left")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _scale(axes: Axes, logarithmic: bool) -> None:
    """A logarithmic height, unless there are zeros, as of an error."""
    if not logarithmic:
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=tick_digits(high / low)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def speed(run: "pd.DataFrame", arms: list[Arm]) -> Figure:
    """How many times faster the whole training is, under what the multiplications allow."""
    others = [arm for arm in arms if arm.speed is not None]
    styles = _styles(arms)
    figure = Figure(figsize=(9.0, 1.7 + 0.55 * len(others)), layout="constrained", dpi=150)
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
        axes.text(0.03, y, f"{found.mean:.2f} ×", va="center", color="white", fontsize=9.5)
    axes.axvline(1, color="black", lw=1.5, label=f"{DENSE}, 1 ×")
    axes.set_yticks(range(len(others)), [arm.name for arm in others])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(f"speed of the whole training, × {DENSE}'s (median of pairs, 95 % interval)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} ×"))
    quiet(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    figure.legend(loc="outside lower right", frameon=False, fontsize=9, ncols=2)
    figure.suptitle(_plot_title(run, ""), x=0.01, ha="left")
    return figure


def _plot_title(run: "pd.DataFrame", bands: str = "median of {} seeds, lowest to highest") -> str:
    row, seeds = run.iloc[0], run["seed"].nunique()
    about = bands.format(seeds) if seeds > 1 else "one seed"
    of = f"{row['dataset']}, {row['model']}, batches of {row['batch_size']}"
    return f"{of}: {about}" if about else of
