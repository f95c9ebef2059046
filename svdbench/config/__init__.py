"""Configurations: one declaration per key, composed by Hydra and checked here."""
