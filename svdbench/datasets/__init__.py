"""Data sets of labelled images, one file each; ``registry`` finds them, ``load`` reads one."""

from svdbench.datasets.registry import load

__all__ = ["load"]
