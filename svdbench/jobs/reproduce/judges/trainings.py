"""Judges of trainings: adding, copying, pixels, other models, gradients of the states."""

import pandas as pd

from svdbench.jobs.reproduce.evidence import Runs
from svdbench.jobs.reproduce.numbers import CurvePoint, Evidence
from svdbench.record.schema import GOOD_ENDINGS
from svdbench.reporting.words import quantity
from svdbench.statistics.intervals import Interval, paired_difference, paired_ratio

MOST_POINTS = 60
STEP, SECONDS = "step", "elapsed_s"


def further(samples: pd.DataFrame, ours: str, rival: str, by: str = STEP) -> Interval | None:
    """The loss of ``ours`` over that of ``rival`` where the first of them ended, seed by seed.

    A training that ended, at its target or its last step, is compared with what the other
    had come to by then; ``by``: steps or seconds of training. The geometric mean of the
    seeds that both have; None where there are none.
    """
    pairs = []
    for seed in sorted(
        set(_trained(samples, ours)["seed"]) & set(_trained(samples, rival)["seed"])
    ):
        both = [
            rows[rows["seed"] == seed]
            for rows in (_trained(samples, ours), _trained(samples, rival))
        ]
        end = min(rows[by].max() for rows in both)
        known = [rows[rows[by] <= end].sort_values(by)["relative_loss"] for rows in both]
        if all(len(losses) for losses in known):
            pairs.append([float(losses.iloc[-1]) for losses in known])
    if not pairs:
        return None
    return paired_ratio([a for a, _ in pairs], [b for _, b in pairs])


def put_further(
    found: Evidence, name: str, samples: pd.DataFrame, ours: str, rival: str, by: str = STEP
) -> None:
    """Put it among the numbers, if both have been trained."""
    ratio = further(samples, ours, rival, by)
    if ratio is not None:
        unit = {STEP: "steps", SECONDS: "seconds"}[by]
        found.interval(
            name, ratio, f"mean of {quantity(ratio.count, 'paired seed')}, at equal {unit}"
        )


