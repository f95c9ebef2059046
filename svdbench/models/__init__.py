"""Recurrent networks, each in the parametrisation of its source."""
