"""MODULE:BUILD: ranks are chosen for all weights together, from one pass over calibration
examples and a search on true loss, and judged by examples held out. The module is
looked for in this folder; nothing else of yours is executed.

Writes results/compress-model/NAME: the model as safetensors and JSON, which
svdbench.lowrank.load(build(), PATH) restores; a summary, the layers and the frontier
as CSV, the environment, the configuration, and a plot.
"""

from svdbench.job import Job, Subject
from svdbench.jobs.compress_model.config import CompressModel

JOB = Job(
    "compress-model",
    CompressModel,
    __name__,
    Subject("MODULE:BUILD", "A function that returns a model.", function="model.build"),
    command="compress",
)
