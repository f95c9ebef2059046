"""Sweeps: many jobs from one command, on Hydra's launchers, in one folder with one summary.

``results/<job>/<name>/`` holds ``sweep.yaml`` (what repeats it), a folder for each job, how
far each is in ``jobs/``, and ``summary.csv`` with the rows of all.
"""

from svdbench.sweeps.folder import is_sweep
from svdbench.sweeps.folder import read as read_sweep
from svdbench.sweeps.plan import Base, Sweep
from svdbench.sweeps.run import Swept, run_sweep

__all__ = ["Base", "Sweep", "Swept", "is_sweep", "read_sweep", "run_sweep"]
