"""Train a network dense and in low-rank factors (SVD-DNN), and compare their speed.

After a fraction φ of the training steps, each weight W is replaced by two factors W₁W₂ of
low rank, which need fewer multiplications; after training the factors are multiplied out.
All arms start from the same weights and see the same batches, one epoch of each in turn. The
report shows the speed, the speed that the saved multiplications allow, and the accuracy
with its interval.

experiment=svd_dnn_mnist_published follows the code of Sarnayak et al. (2020), and
experiment=svd_dnn_mnist_corrected corrects its errors. The same holds for svd_dnn_xor_…
and svd_dnn_cats_…; svd_dnn_alpha varies α.

Writes results/accelerate/NAME: CSV tables of epochs, arms and layers, plots, the
configuration and the environment.

Examples:
    svdbench accelerate mnist --alphas 0.5 --phis 0.1
    svdbench accelerate experiment=svd_dnn_mnist_corrected
"""

from svdbench.job import Job
from svdbench.jobs.accelerate.config import Accelerate
from svdbench.side_by_side.config import DATASET

JOB = Job("accelerate", Accelerate, __name__, DATASET, panel="Low rank", place=3)
