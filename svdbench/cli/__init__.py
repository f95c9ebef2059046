"""The command line: options become Hydra overrides, and a job is run.

Nothing heavy is imported here, so that ``svdbench --help`` answers at once.
"""

from svdbench.cli.app import app, main

__all__ = ["app", "main"]
