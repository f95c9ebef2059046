"""What types and ranges don't tell of a configuration, found without data and without a device.

A sweep checks all its jobs with it before the first begins.
"""

from collections.abc import Callable
from typing import Any

from svdbench.jobs.timing import load, plan_of
from svdbench.jobs.train import parts
from svdbench.matrix_ops import operation_of
from svdbench.members import COMPRESSORS, DRIVERS, LOOPS, METHODS, OPERATIONS, Registry
from svdbench.schemas import Compress, Measured, TimeFastH, TimeRNN, TimeSVD, TimeSvdOps, Train


def check(config: Any) -> None:
    """Make what a job makes before it begins, as far as that is cheap.

    Raises:
        UserError: an option that doesn't fit.
    """
    if isinstance(config, Measured):
        plan_of(config, cells=1)
    for kind, members in MEMBERS.items():
        if isinstance(config, kind):
            group, options, names = members(config)
            for name in names:
                load(group, name, options)
    if isinstance(config, Train):
        parts(config)


def _operations(config: TimeSvdOps) -> tuple[Registry, dict[str, Any], list[str]]:
    names = [
        name for name in config.matrix_op if config.ops is None or operation_of(name) in config.ops
    ]
    return OPERATIONS, config.matrix_op, names


# The group whose members a job makes, their options, and their names.
MEMBERS: dict[type, Callable[[Any], tuple[Registry, dict[str, Any], list[str]]]] = {
    TimeFastH: lambda c: (METHODS, c.orthogonal, c.methods or list(c.orthogonal)),
    TimeRNN: lambda c: (LOOPS, c.rnn, c.methods or list(c.rnn)),
    TimeSVD: lambda c: (DRIVERS, c.svd_driver, c.methods or list(c.svd_driver)),
    TimeSvdOps: _operations,
    Compress: lambda c: (COMPRESSORS, c.compressor, c.methods),
}
