"""Ways to compute the first k singular triplets of a matrix."""
