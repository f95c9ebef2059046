"""What ``svdbench list`` can list."""

# What can be listed, and what it is.
KINDS = {
    "methods": "orthogonal parametrisations, for `time-fasth --methods`",
    "operations": "matrix operations, for `time-svd-ops --ops`",
    "loops": "ways to run a recurrent network, for `time-rnn --methods`",
    "layers": "layers in place of nn.Linear, for `time-layers --methods`",
    "drivers": "truncated SVDs, for `time-svd --methods`",
    "models": "recurrent networks, for `train MODEL`",
    "tasks": "sequence tasks, for `train --task`",
    "presets": "settings that converge, by task and model",
    "optimizers": "optimisers, for optimizer=NAME",
    "datasets": "data sets, for `compress`, `accelerate` and `rank-reveal`",
    "compressors": "ways to compress a weight, for `compress --methods`",
    "modelcompressors": "ways to compress a whole model, for `time-compressors --methods`",
    "arms": "ways to train in low rank, for `accelerate --arms`",
    "experiments": "settings of published experiments, for experiment=NAME",
    "published": "published results, for `reproduce NAME`",
    "nn": "layers and parametrisations for your own code, in svdbench.nn",
    "results": "runs in the folder of results, the newest first",
}
