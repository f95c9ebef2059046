"""Runs a job: from what was typed to a finished folder, in one process or a sweep."""
