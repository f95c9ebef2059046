"""Compare methods that compress a model to low rank, with equal parameters and the same examples.

MODULE:BUILD names a function that returns the model, and --data one that returns its examples.
Alternatively FOLDER is a model of Hugging Face transformers, and --data a text file. Every method
compresses the same weights, with the same calibration examples in each of several draws and the
same budgets, and is judged by the loss on examples that none of them sees. Differences from
svdbench's own method are paired, example by example. Only the functions that you name are called.

Writes results/time-compressors/NAME: CSV tables of the losses and a summary, a plot, the
configuration and the environment.

Examples:
    svdbench time-compressors my_net:build --data my_net:loader
    svdbench time-compressors my_net:build --data my_net:loader --params 0.5 --draws 1
"""

from svdbench.job import Job, Subject
from svdbench.jobs.time_compressors.config import TimeCompressors

JOB = Job(
    "time-compressors",
    TimeCompressors,
    __name__,
    Subject(
        "MODULE:BUILD|FOLDER",
        "A function that returns a model, or the folder of a Hugging Face model.",
        function="model.build",
    ),
    panel="Low rank",
    place=2,
)
