"""The documents' results, repeated: YAMLs, the rule, the judges, the command, the pages."""

import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree
from types import SimpleNamespace
from typing import Any

import pytest
from command import assert_mistake, run, table

from svdbench.errors import UserError
from svdbench.jobs.reproduce import evidence, numbers, report
from svdbench.jobs.reproduce import run as job
from svdbench.jobs.reproduce.evidence import COMMAND, FOLDER, Missing, Runs
from svdbench.jobs.reproduce.judges import judges, measure
from svdbench.jobs.reproduce.judges.timings import ratio
from svdbench.jobs.reproduce.judges.trainings import further
from svdbench.jobs.reproduce.numbers import CurvePoint, Evidence, Number
from svdbench.jobs.reproduce.result import (
    SOURCES,
    PublishedResult,
    ResultVerdict,
    all_results,
    answers,
    load,
    verdict,
)
from svdbench.record.run import RunWriter as Record
from svdbench.record.schema import SUMMARY
from svdbench.reporting.claims import Claim
from svdbench.statistics.intervals import Interval

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
KEPT = [REFERENCE / "reproduce", REFERENCE / "reproduce" / "quick"]
RESULTS = all_results()
DAMAGES = ["pipe", "link to a device", "long field", "short row", "not UTF-8"]
COMMANDS = {v: sorted({one.typed(v) for r in RESULTS for one in r.runs}) for v in ("full", "quick")}


def by_name(results: list[PublishedResult]) -> Any:
    return pytest.mark.parametrize("result", results, ids=[r.name for r in results])


def narrow(value: float) -> Number:
    return Number(value, value - 1e-9, value + 1e-9, 5, "made up")


def inside(claims: list[Claim]) -> float:
    """A value that all claims of a number allow."""
    least = max((c.at_least for c in claims if c.at_least is not None), default=None)
    most = min((c.at_most for c in claims if c.at_most is not None), default=None)
    if least is None and most is None:
        assert claims[0].published is not None
        return claims[0].published
    if least is None or most is None:
        return least + 1 if least is not None else most - 1  # type: ignore[operator]
    return (least + most) / 2


def outside(claims: list[Claim]) -> float:
    """A value that none of them allows."""
    least = min((c.at_least for c in claims if c.at_least is not None), default=None)
    most = max((c.at_most for c in claims if c.at_most is not None), default=None)
    if least is None and most is None:
        published = claims[0].published
        assert published is not None
        return published + 1
    return least - 1 if least is not None else most + 1  # type: ignore[operator]


