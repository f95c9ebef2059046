"""Layers whose weights are kept orthonormal, or in SVD form, by Householder reflectors."""

from svdbench.nn.orthogonal import orthogonal

__all__ = ["orthogonal"]
