"""Every command and every piece of Python in README and docs runs, with short settings."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented import PAGES, ROOT, SETUP, Block, blocks

SHELL, PYTHON = "sh", "python"
# Tools that only a cluster has: the words behind the first run here, and the second does nothing.
WRAPPERS = {"srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"', "ray": "exit 0"}
MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

def loader():
    torch.manual_seed(1)
    x = torch.randn(512, 16)
    return list(zip(x.split(64), x[:, :4].argmax(1).split(64)))
"""


def told(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUN = [page for page in PAGES if any(b.language in (SHELL, PYTHON) for b in blocks(page))]


def test_every_block_is_of_a_known_language() -> None:
    known = {SHELL, PYTHON, "yaml", "toml"}
    for page in PAGES:
        for block in blocks(page):
            assert block.language in known, f"{told(page)}:{block.line}"


def test_few_blocks_are_not_run() -> None:
    left = [(told(page), b.line, b.reason) for page in PAGES for b in blocks(page) if b.reason]
    assert len(left) <= 8, left


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment whose PATH has svdbench with short settings, and tools that only check."""
    folder = tmp_path_factory.mktemp("bin")
    # The path of a socket is short.
    address = f"{tempfile.mkdtemp(prefix='svdbench')}/socket"
    tests = ROOT / "tests"
    paths = [str(ROOT), str(tests), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "TERM": "dumb",
    }
    python, served = sys.executable, str(tests / "fork_server.py")
    for name in ("svdbench", "make", "pip", "python"):
        script = f'exec "{python}" -S "{served}" "{address}" {name} "$@"'
        write_tool(folder / name, script)
    for name, script in WRAPPERS.items():
        write_tool(folder / name, script)
    server = subprocess.Popen(
        [python, "-P", served, address], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    yield environment
    server.terminate()
    server.wait()
    shutil.rmtree(Path(address).parent)


def write_tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder with what the pages take for granted: runs, a model and its weights."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "my_package.py").write_text(MODEL)
    commands = """
    svdbench time-fasth --methods fasth,cayley --name 20260301-120000
    for side in before after; do
        svdbench time-fasth --methods fasth,cayley --name r results=$PWD/$side
    done
    svdbench train spectral-rnn --task copy --seeds 5 --name long
    svdbench train lstm,gru -m optimizer.lr=1e-3,3e-3 'seed=range(5)' --name rates
    """
    done = shell(commands, folder, environment)
    assert done.returncode == 0, done.stderr
    weights = "import my_package, safetensors.torch as s\n"
    weights += "s.save_file(my_package.build().state_dict(), 'model.safetensors')"
    assert shell_python(weights, folder, environment).returncode == 0
    return folder


def shell(text: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=told)
def test_its_blocks_run(
    page: Path, given: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "page"
    shutil.copytree(given, folder)
    python = SETUP.get(page.name, "")
    for block in blocks(page):
        if block.reason:
            continue
        if block.language == SHELL:
            for command in commands(block):
                done = shell(command, folder, environment)
                said = f"{told(page)}:{block.line}: {command}\n{done.stdout[-500:]}{done.stderr}"
                assert done.returncode == 0, said
        elif block.language == PYTHON:
            first = block.text.split("\n", 1)[0]
            if first.startswith("# ") and first.endswith(".py"):
                (folder / first[2:]).write_text(block.text)
            done = shell_python(python + block.text, folder, environment)
            assert done.returncode == 0, f"{told(page)}:{block.line}\n{done.stderr}"
            python += block.text


def commands(block: Block) -> list[str]:
    """The commands of a block, each with the lines that continue it."""
    found: list[str] = []
    open_ = False
    for line in block.text.splitlines():
        if open_:
            found[-1] += "\n" + line
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append(line)
        open_ = line.endswith("\\")
    return found


def shell_python(
    text: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    (folder / "block.py").write_text(text)
    return shell("python block.py", folder, environment)


NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, environment: dict[str, str], tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
