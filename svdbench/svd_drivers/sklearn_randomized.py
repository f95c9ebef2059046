"""scikit-learn's randomised SVD."""

from typing import Any

from .base import NumPyDriver


class SklearnRandomized(NumPyDriver):
    """``sklearn.utils.extmath.randomized_svd`` with its defaults: 10 probes to spare, LU."""

    exact = False
    source = "Halko, Martinsson and Tropp, 2011; scikit-learn's randomized_svd"

    def apply(self, A: Any, k: int) -> tuple[Any, Any, Any]:
        from sklearn.utils.extmath import randomized_svd

        U, S, Vh = randomized_svd(A, k, random_state=0)
        return U, S, Vh
