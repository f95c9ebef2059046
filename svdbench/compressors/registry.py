"""Finding the compressors: every YAML in ``conf/compressor`` is one, named like its file."""

from svdbench.registry import Group

GROUP = Group("compressor", "compressor", "svdbench.compressors.base.Compressor")
