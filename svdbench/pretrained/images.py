"""Images for vision models: from a folder of pictures, or as an array."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svdbench.errors import UserError, one_line
from svdbench.files import existing_regular_file
from svdbench.pretrained.sequences import Batch, ExamplePart, deal, labels
from svdbench.pretrained.source import PretrainedSource, read_part
from svdbench.pretrained.texts import PARTS

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"}
ROWS = 16  # of a batch


def image_parts(
    source: PretrainedSource, path: str | Path, *, most: dict[str, int | None], seed: int
) -> dict[str, ExamplePart]:
    """Images for calibration, search and evaluation, preprocessed for the model.

    Args:
        path: a folder of pictures, with a subfolder per label if there are labels; or pixel values
            (N, C, H, W) as .npy, or in a .safetensors file as ``pixel_values``, optionally with
            ``labels``.

    Raises:
        UserError: there are none, or too few to split.
    """
    path = Path(path).expanduser()
    dealt = torch.Generator().manual_seed(seed)
    if path.is_dir():
        pictures = sorted(each for each in path.rglob("*") if each.suffix.lower() in PICTURES)
        if not pictures:
            raise UserError(f"{path} has no pictures: give a folder of .png or .jpg files")
        named = (
            None if all(p.parent == path for p in pictures) else [p.parent.name for p in pictures]
        )
        numbers = labels(named, source.config, len(pictures)) if _classifies(source) else [None]
        rows = list(zip(pictures, numbers * (len(pictures) // len(numbers)), strict=True))
        parts = deal({"": rows}, dealt, "pictures")
        processor = _processor(source)
        return {name: _loaded(parts[name][: most.get(name)], processor) for name in PARTS}
    pixels, known = _array(path)
    order = deal({"": list(range(len(pixels)))}, dealt, "images")
    return {name: _cut(pixels, known, order[name][: most.get(name)]) for name in PARTS}


def _classifies(source: PretrainedSource) -> bool:
    return "classes" in source.task


def _processor(source: PretrainedSource) -> Any:
    if not (source.folder / "preprocessor_config.json").is_file():
        raise UserError(
            f"{source.folder} has no preprocessor_config.json, which says how pictures become "
            "inputs: give --data FILE with pixel_values (.npy or .safetensors)"
        )
    return read_part(source.folder, "AutoImageProcessor")


def _loaded(rows: list[tuple[Path, Any]], processor: Any) -> ExamplePart:
    from PIL import Image

    batches: list[Batch] = []
    for start in range(0, len(rows), ROWS):
        own = rows[start : start + ROWS]
        pictures = []
        for path, _ in own:
            try:
                with Image.open(path) as picture:
                    pictures.append(picture.convert("RGB"))
            except OSError as error:
                raise UserError(f"can't read the picture {path}: {one_line(error)}") from error
        x = processor(images=pictures, return_tensors="pt")["pixel_values"]
        given = [label for _, label in own]
        batches.append(({"pixel_values": x}, None if None in given else torch.tensor(given)))
    return ExamplePart(batches, [])


def _array(path: Path) -> tuple[Tensor, Tensor | None]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        existing_regular_file(path)
        if path.suffix == ".safetensors":
            found = load_file(path)
        elif path.suffix == ".npy":
            import numpy as np

            found = {"pixel_values": torch.from_numpy(np.load(path, allow_pickle=False))}
        else:
            raise UserError(
                f"{path} has no images in a supported format: give a folder of pictures, .npy or "
                ".safetensors"
            )
    except OSError as error:
        raise UserError(f"can't read {path}: {one_line(error)}: check the path") from error
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error
    pixels = found.get("pixel_values")
    if pixels is None or pixels.ndim != 4 or not pixels.is_floating_point():
        raise UserError(f"{path} needs floating-point pixel_values (N, C, H, W)")
    return pixels, found.get("labels")


def _cut(pixels: Tensor, known: Tensor | None, rows: list[int]) -> ExamplePart:
    several = torch.tensor(rows).split(ROWS)
    return ExamplePart(
        [
            ({"pixel_values": pixels[own]}, None if known is None else known[own].long())
            for own in several
        ],
        [],
    )
