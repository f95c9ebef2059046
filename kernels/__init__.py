"""The Householder core: products of reflectors and their gradients.

Depends on torch (and, on GPUs, Triton) and on nothing of svdbench.
"""

from .apply import apply_reflectors
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
    "time_plans",
    "tune",
    "tuned",
]
