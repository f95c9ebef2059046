"""A key of a configuration is declared once, and everything else follows from it."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
import yaml
from command import run

from svdbench import job, jobs
from svdbench.cli.options import command_of
from svdbench.config.compose import commented, compose
from svdbench.config.fields import Key, check_config, key_of, leaves, option, section, value_at
from svdbench.job import Job, all_jobs, declared
from svdbench.running.request import spellings

JOBS = list(all_jobs())
_MODEL = ["model.build=x:y", "model.loader=x:y"]
NEEDS = {"compress-model": _MODEL, "time-compressors": _MODEL}
FRAME = {"subject", "overrides", "resume", "force", "multirun", "show_config", "quick", "help"}
each_job = pytest.mark.parametrize("own", JOBS, ids=lambda own: own.name)


def declarations(kind: type) -> Iterator[tuple[str, Key | None, Any]]:
    """All fields of a configuration and of its sections, optimisers included."""
    hints = get_type_hints(kind)
    for each in fields(kind):  # type: ignore[arg-type]
        hint = hints[each.name]
        yield f"{kind.__name__}.{each.name}", key_of(each), hint
        if isinstance(hint, type) and is_dataclass(hint):
            for section_kind in (hint, *hint.__subclasses__()):
                yield from declarations(section_kind)


@each_job
def test_every_key_has_help(own: Job) -> None:
    for name, key, hint in declarations(own.config):
        if key is None:
            assert is_dataclass(hint), f"{name} is not declared by option()"
        else:
            assert key.help.strip(), name
            assert not key.help.endswith("."), name


@each_job
def test_a_flag_is_spelt_once(own: Job) -> None:
    flags = [leaf.key.flag for leaf in leaves(own.config) if leaf.key.flag is not None]
    assert len(flags) == len(set(flags))
    others = [flag.keyword for flag in own.flags]
    keywords = [str(leaf.keyword) for leaf in leaves(own.config) if leaf.keyword is not None]
    assert not FRAME & {*keywords, *others}
    assert len({*keywords, *others}) == len(keywords) + len(others)


@each_job
def test_the_default_in_the_help_is_what_is_composed(own: Job) -> None:
    config, _ = compose(own.root, NEEDS.get(own.name, []))
    for leaf in leaves(own.config):
        needed = any(text.startswith(f"{leaf.name}=") for text in NEEDS.get(own.name, []))
        if not leaf.varies and not needed:
            assert value_at(config, leaf.name) == leaf.default, leaf.name


@each_job
def test_a_root_says_nothing_that_a_key_says(own: Job) -> None:
    root = yaml.safe_load(files("svdbench.conf").joinpath(f"{own.root}.yaml").read_text())
    groups = {each.name for each in fields(own.config) if (k := key_of(each)) and k.group}
    assert root.keys() - {"defaults"} <= groups


def test_doors_import_nothing_heavy() -> None:
    script = "import sys; from svdbench.job import declared; declared(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    heavy = {"torch", "hydra", "omegaconf", "pandas", "matplotlib", "numpy", "rich", "yaml"}
    assert not heavy & set(found.stdout.split())


NEW = '''"""Time nothing at all.

The rest of the help.
"""

from dataclasses import dataclass

from svdbench.config.base import RunConfig
from svdbench.config.fields import option
from svdbench.job import Job


@dataclass
class TimeNothing(RunConfig):
    often: int = option(3, "how often to do nothing", typed="--often N", at_least=1)


JOB = Job("time-nothing", TimeNothing, __name__)
'''


def test_a_command_needs_one_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "time_nothing").mkdir()
    (tmp_path / "time_nothing" / "__init__.py").write_text(NEW)
    monkeypatch.setattr(jobs, "__path__", [*jobs.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    declared.cache_clear()
    try:
        own = job.find_job("time-nothing")
        asked: list[job.Request] = []
        monkeypatch.setattr(Job, "start", lambda self, request: asked.append(request))
        app = typer.Typer()
        app.command("time-nothing")(command_of([own]))
        app.command("other")(lambda: None)
        command = typer.main.get_command(app)
        command(["time-nothing", "--often", "5", "seed=2"], standalone_mode=False)
        assert asked[0].overrides == ("often=5", "seed=2")
        (often,) = (leaf for leaf in leaves(own.config) if leaf.name == "often")
        assert often.help() == "How often to do nothing; at least 1; by default 3."
        with pytest.raises(ValueError, match="often is 0: it must be 1 or more"):
            own.config(often=0)
    finally:
        declared.cache_clear()
        sys.modules.pop("svdbench.jobs.time_nothing", None)


# ------------------------------------------------------------------ a single key


@dataclass
class Inner:
    shares: list[float] = option([0.5], "shares", above=0, at_most=1, unique=True, not_empty=True)
    rate: float = option(0.1, "rate", at_least=0, below=1)
    kind: str = option("a", "kind", choices=("a", "bcd"))
    size: int | None = option(None, "size", null="as it is", at_least=1)
    text: str = option("x", "text", pattern=r"[a-z]+", remedy="give small letters")


@dataclass
class Outer:
    inner: Inner = section(Inner)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"shares": []}, "inner.shares is empty: give at least one value"),
        ({"shares": [0.5, 0.5]}, "inner.shares has 0.5 twice: give it once"),
        ({"shares": [0.0]}, "inner.shares has 0.0: each must be above 0 to 1"),
        ({"rate": 1.0}, "inner.rate is 1.0: it must be from 0 to below 1"),
        ({"rate": float("nan")}, "inner.rate is nan: it must be from 0 to below 1"),
        ({"kind": "bce"}, "no kind is called 'bce': did you mean 'bcd'"),
        ({"size": 0}, "inner.size is 0: it must be 1 or more"),
        ({"text": "A"}, "inner.text is 'A': give small letters"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_config(Outer(Inner(**values)))
    assert says in str(refused.value)


def test_values_in_range_are_taken() -> None:
    check_config(Outer(Inner(shares=[1.0, 1e-9], rate=0.0, kind="bcd", size=None, text="abc")))


def test_comments_stand_behind_keys_or_above_them() -> None:
    text = "a: 1\nb:\n- 2\nc:\n  d: x\n'n': null\nlong: 'one\n\n  two'\n"
    comments = {"a": "one", "b": "several", "c.d": "y" * 90, "n": "none", "long": "text"}
    shown = commented(text, comments)
    assert yaml.safe_load(shown) == yaml.safe_load(text)
    assert f"{'a: 1':<32} # one\n" in shown
    assert f"  # {'y' * 90}\n  d: x\n" in shown
    assert "# text\nlong: 'one\n" in shown


# ------------------------------------------------------------------ commands


def test_options_of_two_jobs_that_share_a_word() -> None:
    sharing = [own for own in JOBS if own.words == "compress"]
    found = spellings(sharing)
    assert found["ranks"].form != found["params"].form
    assert found["seed"].form is found["lr"].form is None
    assert {leaf.name for leaf in found["lr"].keys.values()} == {"optimizer.lr", "finetune.lr"}


def test_comments_of_show_config_are_the_help() -> None:
    shown = run(["time-fasth", "--show-config"]).out
    for leaf in leaves(job.find_job("time-fasth").config):
        assert f"# {leaf.key.help}" in shown
