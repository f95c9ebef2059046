"""Perplexity of a language model by tokens, with an interval over documents."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.lowrank.losses import IGNORED
from svdbench.lowrank.ranks.examples import batches, called, evaluating
from svdbench.lowrank.ranks.outputs import output_tensor
from svdbench.pretrained.sequences import ExamplePart

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Perplexity:
    """exp of a mean over tokens, with a confidence interval over documents.

    Attributes:
        value: exp(Σ loss/Σ tokens); or, of two models, the ratio of their perplexities.
        low, high: ends of the 95 % interval; of a single document, 0 and infinity.
        documents, tokens: their numbers.
    """

    value: float
    low: float
    high: float
    documents: int
    tokens: int

    @classmethod
    def of(cls, losses: Tensor, tokens: Tensor) -> "Perplexity":
        """Compute it from sums over documents (D,).

        The variance is that of a ratio estimator, Σ(L − m·n)²·D/(D − 1)/(Σn)² with m = ΣL/Σn:
        documents are independent, and their tokens need not be.

        Source: Cochran, Sampling Techniques (1977), §2.11.
        """
        count, total = len(tokens), float(tokens.sum())
        mean = float(losses.sum()) / total
        half = math.inf
        if count > 1:
            off = float((losses - mean * tokens).square().sum())
            error = math.sqrt(off * count / (count - 1)) / total
            half = float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
        value, low, high = (_exp(mean + each) for each in (0.0, -half, half))
        return cls(value, low, high, count, int(total))


@dataclass(frozen=True)
class PerplexityChange:
    """Perplexities on the same tokens: of the dense model, the compressed one, and their ratio."""

    dense: Perplexity
    compressed: Perplexity
    ratio: Perplexity


def compare_perplexity(
    dense: nn.Module, compressed: nn.Module, part: ExamplePart
) -> PerplexityChange:
    """The perplexity of two models on the tokens of a part, document by document."""
    before, tokens = document_losses(dense, part)
    after, _ = document_losses(compressed, part)
    found = (Perplexity.of(each, tokens) for each in (before, after, after - before))
    return PerplexityChange(*found)


@torch.no_grad()
def document_losses(model: nn.Module, part: ExamplePart) -> tuple[Tensor, Tensor]:
    """For each document that has a target: the sum of the losses (D,), and the tokens (D,)."""
    numbers: Sequence[int] = [int(each.max()) for each in part.documents]
    sums = torch.zeros(2, max(numbers) + 1, dtype=torch.float64)
    data: Any = part.batches
    with evaluating(model):
        for (x, y), owners in zip(batches(data, model), part.documents, strict=True):
            logits = output_tensor(called(model, x))
            losses = F.cross_entropy(
                logits.flatten(0, -2).float(), y.flatten(), reduction="none", ignore_index=IGNORED
            )
            counted = (y.flatten() != IGNORED).cpu()
            own = owners.flatten()[counted]
            sums[0].index_add_(0, own, losses.cpu().double()[counted])
            sums[1].index_add_(0, own, torch.ones(len(own), dtype=torch.float64))
    seen = sums[1] > 0
    return sums[0][seen], sums[1][seen]


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
