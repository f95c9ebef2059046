"""``make bench-rnn``: what it concludes from the tables that its runs leave."""

import pandas as pd
import pytest
from promises.recurrent import contest_figures, loop_figures, main, vanilla_figures

from svdbench.errors import UserError


def timed(**medians):
    rows = [
        {"pass": "step", "status": "ok", "method": method, "d": 128, "median_s": median}
        for method, median in medians.items()
    ]
    return pd.DataFrame(rows)


def trained(steps, seconds, status="target", loss=0.0098):
    runs = {"step": steps, "elapsed_s": seconds, "status": status, "relative_loss": loss}
    return pd.DataFrame(runs | {"test_loss": 0.0018, "baseline_loss": 0.2})


def verdicts(figures):
    return {figure.what: figure.kept for figure in figures}


def test_the_loop_is_compared_with_both_of_pytorchs_layers():
    summary = timed(spectral_16=1.0, spectral_n=1.2, torch_rnn=1.0, torch_lstm=2.2)
    assert verdicts(loop_figures(summary)) == {
        "spectral_16 / torch_rnn": True,
        "spectral_n / torch_rnn": False,
        "spectral_16 / torch_lstm": True,
        "spectral_n / torch_lstm": False,
    }


def test_reflectors_one_by_one_are_to_take_twenty_times_as_long():
    each = {"reflectors_each_step_16": 9.0, "reflectors_each_step_n": 68.0}
    kept = verdicts(vanilla_figures(timed(spectral_16=1.0, spectral_n=1.0, **each)))
    assert list(kept.values()) == [False, True]


def test_a_contest_is_won_in_fewer_steps_and_seconds_than_the_rivals():
    ours = trained([1000, 1200, 1400], [10.0, 12.0, 14.0])
    rivals = {
        "exprnn": trained([1400] * 3, [9.0] * 3, "ok", 0.5),
        "lstm": trained([700] * 3, [11.0] * 3),
    }
    figures = contest_figures("copy 200", ours, rivals)
    assert [figure.kept for figure in figures] == [True, True, True, False]
    assert figures[-1].measured == pytest.approx(12 / 11)
    assert "(0 of 3 seeds there)" in figures[-2].what
    assert "(3 of 3 seeds there)" in figures[-1].what


def test_one_seed_that_does_not_get_there_loses_the_contest():
    ours = trained([1000, 1200, 4000], [10.0, 12.0, 40.0], loss=[0.009, 0.009, 0.02])
    rivals = dict.fromkeys(("exprnn", "lstm"), trained([4000] * 3, [40.0] * 3))
    assert contest_figures("copy 200", ours, rivals)[0].kept is False


def test_a_part_that_there_is_none_of_is_named():
    with pytest.raises(UserError, match="'loops': choose from loop, "):
        main(["loops"])
