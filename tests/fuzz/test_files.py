"""Files that are damaged, foreign, hostile or no files: read as far as they go, or refused."""

import json
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import run
from hypothesis import strategies as st
from judge import ENDS, PAGES, judged, limited
from mutations import (
    PLACES,
    SECRET,
    TOUCHED,
    Payload,
    checkpoints,
    overwritten,
    saved,
    sweeps,
    tables,
    trees,
)

from svdbench.kernels import Plan, Tuned, tuned_plans
from svdbench.kernels.plans import Case
from svdbench.kernels.tuned_plans import remember
from svdbench.lowrank import factor, load, save

Hunting = Callable[..., None]

MODEL = """
from torch import nn, ones, zeros

def build():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

def loader():
    return ones(40, 6), zeros(40).long()
"""
TRAIN = ["train", "lstm", "--hidden", "4", "--batch", "2", "task.length=5", "task.test_size=6"]
TRAIN += ["--steps", "2", "trainer.evaluate_every=1"]
OWN = ["compress", "fuzz_net:build", "--data", "fuzz_net:loader", "timing_s=0", "--weights"]

REFERENCE = Path(__file__).resolve().parents[2] / "results/reference/reproduce/quick"
# Runs of other jobs, whose reports read their configurations, too.
SENT = {
    "accelerated": "runs/accelerate/xor-published",
    "compressed": "runs/compress/three-layer-published",
}
HIDDEN = "correct horse battery staple"

# Files by path, and the commands that read them.
RUNS = {"timed": "time-fasth", "trained": "train"}
READERS: dict[str, list[list[str]]] = {
    f"{run}/{name}": [
        *(["compare", run, "other"], ["compare", "other", run]),
        *(["report", run], ["report", "--results", "."]),
    ]
    for run in RUNS
    for name in ("summary.csv", "samples.csv", "env.json", "config.yaml")
}
for path in ("config.yaml", "progress.jsonl", "env.json"):
    READERS[f"timed/{path}"] = [
        *READERS.get(f"timed/{path}", []),
        ["time-fasth", "--resume", "timed"],
    ]
for path in ("summary.csv", "samples.csv"):
    READERS[f"timed/{path}"].append(["time-fasth", "--resume", "timed"])
READERS["trained/config.yaml"].append(["train", "--resume", "trained"])
READERS |= {
    f"{run}/{name}": [["report", run], ["compare", run, run], ["report", "--results", "."]]
    for run in SENT
    for name in ("config.yaml", "env.json")
}
READERS |= {
    "swept/sweep.yaml": [["train", "--resume", "swept"], ["report", "swept"]],
    "swept/jobs/0.json": [["report", "swept"], ["train", "--resume", "swept"]],
    "swept/0/config.yaml": [["report", "swept"], ["train", "--resume", "swept/0"]],
    "repeated/xor/made.json": [["reproduce", "--results", "repeated"]],
    "repeated/xor/numbers.csv": [["reproduce", "--results", "repeated"]],
    "repeated/xor/curves.csv": [["reproduce", "--results", "repeated"]],
    "repeated/verdicts.csv": [["reproduce", "xor", "--against", "repeated"]],
}
READERS |= {
    "trained/seed-0/last.pt": [[*TRAIN, "--resume", "trained/seed-0/last.pt"]],
    "cache/tuned.json": [["tune"], ["time-fasth", "--d", "8", "--methods", "fasth", "--name", "x"]],
    "net.safetensors": [[*OWN, "net.safetensors"]],
    "net.pt": [[*OWN, "net.pt"]],
    "data/mnist/train-images-idx3-ubyte.gz": [["data", "list", "--data-dir", "data"]],
}


def _lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def _as_lines(lines: Any) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines) if isinstance(lines, list) else ""


TREES = {
    ".jsonl": (_lines, _as_lines),
    ".json": (json.loads, json.dumps),
    ".yaml": (yaml.safe_load, yaml.safe_dump),
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each kind, as svdbench and torch write them."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SVDBENCH_CACHE", str(folder / "cache"))
        patch.setattr(tuned_plans, "_known", None)
        tiny = [
            "time-fasth",
            "--d",
            "8",
            "--budget",
            "0.1",
            "measure.min_reps=1",
            "measure.warmup_reps=1",
        ]
        assert run([*tiny, "--methods", "fasth,cayley"]).code == 0
        plan = Plan(4)  # plans are kept of GPUs alone
        remember(Tuned(Case(8, 8, 32, "float32", "cuda X", 0), plan, {plan: 1e-3}))
        assert run(TRAIN).code == 0
        assert run([*TRAIN, "-m", "seed=0,1", "--name", "swept"]).code == 0
    (folder / "results/train/swept").rename(folder / "swept")
    for name, place in SENT.items():
        shutil.copytree(REFERENCE / place, folder / name)
    shutil.copytree(REFERENCE / "xor", folder / "repeated/xor")
    shutil.copy(REFERENCE / "verdicts.csv", folder / "repeated/verdicts.csv")
    for name, job in RUNS.items():
        next((folder / "results" / job).iterdir()).rename(folder / name)
    shutil.rmtree(folder / "results")
    (folder / "fuzz_net.py").write_text(MODEL)
    dense = _model()
    save_file(dense.state_dict(), folder / "net.safetensors")
    torch.save(dense.state_dict(), folder / "net.pt")
    save(factor(dense, {"0.weight": 2})[0], folder / "low.safetensors")
    (folder / "data/mnist").mkdir(parents=True)
    (folder / "data/mnist/train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b no images")
    return folder


