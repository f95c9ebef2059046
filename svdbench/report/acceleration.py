"""What an ``accelerate`` run says: how good, how fast, and whether that can be."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.record.reader import RecordedRun
from svdbench.report.acceleration_arms import (
    DENSE,
    Arm,
    compare,
    values_of,
)
from svdbench.report.acceleration_plots import draw_all
from svdbench.report.published import departures
from svdbench.report.side_by_side import difference, ended, failures, noise
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.reporting.claims import Claim, Claims, PublishedNumber, published
from svdbench.reporting.render import show_block
from svdbench.reporting.words import quantity, seconds
from svdbench.statistics.intervals import Interval, next_run_interval
from svdbench.statistics.summaries import geometric_mean_or_nan, mean_or_nan

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
