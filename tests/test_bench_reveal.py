"""``make bench-reveal``: what it concludes from what its runs leave."""

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from promises.ranks import (
    compressed_encoder,
    curve_figures,
    frontier_figures,
    main,
    naive_curves,
    three_layer_figures,
)
from torch import nn

from svdbench.errors import UserError
from svdbench.jobs.rank_reveal.subject import RevealSubject
from svdbench.lowrank import loss_curves


def test_the_naive_loop_finds_the_same_losses():
    model = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    data = torch.randn(100, 12), torch.randint(4, (100,))
    subject = RevealSubject(model, F.cross_entropy, data, data, data, data, labelled=True)
    before = model[0].weight.clone()
    looped = naive_curves(subject)
    found = loss_curves(model, data, F.cross_entropy)
    seconds, ratio, apart = curve_figures(found, looped, 0.5, 20.0)
    assert torch.equal(model[0].weight, before)
    assert apart.kept
    assert (ratio.measured, ratio.kept, seconds.kept) == (40, True, True)


def point(method, seed, loss, budget=0.04):
    return {"method": method, "seed": seed, "budget": budget, "loss": loss, "status": "ok"}


def test_frontiers_are_compared_seed_by_seed():
    summary = pd.DataFrame(
        [{"method": "frontier", "evaluations": 12, "most_evaluations": 13, "increase": 0.008}] * 3
    )
    rows = []
    for seed, hard in enumerate((0.0, 0.5, 1.0)):
        rows += [point("kronecker", seed, 0.2 + hard), point("uniform", seed, 0.5 + hard)]
        rows += [point("energy", seed, 0.6 + hard), point("minimax", seed, 0.7 + hard)]
        rows += [
            point("kronecker", seed, 0.21 + hard, 0.5),
            point("uniform", seed, 0.2 + hard, 0.5),
        ]
        rows += [point("energy", seed, 0.6 + hard, 0.5), point("minimax", seed, 0.7 + hard, 0.5)]
    figures = {figure.what: figure for figure in frontier_figures(summary, pd.DataFrame(rows))}
    assert figures["evaluations beyond ⌈log₂ R⌉ + 5"].measured == -1
    assert figures["test loss at 4% of the weights"].measured == pytest.approx(0.7)
    better = figures["at 4%: our loss − uniform's, the least that it may be"]
    assert better.measured == pytest.approx(-0.3)
    worse = figures["at 50%: our loss − uniform's, the least that it may be"]
    assert (worse.measured, worse.kept) == (pytest.approx(0.01), False)


def test_ranks_have_intervals():
    samples = pd.DataFrame(
        [{"method": "exact", "layer": "0.weight", "rank": rank} for rank in (8, 9, 10)]
    )
    summary = pd.DataFrame([{"method": "frontier", "evaluations": 9, "most_evaluations": 9}])
    rank, over = three_layer_figures(summary, samples)
    assert rank.what == "exact rank of 0.weight is 9 ±"
    assert rank.measured == pytest.approx(2.48, abs=0.01)
    assert over.kept


def test_an_encoder_is_measured():
    found = compressed_encoder(layers=1, width=16, examples=40)
    assert found["bytes"] == 4 * found["parameters"]
    assert 0 < found["kept"] <= 0.5
    assert found["seconds"] > 0


def test_a_part_that_there_is_none_of_is_named():
    with pytest.raises(UserError, match="'curve': choose from curves, "):
        main(["curve"])
