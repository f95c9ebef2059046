"""Columns of the tables that are metrics: unit, direction and form, for pages and compare."""

from svdbench.reporting.metrics import Better, Metric
from svdbench.reporting.words import count, ratio, seconds, share

FRACTION, BYTES, TIMES = "fraction", "bytes", "×"
# Times that are no measure of speed: budgets, quartiles, floors, and what has passed so far.
_NO_SPEED = (
    *("floor_s", "q25_s", "q75_s", "elapsed_s", "evaluation_s"),
    *("budget_s", "used_s", "search_s"),
)


def _all(unit: str, better: Better, *columns: str) -> list[Metric]:
    forms = {FRACTION: share, BYTES: count, "count": count, TIMES: ratio}
    form = forms.get(unit)
    named = [(column.replace("_", " "), column) for column in columns]
    if form is None:
        return [Metric(name, column, unit, better) for name, column in named]
    return [Metric(name, column, unit, better, form=form) for name, column in named]


_METRICS = {
    metric.column: metric
    for metric in (
        *_all("", "lower", "loss", "test_loss", "best_loss", "train_loss"),
        *_all("", "lower", "error", "rel_error", "promise", "relative_loss"),
        *_all("count", "lower", "steps_to_target", "n_params", "macs", "multiplications"),
        *_all(BYTES, "lower", "bytes", "peak_bytes", "train_bytes"),
        *_all(BYTES, "", "dense_bytes"),
        *_all(FRACTION, "lower", "kept", "added"),
        *_all(FRACTION, "higher", "accuracy", "test_accuracy", "best_accuracy", "energy"),
        *_all(FRACTION, "higher", "of_floor", "of_larger_floor", "of_best"),
        *_all(FRACTION, "", "dense_accuracy", "chance", "fraction", "phi", "budget"),
        *_all(TIMES, "higher", "speedup", "ceiling"),
        *_all(TIMES, "lower", "vs_best", "over_optimal"),
    )
}


def metric_of(column: str) -> Metric | None:
    """What a column says, where it is a metric; times are recognised by their ``_s``."""
    if column in _METRICS:
        return _METRICS[column]
    if not column.endswith("_s") or column.endswith("_per_s"):
        return None
    better: Better = "" if column.endswith(_NO_SPEED) else "lower"
    return Metric(column.removesuffix("_s").replace("_", " "), column, "s", better, form=seconds)
