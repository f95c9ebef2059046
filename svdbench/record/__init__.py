"""A run's folder: tables by whole lines, a journal of finished units, the environment."""
