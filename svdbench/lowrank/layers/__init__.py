"""Layers with weights as two thin factors, and their exchange for dense ones."""
