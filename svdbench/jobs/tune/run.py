"""Measures every block size on a grid of shapes, and fits what a step costs to it.

How large should a block be? The rules that people use (k = m, k = 32, k = √d, one
block of all) are measured beside the grid, and what each costs is reported.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from svdbench.jobs.tune import JOB, TuneBlocks
from svdbench.jobs.tune.shapes import TERMS, Shape, fit
from svdbench.kernels import Plan, time_plans
from svdbench.kernels.choice import case_of
from svdbench.kernels.plans import Case, candidates, even_block, formula
from svdbench.measure.machine import Neighbours, device_name, threads_of
from svdbench.measure.plan import failure
from svdbench.record.run import RunWriter
from svdbench.record.schema import TableSchema, cell_id
from svdbench.reporting.words import quantity, seconds
from svdbench.running.session import device_of, running
from svdbench.timings.config import L2

_PLACE = ("device", "dtype", "threads", "l2")
_SHAPE = ("d", "n", "m", "block_size")
# A row for each plan; ``chosen_by`` has the rules that choose it, separated by spaces.
SUMMARY = TableSchema(
    "summary",
    (*_SHAPE, *_PLACE, "device_name", "sweep", "step_s", "of_best", "chosen_by", "foreign_cores"),
)
# A row for each block size, and one for each term of the cost model.
MODEL = TableSchema("model", (*_SHAPE, *_PLACE, "model_s", "optimum"))
FIT = TableSchema(
    "fit", ("term", "factor", *_PLACE, "coefficient_s", "median_error", "worst_error", "points")
)


def run(config: TuneBlocks, text: str, folder: str | None = None) -> Path:
    device, dtype = device_of(config), getattr(torch, config.dtype.value)
    torch.manual_seed(config.seed)
    shapes = list(product(config.sizes.d, config.sizes.m))
    with running(JOB, config, text, folder, len(shapes)) as (record, shown):
        with record.recalling() as memo:
            fastest = {Shape(*shape): float(s) for *shape, s in memo.get("fastest", [])}
        place = _place(config, device)
        missing = [(d, m) for d, m in shapes if _unit(d, m) not in record.units]
        try:
            for d, m in missing:
                V = torch.empty(config.sizes.n or d, d, dtype=dtype, device=device)
                X = torch.empty(d, m, dtype=dtype, device=device)
                plans = plans_of(case_of(V, X))
                shown.begin(_unit(d, m))
                shown.doing(0.0, quantity(len(plans), "plan"))
                found = _measure(V, X, plans, config.measure.budget_s, place, record)
                fastest |= found
                if (d, m) == missing[-1]:  # the fit is part of the last shape
                    _write_model(fastest, place, record)
                record.finish(_unit(d, m), fastest=[[*shape, s] for shape, s in fastest.items()])
                shown.finish(_line(d, m, found))
        except KeyboardInterrupt:  # what was finished is worth a fit
            record.discard_unfinished()
            _write_model(fastest, place, record)
            raise
    return record.folder


def _unit(d: int, m: int) -> str:
    return f"d = {d}, m = {m}"


def _place(config: TuneBlocks, device: torch.device) -> dict[str, Any]:
    return {
        "device": str(device),
        "dtype": config.dtype.value,
        "threads": threads_of(device),
        "l2": L2.warm.value,  # step follows step
    }


def _measure(
    V: torch.Tensor,
    X: torch.Tensor,
    plans: Sequence[Plan],
    budget_s: float,
    place: dict[str, Any],
    record: RunWriter,
) -> dict[Shape, float]:
    """Time the plans on one shape and write their rows; the best step by block size."""
    case, neighbours = case_of(V, X), Neighbours()
    status, reason = "ok", ""
    step_s: dict[Plan, float] = {}
    try:
        worth = [plan for plan in plans if plan.block_size <= LARGEST]
        step_s = time_plans(V, X, worth, budget_s=budget_s)
    except Exception as error:  # one plan's; the rest is measured together, so all are lost
        status, reason = failure(error)
    cores = neighbours.cores()
    fastest: dict[Shape, float] = {}
    for plan in plans:
        k = min(plan.block_size, case.n)
        shape = Shape(case.n, case.d, case.m, k)
        defining = {"d": case.d, "n": case.n, "m": case.m, "block_size": k, "sweep": plan.sweep}
        defining |= place
        row = {
            **defining,
            "cell": cell_id(job=JOB.name, **defining),
            "status": status,
            "reason": reason,
            "chosen_by": " ".join(choosers(case, plan)),
            "foreign_cores": cores,
            "device_name": device_name(place["device"]),
        }
        if k > LARGEST:
            row |= {"status": "skipped", "reason": f"mostly Gram matrices beyond k = {LARGEST}"}
        elif plan in step_s:
            s = step_s[plan]
            fastest[shape] = min(s, fastest.get(shape, s))
            row |= {"step_s": s, "of_best": min(step_s.values()) / s}
        record.append(SUMMARY, row)
    return fastest


def _write_model(fastest: dict[Shape, float], place: dict[str, Any], record: RunWriter) -> None:
    """Fit the cost model to the fastest steps, if there are any, and write its rows."""
    if not fastest:
        return
    model = fit(fastest)
    quality = {
        "median_error": model.median_error,
        "worst_error": max(model.errors),
        "points": len(fastest),
    }
    for name, s in model.seconds.items():
        defining = {"term": name, "factor": TERMS[name].factor, **place}
        row = {**defining, "coefficient_s": s, **quality}
        record.append(FIT, {**row, "cell": cell_id(job=JOB.name, **defining), "status": "ok"})
    for shape in fastest:
        defining = dict(zip(_SHAPE, (shape.d, shape.n, shape.m, shape.k), strict=True)) | place
        said = {"model_s": model.step_s(shape), "optimum": model.optimum(shape.d, shape.m)}
        row = {**defining, **said, "cell": cell_id(job=JOB.name, **defining), "status": "ok"}
        record.append(MODEL, row)


def _line(d: int, m: int, fastest: dict[Shape, float]) -> str:
    if not fastest:
        return f"d = {d:<5} m = {m:<4} not timed"
    best = min(fastest, key=lambda shape: fastest[shape])
    return f"d = {d:<5} m = {m:<4} fastest: k = {best.k}, {seconds(fastest[best])}"


SMALLEST = 8
# A step with blocks this large is mostly Gram matrices, 4ndk operations beside 12ndm.
LARGEST = 2048


def rules(n: int, d: int, m: int) -> dict[str, int]:
    """The block sizes that people choose without measuring, by name; k = n is CWY."""
    wanted = {"k=m": m, "k=32": 32, "k=sqrt_d": round(math.sqrt(d)), "k=n": n}
    return {name: min(k, n) for name, k in wanted.items()}


def runs_with(n: int, k: int) -> int:
    """The block size that really runs where k is asked for, such that little is padded."""
    return n if k >= n else even_block(n, k)


def plans_of(case: Case) -> list[Plan]:
    """Plans to measure: each block size once, and on a GPU all that the tuner tries.

    Powers of two and 1.5 times them from 8 up to ``LARGEST``, what the rules say and
    n itself, all of them brought near to a divisor of n.
    """
    n = case.n
    doubled = [SMALLEST * 2**i for i in range(n.bit_length())]
    grid = [k for p in doubled for k in (p, 3 * p // 2) if k < n and k <= LARGEST]
    asked = {*grid, *rules(n, case.d, case.m).values(), min(formula(case).block_size, n), n}
    by_products = [Plan(k) for k in sorted({runs_with(n, k) for k in asked})]
    return by_products + [plan for plan in candidates(case) if plan.sweep != "torch"]


def choosers(case: Case, plan: Plan) -> Iterator[str]:
    """The rules that choose this plan's block size, and "formula" if it chooses the plan."""
    for name, size in rules(case.n, case.d, case.m).items():
        if plan.block_size == (runs_with(case.n, size) if plan.sweep == "torch" else size):
            yield name
    if plan == formula(case):
        yield "formula"
