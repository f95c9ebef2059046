"""Keys of ``svdbench gradients``."""

from dataclasses import dataclass

from svdbench.config.fields import option
from svdbench.training.config import Train


@dataclass
class Gradients(Train):
    """``svdbench gradients``: trains as ``svdbench train`` does."""

    sequences: int = option(
        100, "sequences whose gradients are computed, the same at every evaluation", at_least=1
    )

    def check(self) -> None:
        super().check()
        for key in ("processes", "nodes"):
            if (count := getattr(self.trainer, key)) > 1:
                raise ValueError(
                    f"trainer.{key} is {count}, but svdbench gradients runs in one "
                    "process: leave it out"
                )
