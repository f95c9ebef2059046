"""Training a sequence model on a task: steps, evaluations, checkpoints, and when to stop."""