def _model() -> torch.nn.Module:
    names: dict[str, Any] = {}
    exec(MODEL, names)
    model: torch.nn.Module = names["build"]()
    return model


@pytest.fixture
def files(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All of them, in the current folder."""
    here = Path.cwd()
    shutil.copytree(made, here, dirs_exist_ok=True)
    monkeypatch.setenv("SVDBENCH_CACHE", str(here / "cache"))
    monkeypatch.setenv(SECRET, HIDDEN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield made
    sys.modules.pop("fuzz_net", None)


@st.composite
def changes(draw: st.DrawFn, path: str, whole: Path) -> Callable[[Path], None]:
    """Something that is done to a file."""
    if draw(st.integers(0, 7)) == 0:
        return PLACES[draw(st.sampled_from(list(PLACES)))]
    data, kind = (whole / path).read_bytes(), Path(path).suffix
    by_kind: st.SearchStrategy[bytes] | None = None
    if kind == ".csv":
        by_kind = tables(data)
    elif kind == ".pt":
        by_kind = checkpoints(torch.load(whole / path, weights_only=True))
    elif path == "swept/sweep.yaml" and draw(st.booleans()):
        by_kind = sweeps(yaml.safe_load(data)).map(lambda tree: json.dumps(tree).encode())
    elif kind in TREES:
        read, write = TREES[kind]
        by_kind = trees(read(data)).map(lambda tree: write(tree).encode(errors="replace"))
    changed = draw(
        by_kind if by_kind is not None and draw(st.integers(0, 2)) else overwritten(data)
    )
    return partial(Path.write_bytes, data=changed)  # type: ignore[return-value]


def _tried(path: str, whole: Path, change: Callable[[Path], Any], use: Callable[[], Any]) -> None:
    """Change a file, use it, and put it right again; nothing but that happens to it."""
    place = Path(path)
    shutil.copy("other/summary.csv" if "other" in path else whole / path, place)
    change(place)
    tuned_plans._known = None
    here = _left()
    try:
        use()
        assert not Path(TOUCHED).exists(), "a file was executed"
        for page in (page for name in PAGES for page in Path().rglob(name)):
            assert HIDDEN.encode() not in page.read_bytes(), "the environment is in a page"
        assert _left() == here, "a file was changed"
    finally:
        for name in (path, *(f"{run}/progress.jsonl" for run in RUNS)):
            _remove(Path(name))
            shutil.copy(whole / name, name)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)


def _left() -> dict[str, Any]:
    """What is here, but for pages."""
    found: dict[str, Any] = {}
    for path in Path().rglob("*"):
        mode = path.lstat().st_mode
        if (
            path.name in (*PAGES, "progress.jsonl")
            or "__pycache__" in path.parts
            or "results" in path.parts
        ):
            continue
        if stat.S_ISREG(mode) and mode & 0o400:
            found[str(path)] = path.read_bytes()
        else:
            found[str(path)] = stat.S_IFMT(mode)
    return found


@pytest.mark.parametrize("path", READERS)
def test_a_file_is_read_or_refused(path: str, files: Path, hunting: Hunting) -> None:
    if "/" in path and (own := path.split("/")[0]) in RUNS:
        shutil.copytree(files / own, "other")
    using = st.sampled_from(READERS[path])

    def check(case: tuple[Callable[[Path], Any], list[str]]) -> None:
        change, line = case
        _tried(path, files, change, lambda: judged(line))

    hunting(check, st.tuples(changes(path, files), using), examples=5)


@pytest.mark.parametrize("path", ["low.safetensors", "low.json"])
def test_a_compressed_model_is_loaded_or_refused(path: str, files: Path, hunting: Hunting) -> None:
    def use() -> None:
        with limited():
            try:
                load(_model(), "low.safetensors")
                told = None
            except ValueError as error:
                told = str(error)
        assert told is None or ("low" in told and "\n" not in told)
        ENDS["accepted" if told is None else "refused"] += 1

    hunting(lambda change: _tried(path, files, change, use), changes(path, files), examples=5)


def test_the_payload_would_show(files: Path) -> None:
    """Were a file of these tests executed, they would tell."""
    torch.load(BytesIO(saved({"learner": Payload()})), weights_only=False)
    assert Path(TOUCHED).exists()
