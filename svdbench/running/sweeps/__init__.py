"""Sweeps: many jobs from one command, on Hydra's launchers, in one folder with one summary.

``results/<job>/<name>/`` holds ``sweep.yaml`` (what repeats it), a folder for each job, how
far each is in ``jobs/``, and ``summary.csv`` with the rows of all.
"""

from svdbench.running.sweeps.folder import is_sweep, read_sweep
from svdbench.running.sweeps.plan import Sweep, SweepSource
from svdbench.running.sweeps.run import SweepResult, run_sweep

__all__ = ["Sweep", "SweepResult", "SweepSource", "is_sweep", "read_sweep", "run_sweep"]
