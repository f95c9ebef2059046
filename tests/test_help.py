"""What a user reads of the command line, and that it answers at once."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from command import run

from svdbench.cli.app import app
from svdbench.config.fields import leaves
from svdbench.job import all_jobs

HEAVY = {"torch", "hydra", "omegaconf", "pandas", "matplotlib", "numpy", "scipy", "sklearn"}
COMMAND = typer.main.get_command(app)


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*above, name))
        else:
            yield (*above, name), each


COMMANDS = dict(commands(COMMAND))


def answer(*words: str, **environment: str) -> str:
    """What the command prints, and the modules that it has imported, in a process of its own."""
    script = (
        "import sys\n"
        "from svdbench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def refuse_heavy(text: str) -> str:
    """What was printed, once it is certain that nothing heavy was imported for it."""
    shown, _, modules = text.partition("MODULES ")
    assert not HEAVY & set(modules.split())
    return shown


def test_help_imports_nothing_heavy() -> None:
    shown = refuse_heavy(answer("--help", COLUMNS="100"))
    panels = re.findall(r"╭─ ([\w ]+) ─", shown)
    assert panels == ["Options", "Timing", "Training", "Low rank", "Results", "This machine"]


def test_without_a_command_help_is_shown() -> None:
    for words in ([], ["data"]):
        code, out, err = run(words)
        assert code == 0
        assert "Usage: svdbench" in out
        assert err == ""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("width", [60, 120])
def test_help_is_whole_and_names_no_types(
    words: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run([*words, "--help"]).out
    assert not re.search(r"<(bool|str|int|float|list)", shown)
    assert not re.search(r"by\s+default\s+(False|True|None|\[)", re.sub(r"[│\s]+", " ", shown))
    assert not re.search(r"--[\w-]*…", shown), "an option is cut"
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_examples_that_are_understood(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    if command.hidden or words[0] == "data":
        return
    examples = re.findall(r"^ *svdbench (.+)$", command.epilog or "", re.MULTILINE)
    assert examples
    for example in examples:
        one_job = re.sub(r"(\S+=[^,\s]+),\S+", r"\1", example.replace("\\[", "["))
        typed = [word for word in one_job.split() if word != "-m"]
        assert typed[: len(words)] == list(words)
        if words[0] in {job.word for job in all_jobs()} and words[0] != "tune":
            quick = ["--show-config", *typed[1:]]
            code, out, err = run([words[0], *quick])
            assert code == 0, err
            assert out


# Options that mean the same thing under two keys, or in two forms of a command.
SHARED = {
    "--lr": {"optimizer.lr", "finetune.lr"},
    "--batch": {"trainer.batch_size", "batch_size", "sizes.batch"},
    "--hidden": {"model.hidden_size", "sizes.hidden"},
    "--ranks": {"sizes.ranks", "ranks"},
    "--params": {"budget.params", "params"},
    "--device": {"device", "trainer.device"},
    "--threads": {"threads", "trainer.threads"},
    "--seeds": {"seeds", "trainer.seeds"},
    "--budget": {"measure.budget_s", "budget_s"},
    "--length": {"sizes.length", "length"},
    "--width": {"sizes.width", "width"},
    "--context": {"model.context", "context"},
    "--max-minutes": {"max_minutes", "trainer.max_minutes"},
}


def test_commands_spell_alike() -> None:
    flags: dict[str, set[str]] = {}
    keys: dict[str, set[str]] = {}
    for job in all_jobs():
        for leaf in leaves(job.config):
            if leaf.key.flag is not None:
                keys.setdefault(leaf.key.flag, set()).add(leaf.name)
                flags.setdefault(leaf.name, set()).add(leaf.key.flag)
    assert {key: own for key, own in flags.items() if len(own) > 1} == {}
    differing = {flag: own for flag, own in keys.items() if len(own) > 1}
    assert not [flag for flag, own in differing.items() if own - SHARED.get(flag, set())]


@pytest.mark.parametrize("job", list(all_jobs()), ids=lambda job: job.name)
def test_lists_are_plural_and_have_what_all_have(job: Any) -> None:
    flags = {leaf.key.flag: leaf for leaf in leaves(job.config) if leaf.key.flag is not None}
    assert {"--device", "--threads", "--seed", "--name", "--results"} <= set(flags)
    for flag, leaf in flags.items():
        former = {old.removeprefix("--") for old in leaf.key.former}
        assert flag == flag.lower().replace("_", "-")
        assert not former & {other.removeprefix("--") for other in flags if other != flag}
        if leaf.is_list and len(flag) > 3 and leaf.name.rpartition(".")[2].endswith("s"):
            assert flag.endswith("s"), f"{flag} takes several values"


def test_tables_have_formats_everywhere() -> None:
    for words, command in COMMANDS.items():
        options = {name for each in command.params for name in each.opts}
        if words[0] not in ("check",) and words not in {("data", "fetch"), ("data", "path")}:
            assert {"--format", "--output"} <= options, words


@pytest.mark.parametrize(
    ("typed", "today"),
    [
        ("compress --method rsvd --rank 4", "compress --methods rsvd --ranks 4"),
        ("accelerate --alpha 0.5 --phi=0", "accelerate --alphas 0.5 --phis 0"),
        ("train lstm --every 7 --batch-size 4", "train LSTM --evaluate-every 7 --batch 4"),
        ("train lstm --task adding", "train lstm --task addition"),
        ("train lstm --task copying --max_minutes 3", "train lstm --task copy --max-minutes 3"),
        ("time-fasth dtype=fp64", "time-fasth --dtype float64"),
        ("time-fasth --dtype torch.float16", "time-fasth --dtype=half"),
        ("time-fasth --methods torch-cayley", "time-fasth --methods Torch_Cayley"),
        ("time-fasth measure.max-reps=9", "time-fasth measure.max_reps=9"),
        ("time-fasth measure=Quick", "time-fasth measure=quick"),
        ("accelerate experiment=svd-dnn-alpha", "accelerate experiment=svd_dnn_alpha"),
        ("rank-reveal --algorithm exact", "rank-reveal --algorithms exact"),
    ],
)
def test_other_spellings_are_understood(typed: str, today: str) -> None:
    found = [run([*words.split(), "--show-config"]) for words in (typed, today)]
    assert found[0].code == 0, found[0].err
    assert found[0].out == found[1].out


# ------------------------------------------------------------------ completion


def completed(shell: str, line: str) -> list[str]:
    """What a shell is told for a line, as its script asks."""
    words = line.split(" ")
    environment = {
        "bash": {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    told = refuse_heavy(answer(_SVDBENCH_COMPLETE=f"complete_{shell}", **environment))
    return re.findall(r"[\w./=,:-]+", told.removeprefix("_arguments '*: :(("))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("svdbench train spectral_r", ["spectral_rnn"]),
        ("svdbench time-fasth --methods fasth,cw", ["fasth,cwy"]),
        ("svdbench list exp", ["experiments"]),
        ("svdbench doctor --format js", ["json"]),
        ("svdbench reproduce perm", ["permuted_mnist"]),
        ("svdbench data fetch mn", ["mnist"]),
        ("svdbench time-fasth measure.max_r", ["measure.max_reps="]),
    ],
)
def test_a_shell_is_told_names(shell: str, line: str, offers: list[str]) -> None:
    assert completed(shell, line) == offers


def test_bash_splits_words_at_equals_signs() -> None:
    assert completed("bash", "svdbench time-fasth measure = sh") == ["short"]
    assert completed("zsh", "svdbench time-fasth measure=sh") == ["measure=short"]


def test_runs_are_offered_where_a_run_is_asked_for(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results" / "train" / "one"
    folder.mkdir(parents=True)
    (folder / "progress.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    assert completed("bash", "svdbench train --resume res") == ["results/train/one"]
