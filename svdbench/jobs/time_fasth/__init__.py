"""Time a gradient-descent step for every way to parametrise an orthogonal matrix.

One step is φ(V)·X with its gradients in V and X, for V (d, d) and X (d, 32).
No method gets a number unless its output, its orthogonality and both
gradients agree with float64, before its timing and after.

Writes results/time-fasth/NAME: every sample and a summary as CSV, the
environment, the configuration, and plots.
"""

from svdbench.job import Command, Job
from svdbench.jobs.time_fasth.config import TimeFastH

JOB = Job("time-fasth", TimeFastH, __name__)


def methods() -> None:
    """List the orthogonal parametrisations: what each builds, its gradients, its cost."""
    from svdbench.jobs.time_fasth import listing as job

    job.run()


COMMAND = Command("methods", methods)
