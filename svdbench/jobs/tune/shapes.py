"""Measures the best block size for given shapes, and fits what a step costs to block sizes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls

from svdbench.config.base import Dtype, Placement
from svdbench.errors import UserError, as_user_error
from svdbench.job import Request
from svdbench.kernels import Plan, Tuned, clear_tuned, tune, tuned
from svdbench.kernels.plans import formula
from svdbench.kernels.tuned_plans import cache_file, stored
from svdbench.measure import BUSY
from svdbench.measure.machine import Neighbours
from svdbench.members import refuse_repeated
from svdbench.reporting.render import print_lines, screen, show_block
from svdbench.reporting.report import Table, TableCell
from svdbench.reporting.words import fixed, quantity, ratio, seconds
from svdbench.running import start as launch
from svdbench.running.session import device_of


def start(request: Request) -> Any:
    """Tune the shapes that were asked for, or, with ``--plot``, run the job."""
    options = request.options
    if request.flags["plot"]:
        if request.flags["clear"]:
            raise UserError("--clear does not go with --plot: run `svdbench tune --clear` first")
        return launch.start(request)
    kept = {"name", "results", "seed"} & set(options)
    if request.typed or kept or request.show_config or request.force:
        raise UserError(
            "KEY=VALUE, --name, --results, --seed, --force and --show-config need --plot: add it"
        )
    dtype = options.get("dtype", "float32")
    if dtype not in Dtype.__members__:
        raise UserError(f"dtype is {dtype!r}: choose from {', '.join(Dtype.__members__)}")
    return run(
        options.get("sizes.d", []),
        options.get("sizes.n"),
        options.get("sizes.m", [32]),
        dtype,
        Placement(device=options.get("device", "cpu"), threads=options.get("threads")),
        options.get("measure.budget_s", 2.0),
        request.flags["clear"],
    )


def run(
    sizes: Sequence[int],
    n: int | None,
    columns: Sequence[int],
    dtype: str,
    placement: Placement,
    budget_s: float,
    clear: bool,
) -> Table:
    """Tune every size given; with none, show everything known. Returns what is shown.

    Args:
        n: reflectors; as many as d by default.
        budget_s: seconds for each size, after one warm-up of every plan.
        clear: forget what is known first.
    """
    with as_user_error():
        refuse_repeated("--d", sizes)
        refuse_repeated("--m", columns)
        place = device_of(placement)
    console = screen()
    try:
        path = cache_file()
        if clear:
            clear_tuned()
    except OSError as error:
        raise UserError(f"can't delete {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    found, neighbours = [], Neighbours()
    for d, m in product(sizes, columns):
        V = torch.empty(n or d, d, dtype=getattr(torch, dtype), device=place)
        X = torch.empty(d, m, dtype=V.dtype, device=place)
        with console.status(f"measuring n = {n or d}, d = {d}, m = {m}"):
            found.append(tune(V, X, budget_s=budget_s))
    answers = found or tuned()
    if not answers:
        hint = "measure some with `svdbench tune --d 512,1024 --device cuda`"
        print_lines(console, [f"{path} has no block sizes: {hint}"])
        return _table([])
    table = _table(answers)
    show_block(table, console)
    if found and (cores := neighbours.cores() or 0) > BUSY:
        console.print(
            f"Other processes kept {fixed(cores, 1)} cores busy meanwhile: these results may be "
            "wrong. Measure again on a quiet machine.",
            style="bold red",
            highlight=False,
        )
    kept = stored()
    if all(kept.get(answer.case) == answer for answer in answers):
        print_lines(console, [f"kept in {path}"])
    elif found and place.type == "cpu":
        lines = ["Nothing was kept: on a CPU the block size follows the formula."]
        print_lines(console, lines)
    return table


def _table(answers: Sequence[Tuned]) -> Table:
    columns = ["best block", "step", "formula's", "next best"]
    table = Table.of("measured block sizes", ["n × d × m", "where"], columns)
    for answer in answers:
        best = answer.step_s[answer.plan]
        others = sorted((s, plan) for plan, s in answer.step_s.items() if plan != answer.plan)
        guess = answer.step_s.get(formula(answer.case))
        table.add(
            " × ".join(map(str, answer.case[:3])),
            f"{answer.case.dtype} {answer.case.device}"
            + (f", {quantity(answer.case.threads, 'thread')}" if answer.case.threads else ""),
            _words(answer.plan),
            TableCell.number(best, seconds),
            TableCell.number(guess / best, ratio) if guess else "not tried",
            f"{_words(others[0][1])}: {ratio(others[0][0] / best)}" if others else "",
        )
    return table


def _words(plan: Plan) -> str:
    return f"{plan.block_size}{f', {plan.sweep}' if plan.sweep != 'torch' else ''}"


class Shape(NamedTuple):
    """Reflectors (n, d) in blocks of k, applied to d × m."""

    n: int
    d: int
    m: int
    k: int

    @property
    def steps(self) -> int:
        return -(-self.n // self.k)


@dataclass(frozen=True)
class Term:
    """``factor`` as people write it, and its value."""

    factor: str
    of: Callable[[Shape], float]


TERMS = {
    "fixed": Term("1", lambda s: 1),
    "blocks": Term("[k < n]", lambda s: s.k < s.n),
    "step": Term("⌈n/k⌉", lambda s: s.steps),
    "state": Term("⌈n/k⌉dm", lambda s: s.steps * s.d * s.m),
    "gram": Term("ndk", lambda s: s.n * s.d * s.k),
    "product": Term("ndm", lambda s: s.n * s.d * s.m),
}


@dataclass(frozen=True)
class CostModel:
    """What a step costs as a function of the block size: a few terms, fitted to measurements.

    With n reflectors of length d, m columns and blocks of k,

        t(k) = a + f·[k < n] + ⌈n/k⌉·(b + g·dm) + c·ndk + e·ndm        seconds.

    The steps wait for each other: each costs a dispatch, b, and takes the state of d × m
    numbers through memory, g a number. Larger blocks have larger Gram matrices, c for each
    of the ndk numbers that go into them, forward and backward; e likewise for the products
    with X; f is what blocks cost that a single one (CWY) is spared. No coefficient is
    negative. Left out: the n·k² of the triangles, which show where k is near d or beyond.

    Attributes:
        seconds: coefficient by the name of its term.
        errors: relative, one for each measurement.
    """

    seconds: dict[str, float]
    errors: tuple[float, ...]

    @property
    def median_error(self) -> float:
        return median(self.errors)

    def step_s(self, shape: Shape) -> float:
        """Seconds of a step."""
        return sum(s * TERMS[name].of(shape) for name, s in self.seconds.items())

    def optimum(self, d: int, m: int) -> float | None:
        """√(b/(cd) + gm/c), where t(k) is smallest if k may be any number; whatever n is.

        None where the fit found no cost that grows with k.
        """
        b, g, c = (self.seconds[name] for name in ("step", "state", "gram"))
        return math.sqrt((b / d + g * m) / c) if c > 0 else None


def fit(step_s: dict[Shape, float]) -> CostModel:
    """The coefficients that minimise the sum of squared relative errors."""
    if not step_s:
        raise ValueError("no step times to fit: measure at least one block size")
    factors = np.array([[term.of(shape) for term in TERMS.values()] for shape in step_s], float)
    relative = factors / np.array([*step_s.values()])[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1  # a term that no shape has
    found = nnls(relative / scale, np.ones(len(step_s)))[0] / scale
    errors = np.abs(relative @ found - 1)
    return CostModel(dict(zip(TERMS, found.tolist(), strict=True)), tuple(errors.tolist()))
