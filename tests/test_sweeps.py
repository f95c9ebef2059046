"""Sweeps: what is checked before, what is kept, and one summary whatever happens."""

import fcntl
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from command import assert_mistake, run, table
from promises.sweeps import speedup

from svdbench.config.compose import composing
from svdbench.errors import UserError
from svdbench.jobs.train import run as job
from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.words import ratio
from svdbench.running.sweeps import Sweep, SweepSource, read_sweep
from svdbench.running.sweeps.engines import (
    ASK_S,
    Engine,
    SlurmWatch,
    engine_of,
    processes,
    refuse_timing,
)
from svdbench.running.sweeps.folder import State, States
from svdbench.running.sweeps.plan import jobs_of
from svdbench.running.sweeps.report import sweep_report, swept_keys
from svdbench.running.sweeps.task import LaunchedJob, host_and_process, slurm_cores

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

TINY = ["train", "lstm", "-m", "task.length=10", "--steps", "2", "--batch", "2", "--hidden", "2"]
TINY += ["trainer.checkpoint=false"]
SWEEP = Path("results/train/s")


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest; tests/test_train.py does it."""
    monkeypatch.setattr("svdbench.jobs.train.models.show_run", lambda *_: None)


def sweep_of(*overrides: str, job: str = "train") -> Sweep:
    return Sweep(job, (SweepSource(overrides),))


class TestPlan:
    def jobs(self, *overrides: str) -> list[dict[str, str]]:
        with composing() as hydra:
            return [dict(job.values) for job in jobs_of(sweep_of(*overrides), hydra)]

    def test_every_combination_is_a_job(self) -> None:
        found = self.jobs("seed=range(2)", "optimizer.lr=choice(0.1,0.2)", "model.bias=true")
        assert found == [
            {"seed": seed, "optimizer.lr": lr} for seed in "01" for lr in ("0.1", "0.2")
        ]

    def test_groups_are_found(self) -> None:
        assert self.jobs("optimizer=glob(*, exclude=s*)") == [
            {"optimizer": "adam"},
            {"optimizer": "rmsprop"},
        ]

    def test_of_a_key_the_later_counts(self) -> None:
        assert self.jobs("seed=5", "seed=0,1") == [{"seed": "0"}, {"seed": "1"}]

    def test_values_are_told_without_quotes(self) -> None:
        assert self.jobs("model_name='a b','c'") == [{"model_name": "a b"}, {"model_name": "c"}]


MISTAKES = [
    (["seed=0,1", "optimizer.lr=0.1,-1"], "job 2 of 4 (seed=0 optimizer.lr=-1): optimizer.lr is"),
    (["seed=0,x"], "job 2 of 2 (seed=x): cannot set 'seed'"),
    (["model.hidden_size=2,0"], "job 2 of 2 (model.hidden_size=0): hidden_size is 0"),
    (["model.q=1,2"], "there is no key 'model.q'"),
    (["seed=interval(0,1)"], "seed has no end"),
    (["name=a,b"], "name can't be swept"),
    (["seed=0,1", "--name", "../up"], "can't name a run"),
    (["seed=0,1", "hydra/launcher=jobli"], "did you mean 'joblib'"),
    (["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "n_jobs is 0"),
    (["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.jobs=2"], "hydra.launcher.jobs"),
    (["seed=0,1", "hydra.launcher._target_=os.system"], "is not allowed in a sweep"),
    (["seed=0,1", "hydra/sweeper=basic"], "is not allowed in a sweep"),
]


def test_lists_where_keys_belong() -> None:
    arguments = ["time-fasth", "--d", "8", "--methods", "fasth", "-m", "orthogonal.cayley=[1],[2]"]
    assert_mistake(run(arguments), "a list stands where keys belong")


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_begins(arguments: list[str], says: str) -> None:
    assert_mistake(run([*TINY, *arguments]), says)


def test_a_launcher_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svdbench.running.sweeps.engines.find_spec", lambda name: None)
    says = "needs a package: pip install 'svdbench[slurm]'"
    assert_mistake(run([*TINY, "seed=0,1", "hydra/launcher=submitit_slurm"]), says)


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written where no job can be launched."""
    monkeypatch.setenv("PATH", "nowhere")
    slurm = [*TINY, "seed=0,1", "hydra/launcher=submitit_slurm"]
    assert_mistake(run(slurm), "needs SLURM, but there is no srun here")