def put_curves(found: Evidence, figure: str, samples: pd.DataFrame, column: str) -> None:
    """A curve for each model: the median over its seeds at each evaluation, and their range."""
    for model, rows in samples.groupby("model", sort=False):
        by_step = rows.dropna(subset=[column]).groupby("step")[column]
        table = by_step.agg(["median", "min", "max"]).reset_index()
        every = max(1, len(table) // MOST_POINTS)
        for row in table.iloc[::-1][::every].iloc[::-1].to_dict("records"):
            values = (row["step"], row["median"], row["min"], row["max"])
            found.curves.append(CurvePoint(figure, str(model), *map(float, values)))


def _trained(samples: pd.DataFrame, model: str) -> pd.DataFrame:
    rows = samples[samples["model"] == model]
    return rows[rows["relative_loss"] > 0]


SPECTRAL = "spectral_rnn"
LEAP = 1.5


def put_difference(found: Evidence, name: str, by_seed: pd.DataFrame, rival: str) -> None:
    """Put the Spectral-RNN's values less those of a rival, seed by seed, among the numbers."""
    difference = paired_difference(list(by_seed[SPECTRAL]), list(by_seed[rival]))
    found.interval(name, difference, f"mean of {quantity(difference.count, 'paired seed')}")


def adding(runs: Runs) -> Evidence:
    """Adding: the Spectral-RNN, the oRNN and LSTM; how fast, and how steadily.

    Losses over the baseline, ours over those of the others, and leaps of the loss.
    """
    import pandas as pd

    found = Evidence()
    summary, samples = (runs.table("add", name) for name in ("summary", "samples"))
    for model, rows in summary.groupby("model"):
        found.mean(f"{model}_loss", rows["relative_loss"])
        found.mean(f"{model}_steps", rows["steps_to_target"])
        found.mean(f"{model}_seconds", rows["seconds_to_target"])
    put_further(found, "over_lstm", samples, SPECTRAL, "lstm")
    put_further(found, "over_lstm_seconds", samples, SPECTRAL, "lstm", SECONDS)
    put_further(found, "over_orthogonal", samples, SPECTRAL, "orthogonal_rnn")
    small = runs.table("add-lstm-small", "samples").assign(model="small")
    put_further(found, "over_small_lstm", pd.concat([samples, small]), SPECTRAL, "small")
    leaps = _leaps(samples)
    if len(leaps):
        put_difference(found, "leaps_difference", leaps, "orthogonal_rnn")
    put_curves(found, "loss", samples, "relative_loss")
    return found


def _leaps(samples: pd.DataFrame) -> pd.DataFrame:
    """By seed, the share of evaluations with a loss above 1.5 times the best before."""
    rows = samples.sort_values("step")
    best = rows.groupby(["model", "seed"])["loss"].cummin()
    counted = rows.assign(leap=rows["loss"] > LEAP * best)
    table = counted.pivot_table(index="seed", columns="model", values="leap", aggfunc="mean")
    return table.dropna()


def copying(runs: Runs) -> Evidence:
    """Copying over a short and a long lag: the Spectral-RNN, the oRNN, and LSTM.

    Losses over the baseline, ours over those of the others, and curves, for each lag.
    """
    found = Evidence()
    for lag in ("short", "long"):
        summary, samples = (runs.table(f"copy-{lag}", name) for name in ("summary", "samples"))
        for model, rows in summary.groupby("model"):
            found.mean(f"{model}_{lag}", rows["relative_loss"])
        put_further(found, f"over_lstm_{lag}", samples, SPECTRAL, "lstm")
        put_further(found, f"over_lstm_seconds_{lag}", samples, SPECTRAL, "lstm", SECONDS)
        put_further(found, f"over_orthogonal_{lag}", samples, SPECTRAL, "orthogonal_rnn")
        put_curves(found, lag, samples, "relative_loss")
    small = runs.table("copy-lstm-small")
    found.mean("small_lstm_short", small["relative_loss"])
    found.exact("small_lstm_parameters", float(small["n_params"].iloc[0]))
    ours = summary[summary["model"] == SPECTRAL]
    found.exact("parameters", float(ours["n_params"].iloc[0]))
    return found


def permuted_mnist(runs: Runs) -> Evidence:
    """Permuted MNIST: the Spectral-RNN, the oRNN and LSTM after as many steps.

    Test accuracies, and by how many ours are higher, seed by seed.
    """
    found = Evidence()
    summary, samples = (runs.table("pixels", name) for name in ("summary", "samples"))
    accuracy = summary.pivot_table(index="seed", columns="model", values="test_accuracy")
    small = runs.table("pixels-lstm-small").set_index("seed")["test_accuracy"]
    accuracy = accuracy.assign(small_lstm=small).dropna()
    seconds = summary.pivot_table(index="seed", columns="model", values="elapsed_s")
    for model in accuracy:
        found.mean(f"{model}_accuracy", accuracy[model])
        if model != SPECTRAL:
            put_difference(found, f"gain_over_{model}", accuracy, str(model))
    found.geometric("seconds_over_lstm", seconds[SPECTRAL] / seconds["lstm"])
    put_curves(found, "accuracy", samples, "accuracy")
    return found


def other_models(runs: Runs) -> Evidence:
    """The models that the report could not run, beside the Spectral-RNN.

    How many models train, and the loss of ours over that of each, on both tasks.
    """
    found = Evidence()
    for task in ("copy", "add"):
        summary, samples = (runs.table(f"all-{task}", name) for name in ("summary", "samples"))
        well = summary[summary["status"].isin(GOOD_ENDINGS)]
        found.exact(f"models_{task}", float(well["model"].nunique()))
        for model, rows in summary.groupby("model"):
            found.mean(f"{model}_{task}", rows["relative_loss"])
            if model != SPECTRAL:
                put_further(found, f"over_{model}_{task}", samples, SPECTRAL, str(model))
        put_curves(found, task, samples, "relative_loss")
    return found


TRACKED = {
    **{f"s5_{m}": f"S₅, m = {m}" for m in (1, 2, 3, 4)},
    **{"s3_1": "S₃, m = 1", "s3_2": "S₃, m = 2", "s3_gru": "S₃, GRU", "parity_gru": "parity, GRU"},
}


def state_tracking(runs: Runs) -> Evidence:
    """Words of S₅ and S₃ by reflectors, and of S₃ and parity by GRU.

    Accuracies over words as long as in training, twice and 16 times as long; steps and seconds to
    the target; and accuracies over all lengths.
    """
    found = Evidence()
    for name, title in TRACKED.items():
        run = f"track-{name.replace('_', '-')}"
        summary, lengths = runs.table(run), runs.table(run, "lengths")
        for times, what in ((1, "accuracy"), (2, "double"), (16, "longest")):
            found.mean(f"{name}_{what}", lengths[lengths["times"] == times]["accuracy"])
        found.mean(f"{name}_steps", summary["steps_to_target"])
        found.mean(f"{name}_seconds", summary["seconds_to_target"])
        by_length = lengths.groupby("test_length")["accuracy"].agg(["median", "min", "max"])
        figures = ["reflectors"] * name.startswith("s5")
        figures += ["longer"] * (name in ("s5_4", "s3_2", "s3_gru", "parity_gru"))
        for length, row in by_length.iterrows():
            for figure in figures:
                found.curves.append(CurvePoint(figure, title, float(str(length)), *map(float, row)))
    return found


RIVALS = ("mingru", "lru", "lstm")


def todays_rivals(runs: Runs) -> Evidence:
    """Adding, copying and pixels: the Spectral-RNN beside minGRU, LRU and LSTM.

    The loss of ours over that of each after as many seconds, or its accuracy less theirs; and
    steps, seconds and parameters of each.
    """
    found = Evidence()
    for task in ("adding", "copy", "pixels"):
        summary, samples = (runs.table(f"rivals-{task}", name) for name in ("summary", "samples"))
        pixels = task == "pixels"
        accuracy = summary.pivot_table(index="seed", columns="model", values="test_accuracy")
        for model, rows in summary.groupby("model"):
            found.exact(f"{task}_{model}_parameters", float(rows["n_params"].iloc[0]))
            found.mean(f"{task}_{model}_steps", rows["steps_to_target"])
            seconds = rows["elapsed_s" if pixels else "seconds_to_target"]
            found.mean(f"{task}_{model}_seconds", seconds)
            if pixels:
                found.mean(f"{task}_{model}_accuracy", rows["test_accuracy"])
        for rival in RIVALS:
            name = f"{task}_over_{rival}"
            if pixels:
                put_difference(found, name, accuracy, rival)
            else:
                put_further(found, name, samples, SPECTRAL, rival, SECONDS)
        put_curves(found, task, samples, "accuracy" if pixels else "relative_loss")
    return found


MOMENTS = {"start": 0.0, "middle": 0.5, "end": 1.0}


def gradient_norms(runs: Runs) -> Evidence:
    """‖∂L/∂h_t‖ over the sequence, and over training.

    First over last norm at the start, the middle and the end; the end over the start.
    """
    found = Evidence()
    for prefix, run in (("", "norms"), ("modrelu_", "norms-modrelu")):
        rows = runs.table(run, "gradients")
        for model, own in rows.groupby("model", sort=False):
            _put_norms(found, f"{prefix}{model}", own)
    return found


def _put_norms(found: Evidence, name: str, rows: pd.DataFrame) -> None:
    by_seed = [
        norms.pivot_table(index="step", columns="t", values="norm")
        for _, norms in rows.groupby("seed")
    ]
    for moment, share in MOMENTS.items():
        looks = [_norms_at(norms, share) for norms in by_seed]
        found.geometric(f"{name}_{moment}", [look.iloc[0] / look.iloc[-1] for look in looks])
    changes = [_norms_at(norms, 1.0).mean() / _norms_at(norms, 0.0).mean() for norms in by_seed]
    found.geometric(f"{name}_change", changes)
    norms = rows.pivot_table(index="step", columns="t", values="norm", aggfunc="median")
    for moment in ("start", "end"):
        for t, norm in _norms_at(norms, MOMENTS[moment]).items():
            if norm > 0:
                label = f"{name}, {moment}".replace("_", " ")
                found.curves.append(CurvePoint("norms", label, float(str(t)), float(norm)))


def _norms_at(norms: pd.DataFrame, share: float) -> "pd.Series":
    look: pd.Series = norms.iloc[round(share * (len(norms) - 1))]
    return look
