"""FastH: blocks of reflectors in compact-WY form, forward and backward."""

from torch import Tensor

from svdbench.kernels import apply_reflectors, apply_reflectors_reference, tune
from svdbench.orthogonal.base import Flops, Method, Problem
