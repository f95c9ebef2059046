"""Which command each job is of, and its root in ``conf/``, named like its module in ``jobs``."""

from pathlib import Path

from svdbench.errors import Interrupted

COMMANDS = {
    "accelerate": ("accelerate", "accelerate"),
    "compress": ("compress", "compress"),
    "compress-model": ("compress", "compress_model"),
    "gradients": ("gradients", "gradients"),
    "rank-reveal": ("rank-reveal", "rank_reveal"),
    "time-fasth": ("time-fasth", "time_fasth"),
    "time-rnn": ("time-rnn", "time_rnn"),
    "time-svd": ("time-svd", "time_svd"),
    "time-svd-ops": ("time-svd-ops", "time_svd_ops"),
    "train": ("train", "train"),
    "tune": ("tune --plot", "tune_blocks"),
}


def interrupted(job: str, folder: Path) -> Interrupted:
    """^C in a run, and how to go on with it."""
    return Interrupted(f"interrupted; {kept(job, folder)}")


def kept(job: str, folder: Path) -> str:
    """What is left of a run that was cut short, and how to go on with it."""
    if not folder.exists():
        return "nothing was finished"
    command = f"svdbench {COMMANDS[job][0]} --resume {folder}"
    return f"what was finished is kept: go on with {command}"
