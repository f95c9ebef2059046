"""Summaries, intervals and tests of noisy measurements."""
