"""Ways to reduce a weight to rank k while it is trained."""
