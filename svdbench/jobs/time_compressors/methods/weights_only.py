"""Truncated SVDs of the weights alone, with three ways to share out the ranks."""

from svdbench.jobs.time_compressors.methods.base import ComponentMethod, CompressionProblem
from svdbench.lowrank import Frontier, Ranks, energy_ranks, minimax_ranks, uniform_ranks


class PlainSVD(ComponentMethod):
    """The nearest matrices of some rank."""

    needs = "nothing"

    def components(self, problem: CompressionProblem) -> Frontier:
        return problem.plain


class UniformSVD(PlainSVD):
    """The same fraction of every weight."""

    name = "uniform"
    title = "truncated SVD, the same fraction of every weight"
    source = "Eckart and Young, The approximation of one matrix by another, Psychometrika 1936"

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        return uniform_ranks(frontier, params)


class EnergySVD(PlainSVD):
    """The same part of the squared norm of every weight."""

    name = "energy"
    title = "truncated SVD, the same part of every weight's squared norm"
    source = "the usual threshold on the energy of singular values"

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        return energy_ranks(frontier, params)


class ALDS(PlainSVD):
    """The smallest largest relative error of all weights, in the spectral norm.

    Without the paper's second step, which splits the columns of a weight into subspaces with
    factors of their own; such a layer has more products than two.
    """

    name = "alds"
    title = "truncated SVD, the smallest largest error (ALDS without subspaces)"
    source = "Liebenwein, Maalouf, Feldman and Rus, NeurIPS 2021 (arXiv 2107.11442), §2.2"

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        return minimax_ranks(frontier, params)
