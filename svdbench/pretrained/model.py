"""A model of transformers, with examples, as ``svdbench compress`` takes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.pretrained.examples import PretrainedExamples, read_examples
from svdbench.pretrained.padded import pool
from svdbench.pretrained.perplexity import PerplexityChange, compare_perplexity
from svdbench.pretrained.saving import save_pretrained
from svdbench.pretrained.source import ENCODER, PretrainedSource, pooling


@dataclass(frozen=True)
class PretrainedModel:
    """A dense model of transformers.

    Attributes:
        source: where it came from.
        model: with its weights, in evaluation mode.
        examples: None where none were asked for, or where a function of the user's gives them.
    """

    source: PretrainedSource
    model: nn.Module
    examples: PretrainedExamples | None

    @property
    def document(self) -> str | None:
        """What a document is, of a language model's text: a file, a paragraph or a row."""
        return (self.examples and self.examples.document) or None

    def perplexity(self, compressed: nn.Module) -> PerplexityChange | None:
        """Before and after, on the held-out text; None where there is none."""
        if self.examples is None or not self.examples.document:
            return None
        return compare_perplexity(self.model, compressed, self.examples.held_out)

    @property
    def layers(self) -> list[str] | None:
        """The weights to compress; None for all.

        Not those of a pooler behind an encoder: the encoder's loss does not depend on them.
        """
        names = [site.name for site in factorable_weights(self.model)[0]]
        kept = [name for name in names if "pooler" not in name.split(".")]
        return kept if self.source.task == ENCODER and len(kept) < len(names) else None

    def save(self, compressed: Any, folder: Path) -> Path:
        """Write the compressed model to a folder, so that it can be loaded again."""
        return save_pretrained(compressed, folder, self.source.folder)


def pretrained_model(
    name: str,
    data: str | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    context: int | None = None,
    calibration: int | None = None,
    max_examples: int | None = None,
    seed: int = 0,
) -> PretrainedModel:
    """The model in a folder, or of that name in the local cache, and the examples for it.

    Args:
        name: of the folder, or of the model.
        data: a file or folder, see :func:`~svdbench.pretrained.examples.read_examples`.
        dtype: of its parameters; None: as saved.

    Raises:
        UserError: transformers is missing, or the model or the data can't be read.
    """
    source, examples = PretrainedSource.of(name), None
    if data is not None:
        examples = read_examples(
            source,
            data,
            context=context,
            calibration=calibration,
            max_examples=max_examples,
            seed=seed,
        )
    model = source.model(dtype).to(device)
    if examples is not None and (how := pooling(source.folder)) and source.task == ENCODER:
        pool(model, how)
    return PretrainedModel(source, model, examples)
