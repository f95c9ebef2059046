"""``svdbench check``: the questions asked of our own members, and of wrong ones by users."""

import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from command import Answer, assert_mistake, run

from svdbench import extend
from svdbench.contract import NotAsked
from svdbench.members import Registry, groups

pytestmark = pytest.mark.usefixtures("one_thread")

OURS = [
    (group, name, question)
    for group in groups()
    for name in group.names()
    for question in group.contract().questions
]
# Without files, and small, as in the tests of each group.
TINY: dict[str, dict[str, Any]] = {
    "addition": {"length": 9, "test_size": 7},
    "copy": {"lag": 3, "test_size": 7},
    "smnist": {"dataset": "digits", "pool": 2, "validation": 0.1},
    "pmnist": {"dataset": "digits", "pool": 2, "validation": 0.1},
    "pmnist_pooled": {"dataset": "digits", "validation": 0.1},
    "recall": {"pairs": 3, "length": 11, "symbols": 5, "test_size": 7},
    "words": {"group": "S3", "length": 8, "test_size": 7},
}
# Whose files tests/test_datasets.py reads.
LARGE_FILES = {"cats", "fashion_mnist", "mnist"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of a user's own; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    ("group", "name", "question"), OURS, ids=[f"{g.folder}-{n}-{q.name}" for g, n, q in OURS]
)
def test_ours(group: Registry, name: str, question: Any) -> None:
    quiet = {"tune": False} if "tune" in group.options_of(name) else {}
    chosen = {**quiet, **TINY.get(name, {})}
    if name in LARGE_FILES and question.name != "described":
        pytest.skip("its files are read by tests/test_datasets.py")

    def make(**options: Any) -> Any:
        return group.load(name, **{**chosen, **options})

    try:
        question.ask(make)
    except NotAsked as reason:
        pytest.skip(str(reason))


def example_of(kind: Any) -> str:
    """The code in the docstring of a class."""
    _, _, code = cleandoc(kind.__doc__ or "").partition(".. code-block:: python\n")
    return dedent(code).strip() + "\n"


@pytest.mark.parametrize("group", groups(), ids=lambda group: group.plural)
def test_the_example_in_the_docstring_passes(group: Registry) -> None:
    code = example_of(getattr(extend, group.kind))
    name, *_ = re.findall(r"^class (\w+)", code, re.MULTILINE)
    assert len(code.splitlines()) <= 28
    Path("mine.py").write_text(code)
    answer = run(["check", f"mine:{name}"])
    assert (answer.code, answer.err) == (0, ""), answer.out
    assert answer.out.startswith(f"mine:{name}: {group.what} (svdbench.extend.{group.kind})\n")
    assert "  fail  " not in answer.out


METHOD = example_of(extend.Method)
SOLVED = "return torch.linalg.solve(eye + A, X - A @ X)"


def checked(code: str, name: str = "MyCayley", *more: str) -> Answer:
    Path("mine.py").write_text(code)
    return run(["check", f"mine:{name}", *more])


