"""A model of transformers, with examples, as ``svdbench compress`` takes it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.splits import Splits
from svdbench.pretrained.images import image_parts
from svdbench.pretrained.perplexity import PerplexityChange, compare_perplexity
from svdbench.pretrained.saving import save_pretrained
from svdbench.pretrained.sequences import ExamplePart, TokenSequences, context_of, pool, text_parts
from svdbench.pretrained.source import (
    CAUSAL,
    ENCODER,
    MASKED,
    TEXT_CLASSES,
    PretrainedSource,
    pooling,
)
from svdbench.pretrained.texts import read_texts

# Characters of a token, about; to choose the length of sequences by.
CHARACTERS = 4


@dataclass(frozen=True)
class PretrainedExamples:
    """Examples in three parts.

    Attributes:
        splits: as :func:`svdbench.lowrank.compress` takes them.
        held_out: with the documents of its targets, where perplexity means something.
        document: what a document is: a file, a paragraph or a row; "" where there is none.
        context: tokens of a sequence; None of images.
    """

    splits: Splits
    held_out: ExamplePart
    document: str = ""
    context: int | None = None


def read_examples(
    source: PretrainedSource,
    data: str | Path,
    *,
    context: int | None = None,
    calibration: int | None = None,
    max_examples: int | None = None,
    seed: int = 0,
) -> PretrainedExamples:
    """The examples in a file or folder, as the model takes them.

    Args:
        data: texts, see :func:`svdbench.pretrained.texts.read_texts`; images, see
            :func:`svdbench.pretrained.images.image_parts`.
        context: tokens of a sequence.
        calibration, max_examples: at most, to calibrate and of each part.
        seed: of the parting, and of masks.
    """
    most: dict[str, int | None] = dict.fromkeys(("search", "held_out"), max_examples)
    least = [each for each in (calibration, max_examples) if each is not None]
    most["calibration"] = min(least, default=None)
    if source.takes_images:
        parts = image_parts(source, data, most=most, seed=seed)
        return _examples(parts, "images", seed)
    tokenizer, texts = source.tokenizer(), read_texts(data)
    characters = sum(len(text) for each in texts.values() for text in each.documents)
    length = context_of(source, tokenizer, context, characters // CHARACTERS)
    unit = next(iter(texts.values())).unit
    if source.task == TEXT_CLASSES or (source.task == ENCODER and pooling(source.folder)):
        parts = text_parts(texts, tokenizer, source.config, context=length, most=most, seed=seed)
        return replace(_examples(parts, f"{unit}s", seed), context=length)
    sequences = TokenSequences(tokenizer, source.task, length, seed)
    parts = sequences.parts(texts, most)
    found = _examples(parts, f"sequences of {length} tokens", seed, f" from {unit}s of text")
    document = unit if source.task in (CAUSAL, MASKED) else ""
    return replace(found, document=document, context=length)


def _examples(
    parts: dict[str, ExamplePart], unit: str, seed: int, source: str = ""
) -> PretrainedExamples:
    counts = " + ".join(f"{part.count:,}" for part in parts.values())
    description = f"{counts} {unit}{source} to calibrate, to search, held out (seed {seed})"
    calibration, search, held_out = (parts[name].batches for name in parts)
    splits = Splits(calibration, search, held_out, description)
    return PretrainedExamples(splits, parts["held_out"])


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
        data: a file or folder, see :func:`~svdbench.pretrained.model.read_examples`.
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
