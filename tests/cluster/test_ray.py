"""``hydra/launcher=ray`` on a cluster of two nodes, which are two raylets on this host."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import table
from hydra import compose, initialize
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from svdbench.errors import UserError
from svdbench.running.sweeps.ray import register

ray = pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--steps", "20", "trainer.evaluate_every=10", "model.hidden_size=8", "task.length=10"]

pytestmark = pytest.mark.usefixtures("elsewhere")


class Cluster:
    """Ray as an administrator starts it: ``ray start`` for the head and for each node."""

    def __init__(self, folder: str) -> None:
        # Of its own: another cluster of this host is neither found nor touched.
        self.environment = {
            **{key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
            **{"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)},
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def add(self, name: str) -> None:
        """A node of two cores with a resource called like it; the first is the head."""
        port = self.address.split(":")[1]
        join = [f"--address={self.address}"] if self.nodes else ["--head", f"--port={port}"]
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *join]
        options = ["--num-cpus=2", "--num-gpus=0", f"--resources={json.dumps({name: 9})}"]
        self.nodes[name] = subprocess.Popen(
            [*start, *options, "--disable-usage-stats", "--node-ip-address=127.0.0.1"],
            **{"env": self.environment, "stdout": subprocess.DEVNULL},
        )

    def stop(self, name: str) -> None:
        node = self.nodes.pop(name)
        node.terminate()
        node.wait(60)

    def run(self, arguments: Sequence[str]) -> "subprocess.Popen[str]":
        """``svdbench *arguments``, as on a node of the cluster."""
        command = [sys.executable, "-m", "svdbench", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment, start_new_session=True, **pipes)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    started = Cluster(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_TMPDIR", "RAY_AUTH_MODE"):
            patch.setenv(name, started.environment[name])
        try:
            started.add("west")
            wait_until(lambda: alive(started) == {"west"})
            started.add("east")
            wait_until(lambda: alive(started) == {"west", "east"})
            yield started
        finally:
            for name in reversed(list(started.nodes)):
                started.stop(name)
            shutil.rmtree(folder, ignore_errors=True)


def wait_until(holds: Callable[[], bool], within_s: float = 120) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.5)


def alive(cluster: Cluster) -> set[str]:
    """The nodes that are up, by the resource that each was given."""
    try:
        ray.init(cluster.address, logging_level="error", log_to_driver=False)
    except ConnectionError:
        return set()
    try:
        up = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()
    return {name for name in cluster.nodes if any(name in resources for resources in up)}


def sweep(
    task: Callable[[DictConfig], Any], jobs: Sequence[Sequence[str]], options: Sequence[str]
) -> list[JobReturn]:
    """What the launcher makes of a function and the overrides of each job."""
    register()
    given = ["hydra/launcher=ray", "hydra.sweep.dir=sweep", "hydra.output_subdir=null"]
    given += ["hydra.job.name=sweep", "hydra.runtime.cwd=.", "hydra.runtime.output_dir=."]
    given += [re.sub(r"^\+?", r"\g<0>hydra.launcher.", option) for option in options]
    with initialize(config_path=None, version_base="1.3"):
        config = compose(overrides=given, return_hydra_config=True)
        with open_dict(config):
            config.hydra.mode = RunMode.MULTIRUN
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
        return list(launcher.launch(jobs, 0))


def told(returned: JobReturn) -> Any:
    assert returned.status == JobStatus.COMPLETED, returned._return_value
    return returned.return_value


def reason(returned: JobReturn) -> str:
    assert returned.status == JobStatus.FAILED
    assert isinstance(returned._return_value, UserError)
    return str(returned._return_value)


# The functions below are made in tests, so that Ray sends them to workers as they are: no
# worker could import this module.


class TestNodes:
    def test_both_work(self, cluster: Cluster) -> None:
        def here(config: DictConfig) -> tuple[int, str]:
            import time

            import ray

            time.sleep(3)  # so that neither does it all
            return config.n, ray.get_runtime_context().get_node_id()

        jobs = [[f"+n={n}"] for n in range(4)]
        found = [told(job) for job in sweep(here, jobs, ["address=auto", "num_cpus=2"])]
        assert [n for n, _ in found] == [0, 1, 2, 3]
        assert len({node for _, node in found}) == 2

    @pytest.mark.parametrize("name", ["west", "east"])
    def test_jobs_go_where_their_resources_are(self, cluster: Cluster, name: str) -> None:
        def here(config: DictConfig) -> dict[str, float]:
            import ray

            node = ray.get_runtime_context().get_node_id()
            return next(n["Resources"] for n in ray.nodes() if n["NodeID"] == node)

        options = [f"address={cluster.address}", f"+resources.{name}=1"]
        for job in sweep(here, [["+n=0"], ["+n=1"]], options):
            assert name in told(job)

    def test_a_node_that_is_lost_takes_only_its_jobs(self, cluster: Cluster) -> None:
        def fall(config: DictConfig) -> int:
            import os
            import signal
            import time

            if config.n == 1:  # the raylet, of which a worker is a child
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(600)
            return config.n

        cluster.add("doomed")
        wait_until(lambda: "doomed" in alive(cluster))
        first, lost = sweep(fall, [["+n=0"], ["+n=1"]], ["address=auto", "+resources.doomed=5"])
        assert told(first) == 0
        assert "run 1: its node was lost" in reason(lost)
        cluster.stop("doomed")


class TestJobs:
    def test_a_failure_is_one_of_many(self, cluster: Cluster) -> None:
        def fail(config: DictConfig) -> int:
            import os
            import signal

            if config.n == 1:
                raise RuntimeError("the job's own")
            if config.n == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return config.n

        jobs = [[f"+n={n}"] for n in range(4)]
        zero, own, killed, three = sweep(fail, jobs, ["address=auto"])
        assert (told(zero), told(three)) == (0, 3)
        assert own.status == JobStatus.FAILED
        assert str(own._return_value) == "the job's own"
        assert "run 2: its process was killed" in reason(killed)
        assert killed.overrides == ["+n=2"]

    def test_a_lost_one_can_be_begun_again(self, cluster: Cluster, tmp_path: Path) -> None:
        def once(config: DictConfig) -> str:
            import os
            import signal
            from pathlib import Path

            if not Path("begun").exists():
                Path("begun").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return os.getcwd()

        (job,) = sweep(once, [["+n=0"]], ["address=auto", "max_retries=1"])
        assert told(job) == str(tmp_path)

    def test_threads_and_processes(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        def look(config: DictConfig) -> dict[str, Any]:
            import os

            import torch

            threads = torch.get_num_threads()
            torch.set_num_threads(7)  # nothing to the next job
            return {"threads": threads, "process": os.getpid(), **os.environ}

        monkeypatch.setenv("SVDBENCH_DATA", "data of the launcher")
        monkeypatch.setenv("UNRELATED", "the launcher's")
        jobs = [[f"+n={n}"] for n in range(3)]
        options = ["address=auto", "+resources.west=9"]  # one after the other
        for cores in (1, 2):
            found = [told(job) for job in sweep(look, jobs, [*options, f"num_cpus={cores}"])]
            assert [each["threads"] for each in found] == [cores] * 3
            assert len({each["process"] for each in found}) == 3
            assert {each["SVDBENCH_DATA"] for each in found} == {"data of the launcher"}
            assert all("UNRELATED" not in each for each in found)


class TestCommand:
    def test_trains_as_without_ray(self, cluster: Cluster) -> None:
        train = ["train", "lstm", *TINY, "-m", "seed=0,1"]
        on_ray = ["hydra/launcher=ray", "hydra.launcher.address=auto"]
        for name, launcher in (("here", []), ("there", on_ray)):
            process = cluster.run([*train, *launcher, "--name", name])
            out, err = process.communicate(timeout=300)
            assert (process.returncode, err) == (0, "")
            assert f"results/train/{name}/summary.csv" in out
        for seed in ("0", "1"):
            here, there = (
                [
                    (row["step"], row["split"], row["loss"])
                    for row in table(f"results/train/{name}/{seed}/samples.csv")
                ]
                for name in ("here", "there")
            )
            assert len(here) == 4
            assert here == there

    def test_an_interrupt_ends_all_jobs(self, cluster: Cluster) -> None:
        train = ["train", "lstm", *TINY, "--steps", "1000000", "-m", "seed=0,1", "--name", "cut"]
        process = cluster.run([*train, "hydra/launcher=ray", "hydra.launcher.address=auto"])
        folders = [Path(f"results/train/cut/{n}") for n in (0, 1)]
        wait_until(lambda: all((each / "samples.csv").exists() for each in folders))
        os.killpg(process.pid, signal.SIGINT)  # as ^C in a terminal
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130
        assert err.count("\n") == 1
        assert "svdbench: interrupted; 0 of 2 jobs are done" in err
        for each in folders:
            assert {row["status"] for row in table(each / "summary.csv")} == {"interrupted"}
