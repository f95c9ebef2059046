"""Ways to compress a whole model, a file for each family."""
