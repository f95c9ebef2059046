"""Reveals the rank that each weight of a network needs, once for each seed it is trained from."""

import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svdbench.errors import UserError
from svdbench.jobs.rank_reveal import EXACT, FRONTIER, JOB, RankReveal
from svdbench.jobs.rank_reveal.algorithms import RevealedRanks, Revealer
from svdbench.jobs.rank_reveal.points import points, seconds_of_points
from svdbench.jobs.rank_reveal.subject import (
    RevealSubject,
    TrainedSubject,
    UserSubject,
    trained_subject,
    user_subject,
)
from svdbench.jobs.rank_reveal.tables import RankRows
from svdbench.lowrank.costs import latencies, multiply_adds
from svdbench.lowrank.ranks.examples import DataWarning
from svdbench.measure.machine import fastest_threads
from svdbench.record.run import RunWriter
from svdbench.reporting.words import number, seconds, share, signed
from svdbench.running.session import RunDisplay, interrupted, running


def run(config: RankReveal, text: str, folder: str | None = None) -> Path:
    source = trained_subject(config) if config.model.build is None else user_subject(config)
    seeds = config.seeds if isinstance(source, TrainedSubject) else 1
    asked = config.threads if isinstance(source, UserSubject) else torch.get_num_threads()
    with (
        fastest_threads(asked, config.device) as threads,
        running(JOB, config, text, folder, seeds) as (record, shown),
    ):
        session = RankRevealSession(config, source, record, shown)
        notes = source.notes if isinstance(source, UserSubject) else ()
        for note in filter(None, (threads, *notes)):
            shown.note(note)
        try:
            for seed in range(config.seed, config.seed + seeds):
                if f"seed {seed}" in record.units:
                    continue
                session.reveal(seed)
                record.finish(f"seed {seed}")
                if session.time_is_up():
                    break
        except KeyboardInterrupt:
            session.interrupted = True
        except UserError:
            if not (record.folder / "summary.csv").exists():
                shutil.rmtree(record.folder)  # there is nothing in it yet
            raise
    if session.interrupted:
        raise interrupted(JOB, record.folder)
    return record.folder


class RankRevealSession:
    """One seed after the other; the rows of each are written when it is done."""

    def __init__(
        self,
        config: RankReveal,
        source: TrainedSubject | UserSubject,
        record: RunWriter,
        shown: RunDisplay,
    ) -> None:
        self.config, self.source, self.shown = config, source, shown
        self.interrupted = False
        model, dataset = str(config.model.build), str(config.model.loader)
        options: dict[str, Any] = {}
        if isinstance(source, TrainedSubject):
            model, dataset = source.family.label, config.data.name
            options = source.options
        self.rows = RankRows(record, config, model, dataset, options)
        minutes = config.max_minutes
        self._until = None if minutes is None else time.monotonic() + 60 * minutes
        self._said: set[str] = set()

    def time_is_up(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def reveal(self, seed: int) -> None:
        """Train, run the algorithms, judge what they found, and write it down."""
        start = time.perf_counter()
        self.shown.begin(f"seed {seed}" if isinstance(self.source, TrainedSubject) else "")
        with self._in_words():
            subject = self.source.subject(seed, self._from(0.0))
            revealer = Revealer(subject, self.config, self._from(0.3))
            found = self._found(revealer)
            self._from(0.6)(0.0, "test examples and latency")
            dense = subject.judge(subject.model)
            judged = {each.method: subject.judge(each.network) for each in found}
            costs = self._costs(subject, found)
            compared = list(self._points(revealer, dense))
        rows, elapsed = self.rows, time.perf_counter() - start
        numbers = {one.name: one.dense_numbers for each in found for one in each.layers}
        weights = sum(numbers.values())  # while all that any of them looked at are dense
        as_it_is = RevealedRanks("dense", [], subject.model, 0.0)
        rows.summary(seed, as_it_is, weights, dense, dense, costs["dense"] | {"elapsed_s": elapsed})
        for each in found:
            rows.found(seed, each)
            own = costs[each.method] | {"elapsed_s": elapsed}
            rows.summary(seed, each, weights, judged[each.method], dense, own)
        for name, curve in revealer.curves.items():
            rows.curve(seed, name, curve)
        for point in compared:
            rows.point(seed, point, dense)
        words = [f"dense {number(dense.loss, 4)}"]
        for each in found:
            rise = judged[each.method].loss - dense.loss
            words.append(f"{each.method} {signed(rise)} with {share(1 - each.saved / weights, 2)}")
        self.shown.finish(f"{self._named(seed)}test loss: {'; '.join(words)}")

    def _found(self, revealer: Revealer) -> list[RevealedRanks]:
        """What the algorithms reveal, those asked for or those that there is time for."""
        config, linear = self.config, bool(revealer.weights())
        methods = config.algorithms
        if methods is None:
            methods = [FRONTIER]
            if linear and self._affordable("exact curves", revealer.seconds_of_exact()):
                methods = [EXACT, FRONTIER]
        elif not linear and methods != [FRONTIER]:
            raise UserError(
                "exact and published need linear layers that are called once, and "
                "the model has none: use --algorithms frontier"
            )
        found = [revealer.run(method) for method in methods]
        return found + ([revealer.at(config.asked_rank)] if config.asked_rank and linear else [])

    def _points(self, revealer: Revealer, dense: Any) -> Iterator[Any]:
        fractions = self.config.fractions
        what = "comparing frontiers"
        if fractions and self._affordable(what, seconds_of_points(revealer, fractions)):
            revealer.on_progress = self._from(0.65)
            yield from points(revealer, fractions, dense)

    def _affordable(self, what: str, needed: float) -> bool:
        limit = self.config.affordable_s
        if needed > limit:
            self._say(
                f"left out: {what}, expected to take {seconds(needed)}, more than "
                f"affordable_s={limit:g}"
            )
        return needed <= limit

    def _costs(
        self, subject: RevealSubject, found: list[RevealedRanks]
    ) -> dict[str, dict[str, Any]]:
        networks: dict[str, nn.Module] = {"dense": subject.model}
        networks |= {each.method: each.network for each in found}
        latency = self.config.latency
        x, count = subject.batch(latency.batch)
        took = latencies(networks, x, budget_s=latency.budget_s)
        return {
            name: {
                "macs": multiply_adds(network, x) // count,
                "latency_s": took[name],
                "latency_batch": count,
                "speedup": took["dense"] / took[name],
            }
            for name, network in networks.items()
        }

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Warnings about the data, once each, and the user's mistakes, as lines."""
        caught: list[warnings.WarningMessage] = []
        try:
            with self.source.watching(), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DataWarning)
                yield
        finally:
            for each in caught:
                if issubclass(each.category, DataWarning):
                    self._say(f"warning: {each.message}")
                else:
                    warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self.shown.note(line)

    def _from(self, begun: float) -> Any:
        """Reports the progress of the part of a seed that begins there."""
        return lambda fraction, doing: self.shown.doing(begun + 0.3 * fraction, doing)

    def _named(self, seed: int) -> str:
        return f"seed {seed}: " if isinstance(self.source, TrainedSubject) else ""
