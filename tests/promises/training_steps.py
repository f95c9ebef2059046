"""How much of its ceiling a whole step of training in factors reaches, and where the rest goes."""

import csv
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from promises.figures import Promise
from svdbench.config.compose import compose
from svdbench.jobs.accelerate.experiment import DENSE, AccelerateSetting
from svdbench.jobs.accelerate.preparation import Preparation
from svdbench.jobs.accelerate.run import prepare
from svdbench.measure.clock import clock_of
from svdbench.running.session import settle_allocator
from svdbench.side_by_side.arms import Batches

# By what a network is called: the options that make it.
NETWORKS = {
    "784-512-256-10": ["data.name=mnist", "net=784-512-256-10"],
    "byte-lm, d = 256": ["net=byte-lm", "width=256", "layers=2", "batch_size=8"],
}
COMMON = ["alphas=[0.5]", "phis=[0.0]", "rivals=false", "budget_s=1", "threads=1"]
LEAST = 0.8  # of the ceiling
PROFILED, FACTORS = 10, "factors"

# Parts of a step, by the beginnings of the names of operators.
PARTS: dict[str, tuple[str, ...]] = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "optimiser": ("aten::_fused_adam", "aten::_foreach"),
    "layer norm": ("aten::native_layer_norm",),
    "attention": ("aten::_scaled_dot_product",),
    "softmax and loss": ("aten::_log_softmax", "aten::nll_loss", "aten::_softmax"),
    "batches, embedding": ("aten::embedding", "aten::index"),
    "activations": ("aten::relu", "aten::threshold", "aten::clamp_min", "aten::silu"),
    "sums": ("aten::sum",),
    "copies": ("aten::copy_", "aten::cat", "aten::fill_", "aten::constant_pad"),
}


def part_of(operator: str) -> str:
    """The part of a step that an operator belongs to.

    Example:
        >>> part_of("aten::addmm"), part_of("aten::view")
        ('products', 'rest')
    """
    found = (part for part, names in PARTS.items() if operator.startswith(names))
    return next(found, "rest")


def whole_steps(folder: Path) -> list[Promise]:
    """The speed of a step at α = ½ over its ceiling, both arms in interleaved turns.

    Writes ``steps.csv`` into the folder: seconds of a step of either arm by its parts.
    """
    settle_allocator()  # as in a run
    figures, rows = [], []
    for name, options in NETWORKS.items():
        prepared = _prepared([*COMMON, *options])
        prepared.calibrate(lambda done, what: None)
        [label] = [s.label for s in prepared.settings if s.member is not None]
        figures += step_figures(
            name,
            {arm: prepared.costs.seconds[arm][-1] for arm in (DENSE, label)},
            {arm: prepared.costs.products[arm][-1] for arm in (DENSE, label)},
        )
        for setting in prepared.settings:
            arm = FACTORS if setting.member is not None else DENSE
            rows += [{"network": name, "arm": arm} | row for row in _parts(prepared, setting)]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "steps.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return figures


def step_figures(
    name: str, seconds: Mapping[str, float], products: Mapping[str, float]
) -> list[Promise]:
    """From the seconds and the multiplications of a step of both arms, the dense one first."""
    (dense_s, own_s), (dense, own) = seconds.values(), products.values()
    speed, ceiling = dense_s / own_s, dense / own
    text = f"a step of {name}, α ½: speed {speed:.2f} of {ceiling:.2f}; part of the ceiling"
    return [Promise(text, None, speed / ceiling, True, LEAST)]


def shares(times: Iterable[tuple[str, float]]) -> list[dict[str, object]]:
    """The seconds of operators as those of their parts, the longest first."""
    found: dict[str, float] = {}
    for operator, seconds in times:
        found[part_of(operator)] = found.get(part_of(operator), 0.0) + seconds
    whole = sum(found.values())
    parts = sorted(found, key=lambda part: -found[part])
    return [
        {"part": part, "step_s": f"{found[part]:.3g}", "share": f"{found[part] / whole:.3f}"}
        for part in parts
    ]


def _prepared(overrides: list[str]) -> Preparation:
    config, _ = compose("accelerate", overrides)
    experiment = prepare(config)
    return Preparation(experiment, clock_of(experiment.train[0].device))


def _parts(prepared: Preparation, setting: AccelerateSetting) -> list[dict[str, object]]:
    given, clock, arm = prepared.given, prepared.clock, prepared.arm(setting, 0)
    arm.advance(len(arm.schedule.costs) - 1, clock)
    batches = Batches(*given.train, given.batch_size).epoch(0)
    arm.train_epoch(islice(batches, 3), clock)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        arm.train_epoch(islice(batches, PROFILED), clock)
    return shares((e.key, e.self_cpu_time_total / 1e6 / PROFILED) for e in seen.key_averages())
