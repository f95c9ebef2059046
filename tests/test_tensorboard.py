"""``--tensorboard``: event files beside the tables of a training."""

from pathlib import Path
from typing import Any

import pytest
from command import assert_mistake, run, table

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

TRAIN = ["train", "lstm", "--task", "addition", "--steps", "4", "trainer.evaluate_every=2"]
TRAIN += ["model.hidden_size=4", "task.length=3", "task.test_size=4", "--name", "r"]
XOR = ["xor", "--epochs", "2", "--seeds", "1", "--name", "r", "--tensorboard"]


def curves(job: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Folder of a curve ↦ name ↦ steps and values."""
    accumulator: Any = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    root = Path("results") / job / "r" / "tensorboard"
    found = {}
    for folder in {path.parent for path in root.rglob("events.out.tfevents.*")}:
        read = accumulator(str(folder)).Reload()
        names = read.Tags()["scalars"]
        found[str(folder.relative_to(root))] = {
            name: [(event.step, event.value) for event in read.Scalars(name)] for name in names
        }
    return found


def test_without_the_package_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svdbench.record.events.find_spec", lambda name: None)
    says = "--tensorboard needs the package tensorboard: pip install 'svdbench[tensorboard]'"
    assert_mistake(run([*TRAIN, "--tensorboard"]), says)
    assert_mistake(run(["compress", *XOR, "--ranks", "2"]), says)
    assert_mistake(run(["accelerate", *XOR]), says)


def test_a_training_has_the_losses_of_its_table() -> None:
    pytest.importorskip("tensorboard")
    answer = run([*TRAIN, "--tensorboard"])
    assert (answer.code, answer.err) == (0, "")
    rows = table("results/train/r/samples.csv")
    found = curves("train")
    for name in ("loss", "accuracy"):
        events = [event for curve in found.values() for event in curve.get(name, [])]
        known = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        steps, values = zip(*sorted(events), strict=True)
        assert steps == tuple(step for step, _ in sorted(known))
        assert values == pytest.approx([value for _, value in sorted(known)])
    assert all("seed-0" in curve for curve in found)


@pytest.mark.parametrize("job", ["compress", "accelerate"])
def test_networks_side_by_side_have_a_curve_each(job: str) -> None:
    pytest.importorskip("tensorboard")
    answer = run([job, *XOR])
    assert answer.code == 0, answer.err
    rows = table(f"results/{job}/r/samples.csv")
    arms = {(row["method"], row["rank"], row["arm"], row["split"]) for row in rows}
    assert len(curves(job)) == len(arms)


def test_there_are_no_event_files_unasked() -> None:
    assert run(TRAIN).code == 0
    assert not Path("results/train/r/tensorboard").exists()
