"""The launches of a step by the Triton kernels: how many, by which recipe, and with what."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import run_compiled

pytest.importorskip("triton", reason="Triton is not installed: Linux only")

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What ``idle_steps`` prints."""
    done = run_compiled("idle_steps")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_step_of_short_reflectors_is_at_most_six_kernels(found: dict[str, Any]) -> None:
    for case, names in found["kernels_of_a_step"].items():
        assert len(names) <= 6, (case, names)
    # What is computed is stored in the dtype that is asked for: no conversions follow.
    assert {len(names) for names in found["kernels_of_a_step"].values()} == {4}


def test_a_recipe_is_made_once_and_then_launches_itself(found: dict[str, Any]) -> None:
    assert found["made_once"] == [[2, 4, 4], [0, 0, 4], [0, 0, 4]]


def test_no_kernel_gets_what_it_was_not_compiled_for(found: dict[str, Any]) -> None:
    assert found["misused"] == []


def test_kernels_are_kept_apart_by_alignment(found: dict[str, Any]) -> None:
    aligned, other, *again = found["kernels_kept"]
    assert aligned == other == 3  # both sweeps are the same kernel
    assert again == [0, 0]


def test_a_recipe_passes_what_triton_does(found: dict[str, Any]) -> None:
    first, *again = found["arguments"]
    assert again == [first, first]
    assert len(first) == 2


def test_tf32_as_it_is_set_now(found: dict[str, Any]) -> None:
    assert [set(each) for each in found["precision"]] == [{"ieee"}, {"tf32"}, {"ieee"}]


def test_a_recipe_launches_on_the_current_stream(found: dict[str, Any]) -> None:
    assert found["on_streams"] == [[0], [5], [0], [6], [5]]


def test_arguments_are_kept_for_as_many_places_as_there_is_room(found: dict[str, Any]) -> None:
    wrong, bounded = found["in_many_places"]
    assert wrong == 0
    assert bounded


def test_other_launchers_are_left_to_triton(found: dict[str, Any]) -> None:
    assert found["unknown_launcher"] == [4, 4, 4, 4]


def test_threads_share_no_memory(found: dict[str, Any]) -> None:
    assert found["in_threads"] == {"launches": 2 * 4 * 20, "shared": 0}


def test_the_device_of_the_tensors_is_made_the_current_one(found: dict[str, Any]) -> None:
    assert found["another_device"] == ["then", "cpu", "cpu"]
