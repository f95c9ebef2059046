"""Layers whose weights are kept orthonormal, or in SVD form, by Householder reflectors."""

from svdbench.nn.adapter import HouseholderAdapter
from svdbench.nn.orthogonal import orthogonal
from svdbench.nn.recurrence import recurrence
from svdbench.nn.rnn import OrthogonalRNN, SpectralRNN
from svdbench.nn.spectral_weight import OrthogonalWeight, SpectralWeight
from svdbench.nn.svd_linear import SVDLinear

__all__ = [
    "HouseholderAdapter",
    "OrthogonalRNN",
    "OrthogonalWeight",
    "SVDLinear",
    "SpectralRNN",
    "SpectralWeight",
    "orthogonal",
    "recurrence",
]
