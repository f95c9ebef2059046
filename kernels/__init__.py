"""The Householder core: products of reflectors and their gradients.

Depends on torch (and, on GPUs, Triton) and on nothing of svdbench.
"""

from .apply import apply_reflectors
from .lapack import householder_product, ormqr
from .reference import apply_reflectors_reference
from .timing import time_plans, tune
from .tuning import Plan, Tuned, choose_block_size, clear_tuned, tuned

__all__ = [
    "Plan",
    "Tuned",
    "apply_reflectors",
    "apply_reflectors_reference",
    "choose_block_size",
    "clear_tuned",
    "householder_product",
    "ormqr",
    "time_plans",
    "tune",
    "tuned",
]
