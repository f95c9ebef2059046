"""Compresses a model by every method, in several draws of the calibration examples."""

import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import UserError, one_line
from svdbench.jobs.time_compressors import JOB, TimeCompressors
from svdbench.jobs.time_compressors.methods.base import CompressionProblem, ModelCompressor
from svdbench.jobs.time_compressors.rows import (
    CompressorRows,
    decoding,
    of_data,
    prefill,
    watched,
)
from svdbench.lowrank.finetuning import finetune
from svdbench.lowrank.judgement import Judgement
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.lowrank.ranks.certify import Increase, check_losses
from svdbench.lowrank.ranks.curvature import needs_teacher
from svdbench.lowrank.ranks.examples import (
    DataWarning,
    Inputs,
    Loss,
    batches,
    size,
    take,
)
from svdbench.lowrank.ranks.outputs import with_teacher
from svdbench.lowrank.splits import Splits, split_examples
from svdbench.lowrank.trial import try_batch
from svdbench.members import MODEL_COMPRESSORS, is_reference
from svdbench.record.reader import UNCOMPRESSED
from svdbench.record.run import RunWriter
from svdbench.reporting.words import number, quantity
from svdbench.running.session import RunDisplay, device_of, running
from svdbench.timings.session import chosen
from svdbench.user_code import user_code
from svdbench.user_models.model import LoadedUserModel, configured_model, named_loss

# Examples at once where a model is timed.
BATCH = 16


def run(config: TimeCompressors, text: str, folder: str | None = None) -> Path:
    methods = _methods(config)
    loss = None if config.loss is None else named_loss(config.loss)
    brought = configured_model(
        config.model,
        device=device_of(config),
        dtype=getattr(torch, config.dtype.value),
        seed=config.seed,
    )
    cells = 1 + config.draws * len(methods)
    with running(JOB, config, text, folder, cells) as (record, shown):
        for note in brought.notes:
            shown.note(note)
        try:
            with user_code(brought.build):
                session = session_of(config, brought, loss, record, shown)
                session.begin()
        except BaseException:
            if not record.units:
                shutil.rmtree(record.folder)  # there is nothing in it yet
            raise
        for draw in range(config.draws):
            for name, method in methods.items():
                if f"draw {draw}: {name}" not in record.units:
                    session.compare(draw, name, method)
    return record.folder


def check(config: TimeCompressors) -> None:
    _methods(config)


def _methods(config: TimeCompressors) -> dict[str, ModelCompressor]:
    """The methods by name, the one that they are compared with first."""
    found: dict[str, ModelCompressor] = chosen(MODEL_COMPRESSORS, config)
    if config.against in found:
        found = {config.against: found.pop(config.against)} | found
    elif config.methods is None or len(found) > 1:
        raise UserError(
            f"against is {config.against}, which is not among the methods: add it, or give "
            f"--against {next(iter(found))}"
        )
    return found


def session_of(
    config: TimeCompressors,
    brought: LoadedUserModel,
    loss: Loss | None,
    record: RunWriter,
    shown: RunDisplay,
) -> "CompressorsSession":
    """A session with its loss, once one batch has been tried."""
    model, splits = brought.model, brought.splits
    assert splits is not None  # as the configuration has a loader
    judged = try_batch(
        model,
        splits,
        loss=loss,
        distill=config.distill,
        temperature=config.temperature,
        folding=config.folding,  # type: ignore[arg-type]
    )
    if judged.note:
        shown.note(f"warning: {judged.note}")
    splits = judged.of(splits)
    if needs_teacher(judged.loss):
        splits = replace(
            splits,
            calibration=with_teacher(splits.calibration, model),
            search=with_teacher(splits.search, model),
            held_out=with_teacher(splits.held_out, model),
        )
    return CompressorsSession(config, brought, splits, judged, record, shown)


