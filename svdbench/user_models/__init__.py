"""Models of the user: found by name, checked, and called."""
