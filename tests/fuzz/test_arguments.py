"""Command lines: of every command, with options and keys that are wrong in some way or right."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import strategies as st
from judge import judged

from svdbench.cli import app
from svdbench.config.compose import compose

Hunting = Callable[..., None]

# Which tell themselves what they are about.
FIRST = {
    "train": ["lstm", "spectral-rnn,gru", "all", "spectral_rnn"],
    "gradients": ["lstm", "rnn,irnn"],
    "search": ["lstm", "gru,lru"],
    "compress": ["digits", "json:loads", "no_such:build", "a:b:c"],
    "rank-reveal": ["digits", "json:loads", "no_such:build", ":"],
    "accelerate": ["digits", "xor"],
}

# No slash: whoever asks for a place outside gets it, and the tests run anywhere.
TEXT = st.text(st.characters(exclude_characters="/"), max_size=12)
NAMES = ["..", ".", "../up", "a/b", "a\\b", "a\0b", "a\nb", "CON", " ", "~", "-", "é", "x" * 300]
NUMBERS = ["0", "-1", "1", "3", "1.5", "nan", "inf", "-inf", "1e400", "1" + "0" * 30, "0x10", "1_0"]
NUMBERS += ["99999999", "8,8", "-0", "½", "٣", "1e-320"]
WORDS = [
    "",
    "null",
    "none",
    "true",
    "cpu",
    "cuda",
    "cuda:7",
    "float8",
    "fasth",
    "all",
    "a,b",
    ",",
    "1,,2",
    "fasth,fasth",
    "ListOf",
    "x" * 100_000,
    "\u202e",
    "\ud800",
    "=",
    "a=b",
    "here",
    "json",
    "json:nothing",
    "json:loads",
    "math:log",
]
VALUES = st.one_of(*map(st.sampled_from, (NAMES, NUMBERS, WORDS)), TEXT)

# Pieces of Hydra's grammar, together or not.
SYNTAX = [
    *("[", "]", "{", "}", "(", ")", "'", '"', ",", ":", "=", "\\", "$", "${", "}", "@", "~", "+"),
    *(
        "[1,2]",
        "[[1]]",
        "{a:1}",
        "{1:2}",
        "'a'",
        "null",
        "nan",
        "range(3)",
        "choice(1,2)",
        "glob(*)",
    ),
    *("interval(0,1)", "sort(3,1)", "shuffle(1,2)", "int(1.5)", "str(1)", "extend_list(1)"),
    *("${name}", "${.name}", "${..x}", "${oc.env:HOME}", "${oc.env:NO}", "${oc.decode:'['}"),
    *("${hydra:job.name}", "${results}", "${a", "${no_such:1}", "${oc.create:{a:1}}", "1", "-1"),
    *("é", "\ud800", "\0", "\n", "\t", " ", "x" * 5000, "[" * 200, "${" * 30, "../x"),
    *(
        "{_target_:os.mkdir,path:touched}",
        "{sweep:{dir:../x}}",
        "{a:{b:${oc.env:HOME}}}",
        "x" * 10**5,
    ),
]
GRAMMAR = st.lists(st.sampled_from(SYNTAX), max_size=4).map("".join)
STRANGE_KEYS = [
    *("", "sizes", "sizes.", ".m", "sizes..m", "sizes.d.0", "sizes.d[0]", "sizes[m]", "no_such"),
    *("hydra", "hydra.mode", "hydra.run", "hydra.launcher", "hydra/launcher", "hydra.searchpath"),
    *("hydra.job.chdir", "hydra/job_logging", "hydra.verbose", "hydra.sweep.dir", "hydra.job.num"),
    *("defaults", "measure", "orthogonal", "model", "task", "optimizer", "experiment", "schema"),
    *("measure@x", "@", "optimizer@_global_", "schema/optimizer", "name", "device", "dtype"),
    *("_target_", "model._target_", "hydra.callbacks", "x" * 3000, "é", "a b", "a\0b", "1"),
    *("seed.x", "seed[0]", "name@hydra", "hydra@x", "hydra/callbacks@model", "task", "rnn", "data"),
    *("net", "compressor", "svd_driver", "matrix_op", "published", "budget", "examples", "trainer"),
]
# Values of a key that is swept.
SWEPT = ["1,2", "range(3)", "range(1,1e9)", "choice(1,x)", "glob(*)", "glob(../*)", "interval(0,1)"]
SWEPT += [
    "8,8",
    "x,y",
    "[1],[2]",
    "[8,8],[9]",
    "null,1",
    "'a','b'",
    "shuffle(1,2)",
    "sort(2,1)",
    ",",
]
LAUNCHERS = [
    "basic",
    "joblib",
    "submitit_local",
    "submitit_slurm",
    "ray",
    "nosuch",
    "",
    "../x",
    "null",
]


def _commands(group: Any, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All commands by their words; typer's classes are click's or its own."""
    found: dict[tuple[str, ...], Any] = {}
    for name, command in group.commands.items():
        words = (*above, name)
        found |= _commands(command, words) if hasattr(command, "commands") else {words: command}
    return found


