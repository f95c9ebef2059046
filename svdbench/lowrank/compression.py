"""compress(): a whole model compressed and measured."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from svdbench.arguments import integer, number
from svdbench.lowrank.checks import check_model
from svdbench.lowrank.compressed import (
    BeforeAfter,
    Compressed,
    CompressedLayer,
    OutputError,
    output_errors,
)
from svdbench.lowrank.costs import latencies, layer_latencies, layer_macs, multiply_adds
from svdbench.lowrank.finetuning import finetune
from svdbench.lowrank.judgement import Judgement
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.lowrank.ranks.certify import (
    Certificate,
    Evaluate,
    Increase,
    certify,
    check_losses,
    judge,
)
from svdbench.lowrank.ranks.curvature import needs_teacher
from svdbench.lowrank.ranks.examples import (
    Data,
    DataWarning,
    Inputs,
    Loss,
    batches,
    check_loss,
    give_back,
    in_pieces,
    size,
    take,
)
from svdbench.lowrank.ranks.frontier import Frontier, Kind, Ranks, rank_frontier
from svdbench.lowrank.ranks.outputs import with_teacher
from svdbench.lowrank.splits import Splits, split_examples
from svdbench.lowrank.trial import try_batch
from svdbench.members import refuse_unknown

SIZE, LATENCY = "size", "latency"

# Parts of the examples by which models are compared.
JUDGING = ("search", "held_out")

# Bytes that autograd may keep of a batch in calibration, where an eighth of the model is less.
LEAST_GRAPH = 2**24

# Examples at once when layers are timed, if the data doesn't come in batches.
BATCH = 64


def compress(
    model: nn.Module,
    data: Data | Splits,
    *,
    loss: Loss | None = None,
    distill: str | None = None,
    temperature: float = 1.0,
    max_loss_increase: float | None = None,
    params: float | None = None,
    macs: float | None = None,
    latency: float | None = None,
    kind: Kind = "kronecker",
    embeddings: bool = True,
    multiple_of: int = 1,
    keep_if: str = "size",
    finetune_epochs: int = 0,
    lr: float = 1e-4,
    validation: Data | None = None,
    held_out: Data | None = None,
    calibration: int | None = None,
    max_examples: int | None = None,
    timing_s: float = 4.0,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda part, doing: None,
    **options: Any,
) -> Compressed:
    """Compress a model: replace weights by two factors each, with jointly chosen ranks.

    With a budget, the ranks are those with the lowest predicted loss. Otherwise a bisection on
    the true loss finds the smallest model whose loss increases by at most ``max_loss_increase``.

    Args:
        model: any module, on any device; it is not changed.
        data: (X, y), X alone, or batches, such as a ``DataLoader``; or
            :class:`~svdbench.lowrank.splits.Splits`. X is a tensor, or a tuple or dict of tensors;
            in a dict without y, the entry ``labels`` is y.
        loss: a function of the model's output and y, the mean over a batch; by default cross
            entropy for integer targets, mean squared error for other targets, and distillation
            without targets. With a :class:`svdbench.lowrank.losses.Distillation`, the targets are
            the dense model's own outputs, and those of the data are ignored.
        distill: kind of distillation, instead of a loss: "cosine", "mse", "kl", or "auto" for the
            one that suits the model's output.
        temperature: temperature of the distillation "kl".
        max_loss_increase: largest increase of the loss on the search examples, in the loss's own
            unit (nats for cross entropy); by default 0.01 if no budget is given.
        params, macs, latency: a budget instead of ``max_loss_increase``: a fraction of the
            parameters of the weights that can be factored, or of the multiply-adds or the measured
            time of their dense layers.
        kind, embeddings: see :func:`svdbench.lowrank.rank_frontier`.
        multiple_of: make every rank a multiple of this number.
        keep_if: "size": factor a weight if that saves parameters; "latency": only if it is also
            measured to be faster.
        finetune_epochs, lr: epochs and learning rate of
            :func:`svdbench.lowrank.finetuning.finetune` on the calibration examples; 0 epochs:
            no fine-tuning.
        validation, held_out: examples for the search and for evaluating the result; if not given,
            they are split off ``data``, see :func:`svdbench.lowrank.splits.split_examples`.
        calibration: number of examples of ``data`` for calibration.
        max_examples: largest number of examples to read from each of the three; required for an
            endless loader.
        timing_s: seconds for timing the model, and as many for its layers; 0: no timing.
        seed: seed for splitting the examples and for fine-tuning.
        on_progress: called with the approximate fraction done, from 0 to 1, and a description of
            the next step.
        options: further arguments of :func:`svdbench.lowrank.rank_frontier`, such as ``layers``.

    Raises:
        TypeError: ``model`` is no module, ``data`` no examples, or an option has the wrong type.
        ValueError: more than one budget, one that can't be met, NaN in the data, nothing to factor,
            or a loss that doesn't fit the model.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        >>> X, y = torch.randn(64, 20), torch.randint(4, (64,))
        >>> found = compress(net, (X, y), params=0.5)
        >>> found.model(X).shape
        torch.Size([64, 4])
    """
    check_model(model)
    fractions = {"params": params, "macs": macs, "latency": latency}
    budget = {name: number(name, part) for name, part in fractions.items() if part is not None}
    if len(budget) + (max_loss_increase is not None) > 1:
        raise ValueError(f"give one of max_loss_increase, {', '.join(fractions)}")
    for name, part in budget.items():
        if not 0 < part <= 1:
            raise ValueError(f"{name} is {part:g}: give a fraction of the dense model, from 0 to 1")
    refuse_unknown("keep_if", [keep_if], (SIZE, LATENCY))
    multiple_of = integer("multiple_of", multiple_of, 1)
    finetune_epochs = integer("finetune_epochs", finetune_epochs, 0)
    for name, value in {"timing_s": timing_s, "lr": lr}.items():
        if not number(name, value) >= 0:
            raise ValueError(f"{name} is {value:g}: give 0 or more")
    if loss is not None:
        check_loss(loss)
        if distill is not None:
            raise ValueError("give one of loss and distill")
        if temperature != 1:
            raise ValueError("temperature is of distillation: leave it out with a loss")
    if not timing_s and (latency is not None or keep_if == LATENCY):
        raise ValueError("timing_s is 0: a latency takes seconds to measure")
    if not isinstance(data, Splits):
        data = split_examples(
            data,
            validation,
            held_out,
            calibration=calibration,
            max_examples=max_examples,
            seed=seed,
            on_reading=lambda count: on_progress(0.0, f"reading the data: {count:,} examples"),
        )
    allowed = 0.01 if max_loss_increase is None else number("max_loss_increase", max_loss_increase)
    if not allowed >= 0:
        raise ValueError(f"max_loss_increase is {allowed:g}: give 0 or more")
    with _data_warnings() as data_warnings:
        on_progress(0.0, "trying one batch")
        judged = try_batch(
            model,
            data,
            loss=loss,
            distill=distill,
            temperature=temperature,
            backward=kind == "kronecker",
        )
        if judged.note:
            warnings.warn(judged.note, DataWarning, stacklevel=2)
        data = judged.of(data)
        taught = data
        if needs_teacher(judged.loss):
            taught = _taught(data, model, tuning=finetune_epochs > 0)
        numbers = judged.numbers(max(bytes_of(model) // 8, LEAST_GRAPH))
        dense = {
            part: check_losses(
                judged.losses(model, in_pieces(getattr(taught, part), numbers)),
                part.replace("_", "-"),
                judged.unit,
            )
            for part in JUDGING
        }
        give_back()
        subject = _Subject(model, taught, judged, numbers, dense, timing_s, on_progress)
        on_progress(0.1, "calibrating")
        pieces = in_pieces(data.calibration, numbers)
        options.setdefault("blockwise", judged.blockwise)
        frontier = rank_frontier(
            model, pieces, judged.loss, kind=kind, embeddings=embeddings, **options
        )
        frontier = replace(frontier, multiple_of=multiple_of)
        frontier = subject.priced(frontier, latency is not None, keep_if)
        frontier, certificate, seconds = subject.chosen(frontier, budget, allowed)
        on_progress(0.7, "factoring")
        errors = output_errors(
            frontier, model, certificate.ranks, in_pieces(data.held_out, numbers)
        )
        give_back()
        small, tuned = frontier.compressed(model, certificate.ranks, last=True), list[float]()
        if finetune_epochs:
            tuned = subject.tuned(small, finetune_epochs, lr, seed)
            certificate = subject.judged_anew(certificate, small)
        give_back()
        on_progress(0.9, "measuring")
        return subject.described(
            frontier, certificate, seconds, errors, small, tuned, data_warnings
        )


@contextmanager
def _data_warnings() -> Iterator[list[str]]:
    """Collects warnings of the data as lines, each once."""
    lines: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def kept(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, DataWarning):
                show(message, category, *where, **more)
            elif str(message) not in lines:
                lines.append(str(message))

        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = kept
        yield lines
    for line in lines:
        warnings.warn(line, DataWarning, stacklevel=4)


@dataclass(frozen=True)
class _Subject:
    """A model with its examples, and the steps of compressing it."""

    model: nn.Module
    splits: Splits
    judged: Judgement
    numbers: int | None  # among inputs at once, where no time is measured
    dense: Mapping[str, Tensor]
    timing_s: float
    on_progress: Callable[[float, str], None]

    def batch(self) -> tuple[Inputs, int]:
        """Inputs of the shape that the model runs with, and how many examples that is."""
        x, _ = next(iter(batches(self.splits.search, self.model)))
        count = min(size(x), BATCH) if isinstance(self.splits.search, tuple) else size(x)
        return take(x, slice(count)), count

    def losses(self, frontier: Frontier, part: str) -> Evaluate:
        """Of the model at some ranks, on a part of the examples."""

        def evaluate(ranks: Ranks) -> Tensor:
            if all(rank is None for rank in ranks.values()):
                return self.dense[part]
            some = in_pieces(getattr(self.splits, part), self.numbers)
            found = self.judged.losses(frontier.view(self.model, ranks), some)
            give_back()
            return found

        return evaluate

    def priced(self, frontier: Frontier, latency: bool, keep_if: str) -> Frontier:
        """The frontier with what its layers cost."""
        x, count = self.batch()
        frontier = replace(frontier, macs=layer_macs(frontier, self.model, x, count))
        give_back()
        if latency or keep_if == LATENCY:
            self.on_progress(0.3, "timing the layers")
            timed = layer_latencies(frontier, self.model, x, budget_s=self.timing_s)
            frontier = replace(frontier, latency=timed, only_faster=keep_if == LATENCY)
        return frontier

    def chosen(
        self, frontier: Frontier, budget: Mapping[str, float], allowed: float
    ) -> tuple[Frontier, Certificate, dict[str, BeforeAfter]]:
        """The ranks, certified, and the seconds of each factored weight's layer.

        Where all must be faster, those that turn out not to be are kept dense, and it is
        chosen anew, from the frontier that is returned.
        """
        search, held_out = (self.losses(frontier, part) for part in JUDGING)
        limits: dict[str, Any] = {{"params": "fraction"}.get(k, k): v for k, v in budget.items()}
        while True:
            self.on_progress(0.4, "choosing ranks")
            if budget:
                ranks = frontier.ranks(**limits)
                give_back()
                certificate = judge(frontier, ranks, search, held_out=held_out)
            else:
                certificate = certify(
                    frontier, search, max_loss_increase=allowed, held_out=held_out
                )
            seconds = self._seconds(frontier, certificate.ranks)
            slower = [name for name, each in seconds.items() if each.after >= each.before]
            if not (frontier.only_faster and slower):
                return frontier, certificate, seconds
            frontier = _without(frontier, slower)

    def _seconds(self, frontier: Frontier, ranks: Ranks) -> dict[str, BeforeAfter]:
        factored = {name: rank for name, rank in ranks.items() if rank is not None}
        if not (self.timing_s and factored):
            return {}
        self.on_progress(0.6, "timing the layers")
        x, _ = self.batch()
        found = layer_latencies(frontier, self.model, x, ranks=factored, budget_s=self.timing_s)
        return {name: BeforeAfter(at.dense, float(at.factors[0])) for name, at in found.items()}

    def tuned(self, small: nn.Module, epochs: int, lr: float, seed: int) -> list[float]:
        """Fine-tune the compressed model."""
        return finetune(
            small,
            self.splits.calibration,
            self.judged.loss,
            search=self.splits.search,
            epochs=epochs,
            lr=lr,
            seed=seed,
            unit=self.judged.unit,
            on_epoch=lambda n, now: self.on_progress(
                0.7 + 0.2 * n / epochs, f"fine-tuning, {n}/{epochs} epochs"
            ),
        )

    def judged_anew(self, certificate: Certificate, small: nn.Module) -> Certificate:
        """The certificate for a model whose numbers have changed since."""
        search, held_out = (
            Increase.of(self.judged.losses(small, getattr(self.splits, part)), self.dense[part])
            for part in JUDGING
        )
        return replace(certificate, search=search, held_out=held_out)

    def described(
        self,
        frontier: Frontier,
        certificate: Certificate,
        seconds: Mapping[str, BeforeAfter],
        errors: Mapping[str, OutputError],
        small: nn.Module,
        tuned: list[float],
        data_warnings: list[str],
    ) -> Compressed:
        """All that there is to say of the compressed model."""
        model, (x, count), ranks = self.model, self.batch(), certificate.ranks
        latency = None
        if self.timing_s:
            whole = latencies({"before": model, "after": small}, x, budget_s=self.timing_s)
            latency = BeforeAfter(whole["before"], whole["after"])
        return Compressed(
            model=small,
            ranks=ranks,
            layers=[
                _layer(frontier, name, ranks[name], seconds.get(name), errors.get(name))
                for name in frontier.layers
            ],
            skipped=frontier.skipped,
            certificate=certificate,
            n_params=BeforeAfter(*map(numbers_of, (model, small))),
            bytes=BeforeAfter(*map(bytes_of, (model, small))),
            macs=BeforeAfter(*(multiply_adds(each, x) / count for each in (model, small))),
            latency_s=latency,
            batch=count,
            tuned=tuned,
            warnings=data_warnings,
            splits=self.splits.description,
            loss=self.judged.name,
            unit=self.judged.unit,
            curvature=frontier.curvature,
            frontier=frontier,
        )


def _taught(splits: Splits, model: nn.Module, *, tuning: bool) -> Splits:
    """The same with the model's own outputs as targets, for calibration only to be tuned on."""
    search, held_out = (with_teacher(getattr(splits, part), model) for part in JUDGING)
    taught = replace(splits, search=search, held_out=held_out)
    if not tuning:
        return taught
    return replace(taught, calibration=with_teacher(splits.calibration, model))


def _without(frontier: Frontier, names: list[str]) -> Frontier:
    """The frontier without the weights that are never faster as factors."""
    never = {
        name: replace(known, factors=np.full(len(known.ranks), math.inf))
        for name, known in frontier.latency.items()
        if name in names
    }
    return replace(frontier, latency={**frontier.latency, **never})


def _layer(
    frontier: Frontier,
    name: str,
    rank: int | None,
    seconds: BeforeAfter | None,
    error: OutputError | None,
) -> CompressedLayer:
    each, macs = frontier.layers[name], frontier.macs[name]
    after = macs.dense if rank is None else float(macs.at(np.array([rank]))[0])
    return CompressedLayer(
        name=name,
        rows=each.weight.rows,
        columns=each.weight.columns,
        rank=rank,
        numbers=BeforeAfter(each.numbers(None), each.numbers(rank)),
        macs=BeforeAfter(macs.dense, after),
        latency_s=seconds,
        error=error,
    )
