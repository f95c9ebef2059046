"""What ``svdbench list`` can list."""

# What can be listed, and what it is.
KINDS = {
    "methods": "orthogonal parametrisations, for `time-fasth --methods`",
    "operations": "matrix operations, for `time-svd-ops --methods`",
    "loops": "implementations of a recurrent loop, for `time-rnn --methods`",
    "layers": "layers that replace nn.Linear, for `time-layers --methods`",
    "drivers": "truncated SVDs, for `time-svd --methods`",
    "models": "recurrent networks, for `train MODEL`",
    "tasks": "sequence tasks, for `train --task`",
    "presets": "settings that converge, by task and model",
    "optimizers": "optimisers, for optimizer=NAME",
    "datasets": "data sets, for `compress`, `accelerate` and `rank-reveal`",
    "compressors": "methods that compress a weight, for `compress --methods`",
    "modelcompressors": "methods that compress a whole model, for `time-compressors --methods`",
    "arms": "ways to train with low-rank weights, for `accelerate --arms`",
    "experiments": "settings of published experiments, for experiment=NAME",
    "published": "published results, for `reproduce NAME`",
    "nn": "layers and parametrisations for your own code, in svdbench.nn",
    "columns": "columns of the tables in a run's folder, with their meaning",
    "results": "runs in the folder of results, the newest first",
}
