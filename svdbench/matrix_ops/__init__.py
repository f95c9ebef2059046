"""Ways to compute functions of a matrix, one file each; ``registry`` finds them."""
