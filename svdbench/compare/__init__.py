"""Two runs against each other: what became slower or worse, and what is noise.

Reads ``results/`` and nothing else, and writes nothing.
"""

from svdbench.compare.comparison import Comparison, compare
from svdbench.compare.runs import load

__all__ = ["Comparison", "compare", "load"]
