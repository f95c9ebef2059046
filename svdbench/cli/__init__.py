"""The command line: options become Hydra overrides, and a job is launched.

Nothing heavy is imported here, so that ``svdbench --help`` answers at once.
"""

# The commands register as their modules load.
from svdbench.cli import acceleration, compression, data, decomposition, timing, training, tuning
from svdbench.cli.app import app, main

__all__ = [
    "acceleration",
    "app",
    "compression",
    "data",
    "decomposition",
    "main",
    "timing",
    "training",
    "tuning",
]
