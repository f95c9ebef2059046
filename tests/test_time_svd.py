"""The drivers that are timed, their gate, and the command."""

import csv
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from svdbench.cli import main
from svdbench.config.fields import check_config
from svdbench.jobs.time_svd import SPECTRA, MatrixSizes
from svdbench.jobs.time_svd.drivers import SVDDriver, SVDProblem
from svdbench.jobs.time_svd.gate import Exact, check_factors
from svdbench.jobs.time_svd.run import Spectra, singular_values
from svdbench.members import DRIVERS

NAMES, OURS = DRIVERS.names(), {"auto", "gram", "randomized"}


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name: str) -> None:
    driver = DRIVERS.load(name)
    assert type(driver).name == name
    assert (files("svdbench.conf") / "svd_driver" / f"{name}.yaml").read_text("utf-8")[:2] == "# "
    assert driver.source.strip()
    assert driver.ours == (name in OURS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("m", "n"), [(30, 45), (45, 30)])
def test_passes_the_gate(name: str, spectrum: str, dtype: torch.dtype, m: int, n: int) -> None:
    driver: SVDDriver = DRIVERS.load(name)
    A = Spectra(m, n, seed=0).matrix(spectrum).to(dtype)
    found = driver.result(driver.apply(driver.given(A), 4))
    verdict = check_factors(found, Exact.of(A), 4, dtype, driver.exact)
    assert verdict.ok, verdict.reason
    assert verdict.over_optimal < (1.3 if name == "torch_svd_lowrank" else 1.02)


@pytest.mark.parametrize("name", NAMES)
def test_skips_say_what_to_do(name: str) -> None:
    half = SVDProblem(30, 40, 4, "step", torch.bfloat16)
    reason = DRIVERS.load(name).skip(half)
    assert (reason is None) == DRIVERS.load(name).ours
    assert reason is None or "use dtype=float32" in reason


def test_spectra_have_their_values() -> None:
    spectra = Spectra(40, 24, seed=3)
    for name in SPECTRA[:3]:
        found = torch.linalg.svdvals(spectra.matrix(name))
        torch.testing.assert_close(found, singular_values(name, 24))
    assert torch.equal(Spectra(40, 24, seed=3).matrix("step"), spectra.matrix("step"))


class TestGate:
    A = Spectra(20, 30, seed=0).matrix("exponential")

    def factors(self) -> list[Tensor]:
        U, S, Vh = torch.linalg.svd(self.A, full_matrices=False)
        return [U[:, :5].clone(), S[:5].clone(), Vh[:5].clone()]

    def reason(self, factors: list[Tensor], promise: bool = True) -> str:
        U, S, Vh = factors
        verdict = check_factors((U, S, Vh), Exact.of(self.A), 5, self.A.dtype, promise)
        assert verdict.ok == (not verdict.reason)
        return verdict.reason

    def test_passes_the_truth(self) -> None:
        U, S, Vh = self.factors()
        verdict = check_factors((U, S, Vh), Exact.of(self.A), 5, self.A.dtype, True)
        assert verdict.ok
        assert verdict.over_optimal == pytest.approx(1)
        assert verdict.error == pytest.approx(verdict.optimal)

    def test_factors_must_be_orthonormal(self) -> None:
        factors = self.factors()
        factors[0][:, 0] *= 1.01
        assert "orthogonality" in self.reason(factors, promise=False)

    def test_values_must_not_rise(self) -> None:
        factors = [f.flip(i) for f, i in zip(self.factors(), (1, 0, 0), strict=True)]
        assert "increases" in self.reason(factors, promise=False)

    def test_a_promise_is_held(self) -> None:
        U, S, Vh = self.factors()
        U, R = torch.linalg.qr(U + 0.01 * torch.randn_like(U))
        factors = [U * R.diagonal().sign(), S, Vh]
        assert "not the least" in self.reason(factors)
        assert not self.reason(factors, promise=False)
        off = self.factors()
        off[1] *= 1 + 1e-8  # the error is off by the square of it alone
        assert "S is off" in self.reason(off)

    def test_nan_and_shapes_are_told(self) -> None:
        factors = self.factors()
        factors[2][0, 0] = float("nan")
        assert self.reason(factors) == "a factor is not finite"
        assert "shapes" in self.reason([f[:4] for f in self.factors()])

    def test_better_than_the_best_is_a_bug(self) -> None:
        exact = Exact(self.A, 2 * torch.linalg.svdvals(self.A))
        U, S, Vh = self.factors()
        assert "below the least" in check_factors((U, S, Vh), exact, 5, self.A.dtype, False).reason


