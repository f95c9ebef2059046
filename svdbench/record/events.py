"""TensorBoard event files beside a run's tables, by ``torch.utils.tensorboard``."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from svdbench.errors import UserError
from svdbench.record.schema import TableSchema

# What a curve is of, and along which column; all other numbers of a row are its values.
_CURVES = ("model", "task", "method", "arm", "rank", "alpha", "phi", "seed", "split")
_STEPS = ("step", "epoch")
_SCALARS = (
    *("loss", "relative_loss", "accuracy", "train_loss", "grad_norm", "sigma_min", "sigma_max"),
    *("promise", "step_s", "epoch_s", "rel_error", "energy", "n_params"),
)


def require_tensorboard(wanted: bool) -> None:
    """Refuse ``--tensorboard`` where the package is missing.

    Raises:
        UserError: It is not installed.
    """
    if wanted and find_spec("tensorboard") is None:
        raise UserError(
            "--tensorboard needs the package tensorboard: pip install 'svdbench[tensorboard]'"
        )


class TensorBoardEvents:
    """Event files of a run: a folder ``tensorboard/<curve>`` for each method and seed.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tensorboard"
        self._writers: dict[str, Any] = {}

    def append(self, table: TableSchema, row: Mapping[str, Any]) -> None:
        """Add a row of ``samples.csv``; other tables are left out."""
        step = next((row[name] for name in _STEPS if _is_number(row.get(name))), None)
        if table.name != "samples" or step is None:
            return
        writer = self._writer(_curve(row), int(step))
        for name in _SCALARS:
            if _is_number(row.get(name)):
                writer.add_scalar(name, float(row[name]), int(step))
        writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, curve: str, step: int) -> Any:
        """The writer of a curve; of a resumed run, later points of the earlier files are hidden."""
        if curve not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            folder = self.folder / curve
            again = step if folder.is_dir() else None
            self._writers[curve] = SummaryWriter(str(folder), purge_step=again)
        return self._writers[curve]


def _curve(row: Mapping[str, Any]) -> str:
    """The name of a curve, as ``stock/seed-0/test``, made of letters that a folder may have."""
    known = [(name, row.get(name)) for name in _CURVES if row.get(name) not in (None, "")]
    parts = [f"seed-{value}" if name == "seed" else str(value) for name, value in known]
    return "/".join("".join(c if c.isalnum() or c in "._-" else "-" for c in p) for p in parts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
