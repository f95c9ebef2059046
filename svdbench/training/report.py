"""Shared by the reports of trainings: their metrics, medians over seeds, and failures."""

from collections.abc import Iterable, Iterator
from functools import partial

import pandas as pd

from svdbench.record.schema import GOOD_ENDINGS
from svdbench.reporting.metrics import Metric, MetricValue, Values
from svdbench.reporting.words import integer, number, quantity, seconds, share

MEDIAN = "median over seeds"
REACHED = "median over the seeds that reached it"
LAST = Metric(
    "last loss over the baseline",
    *("relative_loss", "fraction", "lower", MEDIAN),
    partial(share, digits=2),
)
ON_TEST = Metric(
    "test loss over the baseline",
    *("relative_test_loss", "fraction", "lower", MEDIAN),
    partial(share, digits=2),
)
TEST_LOSS = Metric("test loss", "test_loss", "", "lower", MEDIAN)
ACCURACY = Metric("accuracy", "accuracy", "fraction", "higher", MEDIAN, share)
STEPS = Metric("steps to the target", "steps_to_target", "steps", "lower", REACHED, integer)
SECONDS = Metric("time to the target", "seconds_to_target", "s", "lower", REACHED, seconds)
RATE = Metric("steps per second", "steps_per_s", "1/s", "higher", MEDIAN, number)


def medians(summary: pd.DataFrame, words: str) -> str:
    """``words`` with the number of seeds of each label; nothing where each has one."""
    counts = summary.groupby("label")["seed"].nunique()
    least, most = int(counts.min()), int(counts.max())
    if most == 1:
        return ""
    of = quantity(most, "seed")
    return words.format(of if least == most else f"{least} to {of}")


def failures(summary: pd.DataFrame) -> Iterator[str]:
    """The reason of each training that didn't end well."""
    for _, row in summary[~summary["status"].isin(GOOD_ENDINGS)].iterrows():
        yield f"{row['label']}, seed {row['seed']}: {row['reason']}"


def accuracies(rows: pd.DataFrame) -> "pd.Series[float]":
    """Accuracies on the test set; where a training had no test, the last ones."""
    return rows["test_accuracy"].fillna(rows["accuracy"]).dropna()


def metrics_of(summary: pd.DataFrame, labels: Iterable[str]) -> dict[str, Values]:
    """The numbers of each label, over its seeds; NaN where there is none."""
    found = {}
    for label in labels:
        rows = summary[summary["label"] == label]
        columns = {
            LAST: rows["relative_loss"],
            ON_TEST: rows["test_loss"] / rows["baseline_loss"],
            TEST_LOSS: rows["test_loss"],
            ACCURACY: accuracies(rows),
            STEPS: rows["steps_to_target"],
            SECONDS: rows["seconds_to_target"],
            RATE: rows["steps_per_s"],
        }
        found[label] = {
            metric: metric.of(values.median(), seeds=rows["seed"].nunique(), label=label)
            for metric, values in columns.items()
        }
    return found


def scores(values: Values) -> list[MetricValue]:
    """What a headline says of a training: its accuracy and its loss on the test set."""
    return [values[ACCURACY], values[TEST_LOSS]]