def test_sizes() -> None:
    sizes = MatrixSizes(["30x20", "8 x 100"], [10, 5])
    assert sizes.cases() == [(30, 20, [5, 10]), (8, 100, [5])]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"shapes": []}, "sizes.shapes is empty"),
        ({"ranks": [5, 5]}, "sizes.ranks has 5 twice"),
        ({"ranks": [0]}, "sizes.ranks has 0"),
        ({"shapes": ["3by4"]}, "'3by4' is not a shape"),
        ({"shapes": ["3x4"], "ranks": [3, 9]}, "3 is too many for all of them"),
    ],
)
def test_sizes_are_checked(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(MatrixSizes(**sizes), "sizes.")


# ------------------------------------------------------------------ the command

TINY = ["--shapes", "12x20,30x30", "--ranks", "3,14", "--budget", "0.2", "--name", "one"]
TINY += ["--spectra", "polynomial,gaussian", "measure.min_reps=1", "measure.warmup_reps=1"]
FOLDER = Path("results/time-svd/one")


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["time-svd", *arguments])
    return int(stopped.value.code or 0)


def table(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_elsewhere")
class TestCommand:
    def test_writes_what_it_promises(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(TINY) == 0
        assert {path.name for path in FOLDER.iterdir()} == {
            *(
                "config.yaml",
                "env.json",
                "progress.jsonl",
                "samples.csv",
                "summary.csv",
                "time_against_error.png",
            )
        }
        rows = table("summary")
        assert {row["status"] for row in rows} == {"ok"}, {row["reason"] for row in rows}
        cells = {(row["method"], row["m"], row["k"], row["spectrum"]) for row in rows}
        assert len(cells) == len(rows) == len(NAMES) * 3 * 2
        assert len({row["cell"] for row in rows}) == len(rows)
        for row in rows:
            assert float(row["over_optimal"]) > 1 - 1e-4
            assert float(row["error"]) >= float(row["optimal"]) * (1 - 1e-4)
            assert float(row["median_s"]) > 0
            assert bool(row["chosen"]) == (row["method"] == "auto")
        assert {row["method"] for row in table("samples")} == set(NAMES)
        out = capsys.readouterr().out
        assert all(name in out for name in NAMES)
        assert "12 × 20, k = 3: auto (svd) takes" in out

    def test_what_is_too_slow_is_not_tried_on_another_spectrum(self) -> None:
        assert run([*TINY, "--methods", "gram", "measure.timeout_s=1e-9"]) == 0
        rows = table("summary")
        assert {row["status"] for row in rows} == {"timeout"}
        again = [row["reason"] for row in rows if row["spectrum"] == "gaussian"]
        assert all(reason.startswith("on polynomial, one step took") for reason in again)
        assert not list(FOLDER.glob("*.png"))

    def test_half_precision_leaves_ours(self) -> None:
        assert run([*TINY, "--spectra", "gaussian", "dtype=bfloat16"]) == 0
        status = {row["method"]: row["status"] for row in table("summary")}
        ok = {name for name, found in status.items() if found == "ok"}
        assert ok == OURS

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--shapes", "8"], "'8' is not a shape"),
            (["--ranks", "x"], "--ranks is 'x'"),
            (["--ranks", "99"], "too many for all of them"),
            (["--methods", "grams"], "did you mean 'gram'?"),
            (["--spectra", "flat"], "no spectrum is called 'flat'"),
            (["svd_driver.gram.size=3"], "there is no key"),
        ],
    )
    def test_mistakes_are_one_line(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run([*TINY, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not FOLDER.exists()

    def test_quick_is_small(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--quick", "--show-config"]) == 0
        out = capsys.readouterr().out
        assert "- 512x512\n" in out
        assert "budget_s: 8" in out
