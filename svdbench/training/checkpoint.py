"""Checkpoints on disk: written atomically, and loaded without running code."""

from pathlib import Path
from typing import Any

import torch

from svdbench.errors import UserError, one_line, os_remedy
from svdbench.files import existing_regular_file, replace_atomically


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and strings so that ``path`` is the old file or the new one.

    Raises:
        UserError: it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as partial, open(partial, "wb") as file:
            torch.save(state, file)
    except OSError as error:
        raise UserError(
            f"can't write {path}: {error.strerror or error}: {os_remedy(error)}, or leave "
            "checkpoints out with trainer.checkpoint=false"
        ) from error


def load(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content that :func:`save` wrote, its tensors on ``device``.

    Raises:
        UserError: the file isn't there, or is no checkpoint.
    """
    try:
        found = torch.load(existing_regular_file(path), map_location=device, weights_only=True)
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}: check the path") from error
    except Exception as error:  # any exception of the unpickler on a foreign file
        raise UserError(f"{path} is not a checkpoint: {one_line(error)}") from error
    if not isinstance(found, dict) or "learner" not in found:
        raise UserError(f"{path} is not a checkpoint of svdbench train: give its last.pt")
    return found
