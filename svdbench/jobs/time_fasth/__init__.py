"""Time a gradient step of every orthogonal parametrisation.

A step computes φ(V)·X, where φ(V) is an orthogonal matrix, and the gradients with respect to V and
X, for V (d, d) and X (d, 32). Before and after its timing, a method's output, orthogonality and
gradients are checked against float64; a method that fails gets no time.

Writes results/time-fasth/NAME: CSV tables of all samples and a summary, plots, the
configuration and the environment.

Examples:
    svdbench time-fasth --quick
    svdbench time-fasth --d 300,1000 --methods fasth,cayley
    svdbench time-fasth --device cuda --dtype bfloat16
"""

from svdbench.job import Job
from svdbench.jobs.time_fasth.config import TimeFastH

JOB = Job("time-fasth", TimeFastH, __name__, panel="Timing", place=1)
