"""Base classes for members of your own: methods, models, tasks, data sets and others.

Derive a class from one of these, check it, and name it where a command takes a member::

    svdbench check my_net:MyMethod
    svdbench time-fasth --methods fasth,my_net:MyMethod

===================  ==================================================  ====================
base class           what it is                                          used by
===================  ==================================================  ====================
``Method``           a map V ↦ φ(V) onto orthogonal matrices             ``time-fasth``
``MatrixOp``         a function of a matrix, such as its inverse         ``time-svd-ops``
``RNNLoop``          a way to run the loop of a recurrent network        ``time-rnn``
``Layer``            a layer in place of ``torch.nn.Linear``             ``time-layers``
``SVDDriver``        a way to compute the first k singular triplets      ``time-svd``
``SequenceModel``    a recurrent network                                 ``train``
``Task``             sequences to learn                                  ``train``
``Dataset``          labelled examples                                   ``compress`` and others
``Compressor``       a way to reduce a weight to rank k                  ``compress``
``ModelCompressor``  a way to compress a whole model within a budget     ``time-compressors``
``LowRankArm``       a way to train a network in low rank                ``accelerate``
===================  ==================================================  ====================

A package adds its own members through entry points, in one of the groups ``svdbench.methods``,
``.operations``, ``.loops``, ``.layers``, ``.drivers``, ``.models``, ``.tasks``, ``.datasets``,
``.compressors``, ``.modelcompressors`` and ``.arms``::

    [project.entry-points."svdbench.methods"]
    my_method = "my_net:MyMethod"

The names in this module are stable across versions.
"""

from svdbench.datasets.base import Dataset, DatasetError
from svdbench.datasets.files import FileDataset, PublishedFile
from svdbench.jobs.accelerate.arms.base import ArmPlan, ArmState, LowRankArm
from svdbench.jobs.compress.compressors import Compressor
from svdbench.jobs.time_compressors.methods.base import CompressionProblem, ModelCompressor
from svdbench.jobs.time_fasth.methods.base import Method
from svdbench.jobs.time_layers.layers import Layer, LayerProblem
from svdbench.jobs.time_rnn.loops import LoopProblem, RNNLoop
from svdbench.jobs.time_svd.drivers import SVDDriver, SVDProblem
from svdbench.jobs.time_svd_ops.operations import Dense as DenseMatrixOp
from svdbench.jobs.time_svd_ops.operations import MatrixOp
from svdbench.measure.algorithm import Algorithm, Flops, Problem
from svdbench.models.base import SequenceModel
from svdbench.tasks.base import GeneratedTask, Task

Driver = SVDDriver

__all__ = [
    "Algorithm",
    "ArmPlan",
    "ArmState",
    "CompressionProblem",
    "Compressor",
    "Dataset",
    "DatasetError",
    "DenseMatrixOp",
    "Driver",
    "FileDataset",
    "Flops",
    "GeneratedTask",
    "Layer",
    "LayerProblem",
    "LoopProblem",
    "LowRankArm",
    "MatrixOp",
    "Method",
    "ModelCompressor",
    "Problem",
    "PublishedFile",
    "RNNLoop",
    "SVDDriver",
    "SVDProblem",
    "SequenceModel",
    "Task",
]
