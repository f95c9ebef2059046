"""Precision of the products in the Triton kernels: how operands reach the tensor cores.

"ieee" multiplies in float32, on Hopper without tensor cores. "bf16x6" splits an operand into
three bfloat16 numbers and adds the six products that count: closer to float64 than "ieee",
for numbers from 1e-34 on; smaller ones keep fewer digits. "tf32" keeps 10 bits of the
fraction: tensor cores cut the others off, so operands are rounded before, which halves the
largest error and leaves no bias.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from .triton_support import is_interpreted


@triton.jit
def rounded(b_x, PRECISION: tl.constexpr):
    """The operand of a product: of 10 bits for "tf32", itself for others; NaN stays NaN."""
    if PRECISION == "tf32":
        bits = b_x.to(tl.int32, bitcast=True)
        b_near = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        return tl.where(b_x == b_x, b_near, b_x)
    else:
        return b_x


@triton.jit
def product(b_x, b_y, PRECISION: tl.constexpr):
    """A matrix product, or a batch of them, of float32 tiles."""
    return tl.dot(rounded(b_x, PRECISION), rounded(b_y, PRECISION), input_precision=PRECISION)


@triton.jit
def add_product(b_sum, b_x, b_y, PRECISION: tl.constexpr):
    """A sum and a matrix product, or a batch of them."""
    b_x, b_y = rounded(b_x, PRECISION), rounded(b_y, PRECISION)
    return tl.dot(b_x, b_y, b_sum, input_precision=PRECISION)


def precision(dtype: torch.dtype) -> str:
    """The precision of products for V of this dtype, as ``tl.dot`` names it.

    For float32 "tf32" where PyTorch's own products may use it, "ieee" where its setting says
    so (``torch.set_float32_matmul_precision("highest")``), and where it says nothing "bf16x6",
    if Triton has it. Half precision fits in TF32.
    """
    if dtype != torch.float32:
        return "tf32"
    if _read_setting is not None:
        setting: str = _read_setting("cuda", "matmul")
    else:
        setting = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "none"
    return setting if setting in ("tf32", "ieee") else most_precise()


# ``torch.backends.cuda.matmul.fp32_precision`` at a sixth of its time; none up to PyTorch 2.8.
_read_setting = getattr(torch._C, "_get_fp32_precision_getter", None)


@lru_cache
def most_precise() -> str:
    """The precision of tensor cores that is float32's own, or "ieee" where there is none."""
    if is_interpreted():  # the interpreter multiplies in float32 at every setting
        return "ieee"
    try:
        from triton.backends.nvidia.compiler import CUDAOptions

        names = CUDAOptions.allowed_dot_input_precisions
    except (ImportError, AttributeError):
        return "ieee"
    return "bf16x6" if "bf16x6" in names else "ieee"


@lru_cache
def least_width() -> int:
    """The fewest columns that the right factor of ``tl.dot`` may have: 16 in older Tritons."""
    if is_interpreted():
        return 1
    try:
        from triton.backends.nvidia.compiler import min_dot_size

        return int(min_dot_size(None)(tl.float32, tl.float32)[1])
    except (ImportError, AttributeError, TypeError):
        return 16
