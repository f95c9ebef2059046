"""Ways to the first k singular triplets of a matrix, one file each; ``registry`` finds them."""
