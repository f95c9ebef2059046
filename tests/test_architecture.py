"""Data flows one way, and what the wheel holds is what the tree says."""

import ast
import subprocess
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path

import pytest

from svdbench import members
from svdbench.job import Command, Job

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"pyproject.toml", "svdbench", "conf", "kernels", "results", "tests", "Makefile"}
CUSTOMARY = {"README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", ".gitignore", ".ci", "docs"}

# Who may import whom, among the rooms of the house, from the ground up. Any room may import
# the modules for errors, files and arguments.
MAY_IMPORT: dict[str, set[str]] = {
    "kernels": set(),
    "statistics": set(),
    "members": set(),
    "job": set(),
    "nn": {"kernels"},
    "measure": {"kernels", "statistics"},
    "models": {"nn"},
    "datasets": {"members"},
    "tasks": {"datasets", "members"},
    "lowrank": {"measure", "members"},
    "config": {"job", "members"},
    "record": set(),
    "reporting": {"record", "statistics"},
    "running": {"config", "job", "measure", "members", "record", "reporting"},
    "user_models": {"config", "lowrank", "members"},
    "training": {
        *("config", "job", "measure", "members", "models", "record", "reporting", "tasks"),
    },
    "timings": {"config", "measure", "record", "reporting", "running", "statistics"},
    "side_by_side": {
        *("config", "datasets", "job", "lowrank", "measure", "members", "record", "reporting"),
        *("running", "statistics", "training"),
    },
    "cli": {"config", "job", "members", "record", "running"},
    "jobs": {
        *("config", "datasets", "job", "kernels", "lowrank", "measure", "members", "models"),
        *("nn", "record", "reporting", "running", "side_by_side", "statistics", "tasks"),
        *("timings", "training", "user_models"),
    },
}
GROUND = {"_version", "arguments", "errors", "files", "user_code"}
JOBS = sorted(path.parent for path in (ROOT / "svdbench" / "jobs").glob("*/__init__.py"))


def imports(path: Path) -> set[str]:
    """Names of the modules that a file imports, relative ones left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(path: Path) -> set[str]:
    """The rooms that a file imports: packages and modules of svdbench."""
    parts = [name.split(".") for name in imports(path) if name.startswith("svdbench.")]
    house = ROOT / "svdbench"
    names = {part[1] for part in parts}
    return {name for name in names if (house / name).is_dir() or (house / f"{name}.py").is_file()}


def files_of(room: str) -> list[Path]:
    """The Python files of a package, or of a room that is one module."""
    folder = ROOT / "kernels" if room == "kernels" else ROOT / "svdbench" / room
    return [*folder.rglob("*.py")] or [folder.with_suffix(".py")]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_data_flows_one_way(room: str) -> None:
    for path in files_of(room):
        stray = rooms(path) - MAY_IMPORT[room] - GROUND - {room}
        assert not stray, f"{path.relative_to(ROOT)} imports {stray}"


def test_no_room_is_above_itself() -> None:
    floors: dict[str, int] = {}
    rest = dict(MAY_IMPORT)
    while rest:
        ready = {room for room, below in rest.items() if below <= set(floors)}
        assert ready, f"a circle among {sorted(rest)}"
        floors |= {room: 1 + max((floors[b] for b in rest[room]), default=0) for room in ready}
        rest = {room: below for room, below in rest.items() if room not in ready}
    assert max(floors.values()) <= 7


def test_every_room_has_its_place() -> None:
    folders = {path.name for path in (ROOT / "svdbench").iterdir() if path.is_dir()}
    assert folders - {"__pycache__", "conf"} <= set(MAY_IMPORT)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_is_one_folder(job: Path) -> None:
    for path in job.rglob("*.py"):
        others = {name.split(".")[2] for name in imports(path) if name.startswith("svdbench.jobs.")}
        assert others <= {job.name}, f"{path.relative_to(ROOT)} imports the job {others}"
    door = vars(import_module(f"svdbench.jobs.{job.name}"))
    declared = [value for value in door.values() if isinstance(value, Job | Command)]
    assert declared, f"{job.name} declares neither a Job nor a Command"
    if any(isinstance(value, Job) for value in declared):
        assert {"run.py", "report.py"} <= {path.name for path in job.iterdir()}


def test_kernels_stand_alone() -> None:
    allowed = {"torch", "triton"}
    import sys

    for path in (ROOT / "kernels").glob("*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert roots - set(sys.stdlib_module_names) <= allowed, path


def test_every_folder_is_a_package_for_the_wheel() -> None:
    for path in (ROOT / "svdbench").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path


def test_the_top_level_is_what_was_chosen() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert names <= TOP_LEVEL | CUSTOMARY


GROUPS = [value for value in vars(members).values() if isinstance(value, members.Registry)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.folder)
def test_members_and_yamls_are_the_same(group: members.Registry) -> None:
    for name in group.names():
        own = group.class_of(name)
        assert members.plain(own.name) == name
        parameters = signature(own).parameters.values()
        if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
            assert set(group.options_of(name)) <= {parameter.name for parameter in parameters}
    module, _, base = group.base.partition(":")
    assert set(members._classes(module, base)) == set(group.names())


# To be renamed with the jobs that have them.
TWICE: set[str] = set()


def test_no_class_name_twice() -> None:
    places: dict[str, list[str]] = {}
    for folder in ("svdbench", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.resolve().is_relative_to((ROOT / folder).resolve()):  # not by way of a link
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.ClassDef):
                        places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not {name: twice[name] for name in twice.keys() - TWICE}
