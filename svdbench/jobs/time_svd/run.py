"""Times drivers of the truncated SVD, and compares their errors with the least possible."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svdbench.jobs.time_svd import JOB, TimeSVD
from svdbench.jobs.time_svd.drivers import SVDDriver, SVDProblem
from svdbench.jobs.time_svd.gate import Exact, FactorsVerdict, check_factors
from svdbench.measure.machine import device_name
from svdbench.measure.plan import Contender, TimingPlan
from svdbench.members import DRIVERS
from svdbench.record.run import RunWriter
from svdbench.record.schema import TableSchema, cell_id
from svdbench.reporting.words import seconds
from svdbench.running.session import RunDisplay, device_of, running
from svdbench.statistics.summaries import summarise
from svdbench.timings.config import L2
from svdbench.timings.session import (
    Timed,
    check_methods,
    chosen,
    measure_all,
    plan_of,
    time_columns,
)

_CASE = ("method", "m", "n", "k", "spectrum", "device", "dtype", "threads", "l2")
_QUALITY = ("error", "optimal", "over_optimal", "s_error", "orthogonality")

# A row for each repetition, and one for each driver in a cell; ``error`` and ``optimal`` are
# relative to ‖A‖_F, ``chosen`` is the driver that an automatic choice took.
SAMPLES = TableSchema("samples", (*_CASE, "round", "time_s"))
SUMMARY = TableSchema(
    "summary",
    (
        *_CASE,
        *("median_s", "q25_s", "q75_s", "reps"),
        *_QUALITY,
        *("ours", "exact", "chosen", "foreign_cores", "device_name"),
    ),
)


@dataclass
class TimedDriver(Timed):
    driver: SVDDriver
    case: SVDProblem
    exact: Exact
    given: Any = None
    verdict: FactorsVerdict | None = None

    def judge(self, when: str) -> None:
        """No number without right factors, before the timing and after it."""
        case = self.case
        found = self.driver.result(self.driver.apply(self.given, case.k))
        verdict = check_factors(found, self.exact, case.k, case.dtype, self.driver.exact)
        # Random ones differ from call to call: the worse of two is reported.
        if self.verdict is None or verdict.error > self.verdict.error or not verdict.ok:
            self.verdict = verdict
        if not verdict.ok:
            self.close("gate", f"{when} timing: {verdict.reason}")

    def contender(self, before: Callable[[], None] | None) -> Contender:
        return Contender(
            self.name,
            lambda: self.driver.apply(self.given, self.case.k),
            lambda factors: factors,
            before=before,
        )


@dataclass
class DriverConditions:
    """What holds for all cells; ``too_slow`` grows by who reached the time limit, and why."""

    plan: TimingPlan
    l2: L2
    too_slow: dict[tuple[str, int, int, int], str]


def run(config: TimeSVD, text: str, folder: str | None = None) -> Path:
    device = device_of(config)
    dtype: torch.dtype = getattr(torch, config.dtype.value)
    drivers: dict[str, SVDDriver] = chosen(DRIVERS, config)
    shapes = config.sizes.cases()
    cells = len(config.spectra) * sum(len(ranks) for *_, ranks in shapes)
    conditions = DriverConditions(plan_of(config, cells), config.measure.l2, {})
    torch.manual_seed(config.seed)  # of the probes of those that take no generator
    with running(JOB, config, text, folder, cells) as (record, shown):
        with record.recalling() as memo:
            too_slow = list(memo.get("too_slow", []))
        conditions.too_slow |= {(name, *place): why for name, *place, why in too_slow}
        for m, n, ranks in shapes:
            missing: dict[str, list[SVDProblem]] = {}
            for spectrum, k in product(config.spectra, ranks):
                case = SVDProblem(m, n, k, spectrum, dtype, str(device))
                if case.label not in record.units:
                    missing.setdefault(spectrum, []).append(case)
            if not missing:
                continue
            shown.begin(f"{m} × {n}")
            shown.doing(0.0, "random singular vectors")
            spectra = Spectra(m, n, config.seed)
            for spectrum, cases in missing.items():
                shown.doing(0.0, f"{spectrum}: singular values in float64")
                A = spectra.matrix(spectrum).to(device, dtype)
                exact = Exact.of(A)
                for case in cases:
                    shown.begin(case.label)
                    entries = [TimedDriver(name, own, case, exact) for name, own in drivers.items()]
                    time_cell(case, A, entries, conditions, record, shown)
                    slow = [[*place, why] for place, why in conditions.too_slow.items()]
                    record.finish(case.label, too_slow=slow)
                    shown.finish(line(case, entries))
    return record.folder


def check(config: TimeSVD) -> None:
    check_methods(DRIVERS, config)


def time_cell(
    case: SVDProblem,
    A: torch.Tensor,
    entries: list[TimedDriver],
    conditions: DriverConditions,
    record: RunWriter,
    shown: RunDisplay,
) -> None:
    place = case.m, case.n, case.k
    for entry in entries:
        shown.doing(0.0, f"gate: {entry.name}")
        if why := conditions.too_slow.get((entry.name, *place)):
            entry.close("timeout", why)
        elif reason := entry.driver.skip(case):
            entry.close("skipped", reason)
        else:
            entry.given = entry.driver.given(A)
            entry.attempt(partial(entry.judge, "before"))
    timed = [entry for entry in entries if entry.open]
    foreign_cores = measure_all(timed, conditions.plan, conditions.l2, case.device, shown)
    for entry in timed:
        assert entry.outcome is not None
        if entry.outcome.status == "ok":
            shown.doing(1.0, f"gate: {entry.name}")
            entry.attempt(partial(entry.judge, "after"))
    for entry in entries:
        assert entry.outcome is not None
        if entry.outcome.status == "timeout":
            reason = entry.outcome.reason
            where = reason if reason.startswith("on ") else f"on {case.spectrum}, {reason}"
            conditions.too_slow[(entry.name, *place)] = where
    _write(case, entries, conditions.l2, foreign_cores, record)


def _write(
    case: SVDProblem,
    entries: list[TimedDriver],
    state: L2,
    foreign_cores: float | None,
    record: RunWriter,
) -> None:
    machine = {"foreign_cores": foreign_cores, "device_name": device_name(case.device)}
    for entry in entries:
        outcome = entry.outcome
        assert outcome is not None
        columns = {"method": entry.name, **case.columns(), "l2": state.value}
        common = {
            "cell": cell_id(job=record.job, **columns),
            "status": outcome.status,
            "reason": outcome.reason,
            **columns,
        }
        for sample in outcome.samples:
            row = {**common, "round": sample.round, "time_s": sample.step_s}
            record.append(SAMPLES, row)
        judged = asdict(entry.verdict) if entry.verdict else {}
        found: dict[str, Any] = {name: judged.get(name) for name in _QUALITY}
        if outcome.status == "ok":
            found |= time_columns(outcome.steps_s())
        about = {"ours": entry.driver.ours, "exact": entry.driver.exact}
        chosen = entry.driver.described(case)
        record.append(SUMMARY, {**common, **found, **about, "chosen": chosen, **machine})


def line(case: SVDProblem, entries: list[TimedDriver]) -> str:
    """What came of a cell, in one line: the fastest three with their errors."""
    done = []
    for entry in entries:
        if entry.outcome is not None and entry.outcome.status == "ok" and entry.verdict:
            median = summarise(entry.outcome.steps_s()).median
            done.append(
                (median, f"{entry.name} {seconds(median)} ({entry.verdict.over_optimal:.4f})")
            )
    words = ", ".join(text for _, text in sorted(done)[:3])
    others = len(entries) - len(done)
    return f"{case.label}: {words or 'none'}" + (f"; {others} not timed" if others else "")


class Spectra:
    """Matrices (m, n) that share random singular vectors, with singular values of four kinds.

    * ``polynomial``: σᵢ = 1/i: a long tail, so that the best error is large, and hard to come
      near (Tropp, Yurtsever, Udell and Cevher, SIAM J. Matrix Anal. Appl. 38(4), 2017, §7).
    * ``exponential``: σᵢ = e^(−8i/r), r = min(m, n): a constant ratio, with no gap anywhere.
    * ``step``: r/8 equal values, the others a hundredth of them: a low rank in noise; ties.
    * ``gaussian``: independent normal entries, an untrained layer: as flat as it gets, where
      power iterations gain least.
    """

    def __init__(self, m: int, n: int, seed: int) -> None:
        self.m, self.n = m, n
        self.generator = torch.Generator().manual_seed(seed)
        r = min(m, n)
        self.U, self.V = (torch.linalg.qr(self._normal(size, r)).Q for size in (m, n))

    def matrix(self, name: str) -> Tensor:
        """One of ``SPECTRA``, in float64; anything else is a KeyError."""
        if name == "gaussian":
            return self._normal(self.m, self.n)
        return (self.U * singular_values(name, min(self.m, self.n))) @ self.V.mT

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def singular_values(name: str, r: int) -> Tensor:
    """The r singular values, descending, of all kinds but ``gaussian``, in float64."""
    i = torch.arange(1, r + 1, dtype=torch.float64)
    return {
        "polynomial": 1 / i,
        "exponential": torch.exp(-8 * i / r),
        "step": torch.where(i <= max(r // 8, 1), torch.ones_like(i), 0.01),
    }[name]
