"""How a low-rank SVD of a matrix is found: exactly, by its Gram matrix, or by random probes."""