@pytest.mark.parametrize("above", ["results/train", "results", ""])
def test_jobs_that_cannot_be_launched_leave_nothing(
    above: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        (SWEEP / "prepared").write_text("by a launcher")
        raise UserError("no cluster at '127.0.0.1:1'")

    if above:
        Path(above).mkdir(parents=True)
    monkeypatch.setattr("svdbench.running.sweeps.run.launch_by_submitit", refuse)
    code, _, err = run([*SEEDS, "hydra/launcher=submitit_local"])
    assert (code, err) == (2, "svdbench: no cluster at '127.0.0.1:1'\n")
    left = {str(path) for path in Path().rglob("*")}
    assert left == {path for path in ("results", "results/train") if above.startswith(path)}


class TestTimings:
    ARGUMENTS = ("time-fasth", "-m", "sizes.m=1,2", "hydra.launcher.n_jobs=2")

    def test_are_not_run_beside_each_other(self) -> None:
        says = "this job measures seconds, and hydra/launcher=joblib may run several"
        assert_mistake(run([*self.ARGUMENTS, "hydra/launcher=joblib"]), says)

    @pytest.mark.parametrize(
        ("engine", "allowed"),
        [
            (Engine("basic", 1, True), True),
            (Engine("joblib", 2, False), False),
            (Engine("ray", None, False), False),
        ],
    )
    def test_unless_they_were_told_to(self, engine: Engine, allowed: bool) -> None:
        refuse_timing(engine, SimpleNamespace(parallel=True))
        refuse_timing(engine, SimpleNamespace())  # its point is not seconds
        if allowed:
            refuse_timing(engine, SimpleNamespace(parallel=False))
        else:
            with pytest.raises(UserError, match="parallel=true"):
                refuse_timing(engine, SimpleNamespace(parallel=False))

    @pytest.mark.parametrize(
        ("exclusive", "alone"), [(None, False), (True, True), ("user", False), ("", False)]
    )
    def test_a_node_of_their_own_is_no_shared_machine(self, exclusive: Any, alone: bool) -> None:
        options = SimpleNamespace(additional_parameters={"exclusive": exclusive})
        assert engine_of(options, "submitit_slurm", 9).alone == alone


def test_processes_and_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svdbench.running.sweeps.engines.cores", lambda: 8)
    assert [processes(asked, 40) for asked in (-1, -2, 3, 100)] == [8, 7, 3, 40]
    assert processes(-1, 2) == 2
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Engine("joblib", 2, False).threads == 4
    assert Engine("joblib", 16, False).threads == 1
    assert Engine("submitit_slurm", None, False).threads is None
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Engine("joblib", 2, False).threads is None
    assert slurm_cores({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2"}) == 2
    assert slurm_cores({}) is None


def test_a_sweep_keeps_what_repeats_it_and_one_summary() -> None:
    assert run([*TINY, "seed=0,1", "optimizer.lr=0.1", "--name", "s"]).code == 0
    rows = table(SWEEP / "summary.csv")
    assert list(rows[0])[:4] == ["schema_version", "job", "folder", "seed"]
    assert [(row["folder"], row["seed"], row["status"]) for row in rows] == [
        ("0", "0", "ok"),
        ("1", "1", "ok"),
    ]
    sweep = read_sweep(SWEEP)
    assert sweep.words[:5] == ("train", "lstm", "--task", "addition", "-m")
    assert "seed=0,1" in sweep.words
    assert not any(word.startswith("name=") for word in sweep.words)


def test_models_and_their_numbers_name_the_folders() -> None:
    arguments = ["train", "lstm,gru", *TINY[2:], "seed=0,1", "--name", "s"]
    assert run(arguments).code == 0
    assert [row["folder"] for row in table(SWEEP / "summary.csv")] == [
        *("lstm-0", "lstm-1", "gru-0", "gru-1")
    ]


@contextmanager
def seed_1_raises(error: BaseException) -> Iterator[None]:
    """The training of seed 1 raises an exception as soon as it begins."""
    right = job.loop_of

    def loop_of(config: Any, seed: int, *rest: Any) -> Any:
        if seed == 1:
            raise error
        return right(config, seed, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "loop_of", loop_of)
        yield


SEEDS = [*TINY, "seed=0,1,2", "--name", "s"]


def test_a_job_that_fails_leaves_the_others_alone() -> None:
    with seed_1_raises(RuntimeError("no such luck\nat all")):
        code, _, err = run(SEEDS)
    assert code == 1
    assert err == "svdbench: 1 of 3 jobs failed: seed=1: RuntimeError: no such luck\n"
    rows = table(SWEEP / "summary.csv")
    assert [(row["seed"], row["status"]) for row in rows] == [
        *(("0", "ok"), ("1", "failed"), ("2", "ok"))
    ]
    assert rows[1]["reason"] == "RuntimeError: no such luck"
    assert "Traceback" in (SWEEP / "jobs" / "1.log").read_text()


@pytest.mark.parametrize("again", [SEEDS, ["train", "--resume", str(SWEEP)]])
def test_what_is_missing_is_run_again_and_nothing_else(again: list[str]) -> None:
    with seed_1_raises(UserError("there is no data")):
        assert run(SEEDS).code == 1
    states = States(SWEEP)
    before = [states.read(name) for name in "012"]
    assert run(again).code == 0
    after = [states.read(name) for name in "012"]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True]
    assert [row["status"] for row in table(SWEEP / "summary.csv")] == ["ok", "ok", "ok"]


def test_an_interrupt_ends_the_sweep_and_keeps_what_there_is() -> None:
    with seed_1_raises(KeyboardInterrupt()):
        code, _, err = run(SEEDS)
    assert code == 130
    again = f"svdbench train --resume {SWEEP}"
    assert err == f"svdbench: interrupted; 1 of 3 jobs done and kept: resume with {again}\n"
    assert [row["status"] for row in table(SWEEP / "summary.csv")] == [
        *("ok", "interrupted", "skipped")
    ]


def test_the_report_of_a_killed_sweep_tells_what_was_finished() -> None:
    """One that never wrote its summary; and one whose summary is that of the time before."""
    with seed_1_raises(KeyboardInterrupt()):
        assert run(SEEDS).code == 130
    before = (SWEEP / "summary.csv").read_bytes()
    states = States(SWEEP)
    assert run(SEEDS).code == 0
    states.write("2", State("running", where=states.read("2").where, began="2026"))
    (SWEEP / "2" / "summary.csv").unlink()
    for killed in (None, before):
        (SWEEP / "summary.csv").unlink()
        if killed is not None:
            (SWEEP / "summary.csv").write_bytes(killed)
        assert run(["report"]).code == 0
        assert "2 ok, 1 interrupted" in Path("results/index.html").read_text()
        assert run(["report", str(SWEEP)]).code == 0
        page = (SWEEP / "report.html").read_text()
        assert "2 ok, 1 interrupted" in page
        assert "still running when the sweep was interrupted" in page
        (SWEEP / "summary.csv").touch()


class TestFolder:
    def test_of_another_sweep_is_refused(self) -> None:
        assert run([*TINY, "seed=0,1", "--name", "s"]).code == 0
        kept = (SWEEP / "sweep.yaml").read_bytes()
        code, _, err = run([*TINY, "seed=0,2", "--name", "s"])
        assert code == 2
        assert err.startswith("svdbench: results/train/s holds another sweep: ")
        assert err.count("\n") == 1
        assert (SWEEP / "sweep.yaml").read_bytes() == kept

    def test_is_held_by_one_process(self) -> None:
        assert run([*TINY, "seed=0,1", "--name", "s"]).code == 0
        file = os.open(SWEEP, os.O_RDONLY)
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = run([*TINY, "seed=0,1", "--name", "s"])
        os.close(file)
        assert code == 2
        assert "is being run by another process" in err

    def test_of_something_else_is_refused(self) -> None:
        SWEEP.mkdir(parents=True)
        (SWEEP / "precious").write_text("data")
        code, _, err = run([*TINY, "seed=0,1", "--name", "s"])
        assert code == 2
        assert "already holds results" in err
        assert [path.name for path in SWEEP.iterdir()] == ["precious"]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("version: 1\njob: !!python/object/apply:os.system ['true']\n", "has YAML tags"),
            ("a: &a [1]\nb: *a\n", "has aliases"),
            ("version: 1\njob: train\n", "was not written by a sweep"),
            ("version: 9\n", "upgrade svdbench"),
            ("[", "is not YAML"),
            ("", "was not written by a sweep"),
        ],
    )
    def test_is_read_with_care(self, text: str, says: str) -> None:
        SWEEP.mkdir(parents=True)
        (SWEEP / "sweep.yaml").write_text(text)
        with pytest.raises(UserError, match=says):
            read_sweep(SWEEP)

    def test_does_not_have_commands_executed(self) -> None:
        kept = {"version": 1, "job": "train", "words": ["train", "lstm"], "jobs": {}}
        launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[touch gotcha]"]
        kept["bases"] = [{"name": "", "swept": True, "overrides": launcher}]
        SWEEP.mkdir(parents=True)
        (SWEEP / "sweep.yaml").write_text(json.dumps(kept))
        says = "a file must not do: type the command again: svdbench train lstm"
        answer = run(["train", "--resume", str(SWEEP)])
        assert answer.code == 2
        assert says in answer.err

    @pytest.mark.parametrize(
        "overrides",
        [
            ["++hydra={sweep:{dir: outside}}"],
            ["++hydra={run:{dir: outside},output_subdir: x}"],
            ["hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=outside"],
            ["hydra/launcher=joblib", "hydra.launcher.temp_folder=outside"],
            ["hydra/launcher=submitit_slurm", "hydra.launcher.partition='a\ntouch outside'"],
            ["+hydra.launcher.additional_parameters={output: outside}"],
            ["hydra@x=y"],
            ["hydra/launcher@x=joblib"],
            ["+optimizer@hydra.sweep=adam"],
            ["++model={build: 'os:abort'}"],
            ["++loss=os:abort"],
            ["name=${oc.env:HOME}"],
            ["seed=${oc.decode:1}"],
        ],
        ids=lambda overrides: overrides[-1],
    )
    def test_has_nothing_executed_and_nothing_written_elsewhere(self, overrides: list[str]) -> None:
        self.refused({"name": "", "overrides": overrides})

    @pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/b", ".hidden", "a\n"])
    def test_has_jobs_in_folders_of_its_own(self, name: str) -> None:
        self.refused({"name": name, "overrides": []})

    def refused(self, base: dict[str, Any]) -> None:
        kept = {"version": 1, "job": "train", "words": ["train", "lstm"], "jobs": {}}
        given = [f"{key}=lstm" for key in ("model", "model_name")] + base["overrides"]
        kept["bases"] = [base | {"swept": False, "overrides": given}]
        SWEEP.mkdir(parents=True)
        (SWEEP / "sweep.yaml").write_text(json.dumps(kept))
        answer = run(["train", "--resume", str(SWEEP)])
        assert answer.code == 2
        assert answer.err.count("\n") == 1
        assert [path.name for path in SWEEP.iterdir()] == ["sweep.yaml"]
        assert [path.name for path in Path().iterdir()] == ["results"]

    def test_has_no_job_in_a_folder_elsewhere(self) -> None:
        assert run([*TINY, "seed=0,1", "--name", "s"]).code == 0
        Path("outside").mkdir()
        (SWEEP / "jobs/1.json").unlink()
        (SWEEP / "1").rename("kept")
        (SWEEP / "1").symlink_to(Path("outside").absolute())
        answer = run(["train", "--resume", str(SWEEP)])
        assert answer.code == 2
        assert "s/1 is a link" in answer.err
        assert not any(Path("outside").iterdir())

    @pytest.mark.parametrize("kind", ["link", "pipe"])
    def test_has_no_log_elsewhere(self, kind: str) -> None:
        assert run([*TINY, "seed=0,1", "--name", "s"]).code == 0
        log = SWEEP / "jobs/1.log"
        log.symlink_to(Path("outside").absolute()) if kind == "link" else os.mkfifo(log)
        answer = run(["train", "--resume", str(SWEEP)])
        assert answer.code == 2
        what = "a link" if kind == "link" else "not a regular file"
        assert f"s/jobs/1.log is {what}" in answer.err
        assert not Path("outside").exists()

    def test_of_another_command_is_told(self) -> None:
        assert run([*TINY, "seed=0,1", "--name", "s"]).code == 0
        answer = run(["time-fasth", "--resume", str(SWEEP)])
        assert answer.code == 2
        assert f"svdbench train --resume {SWEEP}" in answer.err

    def test_is_one_run_of_a_report(self) -> None:
        assert run([*TINY, "seed=0,1", "--name", "s"]).code == 0
        assert run(["report"]).code == 0
        index = Path("results/index.html").read_text()
        assert index.count("train/s/") == 1
        assert run(["report", str(SWEEP)]).code == 0
        page = (SWEEP / "report.html").read_text()
        assert "svdbench train lstm --task addition -m" in page


