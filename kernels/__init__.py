"""The Householder core: products of reflectors and their gradients.

Depends on torch (and, on GPUs, Triton) and on nothing of svdbench.
"""

from .apply import apply_reflectors
from .choice import choose_block_size
from .matrix import householder_product, ormqr, reflector_matrix
from .plans import Plan
from .reference import apply_reflectors_reference
from .timing import time_plans, tune
from .tuned_plans import Tuned, clear_tuned, tuned

__all__ = [
    "Plan",
    "Tuned",
    "apply_reflectors",
    "apply_reflectors_reference",
    "choose_block_size",
    "clear_tuned",
    "householder_product",
    "ormqr",
    "reflector_matrix",
    "time_plans",
    "tune",
    "tuned",
]
