"""``help()`` of everything public: a line for people, and an example that runs."""

import doctest
import inspect
import re
import sys
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

import pytest
import torch

import svdbench

ROOT = Path(__file__).resolve().parents[1]
# What docs/reference documents, and so what other people's code may depend on.
MODULES = re.findall(
    r"^::: (svdbench(?:\.\w+)?)$",
    "\n".join(path.read_text() for path in sorted((ROOT / "docs/reference").glob("*.md"))),
    re.MULTILINE,
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public() -> dict[str, tuple[ModuleType, Any]]:
    """Classes and functions by their full names, with their modules; each once."""
    found: dict[int, tuple[str, ModuleType, Any]] = {}
    for module in map(import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, ModuleType | str | GenericAlias):
                found.setdefault(id(value), (f"{module.__name__}.{name}", module, value))
    return {name: (module, value) for name, module, value in found.values()}


PUBLIC = public()


def example_of(value: Any) -> str:
    """The section of a docstring, without its heading and indentation."""
    _, heading, rest = inspect.cleandoc(value.__doc__ or "").partition("\nExample:\n")
    lines = []
    for line in rest.splitlines() if heading else ():
        if line and not line.startswith(" "):
            break
        lines.append(line)
    return inspect.cleandoc("\n" + "\n".join(lines))


def test_all_that_the_reference_documents_is_walked() -> None:
    assert {"svdbench", "svdbench.extend", "svdbench.kernels", "svdbench.lowrank"} < {*MODULES}
    assert "svdbench.nn" in MODULES
    assert len(PUBLIC) >= 80


@pytest.mark.parametrize("name", PUBLIC)
def test_help_opens_with_a_line_for_people(name: str) -> None:
    _, value = PUBLIC[name]
    assert value.__doc__ is not None
    first, *rest = inspect.cleandoc(value.__doc__).splitlines()
    assert first.endswith("."), first
    assert first[0].isupper() or not first[0].isalpha() or {"=", "≈"} & {*first}, first
    assert len(first.split()) >= 3, first
    assert not rest or rest[0] == "", "the first line is a sentence of its own"


@pytest.mark.parametrize("name", PUBLIC)
def test_its_example_is_short_and_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As typed after ``import torch, svdbench`` and ``from MODULE import *``."""
    module, value = PUBLIC[name]
    example = example_of(value)
    assert example, "it has no section Example"
    for extra in re.findall(r"^>>> from (transformers)", example, re.MULTILINE):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    # sys.displayhook is what prints a value, here as at a prompt.
    monkeypatch.setattr(sys, "displayhook", sys.__displayhook__)
    names = {each: getattr(module, each) for each in module.__all__}
    namespace: dict[str, Any] = {"torch": torch, "svdbench": svdbench, **names}
    namespace["__name__"] = "__main__"
    if example.startswith(".. code-block:: python"):
        _, _, code = example.partition("\n")
        exec(compile(inspect.cleandoc(code), name, "exec"), namespace)
        return
    statements = doctest.DocTestParser().get_examples(example)
    assert 1 <= len(statements) <= 8
    for each in statements:
        if each.options.get(doctest.SKIP):  # needs a model that isn't here
            continue
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(each.source, name, "single"), namespace)
        if each.want:
            found = printed.getvalue()
            assert doctest.OutputChecker().check_output(each.want, found, OPTIONS), (
                f"{each.source}is {found!r}, not {each.want!r}"
            )
