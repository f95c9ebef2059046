"""One cell of a timing job: contenders that compute something comparable, side by side.

Everyone passes the gate, those that pass are measured in interleaved rounds and
pass it again, and rows are written: for a failure too, with its reason.
"""

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from svdbench.errors import UserError
from svdbench.measure import machine
from svdbench.measure.algorithm import Algorithm, Problem, Tensors
from svdbench.measure.clock import clock_of
from svdbench.measure.gate import GateVerdict, Reference, check, reference_of
from svdbench.measure.machine import (
    Neighbours,
    Rates,
    device_name,
    least_bytes,
    peak_bytes,
    rates_of,
    threads_of,
)
from svdbench.measure.plan import (
    Contender,
    TimingOutcome,
    TimingPlan,
    failure,
    forever,
    measure,
    refuse_lost,
)
from svdbench.members import Registry
from svdbench.record.run import RunWriter
from svdbench.record.schema import SAMPLES, SUMMARY, TableSchema, cell_id
from svdbench.reporting.words import seconds
from svdbench.running.session import RunDisplay, load
from svdbench.statistics.summaries import summarise
from svdbench.timings.config import L2, StepTimingConfig, TimingConfig

# Methods that reached their time limit: from which size on they are not tried, and why.
TooSlow = dict[str, tuple[int, str]]

ERRORS = ("error", "orthogonality", "grad_V_error", "grad_X_error")


@dataclass
class Timed(ABC):
    """A contender in one cell, and its outcome."""

    name: str
    outcome: TimingOutcome | None = field(default=None, kw_only=True)

    @property
    def open(self) -> bool:
        return self.outcome is None

    def close(self, status: str, reason: str) -> None:
        samples = self.outcome.samples if self.outcome else []
        self.outcome = TimingOutcome(status, reason, samples)

    def attempt(self, work: Callable[[], Any]) -> None:
        """Do something of the contender's; what it raises becomes its outcome."""
        try:
            work()
        except Exception as error:
            refuse_lost(self.name, error)
            self.close(*failure(error))

    @abstractmethod
    def contender(self, before: Callable[[], None] | None) -> Contender:
        """What is timed; ``before`` is called before each repetition."""


@dataclass
class TimedMethod(Timed):
    """One method in one cell: its inputs and its outcome.

    Attributes:
        V: what the cell gives; once prepared, the method's own parameters.
        X: shape (d, m).
        G: the gradient at the output or outputs.
        problem: this one's, where it is not the cell's.
    """

    method: Algorithm
    V: tuple[Tensor, ...]
    X: Tensor
    G: Tensors
    problem: Problem | None = None
    reference: Reference | None = None
    verdict: GateVerdict | None = None
    peak_bytes: int | None = None

    def judge(self, when: str) -> None:
        """Check the method's answer, before the timing and after it."""
        self.verdict = check(self.method, self.V, self.X, self.G, reference=self.reference)
        if not self.verdict.ok:
            self.close("gate", f"{when} timing: {self.verdict.reason}")

    def forward(self) -> Tensors:
        return self.method.apply(*self.V, self.X)

    def backward(self, output: Tensors) -> tuple[Tensor, ...]:
        # The gate knows whether an input that the method leaves out should have a gradient.
        return torch.autograd.grad(output, (*self.V, self.X), self.G, allow_unused=True)

    def measure_memory(self, device: str) -> None:
        self.peak_bytes = peak_bytes(lambda: self.backward(self.forward()), device)

    def passes(self) -> list[dict[str, Any]]:
        """The columns of forward, backward and step; none unless all went well."""
        if self.outcome is None or self.outcome.status != "ok":
            return []
        samples = self.outcome.samples
        times = {
            "fwd": [sample.fwd_s for sample in samples],
            "bwd": [sample.bwd_s for sample in samples],
            "step": self.outcome.steps_s(),
        }
        return [{"pass": name, **time_columns(values)} for name, values in times.items()]

    def contender(self, before: Callable[[], None] | None) -> Contender:
        return Contender(self.name, self.forward, self.backward, before=before)


def time_columns(values: list[float]) -> dict[str, Any]:
    """The median of repetitions, its quartiles, and how many there were."""
    found = summarise(values)
    quartiles = {"q25_s": found.q25, "q75_s": found.q75}
    return {"median_s": found.median, **quartiles, "reps": found.reps}


@dataclass
class CellConditions:
    """What holds for every cell of a run.

    Attributes:
        plan: how long and how precisely to measure a cell.
        l2: in which state the cache of a GPU is when a repetition begins.
        too_slow: grows by the methods that reach their time limit.
        left: the seconds that remain for everything: methods that have not started by
            then is skipped.
        samples, summary: the tables to write; they may have further columns.
    """

    plan: TimingPlan
    l2: L2 = L2.warm
    too_slow: TooSlow = field(default_factory=dict)
    left: Callable[[], float] = forever
    samples: TableSchema = SAMPLES
    summary: TableSchema = SUMMARY


