"""Ranks for the weights of a network: their costs, predicted and measured."""
