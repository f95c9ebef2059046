"""Ray's launcher, as far as it goes without Ray; the rest is in ``tests/cluster``."""

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from svdbench.config.compose import composed, composing
from svdbench.errors import UserError
from svdbench.running.sweeps.ray import check_room, connected, imported, register

SMALL = {"Alive": True, "Resources": {"CPU": 4, "memory": 1e9}}
LARGE = {"Alive": True, "Resources": {"CPU": 4, "GPU": 2, "memory": 1e9, "west": 1}}
JOB: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0, "memory": None, "resources": {}}


def ray(*nodes: dict[str, Any]) -> Any:
    """Ray, with these nodes, as far as it is asked before the first job."""
    return SimpleNamespace(is_initialized=lambda: False, nodes=lambda: list(nodes))


def options(*overrides: str) -> Any:
    """Those of the launcher."""
    register()
    with composing() as hydra:
        return composed(hydra, "train", ["hydra/launcher=ray", *overrides]).hydra.launcher


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'svdbench\[ray\]'"):
        imported()


def test_it_is_known_to_hydra() -> None:
    assert options("+hydra.launcher.resources.west=1").resources == {"west": 1}


@pytest.mark.parametrize("option", ["num_cpus=many", "address=[1]", "cores=2", "init=3"])
def test_options_are_typed(option: str) -> None:
    with pytest.raises(UserError, match=r"hydra\.launcher"):
        options(f"hydra.launcher.{option}")


def test_an_address_where_nobody_answers() -> None:
    with (
        pytest.raises(UserError, match=re.escape("no Ray cluster at '127.0.0.1:1'")),
        connected(ray(), "127.0.0.1:1", {}),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("error", "says"),
    [(ConnectionError, "no Ray cluster at 'auto'"), (RuntimeError, "Ray doesn't start: too old")],
)
def test_a_cluster_that_does_not_take_us(error: type[Exception], says: str) -> None:
    def init(address: str, **options: Any) -> None:
        raise error("too old\nand more")

    refusing = SimpleNamespace(is_initialized=lambda: False, init=init)
    with pytest.raises(UserError, match=says), connected(refusing, "auto", {}):
        raise AssertionError


@pytest.mark.parametrize(
    "needs",
    [{}, {"num_cpus": 4, "memory": 1e9}, {"num_gpus": 2, "resources": {"west": 1}}],
    ids=str,
)
def test_there_is_room(needs: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    check_room(ray(SMALL, LARGE), JOB | needs, may_grow=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        ({"num_gpus": 3}, "1 CPU, 3 GPU"),
        ({"resources": {"east": 1}}, "1 CPU, 1 east"),
        ({"memory": 2e9}, "1 CPU, 2e+09 memory"),
    ],
    ids=str,
)
def test_there_is_none(
    needs: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = ray(SMALL, LARGE, {"Alive": False, "Resources": {"CPU": 1, "GPU": 9, "east": 9}})
    with pytest.raises(UserError, match=re.escape(f"asks for {says}, but no Ray node")):
        check_room(nodes, JOB | needs, may_grow=False)
    check_room(nodes, JOB | needs, may_grow=True)
    assert "the jobs wait for a node" in capsys.readouterr().err
