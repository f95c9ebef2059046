"""What is written down: the schema of a row, the environment, the crash-safe store."""
