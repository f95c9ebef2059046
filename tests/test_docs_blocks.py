"""Every command and every piece of Python in README and docs runs, with short settings."""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from documented import PAGES, ROOT, SETUP, Block, blocks

from svdbench.members import groups

SHELL, PYTHON, YAML, TOML = "sh", "python", "yaml", "toml"
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


# Packages that the blocks of a page need, and that not every environment has.
NEEDS = {"hugging-face.md": ("transformers", "tokenizers", "torchao", "onnxscript", "onnxruntime")}


def place_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUN = [page for page in PAGES if blocks(page)]


def test_every_block_is_of_a_known_language() -> None:
    known = {SHELL, PYTHON, YAML, TOML}
    for page in PAGES:
        for block in blocks(page):
            assert block.language in known, f"{place_of(page)}:{block.line}"


def test_few_blocks_are_not_run() -> None:
    left = [(place_of(page), b.line, b.reason) for page in PAGES for b in blocks(page) if b.reason]
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
    venv = f'[ "$1 $2 $#" = "-m venv 3" ] && mkdir -p "$3" && ln -sfn "{folder}" "$3/bin"'
    for name, script in (WRAPPERS | {"python3": venv}).items():
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
@pytest.mark.parametrize("page", RUN, ids=place_of)
def test_its_blocks_run(
    page: Path, given: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    for package in NEEDS.get(page.name, ()):
        if not find_spec(package):
            pytest.skip(f"{package} is not installed")
    folder = tmp_path / "page"
    shutil.copytree(given, folder)
    python = SETUP.get(page.name, "")
    for block in blocks(page):
        where = f"{place_of(page)}:{block.line}"
        if block.reason:
            compile(block.text, where, "exec")
        elif block.language == SHELL:
            for command in commands(block):
                check_runs(command, folder, environment, where)
        elif block.language == PYTHON:
            first = block.text.split("\n", 1)[0]
            if first.startswith("# ") and first.endswith(".py"):
                (folder / first[2:]).write_text(block.text)
            done = shell_python(python + block.text, folder, environment)
            assert done.returncode == 0, f"{where}\n{done.stderr}"
            python += block.text
        elif block.language == TOML:
            (group,) = tomllib.loads(block.text)["project"]["entry-points"]
            assert group in {f"svdbench.{each.plural}" for each in groups()}, where
        else:
            run_workflow(yaml.safe_load(block.text), folder, environment, where)


def check_runs(command: str, folder: Path, environment: dict[str, str], where: str) -> None:
    """Run a command, which has to succeed, or to end with a verdict if it is a comparison."""
    done = shell(command, folder, environment)
    # compare: no regression, a regression (of noise, with so few samples), or undecided.
    good = {0, 1, 4} if "svdbench compare" in command else {0}
    assert done.returncode in good, f"{where}: {command}\n{done.stdout[-500:]}{done.stderr}"


def run_workflow(
    content: dict[str, Any], folder: Path, environment: dict[str, str], where: str
) -> None:
    """Run the steps of a workflow of GitHub Actions; other YAML has been parsed, which is all."""
    environment = environment | {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    for job in content.get("jobs", {}).values():
        for step in job["steps"]:
            if "run" in step:
                check_runs(step["run"], folder, environment, where)
            else:
                assert step["uses"].startswith("actions/checkout@"), step
                checkout = folder / step["with"]["path"]
                checkout.mkdir(exist_ok=True)
                (checkout / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")


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
