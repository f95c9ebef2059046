"""Finding the ways: every YAML in ``conf/rnn`` is one, named like its file."""

from svdbench.registry import Group

GROUP = Group("rnn", "way to run the loop", "svdbench.rnn_loops.base.RNNLoop")
