"""Examples for a model of transformers, of the kind that it takes, in three parts."""

from dataclasses import dataclass, replace
from pathlib import Path

from svdbench.lowrank.splits import Splits
from svdbench.pretrained.images import image_parts
from svdbench.pretrained.padded import text_parts
from svdbench.pretrained.sequences import ExamplePart, TokenSequences, context_of
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
