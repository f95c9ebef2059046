"""Data flows one way, and what the wheel holds is what the tree says."""

import ast
import subprocess
from collections.abc import Iterator
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path

import pytest

from svdbench import members
from svdbench.job import Command, Job

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"pyproject.toml", "svdbench", "conf", "kernels", "results", "tests", "Makefile"}
CUSTOMARY = {"README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", ".gitignore", ".ci", "docs"}
CUSTOMARY |= {"CONTRIBUTING.md", "CITATION.cff", ".github", ".mkdocs.yml"}

# Who may import whom, among the rooms of the house, from the ground up. Any room may import
# the modules for errors, files and arguments.
MAY_IMPORT: dict[str, set[str]] = {
    "kernels": set(),
    "statistics": set(),
    "members": set(),
    "contract": set(),
    "job": set(),
    "nn": {"kernels"},
    "measure": {"contract", "kernels", "statistics"},
    "models": {"contract", "kernels", "nn"},
    "datasets": {"contract", "members"},
    "tasks": {"contract", "datasets", "members"},
    "lowrank": {"measure", "members"},
    "pretrained": {"lowrank"},
    "config": {"job", "members"},
    "record": set(),
    "reporting": {"record", "statistics"},
    "running": {"config", "job", "measure", "members", "record", "reporting"},
    "user_models": {"config", "lowrank", "members", "pretrained"},
    "training": {
        *("config", "job", "measure", "members", "models", "record", "reporting", "tasks"),
    },
    "timings": {
        "config",
        "job",
        "lowrank",
        "measure",
        "members",
        "record",
        "reporting",
        "running",
        "statistics",
    },
    "side_by_side": {
        *("config", "datasets", "job", "lowrank", "measure", "members", "record", "reporting"),
        *("running", "statistics", "tasks", "training"),
    },
    "cli": {"config", "job", "members", "record", "running"},
    "jobs": {
        *("config", "contract", "datasets", "job", "kernels", "lowrank", "measure", "members"),
        *("models", "nn", "pretrained", "record", "reporting", "running", "side_by_side"),
        *("statistics", "tasks", "timings", "training", "user_models"),
    },
}
GROUND = {"_version", "arguments", "errors", "files", "user_code"}
JOBS = sorted(path.parent for path in (ROOT / "svdbench" / "jobs").glob("*/__init__.py"))


def name_of(path: Path) -> str:
    """The module in a file, such as ``svdbench.nn`` or ``svdbench.kernels.wy``."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = ["svdbench", *parts] if parts[0] == "kernels" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Modules and names that a file imports from them, or none; not those for type checkers."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (above, node.module)))
            yield from ((module, alias.name) for alias in node.names)
        todo += ast.iter_child_nodes(node)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, and the names from them in full."""
    found = {f"{module}.{name}" for module, name in imported(path) if name}
    return found | {module for module, _ in imported(path)}


def modules(path: Path, known: set[str]) -> set[str]:
    """The modules among those known that a file needs; of a package only what it takes."""
    pairs = ((f"{module}.{name}", module) for module, name in imported(path))
    return {whole if whole in known else module for whole, module in pairs} & known


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


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count; those for type checkers do not."""
    paths = {name_of(path): path for room in MAY_IMPORT for path in files_of(room)}
    below = {name: modules(path, set(paths)) - {name} for name, path in paths.items()}
    while ready := {name for name, others in below.items() if not others & set(below)}:
        below = {name: others for name, others in below.items() if name not in ready}
    assert not below, f"a circle among {sorted(below)}"


# By name are imported: members and jobs, what the package's face shows, and optional peers.
BY_NAME = {"members.py", "job.py", "__init__.py", "measure/costs.py"}


def test_few_files_import_by_name() -> None:
    for path in (ROOT / "svdbench").rglob("*.py"):
        if str(path.relative_to(ROOT / "svdbench")) not in BY_NAME:
            assert "importlib.import_module" not in imports(path), path
            assert "__import__(" not in path.read_text(), path


def test_files_are_of_a_readable_size() -> None:
    sizes = [len(path.read_text().splitlines()) for room in MAY_IMPORT for path in files_of(room)]
    assert max(sizes) <= 450
    assert 100 <= sorted(sizes)[len(sizes) // 2] <= 200


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
        own = "svdbench.kernels"
        roots = {name.split(".")[0] for name in imports(path) if not name.startswith(own)}
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
