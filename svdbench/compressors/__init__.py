"""Ways to bring a weight down to rank k while it is trained, one file each."""
