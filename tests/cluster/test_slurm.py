"""Sweeps on a real SLURM: two nodes of this host. Run by ``make test-cluster``."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from command import table
from slurm import NODES, cluster, missing, wait_for

COMMAND = [sys.executable, "-m", "svdbench", "train", "lstm", "-m", "hydra/launcher=submitit_slurm"]
TINY = ["task.length=10", "--steps", "20", "--batch", "4", "--hidden", "4"]
# Long enough to be killed while it is at it: steps of it are evaluated, one by one.
LONG = ["task.length=10", "--steps", "4000", "--batch", "4", "--hidden", "4"]
LONG += ["trainer.evaluate_every=100", "trainer.target=0"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of a cluster that lasts for all tests in here."""
    if os.getuid() != 0:
        pytest.skip("needs root: slurmd starts jobs as their users")
    if gone := missing():
        pytest.skip(f"no {gone[0]}: apt-get install slurmctld slurmd slurm-client munge")
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def svdbench(
    arguments: list[str], environment: Mapping[str, str], place: Path
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=dict(environment),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def states(sweep: Path) -> dict[str, dict[str, str]]:
    return {
        path.stem: json.loads(path.read_text()) for path in sorted((sweep / "jobs").glob("*.json"))
    }


def rows(sweep: Path) -> list[dict[str, str]]:
    return table(sweep / "summary.csv")


def test_jobs_run_on_both_nodes_and_are_merged(slurm: Mapping[str, str], tmp_path: Path) -> None:
    run = svdbench([*TINY, "seed=0,1,2,3", "--name", "both"], slurm, tmp_path)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert err == ""
    sweep = tmp_path / "results/train/both"
    found = states(sweep)
    assert {state["status"] for state in found.values()} == {"ok"}
    assert {state["where"].split(":")[0] for state in found.values()} == set(NODES)
    assert [row["seed"] for row in rows(sweep)] == ["0", "1", "2", "3"]
    assert {row["threads"] for row in rows(sweep)} == {"1"}
    assert "seed=3: in" in out


def test_a_job_that_is_killed_leaves_the_others_alone_and_resumes(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    arguments = [*LONG, "seed=0,1,2", "--name", "killed"]
    run = svdbench(arguments, slurm, tmp_path)
    sweep = tmp_path / "results/train/killed"
    victim = sweep / "1" / "samples.csv"
    wait_for(lambda: victim.exists() and victim.read_text().count("\n") > 3, "rows", 120)
    os.kill(int(states(sweep)["1"]["where"].rpartition(":")[2]), signal.SIGKILL)
    _, err = run.communicate(timeout=300)
    assert run.returncode == 1
    assert err.startswith(
        "svdbench: 1 of 3 jobs failed: seed=1: its process ended without an error"
    )
    assert err.count("\n") == 1
    assert {row["folder"]: row["status"] for row in rows(sweep)} == {
        "0": "ok",
        "1": "failed",
        "2": "ok",
    }
    before = states(sweep)
    again = svdbench(arguments, slurm, tmp_path)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "2 of them done already" in out
    assert [row["status"] for row in rows(sweep)] == ["ok", "ok", "ok"]
    after = states(sweep)
    assert [name for name in after if after[name] != before[name]] == ["1"]


def test_a_job_that_is_preempted_goes_on_where_it_was(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    run = svdbench([*LONG, "seed=0,1", "--name", "preempted"], slurm, tmp_path)
    sweep = tmp_path / "results/train/preempted"
    victim = sweep / "0" / "samples.csv"
    wait_for(lambda: victim.exists() and victim.read_text().count("\n") > 3, "rows", 120)
    (folder,) = (path for path in (sweep / ".submitit").iterdir() if path.name.endswith("_0"))
    subprocess.run(["scancel", "--signal=USR2", folder.name], env=dict(slurm), check=True)
    _, err = run.communicate(timeout=500)
    assert run.returncode == 0, err
    assert [row["status"] for row in rows(sweep)] == ["ok", "ok"]
    assert "DUE TO JOB REQUEUE" in "".join(path.read_text() for path in folder.glob("*.err"))
    assert "from step" in (sweep / "jobs" / "0.log").read_text()


def test_one_training_has_both_nodes(slurm: Mapping[str, str], tmp_path: Path) -> None:
    """In a sweep, a task of submitit on each; its rows are those of two processes of one node."""
    several = ["hydra.launcher.nodes=2", "trainer.nodes=2"]
    run = svdbench([*TINY, "seed=0,1", *several, "--name", "nodes"], slurm, tmp_path)
    _, err = run.communicate(timeout=500)
    sweep = tmp_path / "results/train/nodes"
    assert (run.returncode, err) == (0, ""), (sweep / "jobs" / "0.log").read_text()
    assert {path.name for path in (sweep / "jobs").iterdir()} == {
        f"{job}{end}" for job in "01" for end in (".json", ".log", ".node1.log")
    }
    assert {state["where"].split(":")[0] for state in states(sweep).values()} == {NODES[0]}
    assert [(row["status"], row["processes"]) for row in rows(sweep)] == [("ok", "2")] * 2
    one = [*TINY, "seed=0,1", "trainer.processes=2", "--name", "one"]
    run = svdbench(one, slurm, tmp_path)
    _, err = run.communicate(timeout=500)
    assert (run.returncode, err) == (0, "")
    assert [row["test_loss"] for row in rows(tmp_path / "results/train/one")] == [
        row["test_loss"] for row in rows(sweep)
    ]


def test_srun_starts_one_training_on_both_nodes(slurm: Mapping[str, str], tmp_path: Path) -> None:
    command = [*COMMAND[:5], *TINY, "trainer.nodes=2", "--name", "srun"]
    answer = subprocess.run(
        ["srun", "--nodes=2", "--ntasks-per-node=1", *command],
        env=dict(slurm),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    assert "in each of 2 processes" in answer.stdout
    assert [row["status"] for row in rows(tmp_path / "results/train/srun")] == ["ok"]


def test_a_training_of_both_nodes_that_is_preempted_goes_on_where_it_was(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    several = ["hydra.launcher.nodes=2", "trainer.nodes=2", "seed=0"]
    run = svdbench([*LONG, "--steps", "1000", *several, "--name", "requeued"], slurm, tmp_path)
    sweep = tmp_path / "results/train/requeued"
    victim = sweep / "0" / "samples.csv"
    wait_for(lambda: victim.exists() and victim.read_text().count("\n") > 3, "rows", 200)
    (folder,) = (path for path in (sweep / ".submitit").iterdir() if path.name.isdecimal())
    subprocess.run(["scancel", "--signal=USR2", folder.name], env=dict(slurm), check=True)
    _, err = run.communicate(timeout=500)
    assert (run.returncode, err) == (0, ""), (sweep / "jobs" / "0.log").read_text()
    assert [row["status"] for row in rows(sweep)] == ["ok"]
    assert "from step" in (sweep / "jobs" / "0.log").read_text()


def test_a_partition_that_is_not_there_is_one_line(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    run = svdbench([*TINY, "seed=0,1", "hydra.launcher.partition=gpu"], slurm, tmp_path)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 2
    assert err.count("\n") == 1
    assert "partition" in err
