"""Data sets of labelled examples.

``load`` reads a split in its own shape, ``classification`` as a table for a classifier.
"""

from svdbench.datasets.base import Split, classification, load

__all__ = ["Split", "classification", "load"]
