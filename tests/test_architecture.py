"""Data flows one way, and what the wheel holds is what the tree says."""

import ast
import subprocess
from inspect import Parameter, signature
from pathlib import Path

import pytest

from svdbench import members

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"pyproject.toml", "svdbench", "conf", "kernels", "results", "tests", "Makefile"}
CUSTOMARY = {"README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", ".gitignore", ".ci", "docs"}

# Who may import whom, among the packages of the house.
MAY_IMPORT = {
    "kernels": set(),
    "orthogonal": {"kernels", "measure"},
    "matrix_ops": {"kernels", "measure", "nn"},
    "nn": {"kernels"},
    "models": {"nn"},
    "datasets": set(),
    "tasks": {"datasets"},
    "rnn_loops": {"kernels", "measure", "nn"},
    "classification": {"measure"},
    "lowrank": {"measure"},
    "acceleration": {"classification", "lowrank", "measure"},
    "compressors": {"classification", "lowrank"},
    "training": {"config", "measure", "models", "record", "reporting", "schemas", "tasks"},
    "measure": {"kernels", "statistics"},
    "svd_drivers": {"lowrank", "measure"},
    "record": set(),
    "statistics": set(),
    "reporting": {"record", "statistics"},
    "timings": {"measure", "record", "reporting"},
    "side_by_side": {"record", "reporting", "statistics"},
    "report": {
        *("measure", "record", "reporting", "side_by_side", "statistics", "timings", "training"),
    },
    "reproduce": {
        *("kernels", "measure", "models", "nn", "record", "report", "reporting", "side_by_side"),
        "statistics",
    },
    "compare": {"measure", "record", "report", "reporting", "statistics"},
    "sweeps": {"config", "record", "report", "reporting"},
    "config": set(),
    "schemas": {"config", "matrix_ops"},
    "doors": {"compare", "jobs", "schemas"},
    "cli": {"config", "jobs", "record"},
    "jobs": {
        *("config", "schemas"),
        *("kernels", "nn", "orthogonal", "matrix_ops", "rnn_loops"),
        *("datasets", "models", "tasks", "training"),
        *("acceleration", "classification", "compressors", "lowrank", "svd_drivers"),
        *("measure", "record", "report", "reporting", "statistics", "sweeps", "timings"),
        "cli",  # bench_trust kills commands as they are typed
        *("measure", "record", "report", "reproduce"),
    },
}


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


def packages(path: Path) -> set[str]:
    """The packages of svdbench that a file imports."""
    parts = [name.split(".") for name in imports(path) if name.startswith("svdbench.")]
    return {part[1] for part in parts if (ROOT / "svdbench" / part[1]).is_dir()}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_data_flows_one_way(package: str) -> None:
    folder = ROOT / "kernels" if package == "kernels" else ROOT / "svdbench" / package
    for path in folder.rglob("*.py"):
        stray = packages(path) - MAY_IMPORT[package] - {package}
        assert not stray, f"{path.relative_to(ROOT)} imports {stray}"


def test_every_package_has_its_place() -> None:
    folders = {path.name for path in (ROOT / "svdbench").iterdir() if path.is_dir()}
    assert folders - {"__pycache__", "conf"} <= set(MAY_IMPORT)


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
TWICE = {"Conditions", "Display", "Entry", "Given", "Rows", "Session", "Setting"}


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
