"""The code blocks of README and docs, and what stands in for what a test can't have.

Shell and Python blocks run as they stand, and so do the steps of a workflow, but for this:

=========================  =======================================================================
in the documentation       in the test
=========================  =======================================================================
hours, large sizes         :data:`SHORT`: a few steps of small sizes, or seconds
a data set to download     the digits of scikit-learn
GPUs, SLURM, Ray, nodes    the command is composed and checked as it stands, with its launcher and
                           all jobs of its sweep; what runs has these words taken out
``svdbench reproduce X``   ``--show`` lists the runs that it would make
``make TARGET``            a dry run: the target exists
``pip install WHAT``       WHAT is this checkout, or svdbench with extras that it has
``srun``, ``ray``          the command behind ``srun`` runs here; ``ray`` does nothing
``python3 -m venv``        a folder with these tools
``actions/checkout``       a folder with this checkout's ``pyproject.toml``
=========================  =======================================================================

A block behind ``<!-- not run: reason -->`` is only compiled.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# What is typed after the words of the documentation, by command: the last of two counts.
SHORT = {
    "time-fasth": ["--d", "8,16", "--budget", "0.3"],
    "time-svd-ops": ["--d", "8", "--budget", "0.3"],
    "time-rnn": ["--hidden", "16", "--budget", "0.3", "sizes.length=[4]", "sizes.batch=2"],
    "time-svd": ["--shapes", "16x8", "--ranks", "4", "--budget", "0.3"],
    "tune": ["--d", "16", "--m", "4", "--budget", "0.3"],
    "train": ["--steps", "2", "--hidden", "8", "task.test_size=8"],
    "gradients": ["--steps", "2", "--hidden", "8", "task.test_size=8", "task.length=8"],
    "search": ["--trials", "2", "--minutes", "0.01", "--hidden", "8", "task.test_size=8"],
    "compress": ["--epochs", "1", "--seeds", "1"],
    "accelerate": ["--epochs", "2", "--seeds", "1"],
    "rank-reveal": ["--epochs", "1", "--seeds", "1"],
    "time-compressors": ["--draws", "1", "timing_s=0", "model_compressor.asvd.examples=0"],
}
# Words that are replaced, by their pattern: cards, clusters, long sweeps and downloads.
INSTEAD = {
    r"mnist": "digits",
    r"trainer\.device=cuda|device=cuda": "",
    r"cuda": "cpu",
    r"^2\.5$": "0.05",
    r"trainer\.(nodes|processes)=.*": "",
    r"\+?hydra[/.]launcher.*": "",
    r"seed=range\(\d+\)|seed=0,1,2,3": "seed=0,1",
    r"task\.lag=\d+": "task.lag=4",
    r"model\.m([12])=4,16,64": r"model.m\1=4,8",
    r"task\.length=\d+": "task.length=8",
}
# What a page takes for granted, before its Python blocks.
SETUP = {
    "layers.md": (
        "import torch; from torch import nn; torch.manual_seed(0)\n"
        "V, X, A = torch.randn(8, 16), torch.randn(16, 4), torch.randn(6, 4)\n"
        "K, beta = torch.randn(8, 16), torch.rand(8)\n"
        "class Model(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(16, 4)\n"
        "model = Model()\n"
        "pretrained = model.state_dict()\n"
    ),
    "low-rank.md": "import torch; A = torch.randn(300, 280)\n",
}


class Block(NamedTuple):
    """A fenced block: its language, its lines, where it begins, and why it is not run."""

    language: str
    text: str
    line: int
    reason: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found: list[Block] = []
    language, lines, start, reason, before = "", [], 0, "", ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if start:
                found.append(Block(language, "\n".join(lines) + "\n", start, reason))
                start = 0
            else:
                said = re.fullmatch(r"<!-- not run: (.+) -->", before)
                language, lines, start = line[3:].strip(), [], number
                reason = said.group(1) if said else ""
        elif start:
            lines.append(line)
        before = line or before
    return found


def shortened(words: list[str]) -> list[str]:
    """What is run instead of ``svdbench *words``."""
    command = words[0] if words else ""
    for name in ("NODE_RANK", "MASTER_ADDR"):  # there is only this node
        os.environ.pop(name, None)
    if command == "data":
        return [re.sub("mnist|all", "digits", word) for word in words]
    if command == "reproduce" and len(words) > 1:
        return [*words, "--show"]
    kept: list[str] = []
    for word in words:
        for pattern, other in INSTEAD.items():
            word = re.sub(pattern, other, word)
        if word:
            kept.append(word)
    if "--processes" in kept:
        at = kept.index("--processes")
        del kept[at : at + 2]
    if command == "compress" and {":", "/"} & set([*words, ""][1]):
        return [*kept, "timing_s=0.01"]
    if {"--resume", "--help", "--show-config"} & set(kept):
        return kept
    if any(word.startswith(("pmnist", "smnist")) for word in words):  # the names of tasks stay
        kept = [word.replace("pdigits", "pmnist").replace("sdigits", "smnist") for word in kept]
        small = [] if "--presets" in kept else ["--hidden", "8"]  # which have sizes of their own
        return [*kept, "task.dataset=digits", "--steps", "2", *small]
    extra = SHORT.get(command, [])
    if command == "accelerate" and "--when" in kept:
        extra = ["--widths", "8", "--rows", "4", "--budget", "0.2"]
    elif command == "accelerate" and "byte-lm" in kept:
        small = ["--width", "8", "--layers", "1", "--context", "8"]
        extra = [*extra, *small, "--budget", "0.2", "--no-rivals"]
    elif command == "accelerate" and "--task" in kept:
        small = ["--width", "8", "--length", "4", "--sequences", "40"]
        extra = [*extra, *small, "--budget", "0.2", "--no-rivals"]
    if any(word.startswith("experiment=") for word in kept):  # of MNIST, which may not be here
        extra = [*extra, "data.name=digits", "net=64-15-10"]
    if command == "train" and any(".batch_size" in word for word in kept):
        extra = [word for word in extra if "hidden" not in word]
    return [*kept, *extra]


class Checked(BaseException):
    """Ends a sweep that has been checked."""


def check_as_typed(words: list[str]) -> None:
    """Compose and check a command as it stands, where :data:`INSTEAD` would change it.

    Raises:
        SystemExit: it is not valid.
    """
    from svdbench.cli import main

    if words[0] in ("data", "reproduce") or "--resume" in words:
        return
    changed = "|".join([*INSTEAD, "^--processes$"])
    if not any(re.search(changed, word) for word in words):
        return
    words = [re.sub(r"^seed=range\(\d+\)$", "seed=range(2)", word) for word in words]
    shown = [] if "-m" in words else ["--show-config"]
    with (
        suppress(Checked),
        patch("svdbench.running.sweeps.run.own_folder", side_effect=Checked),
        patch("svdbench.running.sweeps.engines._is_there", return_value=True),  # its package
    ):
        try:
            main([*words, *shown])
        except SystemExit as end:
            if end.code:
                raise


def check_make(words: list[str]) -> int:
    """Whether the Makefile has these targets."""
    targets = [word for word in words if "=" not in word]
    behind = os.environ["PATH"].partition(os.pathsep)[2]  # where make itself is
    return subprocess.run(
        ["make", "--dry-run", "--silent", "-C", str(ROOT), *targets],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PATH": behind},
        executable=shutil.which("make", path=behind),
    ).returncode


def check_pip(words: list[str]) -> int:
    """Whether what is to be installed is this checkout, or svdbench with extras that it has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for word in words[1:]:
        named = re.fullmatch(r"svdbench(?:\[(.+)\])?", word)
        folder = Path(word) / "pyproject.toml"
        checkout = word == "." or (word.startswith("./") and folder.samefile(ROOT / folder.name))
        if word == "--quiet" or checkout:
            continue
        if not (named and set(filter(None, [named.group(1)])) <= set(extras)):
            print(f"pip install {word}: nothing of ours", file=sys.stderr)
            return 1
    return 0


def call(tool: str, *words: str) -> None:
    """Run a tool: svdbench with short settings, a file of Python, or a check of make's or pip's."""
    if tool == "svdbench":
        from svdbench.cli import main

        check_as_typed(list(words))
        main(shortened(list(words)))
    elif tool == "python":
        sys.path.insert(0, os.getcwd())
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.exit({"make": check_make, "pip": check_pip}[tool](list(words)))
