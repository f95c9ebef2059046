"""Ways to train in fewer numbers or multiplications, a file for each."""
