"""``svdbench doctor``: what it finds on machines of all kinds, and what it says of them."""

import json
import re
import subprocess
from collections.abc import Sequence
from copy import deepcopy
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import run
from fake_clock import FakeClock
from rich.console import Console

from svdbench.jobs.doctor import facts as doctor_facts
from svdbench.jobs.doctor import run as doctor
from svdbench.jobs.doctor import run as doctor_load
from svdbench.jobs.doctor.facts import EXTRAS, ask, gpus, packages
from svdbench.jobs.doctor.report import report
from svdbench.jobs.doctor.verdicts import verdicts
from svdbench.reporting.render import show

QUIET: dict[str, Any] = {
    "versions": {
        **{"svdbench": "1", "source": None, "python": "3.12", "platform": "Linux", "torch": "2.6"},
        **{"cuda": None, "cudnn": None, "triton": None, "numpy": "2", "scipy": "1", "hydra": "1.3"},
        **{"blas": None, "mkl": None, "onednn": None, "openmp": None},
    },
    "packages": [],
    "cpu": {
        **{"cpu": "one", "caches": None, "cores_physical": 4, "cores_logical": 8},
        **{"cores_visible": 8, "affinity": "0-7", "quota_cores": None, "simd": "AVX2"},
        **{"low_precision": [], "numa_nodes": 1, "virtual": False},
    },
    "frequency": {
        **{"governor": "performance", "boost": False, "mhz": [3000], "max_mhz": 3000.0},
        **{"throttled": 0, "on_battery": None},
    },
    "threads": {"torch": 4, "interop": 4, "variables": {}},
    "gpus": [],
    "memory": {
        **{"total_bytes": 8 << 30, "available_bytes": 6 << 30},
        **{"limit_bytes": None, "swap_used_bytes": 0},
    },
    "data": {"folder": "data", "sets": {"digits": "built in"}},
    "load": {
        **{"product": "384 × 384 matrices, float32", "repetitions": 99, "median_s": 1e-3},
        **{"q25_s": 0.99e-3, "q75_s": 1.01e-3, "worst_s": 2e-3, "gflops": 100.0},
        **{"spread": 0.02, "drift": 0.01, "steal": 0.0, "foreign_cores": 0.0},
        **{"load_average": [0.1, 0.2, 0.3], "throttled": 0},
    },
}
GPU = {
    **{"name": "NVIDIA H200", "driver": "570.1", "capability": "9.0", "memory_mib": 143771.0},
    **{"temperature_c": 40.0, "clock_mhz": 345.0, "max_clock_mhz": 1980.0, "slowed_by": []},
    **{"busy_percent": 0.0, "persistence": "Enabled", "uuid": "GPU-1a", "device": "cuda:0"},
}


class Ticking(FakeClock):
    """Whatever is timed takes a millisecond."""

    def stamp(self) -> float:
        self.time += 1e-3
        return self.time


def changed(section: str, **values: Any) -> dict[str, Any]:
    found = deepcopy(QUIET)
    found[section] |= values
    return found


