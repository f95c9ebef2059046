"""Shared by the reports of trainings: medians over seeds, failures, and a line for the list."""

from collections.abc import Iterable, Iterator

import pandas as pd

from svdbench.record.schema import GOOD_ENDINGS
from svdbench.reporting.words import few, quantity, share


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


def headline(summary: pd.DataFrame, labels: Iterable[str]) -> str:
    """Accuracy and loss of each label on the test set, medians over its seeds."""
    found = []
    for label in labels:
        rows = summary[summary["label"] == label]
        accuracy, loss = accuracies(rows).median(), rows["test_loss"].median()
        scores = [share(accuracy)] if accuracy == accuracy else []
        scores += [f"loss {loss:.3g}"] if loss == loss else []
        if scores:
            found.append(f"{label}: {', '.join(scores)}")
    return few(found)