@dataclass
class CompressorsSession:
    """A model, the examples held out, and the rows of one method and draw after the other."""

    config: TimeCompressors
    brought: LoadedUserModel
    splits: Splits
    judged: Judgement
    record: RunWriter
    shown: RunDisplay

    @cached_property
    def dense(self) -> Tensor:
        """The dense model's loss on each example held out (N,)."""
        found = self.judged.losses(self.brought.model, self.splits.held_out)
        return check_losses(found, "held-out", self.judged.unit)

    @cached_property
    def subject(self) -> CompressionProblem:
        """The model and its weights, which no draw changes."""
        splits, config = self.splits, self.config
        return CompressionProblem(
            self.brought.model,
            splits.calibration,
            splits.search,
            self.judged.loss,
            layers=self.brought.layers if config.layers is None else config.layers,
            skip_last=config.skip_last,
            embeddings=config.embeddings,
            folding=config.folding,  # type: ignore[arg-type]
            blockwise=self.judged.blockwise,
        )

    @cached_property
    def batch(self) -> Inputs:
        x, _ = next(iter(batches(self.splits.held_out, self.brought.model)))
        return take(x, slice(BATCH))

    @cached_property
    def count(self) -> int:
        """How many examples each draw calibrates on."""
        if self.config.calibration is not None:
            return self.config.calibration
        whole = sum(size(x) for x, _ in batches(self.splits.calibration, self.brought.model))
        return max(1, 2 * whole // 3)

    @cached_property
    def rows(self) -> CompressorRows:
        splits = f"{self.count:,} of {self.splits.description}"
        return CompressorRows(
            self.record, self.config, self.brought.build, self.judged.unit, splits
        )

    def begin(self) -> None:
        """Judge the dense model; refuse what no method can compress."""
        with _data_warnings():
            _ = self.subject.plain, self.subject.sites
            if UNCOMPRESSED in self.record.units:
                return
            self.shown.begin(UNCOMPRESSED)
            self.rows.samples(UNCOMPRESSED, 1.0, 0, False, self.dense)
        self.record.finish(UNCOMPRESSED)
        self.shown.finish(
            f"{self.brought.build}: loss {number(float(self.dense.mean()), 4)} on "
            f"{quantity(len(self.dense), 'example')} held out"
        )

    def problem(self, draw: int) -> CompressionProblem:
        """The model with the calibration examples of a draw."""
        seed = self.config.seed + 1 + draw
        drawn = split_examples(
            self.splits.calibration,
            self.splits.search,
            self.splits.held_out,
            calibration=self.count,
            seed=seed,
        )
        return self.subject.with_examples(drawn.calibration, drawn.search, seed)

    def compare(self, draw: int, name: str, method: ModelCompressor) -> None:
        """Compress by one method within each budget, and write down what it costs and loses."""
        unit = f"draw {draw}: {name}"
        self.shown.begin(unit)
        words = []
        with _data_warnings() as caught:
            problem = self.problem(draw)
            own: dict[str, Any] = {"needs": method.needs, "source": method.source}
            own["warnings"] = caught
            try:
                with watched(torch.device(self.config.device)) as memory:
                    start = time.perf_counter()
                    compressed = _asked(name, lambda: method.calibrated(problem))
                    own["calibrate_s"] = time.perf_counter() - start
                own["peak_bytes"] = memory.bytes
            except Exception as error:
                for budget in self.config.params:
                    self.rows.failed(name, budget, draw, error, own)
                words.append(one_line(error))
            else:
                for number_, budget in enumerate(self.config.params):
                    self.shown.doing(number_ / len(self.config.params), f"{budget:g}")
                    try:
                        params = int(budget * problem.plain.n_params)
                        start = time.perf_counter()
                        small = _asked(name, lambda: compressed(params))
                        spent = own | {"compress_s": time.perf_counter() - start}
                        words.append(self._judged(problem, name, budget, draw, small, spent))
                    except Exception as error:
                        self.rows.failed(name, budget, draw, error, own)
                        words.append(one_line(error))
        self.record.finish(unit)
        self.shown.finish(f"{unit}: {'; '.join(dict.fromkeys(words))}")

    def _judged(
        self,
        problem: CompressionProblem,
        name: str,
        budget: float,
        draw: int,
        small: nn.Module,
        own: dict[str, Any],
    ) -> str:
        """Write the rows of a compressed model; its loss in words."""
        config, model = self.config, self.brought.model
        params, kept = int(budget * problem.plain.n_params), problem.numbers_in(small)
        if kept > params:
            raise ValueError(f"{name} kept {kept:,} parameters, where {params:,} are allowed")
        row = own | {
            "weights": kept,
            "dense_weights": problem.plain.n_params,
            "kept": kept / problem.plain.n_params,
            "n_params": numbers_of(small),
            "dense_n_params": numbers_of(model),
            "bytes": bytes_of(small),
            "dense_bytes": bytes_of(model),
        }
        if config.timing_s and draw == 0:
            row |= prefill(model, small, self.batch, config.timing_s)
            row |= decoding(model, small, self.batch)
            row["latency_batch"] = size(self.batch)
        loss = self._row(name, budget, draw, False, small, row)
        said = f"{budget:g}: {number(loss, 4)}"
        if config.finetune.epochs:
            start = time.perf_counter()
            finetune(
                small,
                problem.calibration,
                self.judged.loss,
                search=problem.search,
                epochs=config.finetune.epochs,
                lr=config.finetune.lr,
                seed=config.seed,
                unit=self.judged.unit,
            )
            more = {"tune_s": time.perf_counter() - start, "tuned_epochs": config.finetune.epochs}
            said += f", tuned {number(self._row(name, budget, draw, True, small, row | more), 4)}"
        return said

    def _row(
        self,
        name: str,
        budget: float,
        draw: int,
        tuned: bool,
        small: nn.Module,
        row: dict[str, Any],
    ) -> float:
        losses = self.judged.losses(small, self.splits.held_out)
        self.rows.samples(name, budget, draw, tuned, losses)
        found = Increase.of(losses, self.dense)
        if self.brought.pretrained is not None:
            perplexity = self.brought.pretrained.perplexity(small)
            if perplexity is not None:  # of a language model
                row = row | {"perplexity": perplexity.compressed.value}
                row |= {"dense_perplexity": perplexity.dense.value}
        self.rows.summary(
            name,
            budget,
            draw,
            tuned,
            row
            | {
                "status": "ok",
                "loss": float(losses.mean()),
                "dense_loss": found.dense,
                "increase": found.mean,
                "increase_se": found.standard_error,
                "examples": found.examples,
            },
        )
        return float(losses.mean())


def _asked(name: str, call: Any) -> Any:
    """What a method returns; a member of other people's is their code."""
    if not is_reference(name):
        return call()
    with user_code(name):
        return call()


@contextmanager
def _data_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings about the data are kept for a column of the summary, others shown afterwards."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            yield caught
    finally:
        for each in caught:
            if not of_data(each):
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