def shown(found: dict[str, Any], width: int, colour: bool = False) -> str:
    console = Console(
        file=StringIO(), width=width, force_terminal=colour, color_system="256" if colour else None
    )
    show(report(found, verdicts(found)), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


# ------------------------------------------------------------------ verdicts


def test_a_quiet_machine_has_none() -> None:
    assert verdicts(QUIET) == []
    assert "nothing makes timings here unreliable now\n" in shown(QUIET, 80)


@pytest.mark.parametrize(
    ("found", "level", "cause"),
    [
        (changed("load", foreign_cores=1.5), "unreliable", "other processes keep 1.5 cores busy"),
        (changed("load", steal=0.08), "unreliable", r"8% of the cores' time .*\(steal\)"),
        (changed("load", spread=0.4), "unreliable", "spans 40% of the median"),
        (changed("load", drift=0.2), "unreliable", "20% longer in one half"),
        (changed("load", throttled=3), "unreliable", "heat throttled the cores 3 times"),
        (changed("threads", torch=16), "unreliable", "16 threads for 8 cores"),
        (changed("threads", torch=8), "unreliable", "8 threads for 4 physical cores"),
        (changed("cpu", quota_cores=1.5), "unreliable", "may use 1.5 cores, but torch"),
        (changed("cpu", cores_visible=4), "note", "may use 4 of 8 cores"),
        (changed("cpu", virtual=True), "note", "virtual machine"),
        (changed("cpu", numa_nodes=2), "note", "2 NUMA nodes"),
        (changed("frequency", governor="powersave"), "note", "governor is 'powersave'"),
        (changed("frequency", boost=True), "note", "turbo is on"),
        (changed("frequency", throttled=7), "note", "7 times since boot"),
        (changed("frequency", on_battery=True), "unreliable", "battery"),
        (changed("memory", available_bytes=1 << 28), "unreliable", "0.3 GB of 8.6 GB"),
        (changed("memory", swap_used_bytes=1 << 30), "note", "swapped out"),
        (
            changed("threads", variables={"CUDA_LAUNCH_BLOCKING": "1"}),
            "unreliable",
            "CUDA_LAUNCH_BLOCKING is set",
        ),
        (QUIET | {"gpus": [GPU]}, "note", "build without CUDA"),
        (
            changed("versions", cuda="13.0") | {"gpus": [GPU | {"device": ""}]},
            "note",
            "built for CUDA 13.0, sees none",
        ),
        (QUIET | {"gpus": [GPU | {"busy_percent": 40.0}]}, "unreliable", "40% busy"),
        (QUIET | {"gpus": [GPU | {"slowed_by": ["heat"]}]}, "unreliable", "slowed down by heat"),
        (QUIET | {"gpus": [GPU | {"persistence": "Disabled"}]}, "note", "persistence mode"),
    ],
)
def test_each_cause_has_a_remedy(found: dict[str, Any], level: str, cause: str) -> None:
    (verdict,) = (v for v in verdicts(found) if re.search(cause, v.cause))
    assert verdict.level == level
    assert verdict.remedy
    assert verdicts(found)[0].level == max(v.level for v in verdicts(found))
    out = shown(found, 400)
    assert verdict.cause in out
    assert f"→ {verdict.remedy}" in out


def test_what_is_not_known_is_no_cause() -> None:
    nothing = deepcopy(QUIET)
    for section in ("cpu", "frequency", "memory"):
        nothing[section] = dict.fromkeys(nothing[section])
    nothing["load"] |= {"steal": None, "foreign_cores": None, "load_average": None}
    nothing["load"] |= {"throttled": None}
    nothing["gpus"] = [dict.fromkeys(GPU) | {"name": "a GPU"}]
    nothing["versions"]["cuda"] = "12.4"
    assert verdicts(nothing) == []
    assert "unknown" in shown(nothing, 80)


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits(width: int) -> None:
    found = changed("load", foreign_cores=1.5, spread=0.4)
    found["packages"] = list(packages())
    found["gpus"] = [GPU]
    found["threads"]["variables"] = {"OMP_NUM_THREADS": "4", "KMP_AFFINITY": "granularity=fine" * 5}
    out = shown(found, width)
    assert all(len(line) <= width for line in out.splitlines())
    assert "[peers]" in out
    assert "…" not in out
    assert re.sub(r"\x1b\[[\d;]*m", "", shown(found, width, colour=True)) == out


# ------------------------------------------------------------------ finding out


def test_a_machine_that_hides_everything(tmp_path: Path) -> None:
    found = doctor_facts.facts(tmp_path)
    assert found["cpu"]["virtual"] is None
    assert set(found["frequency"].values()) == {None}
    found["load"] = doctor_load.load(Ticking(), 0.0, tmp_path)
    assert found["load"]["steal"] is None
    assert json.loads(json.dumps(found)) == found
    assert "right now" in shown(found, 80)


FILES = {
    "proc/cpuinfo": "flags\t: fpu avx512_bf16 hypervisor\ncpu MHz\t\t: 2596.1\n",
    "proc/meminfo": "MemAvailable:   1000 kB\nSwapTotal:   300 kB\nSwapFree:   100 kB\n",
    "proc/stat": "cpu  10 0 10 80 0 0 0 0 0 0\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/memory.max": "4096\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3700000\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/node/node0/x": "",
    "sys/devices/system/node/node1/x": "",
    "sys/class/power_supply/AC/online": "0\n",
}


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_what_the_kernel_tells(tmp_path: Path) -> None:
    plant(tmp_path, FILES)
    found = doctor_facts.facts(tmp_path)
    assert found["cpu"]["virtual"] is True
    assert found["cpu"]["quota_cores"] == 1.5
    assert found["cpu"]["numa_nodes"] == 2
    assert found["cpu"]["low_precision"] == ["avx512_bf16"]
    assert found["frequency"] == {
        **{"governor": "powersave", "boost": True, "mhz": [2596], "max_mhz": 3700.0},
        **{"throttled": 5, "on_battery": True},
    }
    assert found["memory"]["available_bytes"] == 1024000
    assert found["memory"]["swap_used_bytes"] == 204800
    assert found["memory"]["limit_bytes"] == 4096


@pytest.mark.parametrize("text", ["", "garbage", "-1", "max 100000", "\0\n\0"])
def test_files_of_another_kind(text: str, tmp_path: Path) -> None:
    plant(tmp_path, dict.fromkeys(FILES, text))
    found = doctor_facts.facts(tmp_path)
    assert found["cpu"]["quota_cores"] is None
    found["load"] = doctor_load.load(Ticking(), 0.0, tmp_path)
    shown(found, 80)


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000", 2.0), ("-1", None), ("", None), ("50000", 0.5)]
)
def test_a_quota_of_the_first_version(quota: str, cores: float | None, tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/cpu/cpu.cfs"
    plant(tmp_path, {f"{folder}_quota_us": quota, f"{folder}_period_us": "100000"})
    assert doctor_facts.facts(tmp_path)["cpu"]["quota_cores"] == cores


def test_steal_and_the_two_halves(tmp_path: Path) -> None:
    plant(tmp_path, FILES)
    clock, stat = Ticking(), tmp_path / "proc/stat"

    def now() -> float:  # the hypervisor takes 10 of 100 ticks while this is measured
        stat.write_text("cpu  40 0 10 130 0 0 0 10 0 0\n")
        return 0.0

    found = doctor_load.load(clock, -1.0, tmp_path, now)
    assert found["steal"] == pytest.approx(10 / 90)
    assert found["repetitions"] == 10
    assert found["throttled"] == 0


SMI = "NVIDIA H200, 570.1, 9.0, 143771, 40, 345, 1980, 0x0000000000000001, 0, Enabled, GPU-1a\n"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch sees the second of two GPUs of the driver, as its first."""
    import torch

    known = {"name": "NVIDIA H200", "major": 9, "minor": 0, "total_memory": 143771 << 20}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(**known, uuid="1a")
    )


def test_gpus_have_the_names_that_torch_gives_them(seen: None) -> None:
    other = SMI.replace("GPU-1a", "GPU-2b")
    assert [gpu["device"] for gpu in gpus(lambda _: other + SMI)] == ["", "cuda:0"]
    mig = gpus(lambda _: other)
    assert [gpu["device"] for gpu in mig] == [None]
    text = shown(QUIET | {"gpus": gpus(lambda _: other + SMI)}, 120)
    assert re.search(r"GPU 0\s.*not seen by torch", text.replace("\n", " "))
    assert "cuda:0" in text


def test_a_field_that_newer_drivers_call_otherwise(seen: None) -> None:
    def driver(command: Sequence[str]) -> str | None:
        return None if "throttle" in command[1] else SMI

    assert gpus(driver) == [GPU]


def test_gpus_as_their_driver_tells_it(seen: None) -> None:
    assert gpus(lambda _: SMI) == [GPU]
    hot = SMI.replace("0x0000000000000001", "0x0000000000000064").replace("40,", "[N/A],")
    (found,) = gpus(lambda _: hot)
    assert found["slowed_by"] == ["its power limit", "heat (driver)", "heat (hardware)"]
    assert found["temperature_c"] is None


@pytest.mark.parametrize("said", [None, "", "No devices were found\n", "a, b\n"])
def test_no_gpu_is_no_mistake(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpus(lambda _: said) == []
    assert "none" in shown(QUIET, 80)


def test_a_driver_that_hangs_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: Sequence[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 3)

    assert ask(["no-such-program-anywhere"]) is None
    assert ask(["false"]) is None
    monkeypatch.setattr(subprocess, "run", hang)
    assert ask(["nvidia-smi"]) is None


def test_extras_are_known_and_have_a_purpose() -> None:
    found = list(packages())
    assert {one["extra"] for one in found} - {None} == set(EXTRAS)
    assert all(one["fits"] for one in found if one["package"] in ("torch", "rich", "pytest"))


def test_packages_that_are_missing_or_old() -> None:
    needs = ["rich>=999", "no-such-package>=1", 'no-such-extra; extra == "x"']
    needs += ["not a requirement", 'elsewhere; platform_system == "Nowhere"']
    found = list(packages(needs))
    assert [one["package"] for one in found] == ["rich", "no-such-package", "no-such-extra"]
    assert not any(one["fits"] for one in found)
    causes = [verdict.cause for verdict in verdicts(QUIET | {"packages": found})]
    assert len(causes) == 2  # an extra may be missing
    assert "svdbench needs >=999" in causes[0]
    assert "no-such-package is missing" in causes[1]


# ------------------------------------------------------------------ the command


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    load = doctor_load.load(budget_s=0.0)
    monkeypatch.setattr(doctor, "load", lambda: load)


@pytest.mark.usefixtures("brief")
def test_the_command() -> None:
    answer = run(["doctor"])
    assert (answer.code, answer.err) == (0, "")
    assert "timings here" in answer.out
    found = json.loads(run(["doctor", "--output", "json"]).out)
    assert {"versions", "cpu", "gpus", "load", "data", "verdicts"} <= found.keys()
    assert found["load"]["median_s"] > 0


def test_mistakes_are_one_line() -> None:
    answer = run(["doctor", "--format", "xml"])
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "known: table, markdown, csv, json" in answer.err
