"""Sequence tasks for recurrent networks."""
