"""Measuring honestly: a clock, a fair plan, a gate of correctness, and probes."""
