"""What every data set must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svdbench.contract import Contract, Make, NotAsked, expect, expect_texts, plain_dtype

from .base import SPLITS, DatasetError

if TYPE_CHECKING:
    from torch import Tensor

    from .base import Dataset

CONTRACT = Contract()


def read(dataset: Dataset) -> dict[str, tuple[Tensor, Tensor]]:
    """Both splits.

    Raises:
        NotAsked: A file is missing.
    """
    try:
        return {split: dataset.read(split) for split in SPLITS}  # type: ignore[arg-type]
    except DatasetError as error:
        raise NotAsked(str(error)) from error


@CONTRACT.question("says what it is: title, what, licence, source, shape, examples, classes")
def described(make: Make) -> None:
    dataset = make()
    expect_texts(dataset, "name", "title", "what", "licence", "source")
    shape, examples = getattr(dataset, "shape", None), getattr(dataset, "examples", None)
    advice = "set shape = (H, W), (H, W, 3) or (d,)"
    expect(isinstance(shape, tuple) and all(shape), f"shape is {shape!r}", advice)
    advice = "set examples = (number to train on, number to test)"
    expect(isinstance(examples, tuple) and len(examples) == 2, f"examples is {examples!r}", advice)
    advice = "set classes to a whole number of at least 2"
    expect(dataset.classes >= 2, f"classes is {dataset.classes!r}", advice)


@CONTRACT.question("reads examples (N, *shape) in float32 from 0 to 1")
def examples(make: Make) -> None:
    import torch

    dataset = make()
    for (split, (X, _)), count in zip(read(dataset).items(), dataset.examples, strict=True):
        wanted = (count, *dataset.shape)
        expect(
            tuple(X.shape) == wanted,
            f"{split}: X has shape {tuple(X.shape)}, not {wanted}",
            "set examples and shape to what read returns",
        )
        expect(
            X.dtype == torch.float32, f"{split}: X is {plain_dtype(X.dtype)}", "return X.float()"
        )
        least, most = float(X.min()), float(X.max())
        expect(
            least >= 0 and most <= 1,
            f"{split}: X goes from {least:g} to {most:g}",
            "scale the examples to [0, 1]",
        )


@CONTRACT.question("reads labels (N,) in int64 from 0 to classes − 1")
def labels(make: Make) -> None:
    import torch

    dataset = make()
    for split, (X, y) in read(dataset).items():
        shape = tuple(y.shape)
        expect(shape == (len(X),), f"{split}: y has shape {shape}, not {(len(X),)}")
        expect(y.dtype == torch.int64, f"{split}: y is {plain_dtype(y.dtype)}", "return y.long()")
        least, most = int(y.min()), int(y.max())
        expect(
            least >= 0 and most < dataset.classes,
            f"{split}: labels go from {least} to {most}, but classes is {dataset.classes}",
            "number the labels from 0, and set classes",
        )


@CONTRACT.question("always reads the same", "shuffle nothing in read, or by a fixed seed")
def repeats(make: Make) -> None:
    import torch

    first, again = read(make()), read(make())
    for split in SPLITS:
        equal = all(torch.equal(a, b) for a, b in zip(first[split], again[split], strict=True))
        expect(equal, f"{split} is another one the second time")