def time_cell(
    problem: Problem,
    entries: list[TimedMethod],
    conditions: CellConditions,
    record: RunWriter,
    shown: RunDisplay,
    rates: Rates | None = None,
) -> None:
    """Measure every entry on one problem and write its rows.

    Args:
        rates: what the machine can do, where it was measured already.
    """
    left, too_slow = conditions.left, conditions.too_slow
    if rates is None and left() > 0:
        shown.doing(0.0, "rates of the machine")
        rates = rates_of(problem.dtype, problem.device, clock_of(problem.device))
    references: dict[Any, Reference] = {}
    for entry in entries:
        shown.doing(0.0, f"gate: {entry.name}")
        size, why = too_slow.get(entry.name, (math.inf, ""))
        if problem.d >= size:
            entry.close("timeout", why)
        elif reason := entry.method.skip(entry.problem or problem):
            entry.close("skipped", reason)
        elif left() <= 0:
            entry.close("skipped", "the time budget ran out before its turn")
        else:
            entry.attempt(partial(_prepare, entry, references))

    timed = [entry for entry in entries if entry.open]
    foreign_cores = measure_all(timed, conditions.plan, conditions.l2, problem.device, shown, left)
    for entry in timed:
        assert entry.outcome is not None
        if entry.outcome.status == "timeout":
            too_slow[entry.name] = problem.d, f"at {problem.label} {entry.outcome.reason}"
        if entry.outcome.status == "ok":
            shown.doing(1.0, f"gate: {entry.name}")
            entry.attempt(partial(entry.judge, "after"))
            entry.attempt(partial(entry.measure_memory, problem.device))
    _write(record, problem, entries, conditions, rates, foreign_cores)


def time_cells(
    problems: Iterable[Problem],
    entries_of: Callable[[Problem], Iterable[TimedMethod]],
    conditions: CellConditions,
    record: RunWriter,
    shown: RunDisplay,
    *,
    rates: Rates | None = None,
    memo: str = "too_slow",
) -> None:
    """Measure the cells that the record does not have yet, with one table of what is too slow.

    Args:
        entries_of: the contenders of a problem.
        rates: what the machine can do, where it was measured already.
        memo: the key in the record under which to keep what is too slow.
    """
    with record.recalling() as known:
        conditions.too_slow |= known.get(memo, {})
    for problem in problems:
        if problem.label in record.units:
            continue
        shown.begin(problem.label)
        entries = list(entries_of(problem))
        time_cell(problem, entries, conditions, record, shown, rates)
        record.finish(problem.label, **{memo: conditions.too_slow})
        shown.finish(cell_summary_line(problem, entries))


def measure_all(
    entries: Sequence[Timed],
    plan: TimingPlan,
    l2: L2,
    device: str,
    shown: RunDisplay,
    left: Callable[[], float] = forever,
) -> float | None:
    """Measure contenders in interleaved rounds; the cores that other processes took meanwhile."""
    before = machine.emptier(device) if l2 is L2.cold and entries else None
    neighbours = Neighbours()
    contenders = [entry.contender(before) for entry in entries]
    outcomes = measure(contenders, plan, clock_of(device), left=left, on_progress=shown.doing)
    foreign_cores = neighbours.cores()
    for entry in entries:
        entry.outcome = outcomes[entry.name]
    return foreign_cores


def _prepare(entry: TimedMethod, references: dict[Any, Reference]) -> None:
    """The method's parameters, its untimed work, and its first pass through the gate."""
    method = entry.method
    made = method.parameter(*entry.V)
    made = made if isinstance(made, tuple) else (made,)
    entry.V = tuple(tensor.detach().clone().requires_grad_() for tensor in made)
    method.prepare(*entry.V, entry.X)
    # Methods of one family share their map and its parameter, and so the exact answer. A class
    # derived from one of ours may draw parameters of its own, which their sums tell.
    drawn = tuple(tensor.detach().double().sum().item() for tensor in entry.V)
    family = method.family(), entry.problem, drawn
    if family not in references:
        references[family] = reference_of(method, entry.V, entry.X, entry.G)
    entry.reference = references[family]
    entry.judge("before")


