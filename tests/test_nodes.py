"""One training on several nodes: who each is, that they are as one, and what ends them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from command import assert_mistake, losses, run, table
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from svdbench.config.compose import composed, composing
from svdbench.errors import Interrupted, UserError
from svdbench.running import nodes
from svdbench.running.nodes import PORT, SLURM_PORTS, Node, this_node
from svdbench.running.sweeps.folder import FAILED, States
from svdbench.running.sweeps.task import LaunchedJob
from svdbench.training import checkpoint

pytestmark = pytest.mark.usefixtures("elsewhere")

BY_HAND = {"NODE_RANK": "1", "MASTER_ADDR": "first"}
STEP = {
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "n[3,5]",
    "SLURM_PROCID": "1",
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
}


def test_by_hand_a_node_is_told_as_by_torchrun() -> None:
    assert this_node(2, BY_HAND) == Node(1, 2, "first", PORT)
    assert this_node(2, BY_HAND | {"MASTER_PORT": "1234"}).meeting == "first:1234"
    # Whatever SLURM says, if this was said, too; and nothing counts for one node.
    assert this_node(2, STEP | BY_HAND | {"NODE_RANK": "0"}) == Node(0, 2, "first", PORT)
    assert this_node(1, STEP | BY_HAND) == Node()


def test_slurm_knows_the_node_and_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def scontrol(*what: str) -> str:
        asked.append(what)
        return "n3\nn5\n" if what[0] == "hostnames" else "NodeName=n3 Arch=x NodeAddr=10.0.0.3 A="

    monkeypatch.setattr(nodes, "_scontrol", scontrol)
    found = this_node(2, STEP)
    assert (found.rank, found.host) == (1, "10.0.0.3")
    assert found.port in SLURM_PORTS
    assert asked == [("hostnames", "n[3,5]"), ("node", "n3")]
    # Every node finds the same port, and other jobs and steps another.
    assert this_node(2, STEP | {"SLURM_PROCID": "0"}).port == found.port
    others = [STEP | {"SLURM_JOB_ID": "13"}, STEP | {"SLURM_STEP_ID": "1"}]
    assert found.port not in [this_node(2, other).port for other in others]
    assert this_node(2, STEP | {"MASTER_ADDR": "a", "MASTER_PORT": "7"}).meeting == "a:7"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "trainer.nodes is 2, but nothing says which node this is"),
        ({"SLURM_PROCID": "0"}, "start it with srun --nodes=2"),
        (BY_HAND | {"NODE_RANK": "2"}, "NODE_RANK is 2: give a number from 0 to 1"),
        (BY_HAND | {"NODE_RANK": "-1"}, "NODE_RANK is '-1': give a whole number"),
        (BY_HAND | {"MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
        (BY_HAND | {"MASTER_PORT": "70000"}, "MASTER_PORT is 70000"),
        ({"NODE_RANK": "0"}, "MASTER_ADDR is not set"),
        (STEP | {"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS is 4"),
        (STEP | {"SLURM_STEP_NUM_NODES": "1"}, "SLURM_STEP_NUM_NODES is 1"),
        (STEP | {"PATH": "nowhere"}, "can't ask SLURM for the first node"),
    ],
)
def test_what_is_missing_is_one_line(
    environment: Mapping[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "nowhere")
    with pytest.raises(UserError) as raised:
        this_node(2, environment)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


HYDRA = {"runtime": {"output_dir": "sweep/0"}}
TINY = [
    *("train", "spectral-rnn", "--hidden", "8", "--batch", "5", "--steps", "6"),
    *("trainer.evaluate_every=2", "task.length=10", "task.test_size=21"),
    *("optimizer.schedule=constant", "trainer.target=0"),
]
SEVERAL = "several nodes need hydra/launcher=submitit_slurm hydra.launcher.nodes=N"


def test_mistakes_are_told_before_anything_starts() -> None:
    for more, says in (
        (["trainer.nodes=0"], "trainer.nodes is 0: it must be 1 or more"),
        (["trainer.nodes=3", "--processes", "2"], "trainer.processes is 2 on 3 nodes"),
        (["trainer.nodes=2", "trainer.device=cuda:0"], "2 processes take a GPU each"),
        (["trainer.nodes=2"], "nothing says which node this is"),
        (["-m", "trainer.nodes=2", "seed=0,1"], SEVERAL),
        (["-m", "trainer.nodes=2", "seed=0,1", "hydra/launcher=joblib"], SEVERAL),
        (["-m", "trainer.nodes=1,2", "seed=0,1"], "trainer.nodes can't be swept"),
    ):
        assert_mistake(run([*TINY, *more]), says)
    assert_mistake(run(["gradients", "lstm", "trainer.nodes=2"]), "leave it out")
    assert not Path("results").exists()


def test_a_sweep_on_slurm_gets_the_nodes_it_trains_on() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    slurm = [*TINY, "-m", "seed=0,1", "hydra/launcher=submitit_slurm"]
    for more, says in (
        (["trainer.nodes=2"], "a job of this sweep gets 1"),
        (["hydra.launcher.nodes=2"], "trainer.nodes is 1, but a job of this sweep gets 2"),
        (["hydra.launcher.tasks_per_node=2"], "a job is one task on each node"),
    ):
        assert_mistake(run([*slurm, *more]), says)


# ------------------------------------------------------------------ really two of them


TWO = [*TINY, "trainer.nodes=2"]


@pytest.fixture
def unused_port() -> int:
    """One below those that the system gives to whoever asks for any, so that it stays unused."""
    first = 20_000 + os.getpid() % 10_000
    for port in range(first, first + 1000):
        with socket.socket() as found, suppress(OSError):
            found.bind(("localhost", port))
            return port
    raise AssertionError("no port is free")


@contextmanager
def node(rank: int, *more: str, port: int) -> Iterator["subprocess.Popen[str]"]:
    """The command on one node, all of them on this machine; ended at the end."""
    own = {"NODE_RANK": str(rank), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = subprocess.Popen(
        [sys.executable, "-m", "svdbench", *more],
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


@contextmanager
def both(arguments: Sequence[str], port: int) -> Iterator[tuple[Any, Any]]:
    with node(1, *arguments, port=port) as second, node(0, *arguments, port=port) as first:
        yield first, second


@pytest.mark.slow
def test_two_nodes_are_as_two_processes_of_one(unused_port: int) -> None:
    """Bit by bit; only the first writes, and both end well."""
    arguments = [*TWO, "--seeds", "2", "--name", "nodes"]
    with both(arguments, unused_port) as (first, second):
        out, err = first.communicate(timeout=300)
        assert (first.returncode, err) == (0, "")
        told, err = second.communicate(timeout=300)
        assert (second.returncode, err) == (0, "")
    assert "in each of 2 processes" in out
    assert told == f"node 1 of 2; all connect to localhost:{unused_port}\n"
    assert run([*TINY, "--seeds", "2", "--processes", "2", "--name", "one"]).code == 0
    assert losses("nodes") == losses("one")
    ours, theirs = (table(f"results/train/{name}/summary.csv") for name in ("nodes", "one"))
    assert [row["processes"] for row in (*ours, *theirs)] == ["2"] * 4
    assert not {row["cell"] for row in ours} & {row["cell"] for row in theirs}


LONG = [*TWO, "--steps", "1000000", "trainer.evaluate_every=5", "--name", "long"]
FOLDER = Path("results/train/long")
GO_ON = f"finished parts are kept: resume with svdbench train --resume {FOLDER}\n"


def until_it_learns(first: "subprocess.Popen[str]") -> None:
    assert first.stdout is not None
    assert any(line.startswith("step      10") for line in first.stdout)


@pytest.mark.slow
def test_an_interrupt_of_one_node_stops_both_after_the_same_step(unused_port: int) -> None:
    with both(LONG, unused_port) as (first, second):
        until_it_learns(first)
        os.killpg(second.pid, signal.SIGINT)
        _, err = first.communicate(timeout=300)
        assert (first.returncode, err) == (Interrupted.exit_code, f"svdbench: interrupted; {GO_ON}")
        _, err = second.communicate(timeout=300)
        assert second.returncode == Interrupted.exit_code
        assert err == "svdbench: interrupted; nothing was written here\n"
    assert checkpoint.load(FOLDER / "seed-0" / "last.pt")["learner"]["step"] % 5 == 0


@pytest.mark.slow
def test_a_node_that_is_lost_ends_the_run_with_one_line(unused_port: int) -> None:
    with both(LONG, unused_port) as (first, second):
        until_it_learns(first)
        os.killpg(second.pid, signal.SIGKILL)
        _, err = first.communicate(timeout=300)
    assert first.returncode == 1
    assert err.startswith("svdbench: the other processes can't be reached: ")
    assert err.endswith(f"; {GO_ON}")
    assert err.count("\n") == 1
    kept = checkpoint.load(FOLDER / "seed-0" / "last.pt")["learner"]["step"]
    with both(["train", "--resume", str(FOLDER)], unused_port) as (first, second):
        assert f"from step {kept:,}\n" in first.stdout
        os.killpg(first.pid, signal.SIGINT)
        assert [each.wait(timeout=300) for each in (first, second)] == [130, 130]


@pytest.mark.slow
def test_nodes_with_other_configurations_are_refused(unused_port: int) -> None:
    one, other = ([*TWO, "--name", "a", f"optimizer.lr={rate}"] for rate in ("1e-3", "2e-3"))
    with node(1, *one, port=unused_port) as second, node(0, *other, port=unused_port) as first:
        for each in (first, second):
            _, err = each.communicate(timeout=300)
            assert each.returncode == 2
            assert err.startswith("svdbench: the nodes were given different configurations")
    assert not Path("results").exists()


@pytest.mark.slow
def test_a_node_alone_says_so(unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svdbench.jobs.train.processes.MEETING_S", 3)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(unused_port))
    for rank in ("0", "1"):
        monkeypatch.setenv("NODE_RANK", rank)
        code, _, err = run([*TINY, "trainer.nodes=2"])
        assert code == 1
        assert err.startswith(f"svdbench: node {rank} of 2 can't reach the others at localhost")
        assert err.count("\n") == 1


def test_only_the_first_node_keeps_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sweep: the others print what they have to say into a file of their own."""
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(HYDRA))
    states, task = (
        States(Path("sweep")),
        LaunchedJob("train", Path("sweep"), ("another host", 1), 1),
    )
    for rank in (1, 0):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        with composing() as hydra:  # nothing says here where to meet
            task(composed(hydra, "train", ["trainer.nodes=2"]))
        assert states.read("0").status == ("" if rank else FAILED)
    assert "nothing says which node this is" in states.log("0", 1).read_text()
    assert "nothing says which node this is" in states.read("0").reason
    assert states.log("0").read_text() == ""
