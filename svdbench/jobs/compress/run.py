"""Trains a network with and without compression, side by side, once for each seed."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from svdbench.errors import UserError
from svdbench.jobs.compress import JOB, Compress
from svdbench.jobs.compress.arms import (
    CompressedArm,
    CompressExperiment,
    Compression,
    CompressSetting,
    deployed,
    latencies,
)
from svdbench.measure.plan import TimingPlan
from svdbench.members import COMPRESSORS
from svdbench.record.events import require_tensorboard
from svdbench.record.run import RunWriter
from svdbench.record.schema import COMPRESSION, LAYERS
from svdbench.running.session import RunDisplay, load
from svdbench.side_by_side.arms import Arm, same_start, warm_up
from svdbench.side_by_side.families import NetworkFamily
from svdbench.side_by_side.networks import Scores, evaluate, linear_layers
from svdbench.side_by_side.problems import problem_of
from svdbench.side_by_side.session import (
    ArmsSession,
    SharedRows,
    run_session,
    weight_columns,
)
from svdbench.training.learner import network_optimizer

HIDDEN = (15, 15)  # Keene 2022


def run(config: Compress, text: str, folder: str | None = None) -> Path:
    return run_session(JOB, CompressSession, prepare(config), text, folder)


def check(config: Compress) -> None:
    for method in config.methods:
        load(COMPRESSORS, method, config.compressor)


def prepare(config: Compress) -> CompressExperiment:
    """Data, sizes and compressors, checked before a run starts."""
    require_tensorboard(config.tensorboard)
    settings = [CompressSetting()] + [
        CompressSetting(method, rank, load(COMPRESSORS, method, config.compressor))
        for method in config.methods
        for rank in config.ranks
    ]
    problem = problem_of(config, HIDDEN)
    _check_ranks(settings, problem.family)
    return CompressExperiment(config, settings, problem)


def _check_ranks(settings: list[CompressSetting], family: NetworkFamily) -> None:
    """Refuse an arm that would be stock again."""
    most = max(min(layer.weight.shape) for layer in linear_layers(family.build()).values())
    for setting in settings:
        if setting.compressor is not None and setting.kept >= most:
            raise UserError(
                f"{setting.label} would leave every weight of {family.label} as it "
                f"is: give a rank below {most - setting.kept + (setting.rank or 0)}"
            )


class CompressSession(ArmsSession[CompressExperiment, CompressedArm]):
    score_name = "error"

    def __init__(self, given: CompressExperiment, record: RunWriter, shown: RunDisplay) -> None:
        super().__init__(given, record, shown)
        self.rows = CompressRows(record, given)
        self.latency_s: dict[str, float] | None = None

    def memo(self) -> dict[str, Any]:
        return {"latency_s": self.latency_s}

    def restore(self, memo: Mapping[str, Any]) -> None:
        self.latency_s = memo.get("latency_s")

    def arms(self, seed: int) -> list[CompressedArm]:
        given, config = self.given, self.given.config
        X = given.train[0]
        torch.manual_seed(seed)
        network = given.network()
        chosen = torch.randperm(len(X))[: config.calibration].to(X.device)
        loss = given.family.loss
        arms = []
        copies = same_start(network, len(given.settings))
        for setting, own in zip(given.settings, copies, strict=True):
            compression = None
            if setting.compressor is not None and setting.rank is not None:
                compression = Compression(
                    own, setting.compressor, setting.rank, calibration=X[chosen], seed=seed
                )
            arm = Arm(setting.label, own, network_optimizer(own, config.optimizer), loss)
            often = (given.every, given.batches, given.epochs)
            arms.append(CompressedArm(arm, setting, seed, compression, *often))
        return arms

    def begin(self, arms: list[CompressedArm], seed: int) -> None:
        if not self.rows.record.units:  # else an earlier seed's are there
            for arm in arms:
                self.rows.layers(arm)
        for arm in self.arms(seed):
            if arm.compression is not None:
                with suppress(Exception):  # the arm itself fails at its first batch, and says why
                    arm.compression()
            warm_up(arm, self.batches(seed), self.clock)

    def epoch(self, arm: CompressedArm, last: bool) -> Scores:
        scores = evaluate(arm.network, *self.given.test, arm.loss)
        self.rows.epoch(arm, scores)
        return scores

    def end(self, arms: list[CompressedArm]) -> None:
        if self.latency_s is None:
            self.shown.doing(1.0, "inference")
            self.latency_s = self._latencies(arms)

    def summary(self, arm: CompressedArm, stock: CompressedArm, scores: Scores | None) -> None:
        self.rows.summary(arm, stock, scores, (self.latency_s or {}).get(arm.name))

    def _latencies(self, arms: list[CompressedArm]) -> dict[str, float]:
        latency = self.given.config.latency
        X = self.given.test[0]
        rows = torch.arange(latency.batch, device=X.device) % len(X)
        plan = TimingPlan(budget_s=latency.budget_s, max_reps=2000, seed=self.given.config.seed)
        pairs = {
            arm.name: (arm.network, deployed(arm.network, arm.compression).network)
            for arm in arms
            if arm.status == "ok"
        }
        return latencies(pairs, X[rows], plan, self.clock)


class CompressRows(SharedRows):
    def __init__(self, record: RunWriter, given: CompressExperiment) -> None:
        super().__init__(record, given)
        self.config = given.config
        self.settings["every"] = given.config.every

    def layers(self, arm: CompressedArm) -> None:
        for layer in arm.made.layers:
            compressed = self._compressed(arm, layer.weight.name)
            kept = arm.compression.kept if compressed and arm.compression else None
            row = self._arm(arm) | weight_columns(layer) | {"kept": kept}
            self.record.append(LAYERS, row)

    def epoch(self, arm: CompressedArm, scores: Scores) -> None:
        done = arm.history[-1]
        times = {"epoch_s": done.seconds, "decompose_s": done.decompose_s}
        row = self._row(arm, scores) | times | {"elapsed_s": sum(arm.seconds())}
        self.record.append(COMPRESSION, row)

    def summary(
        self,
        arm: CompressedArm,
        stock: CompressedArm,
        scores: Scores | None,
        latency_s: float | None,
    ) -> None:
        row = self._row(arm, scores)
        if arm.history:
            spent = sum(done.decompose_s for done in arm.history)
            ratios = [a / b for a, b in zip(stock.seconds(), arm.seconds(), strict=False)]
            row |= {
                "epoch_s": median(arm.seconds()),
                "decompose_s": spent,
                "elapsed_s": sum(arm.seconds()),
                "speedup": median(ratios) if ratios else None,
                "added": spent / (sum(arm.seconds()) - spent),
            }
        self.end(row | {"latency_s": latency_s, "latency_batch": self.config.latency.batch})

    def _arm(self, arm: CompressedArm) -> dict[str, Any]:
        setting = arm.setting
        settings = {
            "method": setting.method,
            "arm": setting.label,
            "rank": setting.rank,
            "seed": arm.seed,
        }
        own = self.config.compressor.get(setting.method)
        return self.cell(settings, compressor=own) | {"status": "ok"}

    def _row(self, arm: CompressedArm, scores: Scores | None) -> dict[str, Any]:
        made, lost = arm.made, arm.history[-1].rel_error if arm.history else None
        size = {"n_params": made.n_params, "macs": made.macs, "bytes": made.bytes}
        return self._arm(arm) | self.scores(arm, "test", scores, lost, size)

    @staticmethod
    def _compressed(arm: CompressedArm, weight: str) -> bool:
        name = weight.removesuffix(".weight")
        return arm.compression is not None and name in arm.compression.layers