class TestResults:
    def test_every_report_has_some(self) -> None:
        assert {result.source for result in RESULTS} == set(SOURCES)

    @by_name(RESULTS)
    def test_has_a_judge(self, result: PublishedResult) -> None:
        assert judges()[result.name].__doc__

    def test_judges_have_a_result(self) -> None:
        assert set(judges()) == {result.name for result in RESULTS}

    @pytest.mark.parametrize("command", COMMANDS["quick"])
    def test_quick_commands_can_be_typed(self, command: str) -> None:
        code, out, err = run([*shlex.split(command), "--show-config"])
        assert (code, err) == (0, "")
        assert "results: results" in out

    @pytest.mark.slow
    @pytest.mark.parametrize("command", COMMANDS["full"])
    def test_full_commands_can_be_typed(self, command: str) -> None:
        self.test_quick_commands_can_be_typed(command)

    def test_runs_that_share_a_folder_are_the_same(self) -> None:
        by_folder: dict[str, Any] = {}
        for one in (one for result in RESULTS for one in result.runs):
            assert by_folder.setdefault(one.run, one) == one

    @by_name(RESULTS)
    def test_says_what_a_page_needs(self, result: PublishedResult) -> None:
        assert all((result.claim, result.how, result.place, result.slips, result.learned))
        assert any(claim.decides for claim in result.claims)
        assert result.minutes["quick"] <= result.minutes["full"]

    def test_mistakes_of_a_yaml(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'xor'"):
            load("xorr")
        with pytest.raises(ValueError, match="nothing decides"):
            Claim("as fast")
        with pytest.raises(ValueError, match="nothing decides"):
            Claim("as fast", published=2.7)
        with pytest.raises(ValueError, match="names no number"):
            replace(RESULTS[0], claims=[Claim("as fast", at_least=1)])


class TestVerdict:
    @by_name(RESULTS)
    def test_each_result_may_have_any(self, result: PublishedResult) -> None:
        claims: dict[str, list[Claim]] = {}
        for claim in (c for c in result.claims if c.decides):
            claims.setdefault(claim.number, []).append(claim)
        good = {name: narrow(inside(own)) for name, own in claims.items()}
        bad = {name: narrow(outside(own)) for name, own in claims.items()}
        first = next(iter(claims))
        wide = {name: Number(n.mean, -math.inf, math.inf, 1, "one") for name, n in good.items()}

        def found(made: dict[str, Number]) -> ResultVerdict:
            return verdict(answers(result.claims, made))

        assert found(good) is ResultVerdict.holds
        assert found(bad) is ResultVerdict.fails
        assert found(bad | {first: good[first]}) is ResultVerdict.part
        assert found(wide) is found({}) is ResultVerdict.open
        assert found({first: good[first]}) is (
            ResultVerdict.part if len(claims) > 1 else ResultVerdict.holds
        )

    @pytest.mark.parametrize(
        ("low", "high", "shown"),
        [(2, 3, True), (1, 3, True), (0.5, 3, None), (0, 0.9, False), (2, 9, None), (6, 9, False)],
    )
    def test_a_range(self, low: float, high: float, shown: bool | None) -> None:
        claim = Claim("x", at_least=1, at_most=5)
        assert claim.shown_by(Number((low + high) / 2, low, high, 5, "")) is shown

    @pytest.mark.parametrize(
        ("low", "high", "shown"),
        [(0.6, 0.8, True), (0.71, 0.8, True), (0.73, 0.9, False), (0.1, 1.3, None)],
    )
    def test_agreement(self, low: float, high: float, shown: bool | None) -> None:
        claim = Claim("x", published=0.7, tolerance=0.02, reach=0.2)
        assert claim.shown_by(Number((low + high) / 2, low, high, 5, "")) is shown


class TestNumbers:
    def test_survive_the_disk(self, tmp_path: Path) -> None:
        measured = Evidence(
            curves=[CurvePoint("f", "a, b", 1.0, 2.0), CurvePoint("f", "c", 1, 2, 1.5, 3)]
        )
        measured.exact("ratio", 1 / 3)
        measured.mean("one", [2.0])
        measured.one_more("some", [1.0, 2.0, math.nan])
        measured.share("part", 3, 4)
        measured.mean("nothing", [math.nan])
        numbers.write(measured, tmp_path)
        found = numbers.read(tmp_path)
        assert found.curves == measured.curves
        assert list(found.numbers) == ["ratio", "one", "some", "part"]
        assert found.numbers["ratio"].mean == pytest.approx(1 / 3)
        assert found.numbers["one"].low == -math.inf
        assert numbers.numbers_csv(found) == (tmp_path / numbers.NUMBERS).read_text()

    def test_few_equal_values_tell_no_spread(self) -> None:
        measured = Evidence()
        measured.mean("two", [8.0, 8.0])
        measured.mean("five", [8.0] * 5)
        assert measured.numbers["two"].high == math.inf
        assert measured.numbers["five"].high == 8

    def test_a_share(self) -> None:
        measured = Evidence()
        measured.share("part", 91, 100)
        found = measured.numbers["part"]
        # Wilson's interval for 91 of 100, as tabled.
        assert (found.low, found.high) == pytest.approx((0.8377, 0.9519), abs=1e-4)

    def test_a_ratio_of_medians(self) -> None:
        row = {"median_s": 2.0, "q25_s": 1.9, "q75_s": 2.1, "reps": 100}
        found = ratio(row, row | {"median_s": 1.0, "q25_s": 1.0, "q75_s": 1.0})
        assert found.mean == 2
        assert math.log(found.high / 2) == pytest.approx(1.96 * 1.25 / 1.35 * 0.1 / 10, rel=1e-3)


class TestJudges:
    """On runs of the reference set, and on rows that are made up."""

    def test_step_time(self, tmp_path: Path) -> None:
        found = self.judged("step_time", tmp_path, step=REFERENCE / "time-fasth").numbers
        rows = table(REFERENCE / "time-fasth" / "summary.csv")
        times = {(r["method"], r["d"]): r["median_s"] for r in rows if r["pass"] == "step"}
        expected = float(times["sequential", "1024"]) / float(times["fasth", "1024"])
        assert found["sequential_1024"].mean == pytest.approx(expected)
        assert found["best_1024"].mean == pytest.approx(found["cayley_1024"].mean)
        assert found["sequential_largest"] == found["sequential_1024"]

    def test_rnn_loop(self, tmp_path: Path) -> None:
        found = self.judged("rnn_loop", tmp_path, loop=REFERENCE / "time-rnn").numbers
        assert found["vanilla_128"].mean == pytest.approx(2.624155 / 0.289171, rel=1e-3)
        assert found["sequential_largest"].mean == 51200 / 800

    def test_block_size(self, tmp_path: Path) -> None:
        found = self.judged("block_size", tmp_path, blocks=REFERENCE / "tune").numbers
        assert found["m_regret"].mean == pytest.approx(0.11, abs=0.01)  # as the README has it
        assert found["n_worst"].mean == pytest.approx(5.96, abs=0.01)

    def test_ceiling(self, tmp_path: Path) -> None:
        rows = [("dnn", 1.0, 1.0, 1.0), ("svd_dnn", 0.1, 1.2, 1.5), ("svd_dnn", 0.1, 1.4, 1.5)]
        lines = "\n".join(",".join(map(str, row)) for row in rows)
        made = {}
        for name in ("xor-published", "cats-published", "mnist-published"):
            made[name] = tmp_path / name
            made[name].mkdir()
            (made[name] / "summary.csv").write_text(f"method,phi,speedup,ceiling\n{lines}\n")
        found = self.judged("ceiling", tmp_path, **made).numbers
        assert found["xor_published_over_ceiling"].mean == pytest.approx(2.65 / 1.5)
        assert found["mnist_speed"].mean == pytest.approx(1.3)
        assert "mnist_0_speed" not in found

    def test_further_along(self) -> None:
        import pandas as pd

        ours = [
            ("a", s, step, step / 100, 0.5 ** (step / 100)) for s in (0, 1) for step in (100, 200)
        ]
        theirs = [("b", s, step, step / 50, 0.9) for s in (0, 1) for step in (100, 200, 300)]
        columns = ["model", "seed", "step", "elapsed_s", "relative_loss"]
        samples = pd.DataFrame([*ours, *theirs], columns=columns)
        by_steps = further(samples, "a", "b")
        assert by_steps is not None
        assert (by_steps.mean, by_steps.count) == (pytest.approx(0.25 / 0.9), 2)
        assert further(samples, "a", "c") is None
        # After two seconds ours has made 200 steps, the other one 100.
        by_time = further(samples, "a", "b", "elapsed_s")
        assert by_time is not None
        assert by_time.mean == pytest.approx(0.25 / 0.9)

    def test_parameters(self, tmp_path: Path) -> None:
        found = measure(Runs(tmp_path, load("parameters"), "quick")).numbers
        assert found["count_difference"].mean == 0
        assert max(n.mean for name, n in found.items() if "theorem" in name) < 1e-12

    def test_state_tracking(self, tmp_path: Path) -> None:
        made = {}
        for number, one in enumerate(load("state_tracking").runs):
            made[one.name] = tmp_path / one.name
            made[one.name].mkdir()
            trained = "model,seed,steps_to_target,seconds_to_target\na,0,400,9\na,1,500,11\n"
            (made[one.name] / "summary.csv").write_text(trained)
            rows = [f"{s},{t},{32 * t},{(number + s) / t}" for s in (0, 1) for t in (1, 2, 16)]
            lines = "\n".join(["seed,times,test_length,accuracy", *rows])
            (made[one.name] / "lengths.csv").write_text(f"{lines}\n")
        found = self.judged("state_tracking", tmp_path, **made)
        assert found.numbers["s5_1_accuracy"].mean == 0.5
        assert found.numbers["s5_4_double"].mean == 3.5 / 2
        assert found.numbers["parity_gru_longest"].mean == 7.5 / 16
        assert found.numbers["s3_2_steps"].mean == 450
        points = [p for p in found.curves if (p.figure, p.series) == ("reflectors", "S₅, m = 2")]
        assert (points[0].x, points[0].value, points[0].low, points[0].high) == (32, 1.5, 1, 2)
        assert {p.series for p in found.curves if p.figure == "longer"} == {
            *("S₅, m = 4", "S₃, m = 2", "S₃, GRU", "parity, GRU")
        }

    def test_todays_rivals(self, tmp_path: Path) -> None:
        made = {}
        models = {"spectral_rnn": 0.4, "mingru": 0.1, "lru": 0.2, "lstm": 0.8}
        for one in load("todays_rivals").runs:
            made[one.name] = tmp_path / one.name
            made[one.name].mkdir()
            head = "model,seed,n_params,steps_to_target,seconds_to_target,elapsed_s,test_accuracy"
            rows = [f"{m},{s},900,30,4,5,{1 - x}" for m, x in models.items() for s in (0, 1)]
            (made[one.name] / "summary.csv").write_text("\n".join([head, *rows]) + "\n")
            head = "model,seed,step,elapsed_s,relative_loss,accuracy"
            rows = [f"{m},{s},30,5,{x},{1 - x}" for m, x in models.items() for s in (0, 1)]
            (made[one.name] / "samples.csv").write_text("\n".join([head, *rows]) + "\n")
        found = self.judged("todays_rivals", tmp_path, **made)
        assert found.numbers["adding_over_mingru"].mean == pytest.approx(4)
        assert found.numbers["copy_over_lstm"].mean == pytest.approx(0.5)
        assert found.numbers["pixels_over_lru"].mean == pytest.approx(-0.2)
        assert found.numbers["pixels_lstm_accuracy"].mean == pytest.approx(0.2)
        assert found.numbers["copy_lru_seconds"].mean == 4
        assert found.numbers["pixels_lru_seconds"].mean == 5
        assert {p.figure for p in found.curves} == {"adding", "copy", "pixels"}

    def test_models_side_by_side(self, tmp_path: Path) -> None:
        """Each has its tables; the one of all of them is not read besides."""
        for place, model in ((".", "both"), ("lstm", "lstm"), ("gru", "gru")):
            folder = tmp_path / FOLDER / "train" / "add" / place
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "summary.csv").write_text(f"model,seed\n{model},0\n")
        (tmp_path / FOLDER / "train" / "add" / COMMAND).write_text("svdbench …\n")
        runs = Runs(tmp_path, load("adding"), "full")
        assert list(runs.table("add")["model"]) == ["gru", "lstm"]
        with pytest.raises(Missing, match=r"add has no samples\.csv"):
            runs.table("add", "samples")

    def test_a_run_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(Missing, match="time-fasth/step has not been run"):
            measure(Runs(tmp_path, load("step_time"), "quick"))

    @staticmethod
    def judged(name: str, root: Path, **runs: Path) -> Evidence:
        result = load(name)
        for one in result.runs:
            place = root / FOLDER / one.run
            copytree(
                runs[one.name] if one.name in runs else runs[one.name.replace("-", "_")], place
            )
            (place / COMMAND).write_text("svdbench …\n")
        return measure(Runs(root, result, "full"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs are made up: where they would go, a copy of a run of the reference set is put."""
    commands: list[list[str]] = []

    def runs(words: list[str]) -> SimpleNamespace:
        commands.append(words)
        options = dict(word.split("=", 1) for word in words if word.startswith("results="))
        name = words[words.index("--name") + 1]
        copytree(REFERENCE / "time-fasth", Path(options["results"], "time-fasth", name))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(job, "run_command", runs)
    monkeypatch.setattr(job, "environment", lambda: {"cpu": "a CPU", "torch": "2.0"})
    return commands


@pytest.mark.usefixtures("elsewhere")
class TestCommand:
    def test_lists(self) -> None:
        code, out, _ = run(["reproduce"])
        assert code == 0
        assert all(result.name in out for result in RESULTS)
        assert not Path("results").exists()

    def test_shows_commands(self) -> None:
        out = run(["reproduce", "xor", "ceiling", "--quick", "--show"]).out.splitlines()
        assert out[0] == "svdbench accelerate experiment=svd_dnn_xor_published seeds=4"
        assert len(out) == len(set(out)) == 4
        assert len(run(["reproduce", "--show"]).out.splitlines()) == len(COMMANDS["full"])

    def test_mistakes(self) -> None:
        assert_mistake(run(["reproduce", "xorr"]), "did you mean 'xor'")
        assert_mistake(run(["reproduce", "--against", "x"]), "add NAME, or all")

    def test_runs_once_judges_and_writes(self, made: list[list[str]]) -> None:
        code, out, _ = run(["reproduce", "step-time", "--quick"])
        assert code == 0
        assert len(made) == 1
        assert made[0][0] == "time-fasth"
        root = Path("results/reproduce-quick")
        assert {path.name for path in (root / "step_time").iterdir()} == {
            *("numbers.csv", "curves.csv", "made.json", "step_time.png"),
            *("README.md", "index.html"),
        }
        assert json.loads((root / "step_time" / "made.json").read_text())[0]["torch"]
        said = (root / "step_time" / "README.md").read_text()
        assert "**Verdict: holds in part**" in said
        assert "holds in part" in out
        assert table(root / "verdicts.csv") == [
            {"result": "step_time", "source": "kovtun", "verdict": "holds in part"}
        ]
        assert run(["reproduce", "step_time", "--quick"]).code == 0
        assert len(made) == 1
        assert "holds in part" in run(["reproduce", "--results", str(root)]).out

    @pytest.mark.usefixtures("made")
    def test_a_run_of_another_command_is_refused(self) -> None:
        run(["reproduce", "step_time", "--quick"])
        code, _, err = run(["reproduce", "step_time", "--results", "results/reproduce-quick"])
        assert code == 2
        assert "was made by another command" in err

    def test_without_runs(self, made: list[list[str]]) -> None:
        code, out, _ = run(["reproduce", "step_time", "parameters", "--no-run"])
        assert code == 1
        assert "step_time: time-fasth/step has not been run" in out
        assert not made
        assert (Path("results/reproduce/parameters/README.md")).exists()

    @pytest.mark.usefixtures("made")
    def test_a_verdict_that_flips(self) -> None:
        before, now = Path("before"), Path("results/reproduce")
        before.mkdir()
        (before / "verdicts.csv").write_text("result,document,verdict\nparameters,001,open\n")
        code, out, _ = run(["reproduce", "parameters", "--against", "before"])
        assert code == 1
        assert "parameters: open before, holds now" in out
        assert job.flips(now, job.read_verdicts(now)) == []
        with pytest.raises(UserError, match="has no verdicts"):
            job.read_verdicts(Path("nowhere"))

    def test_files_that_are_damaged(self, made: list[list[str]]) -> None:
        root = Path("results/reproduce-quick")
        run(["reproduce", "step_time", "--quick"])
        summary = root / FOLDER / "time-fasth/step/summary.csv"
        summary.write_text("method,d\nfasth,64\n")
        code, out, _ = run(["reproduce", "step_time", "--quick"])
        assert code == 1
        assert "step_time: its runs can't be judged" in out
        for damaged in ("{", '[{"a": 1}]', "1"):
            (root / "step_time" / "made.json").write_text(damaged)
            code, _, err = run(["reproduce", "--quick"])
            assert (code, err.count("\n")) == (2, 1), err
            assert "judge again" in err

    @pytest.mark.parametrize("name", ["numbers.csv", "curves.csv"])
    @pytest.mark.parametrize(
        "damage", ["pipe", "link to a device", "long field", "short row", "not UTF-8"]
    )
    def test_tables_that_are_none(self, name: str, damage: str) -> None:
        copytree(KEPT[1] / "xor", "kept/xor")
        self.damaged(Path("kept/xor") / name, damage)
        code, _, err = run(["reproduce", "--results", "kept"])
        assert (code, err.count("\n")) == (2, 1), err
        assert "kept/xor" in err
        assert not re.search("NoneType|could not convert", err)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("number,value\nx,1\n", "numbers.csv has no column low"),
            ("number,value,low,high,count,of\nx,1,1\n", "more or fewer values in row 1"),
            ("number,value,low,high,count,of\nx,many,1,1,1,y\n", "value is 'many', which is not"),
            ("number,value,low,high,count,of\nx,1,1,1,1.5,y\n", "count is '1.5', which is not"),
        ],
    )
    def test_tables_of_another_kind(self, text: str, says: str) -> None:
        copytree(KEPT[1] / "xor", "kept/xor")
        Path("kept/xor/numbers.csv").write_text(text)
        assert_mistake(run(["reproduce", "--results", "kept"]), says)

    @pytest.mark.parametrize(
        "damage", ["pipe", "link to a device", "long field", "short row", "not UTF-8"]
    )
    def test_verdicts_and_commands_that_are_none(self, damage: str) -> None:
        Path("kept").mkdir()
        self.damaged(Path("kept/verdicts.csv"), damage)
        code, _, err = run(["reproduce", "parameters", "--against", "kept"])
        assert (code, err.count("\n")) == (2, 1), err
        assert "kept has no verdicts" in err
        folder = Path("results/reproduce") / FOLDER / "time-fasth/step"
        folder.mkdir(parents=True)
        self.damaged(folder / COMMAND, damage)
        code, _, err = run(["reproduce", "step_time"])
        assert (code, err.count("\n")) == (2, 1), err
        assert "step" in err

    @staticmethod
    def damaged(path: Path, how: str) -> None:
        path.unlink(missing_ok=True)
        match how:
            case "pipe":
                os.mkfifo(path)
            case "link to a device":
                path.symlink_to("/dev/zero")
            case "long field":
                path.write_text(f"number,value\n{'a' * 200_000},1\n")
            case "short row":
                path.write_text("number,value,low,high,count,of,figure,series,x,result,verdict\nx")
            case _:
                path.write_bytes(b"\xff\xfe\n")

    def test_pages_of_numbers_that_were_kept(self, made: list[list[str]]) -> None:
        root = Path("results/reproduce-quick")
        run(["reproduce", "step_time", "--quick"])
        rmtree(root / FOLDER)
        page = root / "step_time" / "README.md"
        before = page.read_text()
        page.write_text("")
        assert run(["reproduce", "step_time", "--quick", "--no-run"]).code == 0
        assert page.read_text() == before
        assert len(made) == 1

    def test_a_place_that_is_none(self) -> None:
        code, _, err = run(["reproduce", "parameters", "--results", "/dev/null"])
        assert (code, err.count("\n")) == (2, 1), err
        assert "can't write /dev/null" in err

    def test_a_run_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(job, "run_command", lambda _: SimpleNamespace(returncode=2))
        code, out, _ = run(["reproduce", "step_time"])
        assert code == 1
        assert "step_time: time-fasth/step ended with exit code 2" in out

    def test_an_interruption(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(job, "run_command", lambda _: SimpleNamespace(returncode=130))
        code, _, err = run(["reproduce", "step_time"])
        assert code == 130
        assert "the same command resumes" in err

    @pytest.mark.slow
    def test_killed_it_takes_its_run_along_and_goes_on_at_once(self) -> None:
        command = [sys.executable, "-m", "svdbench", "reproduce", "step_time", "--quick"]
        journal = Path("results/reproduce-quick", FOLDER, "time-fasth/step/progress.jsonl")
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while not (journal.exists() and '"unit"' in journal.read_text()):
            assert first.poll() is None
            time.sleep(0.05)
        first.kill()
        again = subprocess.run(command, capture_output=True, text=True)
        first.communicate()  # until its run has closed its end, too
        assert (again.returncode, again.stderr) == (0, "")
        assert re.search("(resuming|already complete): [12] of 2 ", again.stdout)
        assert table("results/reproduce-quick/verdicts.csv")[0]["result"] == "step_time"


class TestPages:
    def test_everything_is_escaped(self) -> None:
        slips = [replace(load("xor").slips[0], what="<script>alert(1)</script>")]
        result = replace(load("xor"), title="a <b> | c", slips=slips)
        measured = Evidence()
        measured.interval("speed", Interval(0.9, 0.8, 1.0, 4), "mean of 4 seeds")
        shown = report.result_page(evidence.JudgedResult(result, measured, []), "full")
        html = report.fill("result.html", title=result.title, view=shown, pictures=[])
        assert "<script>alert" not in html
        assert "a &lt;b&gt; | c" in html
        said = report.markdown(shown)
        assert "| 2.70 (table 1) | 0.90 | 0.80–1.00 | mean of 4 seeds | ≥ 2.65 | refuted |" in said

    @pytest.mark.parametrize("root", KEPT, ids=["full", "quick"])
    def test_agree_with_the_numbers(self, root: Path) -> None:
        views = []
        for result in RESULTS:
            judged = evidence.read_evidence(result, root)
            if judged is None:
                continue
            variant = variant_of(root)
            typed = [
                f"svdbench {(one.kept if variant == 'full' else '') or one.typed(variant)}"
                for one in result.runs
            ]
            assert not typed or [made.command for made in judged.made] == typed, result.name
            views.append(report.result_page(judged, variant_of(root)))
            said = (root / result.name / report.MARKDOWN).read_text(encoding="utf-8")
            assert said == report.markdown(views[-1]), f"svdbench reproduce {result.name} --no-run"
        assert views
        assert (root / report.MARKDOWN).read_text() == report.index_markdown(views)
        kept = {row["result"]: row["verdict"] for row in table(root / report.VERDICTS)}
        assert kept == {view.result.name: view.verdict for view in views}

    @pytest.mark.parametrize(
        "root",
        [
            pytest.param(KEPT[0], id="full"),
            pytest.param(KEPT[1], id="quick", marks=pytest.mark.slow),
        ],
    )
    def test_numbers_agree_with_the_runs(self, root: Path) -> None:
        """Of the results whose tables are small enough to be kept."""
        known = 0
        for result in RESULTS:
            judged = evidence.read_evidence(result, root)
            if judged is None or not result.runs:
                continue
            try:
                found = measure(Runs(root, result, variant_of(root))).numbers
            except Missing:
                continue
            known += 1
            expected = {
                name: (n.mean, n.count, n.of) for name, n in judged.measured.numbers.items()
            }
            assert found.keys() == expected.keys()
            for name, (value, count, of) in expected.items():
                # What is fitted anew differs by rounding.
                assert found[name].mean == pytest.approx(value, rel=1e-6, abs=1e-4), name
                assert (found[name].count, found[name].of) == (count, of), name
        assert known

    def test_each_result_tells_our_verdicts(self) -> None:
        for variant, root in zip(("full", "quick"), KEPT, strict=True):
            assert job.read_verdicts(root) == {r.name: r.verdicts[variant] for r in RESULTS}

    def test_the_documentation_names_every_report(self) -> None:
        text = (ROOT / "docs" / "reproduce.md").read_text()
        for source in SOURCES.values():
            for part in (source.cited, source.title, source.behind.link, source.link):
                assert part in text

    def test_the_documentation_has_every_verdict(self) -> None:
        text = (ROOT / "docs" / "reproduce.md").read_text()
        lines = "\n".join(map(line_of_docs, RESULTS))
        assert lines in text, f"docs/reproduce.md should have\n\n{lines}"


def variant_of(root: Path) -> str:
    return "quick" if root.name == "quick" else "full"


def line_of_docs(result: PublishedResult) -> str:
    """Authors, result and verdict, of the quick version where there is no other yet."""
    root = next(root for root in KEPT if evidence.read_evidence(result, root) is not None)
    judged = evidence.read_evidence(result, root)
    assert judged is not None
    said = judged.verdict.value + (" (quick version)" if root == KEPT[1] else "")
    page = (root / result.name).relative_to(ROOT) / report.MARKDOWN
    return f"| {SOURCES[result.source].cited} | [{result.title}](../{page.as_posix()}) | {said} |"


def test_every_commit_that_made_a_run_is_named(tmp_path: Path) -> None:
    result = load("step_time")
    place = tmp_path / FOLDER / result.runs[0].run
    for commit in ("a", "b"):
        env = {"source": {"commit": 40 * commit, "dirty": False}}
        with Record.create(tmp_path, "time-fasth", folder=place, env=env) as record:
            record.append(SUMMARY, {"cell": "c", "status": "ok"})
            record.finish(f"d = {commit}")
    (place / COMMAND).write_text("svdbench …\n")
    runs = Runs(tmp_path, replace(result, runs=result.runs[:1]), "full")
    assert [one.commit for one in runs.made()] == [f"{12 * 'a'} and {12 * 'b'}"]