COMMANDS = _commands(typer.main.get_command(app))


@cache
def _keys(name: str) -> list[str]:
    """The keys of a command's configuration; none where it has no such."""
    import svdbench.conf as conf

    job = name.replace("-", "_")
    if not Path(conf.__path__[0], f"{job}.yaml").is_file():
        return []
    needs = ["model.build=x:y", "model.loader=x:y"]
    return list(
        _flat(compose(job, needs if job in ("compress_model", "time_compressors") else [])[1])
    )


def _flat(text: str) -> Iterator[str]:
    import yaml

    def walk(tree: dict[str, object], above: str) -> Iterator[str]:
        for key, value in tree.items():
            yield f"{above}{key}"
            if isinstance(value, dict):
                yield from walk(value, f"{above}{key}.")

    yield from walk(yaml.safe_load(text), "")


@st.composite
def command_lines(draw: st.DrawFn, path: tuple[str, ...]) -> list[str]:
    """A command with some of its options and keys, and whatever else there may be."""
    line = list(path)
    options = [one for one in COMMANDS[path].params if one.param_type_name == "option"]
    if first := FIRST.get(path[-1]):
        line.append(draw(st.one_of(st.sampled_from(first), VALUES)))
    for _ in range(draw(st.integers(0, 2)) if options else 0):
        option = draw(st.sampled_from(options))
        line.append(draw(st.sampled_from(option.opts)))
        if not option.is_flag or draw(st.integers(0, 9)) == 0:
            line.append(draw(VALUES))
    for _ in range(draw(st.integers(0, 2))):
        line.append(draw(overrides(path[-1])))
    if draw(st.integers(0, 5)) == 0:
        line.insert(
            draw(st.integers(1, len(line))),
            draw(st.one_of(GRAMMAR, st.sampled_from(["--", "--no", "-x"]))),
        )
    return line


@st.composite
def overrides(draw: st.DrawFn, command: str) -> str:
    """KEY=VALUE, of a key that there is or another."""
    keys = _keys(command)
    real = st.sampled_from(keys) if keys else st.nothing()
    key = draw(st.one_of(real, st.sampled_from(STRANGE_KEYS), TEXT))
    sign = draw(st.sampled_from(["", "", "", "+", "++", "~"]))
    value = draw(st.one_of(VALUES, GRAMMAR))
    if key.startswith("results"):
        value = value.replace("/", "")
    return f"{sign}{key}={value}" if sign != "~" or draw(st.booleans()) else f"{sign}{key}"


# Jobs that can be swept, with what they need besides.
SWEEPS = {
    "time-fasth": ["--d", "8", "--methods", "fasth"],
    "time-svd-ops": ["--d", "8"],
    "time-rnn": ["--hidden", "8", "sizes.reflectors=[4]"],
    "time-svd": ["--shapes", "8x9", "--ranks", "3"],
    "train": ["lstm", "task.length=4"],
    "accelerate": ["xor"],
    "compress": ["xor"],
    "rank-reveal": ["xor"],
}


@st.composite
def sweeps(draw: st.DrawFn, command: str) -> list[str]:
    """A sweep over keys that there are or not, with a launcher of its own or none."""
    line = [command, *SWEEPS[command], "-m"]
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from([*_keys(command), *STRANGE_KEYS]))
        line.append(f"{key}={draw(st.one_of(st.sampled_from(SWEPT), VALUES))}")
    if draw(st.booleans()):
        line.append(f"hydra/launcher={draw(st.sampled_from(LAUNCHERS))}")
    if draw(st.booleans()):
        option = draw(
            st.sampled_from(["n_jobs", "nodes", "cpus_per_task", "_target_", "x", "init"])
        )
        line.append(f"hydra.launcher.{option}={draw(st.one_of(VALUES, GRAMMAR))}")
    return line


@pytest.mark.parametrize("command", SWEEPS)
def test_a_sweep_is_taken_or_refused(command: str, hunting: Hunting) -> None:
    hunting(judged, sweeps(command), examples=1)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_line_is_taken_or_refused(path: tuple[str, ...], hunting: Hunting) -> None:
    hunting(judged, command_lines(path), examples=4)
