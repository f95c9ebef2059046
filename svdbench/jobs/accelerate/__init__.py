"""Train a network with dense and with low-rank weights, and see whether low rank pays.

Each way of training is called an arm. The arm SVD-DNN, for example, trains dense for a fraction φ
of the steps; then each weight W is replaced by two factors W₁W₂ of low rank, which need fewer
multiplications. `svdbench list arms` lists the others. All arms start from the same weights and
see the same batches, one epoch of each in turn.

Smaller dense networks are trained as well: with each arm's step time, with its multiplications,
and of ¼, ⅜ and ½ the width. All get the same number of steps, multiplications or seconds. The
report says whether an arm is better than the best of the smaller networks, and shows the speed,
the speed that the saved multiplications allow, and the accuracy with its interval.

experiment=svd_dnn_mnist_published follows the code of Sarnayak et al. (2020), and
experiment=svd_dnn_mnist_corrected corrects its errors; likewise svd_dnn_xor_… and
svd_dnn_cats_…; svd_dnn_alpha varies α. These experiments train no smaller networks.

Writes results/accelerate/NAME: CSV tables of epochs, arms, layers and smaller networks, plots,
the configuration and the environment.

Examples:
    svdbench accelerate mnist --alphas 0.5 --phis 0.1
    svdbench accelerate mnist --arms svd-dnn,cola --budget 2.5
    svdbench accelerate experiment=svd_dnn_mnist_corrected
"""

from svdbench.job import Job
from svdbench.jobs.accelerate.config import Accelerate
from svdbench.side_by_side.config import DATASET

JOB = Job("accelerate", Accelerate, __name__, DATASET, panel="Low rank", place=3)
