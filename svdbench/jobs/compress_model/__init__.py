"""With MODULE:BUILD: compresses the model that the function BUILD returns. The ranks of all weights
are chosen together, from one pass over calibration examples and a search on the true loss,
and the result is judged on held-out examples. MODULE is looked up in the current folder
first. Only the functions that you name are called.

With FOLDER: compresses a model of Hugging Face transformers: a folder that save_pretrained wrote,
or a model's name in the local cache; nothing is downloaded. --data is a text file, a folder of
text files, or images. The perplexity of a language model is measured before and after.

Writes results/compress-model/NAME: the compressed model as safetensors and JSON; CSV tables of the
summary, the layers and the frontier, a plot, the configuration and the environment. To load the
model, call svdbench.lowrank.load(build(), "results/compress-model/NAME/model.safetensors") or,
for a Hugging Face model, svdbench.pretrained.from_pretrained("results/compress-model/NAME").

Examples:
    svdbench compress my_net:build --data my_net:loader --weights my_net.safetensors --params 0.5
    svdbench compress my_net:build --data my_net:loader --max-loss-increase 0.01
    svdbench compress ./my-gpt2 --data text.txt --params 0.5
"""

from svdbench.job import Job, Subject
from svdbench.jobs.compress_model.config import CompressModel

JOB = Job(
    "compress-model",
    CompressModel,
    __name__,
    Subject(
        "MODULE:BUILD|FOLDER",
        "A function that returns a model, or the folder of a Hugging Face model.",
        function="model.build",
    ),
    command="compress",
    panel="Low rank",
    place=1,
)
