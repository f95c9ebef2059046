"""Finding the drivers: every YAML in ``conf/svd_driver`` is one, named like its file."""

from svdbench.registry import Group

GROUP = Group("svd_driver", "SVD driver", "svdbench.svd_drivers.base.SVDDriver")
