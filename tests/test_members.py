"""Members of groups that are other people's: named as MODULE:CLASS, or installed."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import run, table

import svdbench
from svdbench import members
from svdbench.errors import Failed, UserError
from svdbench.members import COMPRESSORS, LOOPS, METHODS, MODELS, Registry, references

GROUPS = [value for value in vars(members).values() if isinstance(value, Registry)]
SIZES = {"input_size": 2, "hidden_size": 3, "output_size": 1}
QUICK = ["time-fasth", "--quick", "--d", "8", "--budget", "0.1", "--name", "r"]
RESULTS = Path("results/time-fasth/r")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of a user's own; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("mine", "theirs", "broken"):
        sys.modules.pop(name, None)


def source_of(group: Registry, name: str = "Mine", named: str | None = None) -> str:
    """A module with a class that derives from a member of ours."""
    ours = group.class_of(named or group.names()[0])
    return f"from {ours.__module__} import {ours.__name__} as Ours\nclass {name}(Ours):\n    pass\n"


def installed(group: Registry, **names: str) -> None:
    """A distribution in this folder with entry points: a name and MODULE:CLASS for each."""
    information = Path("theirs-1.0.dist-info")
    information.mkdir()
    information.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0")
    lines = [f"[svdbench.{group.folder}]", *(f"{key} = {value}" for key, value in names.items())]
    information.joinpath("entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(Path.cwd()))


def options_for(group: Registry) -> dict[str, Any]:
    return SIZES if group is MODELS else {}


def by_folder(group: Registry) -> str:
    return group.folder


@pytest.mark.parametrize("group", GROUPS, ids=by_folder)
def test_a_class_of_this_folder(group: Registry) -> None:
    Path("mine.py").write_text(source_of(group))
    made = group.load("mine:Mine", **options_for(group))
    assert (type(made).__module__, type(made).__name__) == ("mine", "Mine")
    assert isinstance(made, group.class_of(group.names()[0]))
    assert "mine:Mine" not in group.names()


@pytest.mark.parametrize("group", GROUPS, ids=by_folder)
def test_an_installed_class(group: Registry) -> None:
    Path("theirs.py").write_text(source_of(group))
    first, *_ = ours = group.names()
    installed(group, **{"the-fast": "theirs:Mine", first: "theirs:Hidden"})
    assert group.installed() == ["the_fast"]
    assert group.names() == ours
    assert type(group.load("The-Fast", **options_for(group))).__name__ == "Mine"
    assert group.class_of(first).__module__ != "theirs"
    with pytest.raises(ValueError, match=r"did you mean 'the_fast'\? known: .*, the_fast$"):
        group.check(["the_fats"])


def test_its_options_are_those_of_its_constructor() -> None:
    Path("mine.py").write_text(
        source_of(METHODS, "Ours2") + "class Mine(Ours):\n"
        "    def __init__(self, size=3, *, what=None, many=()):\n        self.size = size\n"
    )
    assert METHODS.options_of("mine:Mine") == {"size": 3, "what": None}
    assert METHODS.load("mine:Mine", size=5).size == 5
    with pytest.raises(ValueError, match="did you mean 'size'"):
        METHODS.load("mine:Mine", sise=5)


MISTAKES = {
    "nowhere:Mine": (UserError, "no module 'nowhere' in this folder"),
    "mine:Mein": (UserError, "did you mean 'Mine'"),
    "mine:NUMBER": (ValueError, "is not a class derived from"),
    "mine:Other": (
        ValueError,
        "is not a class derived from svdbench.extend.Method",
    ),
    "mine:Needs": (
        UserError,
        r"Needs: Needs.__init__\(\) needs 'size', which it is not given",
    ),
    "mine:Abstract": (UserError, "mine:Abstract: Abstract must define '?more'?$"),
    "broken:Mine": (Failed, "broken:Mine failed: ZeroDivisionError"),
    "mine:Fails": (Failed, r"mine:Fails failed: KeyError: 'x' \(mine.py, line 8\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str) -> None:
    kind, says = MISTAKES[name]
    Path("broken.py").write_text("1 / 0\n")
    Path("mine.py").write_text(
        source_of(METHODS) + "NUMBER = 1\nclass Other: ...\nclass Fails(Ours):\n"
        "    def __init__(self):\n        {}['x']\n"
        "class Needs(Ours):\n    def __init__(self, size): ...\n"
        "import abc\nclass Abstract(Ours, abc.ABC):\n"
        "    @abc.abstractmethod\n    def more(self): ...\n"
    )
    with pytest.raises(kind, match=says) as error:
        METHODS.load(name)
    assert "\n" not in str(error.value)


def test_what_a_configuration_names() -> None:
    config = {
        "methods": ["fasth", "a.b:C", "d:E"],
        "orthogonal": {"a.b:C": {"size": 1}},
        "model": {"build": "net:make", "device": "cuda:0"},
        "data": {"name": "d:Data", "dir": "drive:data"},
        "results": "drive:folder",
    }
    assert references(config) == ["a.b:C", "d:E", "net:make", "d:Data"]


class TestCommand:
    def test_a_method_is_called_what_was_typed(self) -> None:
        Path("mine.py").write_text(source_of(METHODS))
        answer = run([*QUICK, "--methods", "fasth,mine:Mine"])
        assert (answer.code, answer.err) == (0, "")
        rows = table(RESULTS / "summary.csv")
        assert {row["method"] for row in rows} == {"fasth", "mine:Mine"}
        assert len({row["cell"] for row in rows}) == 2

    def test_an_installed_method_is_listed_after_ours(self) -> None:
        Path("theirs.py").write_text(source_of(METHODS))
        installed(METHODS, aaa="theirs:Mine")
        rows = json.loads(run(["list", "methods", "--format", "json"]).out)
        assert [row["name"] for row in rows] == [*METHODS.names(), "aaa"]
        assert rows[0]["package"] == "svdbench"
        assert rows[-1]["package"] == "theirs"

    def test_a_model(self) -> None:
        Path("mine.py").write_text(
            source_of(MODELS) + "class Small(Ours):\n"
            "    def __init__(self, input_size, output_size, hidden_size=4):\n"
            "        super().__init__(\n"
            "            input_size=input_size, hidden_size=hidden_size, output_size=output_size\n"
            "        )\n"
        )
        short = ["--task", "addition", "--steps", "1", "task.length=3", "task.test_size=4"]
        answer = run(["train", "mine:Small", *short, "model.hidden_size=5", "--name", "r"])
        assert (answer.code, answer.err) == (0, "")
        (row,) = table("results/train/r/summary.csv")
        assert (row["model"], row["hidden_size"]) == ("mine:Small", "5")

    def test_a_file_alone_imports_nothing(self) -> None:
        """Of a run, and of a sweep, that somebody else has sent."""
        Path("mine.py").write_text(source_of(METHODS))
        assert run([*QUICK, "--methods", "fasth,mine:Mine"]).code == 0
        sweep = [*QUICK[:-1], "s", "-m", "--methods", "mine:Mine", "seed=0,1", "parallel=true"]
        assert run(sweep).code == 0
        Path("mine.py").write_text("open('executed', 'w')\n")
        del sys.modules["mine"]
        again = ["time-fasth", "--resume"]
        for name, says in ("r", "calls mine:Mine: to allow that"), ("s", "a file must not do"):
            answer = run([*again, f"results/time-fasth/{name}"])
            assert (answer.code, answer.out) == (2, "")
            assert says in answer.err
        assert not Path("executed").exists()

    def test_resuming_names_it_again(self) -> None:
        Path("mine.py").write_text(source_of(METHODS))
        assert run([*QUICK, "--methods", "fasth,mine:Mine"]).code == 0
        before = RESULTS.joinpath("summary.csv").read_bytes()
        again = ["time-fasth", "--resume", str(RESULTS), "--methods", "mine:Mine"]
        assert (run(again).code, run(again).err) == (0, "")
        assert RESULTS.joinpath("summary.csv").read_bytes() == before

    @pytest.mark.parametrize("stop", ["raise SystemExit", "sys.exit(0)"])
    def test_one_that_exits_is_one_line(self, stop: str) -> None:
        """Else the command would end with exit code 0, and a Python program without a word."""
        Path("mine.py").write_text(
            "import sys\n" + source_of(METHODS) + f"    def apply(self, V, X):\n        {stop}\n"
        )
        answer = run([*QUICK, "--methods", "mine:Mine"])
        assert answer.code == 1
        assert re.fullmatch(
            r"svdbench: the run was ended by SystemExit.* \(mine.py, line \d\): .*\n", answer.err
        )
        with pytest.raises(Failed, match="SystemExit"):
            svdbench.run("time-fasth", d=[8], methods=["mine:Mine"], budget=0.1)

    def test_a_compressor_that_fails_has_a_row_that_says_so(self) -> None:
        Path("mine.py").write_text(
            source_of(COMPRESSORS) + "    def factors(self, W):\n        return W\n"
        )
        short = ["--epochs", "1", "--seeds", "1", "--ranks", "2", "--name", "r"]
        answer = run(["compress", "xor", "--methods", "mine:Mine", *short])
        assert answer.err == ""
        rows = table("results/compress/r/summary.csv")
        assert [row["status"] for row in rows] == ["ok", "failed"]
        assert "factors() takes 2 positional arguments but 5 were given" in rows[1]["reason"]

    @pytest.mark.parametrize(
        "words",
        [
            ["compress", "digits", "--methods"],
            ["time-svd", "--methods"],
            ["time-rnn", "--methods"],
            ["time-svd-ops", "--methods"],
        ],
        ids=lambda words: words[0],
    )
    def test_commands_take_classes(self, words: list[str]) -> None:
        answer = run([*words, "mine:Mine", "--show-config"])
        assert (answer.code, answer.err) == (0, "")

    def test_one_that_derives_from_ours_is_compared_with_its_own_answer(self) -> None:
        """Loops of torch's modules draw parameters of their own."""
        Path("mine.py").write_text(source_of(LOOPS, named="torch_rnn"))
        small = ["--hidden", "32", "--length", "5", "--budget", "0.1", "--name", "r"]
        answer = run(["time-rnn", *small, "--methods", "torch_rnn,mine:Mine"])
        assert (answer.code, answer.err) == (0, "")
        rows = table("results/time-rnn/r/summary.csv")
        assert {row["status"] for row in rows} == {"ok"}
