"""Where the zoo keeps files, and the texts of the standard library."""

import ast
import os
import random
import re
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Parts of the standard library that are no ordinary sources.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3", "idlelib"}
SENTENCE = re.compile(r"[A-Z][A-Za-z ,;'()-]+[a-z)]\.")


def kept() -> Path:
    """The folder of what was trained or unpacked; git ignores it."""
    named = os.environ.get("SVDBENCH_ZOO")
    folder = Path(named) if named else Path(__file__).parents[2] / "build" / "zoo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def package_file(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported: it may need packages for audio.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"there is no package {package}", name=package)
    return Path(spec.submodule_search_locations[0]) / path


@cache
def sources() -> tuple[str, ...]:
    """The texts of the standard library's modules, sorted by path."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = (p for p in sorted(root.rglob("*.py")) if not LEFT_OUT & set(p.relative_to(root).parts))
    return tuple(path.read_text(encoding="utf-8", errors="ignore") for path in paths)


@cache
def sentences(count: int, seed: int = 0) -> tuple[str, ...]:
    """Different sentences of 6 to 30 words, from docstrings of the standard library, shuffled."""
    found: dict[str, None] = {}
    for text in sources()[::5]:  # enough, and parsing takes time
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                doc = " ".join((ast.get_docstring(node) or "").split())
                found |= dict.fromkeys(SENTENCE.findall(doc))
    fitting = [each for each in found if 6 <= len(each.split()) <= 30]
    random.Random(seed).shuffle(fitting)
    if len(fitting) < count:
        raise ValueError(f"there are {len(fitting)} sentences: ask for no more")
    return tuple(fitting[:count])