def test_states_that_cannot_be_read_are_none() -> None:
    states = States(Path())
    for text in ("{", "[]", '{"what": 1}', ""):
        states.folder.mkdir(exist_ok=True)
        (states.folder / "0.json").write_text(text)
        assert states.read("0") == State()


def test_the_task_can_be_pickled() -> None:
    task = LaunchedJob("train", Path("x"), ("host", 1), 2)
    assert pickle.loads(pickle.dumps(task)) == task


class TestSlurmWatch:
    def job(self, done: bool = False) -> Any:
        result = SimpleNamespace(exists=lambda: done)
        task = SimpleNamespace(paths=SimpleNamespace(result_pickle=result))
        return SimpleNamespace(job_id="7_1", num_tasks=1, task=lambda number: task)

    def test_a_result_is_the_end(self) -> None:
        assert SlurmWatch(lambda: set()).over(self.job(done=True))

    @pytest.mark.parametrize(
        ("answers", "over"),
        [
            ([{"7_1"}, {"7_1"}, {"7_1"}], [False, False, False]),
            ([set(), set()], [False, True]),
            ([set(), {"7_1"}, set(), set()], [False, False, False, True]),  # requeued
            ([None, None, None], [False, False, False]),  # SLURM doesn't answer
        ],
    )
    def test_a_job_is_lost_that_is_missing_twice(
        self, answers: list[Any], over: list[bool]
    ) -> None:
        times = iter(range(0, 10**6, int(ASK_S)))
        clock = {"now": float(next(times))}
        given = iter(answers)
        watch = SlurmWatch(lambda: next(given), lambda: clock["now"])
        found = []
        for _ in answers:
            clock["now"] = float(next(times))
            found.append(watch.over(self.job()))
        assert found == over


