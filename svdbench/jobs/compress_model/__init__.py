"""With MODULE:BUILD: compresses the model that the function BUILD returns. The ranks of all weights
are chosen together, from one pass over calibration examples and a search on the true loss,
and the result is judged on held-out examples. MODULE is looked up in the current folder
first. Only the functions that you name are called.

Writes results/compress-model/NAME: the compressed model as safetensors and JSON, which
svdbench.lowrank.load(build(), PATH) restores; CSV tables of the summary, the layers and the
frontier, a plot, the configuration and the environment.

Examples:
    svdbench compress my_net:build --data my_net:loader --weights my_net.safetensors --params 0.5
    svdbench compress my_net:build --data my_net:loader --max-loss-increase 0.01
"""

from svdbench.job import Job, Subject
from svdbench.jobs.compress_model.config import CompressModel

JOB = Job(
    "compress-model",
    CompressModel,
    __name__,
    Subject("MODULE:BUILD", "A function that returns a model.", function="model.build"),
    command="compress",
    panel="Low rank",
    place=1,
)
