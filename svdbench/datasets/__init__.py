"""Data sets of labelled examples, one file each; ``registry`` finds them.

``load`` reads a split in its own shape, ``classification`` as a table for a classifier.
"""

from svdbench.datasets.registry import load
from svdbench.datasets.splits import Split, classification

__all__ = ["Split", "classification", "load"]
