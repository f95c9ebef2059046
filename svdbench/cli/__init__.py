"""The command line: options become Hydra overrides, and a job is launched.

Nothing heavy is imported here, so that ``svdbench --help`` answers at once.
"""

# The commands register as their modules load.
from svdbench.cli import (
    acceleration,
    comparison,
    compression,
    data,
    decomposition,
    doctor,
    report,
    reproduce,
    reveal,
    timing,
    training,
    tuning,
)
from svdbench.cli.app import app, flow_help, main

flow_help(app)

__all__ = [
    "acceleration",
    "app",
    "comparison",
    "compression",
    "data",
    "decomposition",
    "doctor",
    "main",
    "report",
    "reproduce",
    "reveal",
    "timing",
    "training",
    "tuning",
]
