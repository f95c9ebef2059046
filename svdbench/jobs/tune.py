"""Measures the best block size for given shapes, and shows what was measured so far."""

from collections.abc import Sequence
from itertools import product

import torch
from rich.console import Console
from rich.table import Table

from svdbench.errors import UserError, one_line
from svdbench.jobs.timing import device_of
from svdbench.kernels import Plan, Tuned, clear_tuned, tune, tuned
from svdbench.kernels.tuning import cache_file, formula
from svdbench.schemas import Job


def run(
    sizes: Sequence[int],
    n: int | None,
    columns: Sequence[int],
    dtype: str,
    device: str,
    budget_s: float,
    clear: bool,
) -> None:
    """Tune every size given; with none, show everything known.

    Args:
        sizes: lengths d of the reflectors.
        n: reflectors; as many as d by default.
        columns: numbers of columns of X.
        device: cpu, cuda or cuda:N.
        budget_s: seconds for each size, after one warm-up of every plan.
        clear: forget what is known first.

    Raises:
        UserError: no such device.
    """
    try:
        place = device_of(Job(device=device))
    except ValueError as error:
        raise UserError(one_line(error)) from error
    console = Console()
    if clear:
        clear_tuned()
    found = []
    for d, m in product(sizes, columns):
        V = torch.empty(n or d, d, dtype=getattr(torch, dtype), device=place)
        X = torch.empty(d, m, dtype=V.dtype, device=place)
        with console.status(f"measuring n = {n or d}, d = {d}, m = {m}"):
            found.append(tune(V, X, budget_s=budget_s))
    answers = found or tuned()
    if not answers:
        console.print(f"nothing measured yet in {cache_file()}: try `svdbench tune --d 512,1024`")
        return
    console.print(_table(answers))
    console.print(f"kept in {cache_file()}", highlight=False)


def _table(answers: Sequence[Tuned]) -> Table:
    table = Table(title="measured block sizes", title_justify="left")
    for column in ("n × d × m", "where", "best block", "step", "formula's", "next best"):
        table.add_column(column, justify="right")
    for answer in answers:
        best = answer.step_s[answer.plan]
        others = sorted((s, plan) for plan, s in answer.step_s.items() if plan != answer.plan)
        guess = answer.step_s.get(formula(answer.case))
        table.add_row(
            " × ".join(map(str, answer.case[:3])),
            f"{answer.case.dtype} {answer.case.device}"
            + (f", {answer.case.threads} threads" if answer.case.threads else ""),
            _words(answer.plan),
            f"{1e3 * best:.3g} ms",
            f"{guess / best:.2f}×" if guess else "not tried",
            f"{_words(others[0][1])}: {others[0][0] / best:.2f}×" if others else "",
        )
    return table


def _words(plan: Plan) -> str:
    panels = f", {plan.panels} panels" if plan.panels > 1 else ""
    threads = ", 1 thread" if plan.threads == 1 else ""
    sweep = f", {plan.sweep}" if plan.sweep != "torch" else ""
    return f"{plan.block_size}{panels}{threads}{sweep}"