def test_two_processes_do_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    cell = ["task.length=10", "model.hidden_size=2", "trainer.batch_size=2", "trainer.steps=2"]
    (figure,) = speedup(Path("bench"), cells=2, cell=[*cell, "trainer.checkpoint=false"])
    assert figure.measured is not None
    one, two = (table(f"bench/train/{name}/summary.csv") for name in ("one", "two"))
    assert [row["loss"] for row in one] == [row["loss"] for row in two]
    states = States(Path("bench/train/two"))
    # In other processes than this; in one and the same, where the second was slow to start.
    assert not {states.read(name).where for name in "01"} & {
        "",
        ":".join(map(str, host_and_process())),
    }
    assert "seed=1: in" in capsys.readouterr().out
    assert "lstm, seed 1" in states.log("1").read_text()


@pytest.mark.slow
def test_local_processes_of_submitit() -> None:
    arguments = [*TINY, "seed=0,1", "--name", "s", "hydra/launcher=submitit_local"]
    assert run(arguments).code == 0
    assert [row["status"] for row in table(SWEEP / "summary.csv")] == ["ok", "ok"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "status"),
    # The pool of joblib breaks: all that it had not finished begins again, this one too.
    [("joblib", "ok"), ("submitit_local", "failed")],
)
def test_a_process_that_is_killed_takes_nobody_with_it(
    launcher: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svdbench.running.sweeps.engines.cores", lambda: 2)
    states = States(SWEEP)

    def kill() -> None:
        while not (SWEEP / "1" / "samples.csv").exists():
            time.sleep(0.1)
        os.kill(int(states.read("1").where.rpartition(":")[2]), signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    long = ["--steps", "10000", "trainer.evaluate_every=500", "trainer.target=0"]
    code, _, err = run([*SEEDS, *long, f"hydra/launcher={launcher}"])
    killer.join()
    assert [row["status"] for row in table(SWEEP / "summary.csv")] == ["ok", status, "ok"]
    assert code == (0 if status == "ok" else 1)
    assert err.count("\n") == code


@pytest.mark.usefixtures("known_rates")
@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_sweep_has_one_form_of_path(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = ["measure.min_reps=2", "measure.max_reps=2", "measure.budget_s=0.1"]
    typed = ["time-fasth", "--d", "4", "--methods", "cwy,sequential", *counted, "-m"]
    elsewhere = [f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2", "parallel=true"]
    answer = run([*typed, "sizes.m=2,3", *(elsewhere if launcher == "joblib" else [])])
    assert answer.code == 0, answer.err
    assert str(Path.cwd()) not in answer.out
    texts = [path for path in Path("results").rglob("*.*") if path.suffix != ".png"]
    logs = list(Path("results").rglob("*.log"))
    assert len(texts) > 10
    assert len(logs) == (2 if launcher == "joblib" else 0)
    for path in (*texts, *logs):
        assert str(Path.cwd()) not in path.read_text(), path


def test_a_sweep_of_an_absolute_folder_has_that_form() -> None:
    out = run([*TINY, f"results={Path.cwd()}/results", "seed=0,1"]).out
    assert out.count(f"{Path.cwd()}/results/train/") == out.count("results/train/") >= 4


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_killed_sweep_takes_its_processes_along(launcher: str) -> None:
    """All that can write to its standard output have ended where that ends."""
    long = ["--steps", "1000000", "trainer.evaluate_every=5", "trainer.target=0"]
    started = subprocess.Popen(
        [sys.executable, "-m", "svdbench", *SEEDS, *long, f"hydra/launcher={launcher}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    running: list[int] = []
    while not running:
        assert started.poll() is None
        time.sleep(0.1)
        running = [int(pid) for name in "01" for pid in who(States(SWEEP).read(name))]
    watched = [os.pidfd_open(pid) for pid in running]
    started.kill()
    for each in watched:
        ended = select.poll()
        ended.register(each, select.POLLIN)
        assert ended.poll(300_000)
        os.close(each)
    started.communicate()


def who(state: State) -> list[str]:
    """The process that a job runs in."""
    return [state.where.rpartition(":")[2]] if state.where else []


class TestReport:
    """The report of a sweep: grouped by all keys but the seed, whatever ended the rest."""

    def part(self, number: int, value: float, **settings: Any) -> RecordedRun:
        folder = SWEEP / str(number)
        folder.mkdir(parents=True)
        (folder / "summary.csv").write_text(f"schema_version,job,value\n2,train,{value}\n")
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        return RecordedRun(folder)

    @staticmethod
    def make(run: RecordedRun) -> Report:
        value = run.frame("summary")["value"].iloc[0]
        speed = Metric("speed", "speed", "×", "higher", "paired median", ratio)
        return Report("one", metrics=[speed.of(value, arm=arm) for arm in ("a", "b")])

    def test_is_grouped_by_all_keys_but_the_seed(self) -> None:
        values = iter([1.0, 3.0, 8.0, 10.0, 12.0, 20.0])
        for i, (lr, seed) in enumerate((lr, seed) for lr in (0.1, 0.2) for seed in range(3)):
            self.part(i, next(values), lr=lr, seed=seed, name=str(i))
        found = sweep_report(RecordedRun(SWEEP), self.make)
        told = {(v.of["lr"], v.of["arm"]): (v.value, v.seeds) for v in found.metrics}
        assert told == {
            **{("0.1", arm): (3.0, 3) for arm in "ab"},
            **{("0.2", arm): (12.0, 3) for arm in "ab"},
        }
        (table, *_) = found.blocks
        assert isinstance(table, Table)
        assert [column.name for column in table.columns] == ["lr", "arm", "speed", "seeds"]
        assert [cell.text for cell in table.rows[0].cells] == ["0.1", "a", "3.00×", "3"]
        assert found.headline == "lr = 0.1, a: speed 3.00×; lr = 0.2, a: speed 12.0×"

    def test_names_what_cannot_be_read_and_reports_the_rest(self) -> None:
        for i in range(3):
            self.part(i, 2.0, lr=i)
        (SWEEP / "1" / "config.yaml").write_text("{")
        (SWEEP / "2" / "summary.csv").write_text("")
        found = sweep_report(RecordedRun(SWEEP), self.make)
        assert {value.of.get("arm") for value in found.metrics} == {"a", "b"}
        lines = [line for block in found.blocks if isinstance(block, Lines) for line in block]
        assert [line.partition(" ")[0] for line in lines] == ["1", "2"]

    def test_seeds_are_no_keys(self) -> None:
        settings = [{"seed": i, "m1": m, "m2": m} for i in range(2) for m in (1, 2)]
        assert swept_keys(settings) == ["m1"]