def _write(
    record: RunWriter,
    problem: Problem,
    entries: list[TimedMethod],
    conditions: CellConditions,
    rates: Rates | None,
    foreign_cores: float | None,
) -> None:
    """Samples and summary of one cell, with the ratio to the best method of another kind."""
    passes = {entry.name: entry.passes() for entry in entries}
    medians = {
        name: {row["pass"]: row["median_s"] for row in rows} for name, rows in passes.items()
    }
    machine: dict[str, Any] = {"foreign_cores": foreign_cores}
    machine["device_name"] = device_name(problem.device)
    if rates is not None:
        machine["matmul_gflops"] = rates.matmul / 1e9
        machine["copy_gbytes_per_s"] = rates.copy / 1e9
    state = conditions.l2
    for entry in entries:
        outcome, own = entry.outcome, entry.problem or problem
        assert outcome is not None
        # Warm is what all timings once were: cells keep the identity that they had then.
        identity = _columns(own) | ({} if state is L2.warm else {"l2": state.value})
        common = {
            "cell": cell_id(job=record.job, method=entry.name, **identity),
            "status": outcome.status,
            "reason": outcome.reason,
            "method": entry.name,
            "block_size": entry.method.block(own),
            **_columns(own),
            "l2": state.value,
        }
        for sample in outcome.samples:
            times = {"fwd_s": sample.fwd_s, "bwd_s": sample.bwd_s, "step_s": sample.step_s}
            record.append(conditions.samples, {**common, "round": sample.round, **times})
        flops = entry.method.flops(own)
        judged = asdict(entry.verdict) if entry.verdict else {}
        described = {
            "operation": entry.method.operation,
            "kind": entry.method.kind,
            "builds": entry.method.builds,
            **machine,
            **entry.method.described(own),
            "peak_bytes": entry.peak_bytes,
            **{key: judged.get(key) for key in ERRORS},
        }
        for row in passes[entry.name] or [{"pass": "step"}]:
            work = flops.of_pass(row["pass"])
            median = row.get("median_s")
            found: dict[str, Any] = {"flops": work}
            found |= _against_the_machine(entry.method, own, row["pass"], median, rates)
            if median:
                rivals = [
                    medians[other.name][row["pass"]]
                    for other in entries
                    if other.method.kind != entry.method.kind and medians[other.name]
                ]
                found["gflops"] = work / median / 1e9
                found["vs_best"] = min(rivals) / median if rivals else None
            record.append(conditions.summary, {**common, **described, **row, **found})


def _against_the_machine(
    method: Algorithm, problem: Problem, of_pass: str, median_s: float | None, rates: Rates | None
) -> dict[str, Any]:
    """The floors of a pass, of its arithmetic and of its bytes, and how near it came."""
    floor = method.floor(problem)
    if floor is None:
        return {}
    found: dict[str, Any] = {}
    if rates is not None:
        found["floor_s"] = floor.of_pass(of_pass) / rates.matmul
        if median_s:
            found["of_floor"] = found["floor_s"] / median_s
    if not method.orthogonal:  # what must be moved is known for φ(V)X only
        return found
    moved = least_bytes(problem.n, problem.d, problem.m, problem.dtype)[of_pass]
    found["least_bytes"] = moved
    if median_s:
        found["gbytes_per_s"] = moved / median_s / 1e9
    if rates is not None:
        found["bytes_floor_s"] = moved / rates.copy
        if median_s:
            found["of_larger_floor"] = max(found["floor_s"], found["bytes_floor_s"]) / median_s
    return found


def _columns(problem: Problem) -> dict[str, Any]:
    return {
        **problem.sizes(),
        "device": problem.device,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "threads": threads_of(problem.device),
    }


def cell_summary_line(problem: Problem, entries: list[TimedMethod]) -> str:
    """The fastest methods of a size, in one line."""
    steps = {
        entry.name: statistics.median(entry.outcome.steps_s())
        for entry in entries
        if entry.outcome is not None and entry.outcome.status == "ok"
    }
    others = len(entries) - len(steps)
    fastest = sorted(steps, key=lambda name: steps[name])[:3]
    words = ", ".join(f"{name} {seconds(steps[name])}" for name in fastest)
    return f"{problem.label:<9} fastest: {words or 'none'}" + (
        f"; {others} not timed" if others else ""
    )


def chosen(group: Registry, config: Any) -> dict[str, Any]:
    """The members of a group that a configuration names, or all of them, by name."""
    configs = getattr(config, group.folder)
    return {name: load(group, name, configs) for name in config.methods or sorted(configs)}


def check_methods(group: Registry, config: TimingConfig) -> None:
    """Check the options of the methods, and the plan."""
    plan_of(config, cells=1)
    chosen(group, config)


def problem_of(config: StepTimingConfig, d: int) -> Problem:
    return Problem(
        d=d,
        n=config.sizes.n or d,
        m=config.sizes.m,
        dtype=getattr(torch, config.dtype.value),
        device=str(torch.device(config.device)),
    )


def plan_of(config: TimingConfig, cells: int) -> TimingPlan:
    """The plan of one of so many cells: its share of the budget."""
    if config.measure.l2 is L2.cold and config.device == "cpu":
        raise UserError("measure.l2 is cold, which works on GPUs only: use measure.l2=warm")
    numbers = asdict(config.measure)
    del numbers["l2"]
    numbers |= {"budget_s": config.measure.budget_s / cells, "seed": config.seed}
    try:
        return TimingPlan(**numbers)
    except ValueError as error:
        raise UserError(f"measure.{error}") from error
