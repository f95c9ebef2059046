"""Layers that are kept as two thin factors, and their exchange for the dense ones of a model."""