@pytest.mark.parametrize(
    ("line", "question", "found", "advice"),
    [
        ("return X.T", "right shape", "shape (5, 24) instead of (24, 5)", "transposed product"),
        ("return X.double()", "right shape", "float64 where the input is float32", "dtype=X.dtype"),
        ("return 3", "right shape", "is a int, not a tensor", ""),
        (
            "return 1.01 * torch.linalg.solve(eye + A, X - A @ X)",
            "reference",
            "orthogonality is 2.0e-02",
            "inner",
        ),
        (
            "return torch.linalg.solve(eye + A, X - A @ X).detach()",
            "reference",
            "does not require grad",
            "without no_grad, detach",
        ),
        (
            "return torch.linalg.solve(eye + A.detach(), X - A @ X)",
            "finite differences",
            "the slope in a random direction",
            "look for a detach",
        ),
        (
            "Y = torch.linalg.solve(eye + A, X - A @ X); X.detach().mul_(2); return Y",
            "leaves its inputs unchanged",
            "apply changed X in place",
            "work on a copy",
        ),
        (
            "return torch.linalg.solve(eye + A, X - A @ X) * (1 + 1e-3 * torch.rand(()))",
            "same result again",
            "differs by",
            "no random numbers",
        ),
        (
            "self.A = getattr(self, 'A', A); A = self.A; " + SOLVED,
            "when its parameters change",
            "with other parameters,",
            "keep nothing",
        ),
        ("print('hello'); " + SOLVED, "right shape", "it printed 'hello'", "remove the print"),
        ("torch.set_num_threads(3); " + SOLVED, "right shape", "number of threads", "restore"),
        ("{}['x']", "right shape", "KeyError: 'x' (mine.py, line", ""),
        ("raise SystemExit(0)", "right shape", "SystemExit", "do not end the process"),
        ("while True: pass", "right shape", "did not answer within 1 s", "endless loop"),
        ("import time; time.sleep(9)", "right shape", "did not answer within 1 s", "--limit"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[:24],
)
def test_a_wrong_method_gets_advice(line: str, question: str, found: str, advice: str) -> None:
    answer = checked(METHOD.replace(SOLVED, line, 1), "MyCayley", "--limit", "1")
    assert answer.code == 1
    failed = re.findall(r"^  fail  (.*)\n(?: +→ (.*)\n)?", answer.out, re.MULTILINE)
    about = [(text, hint) for text, hint in failed if question in text]
    assert about, answer.out
    text, hint = about[0]
    assert found in text
    assert advice in hint
    assert re.fullmatch(r"svdbench: mine:MyCayley: \d+ of \d+ passed.*: .*\n", answer.err)


@pytest.mark.parametrize(
    ("count", "found"),
    [
        ("return Flops(1.0, 2.0)", "flops do not grow"),
        ("return Flops(problem.m, 2 * problem.m)", "PyTorch ran"),
        ("return Flops(0, problem.m)", "flops are 0 forward"),
        ("return 3", "flops returned a int"),
    ],
)
def test_a_wrong_count_of_operations(count: str, found: str) -> None:
    answer = checked(METHOD.replace("return Flops(forward, 2 * forward)", count))
    assert answer.code == 1
    assert found in answer.out
    assert answer.out.count("  fail  ") == 1


def test_too_large_a_count_where_every_operation_is_known() -> None:
    loop = example_of(extend.RNNLoop).replace("return Flops(", "return Flops(99 * ")
    answer = checked(loop, "Diagonal")
    assert answer.code == 1
    assert "PyTorch ran only" in answer.out


def test_what_stands_open_is_named() -> None:
    answer = checked(
        "from svdbench.extend import Method\nclass MyCayley(Method):\n    kind = 'a'\n"
    )
    assert answer.code == 1
    assert "MyCayley must define" in answer.out


def test_options_are_those_of_the_constructor() -> None:
    task = example_of(extend.Task)
    assert checked(task, "Parity", "length=5").code == 0
    answer = checked(task, "Parity", "lenght=5")
    assert answer.code == 1
    assert "did you mean 'length'" in answer.out


def test_ours_by_name() -> None:
    answer = run(["check", "digits"])
    assert (answer.code, answer.err) == (0, "")
    assert "4 of 4 passed" in answer.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fastth"], "no member is called 'fastth': did you mean 'fasth'?"),
        (["fasth", "block_size"], "'block_size' is not KEY=VALUE"),
        (["fasth", "--group", "maps"], "no group is called 'maps': choose from methods"),
        (["fasth", "--group", "tasks"], "no member is called 'fasth'"),
        (["nowhere:Mine"], "there is no module 'nowhere' in this folder"),
        (["mine:Mien"], "did you mean 'Mine'"),
        (["mine:Mine"], "derives from no base class of svdbench.extend: derive it from one of"),
        (["mine:make"], "mine:make is a function, not a class"),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str) -> None:
    Path("mine.py").write_text("class Mine: ...\ndef make(): ...\n")
    assert_mistake(run(["check", *words]), says)


def test_a_module_that_fails_is_one_line() -> None:
    Path("mine.py").write_text("1 / 0\n")
    answer = run(["check", "mine:Mine"])
    assert answer.code == 1
    assert "ZeroDivisionError: division by zero (mine.py, line 1)" in answer.err
