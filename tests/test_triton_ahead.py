"""Every Triton configuration that ships, compiled for chips that are not here.

In a process of its own, as the interpreter is on in this one.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: Linux only")


def compiled(folder: Path, *options: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "svdbench.kernels.triton_ahead", str(folder), *options]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # it lists what spills or doesn't fit
    with open(folder / "kernels.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check(rows: list[dict[str, str]], chips: set[str]) -> None:
    assert {row["chip"] for row in rows} == chips
    kernels = {"factors", "join", "sweep_resident", "sweep_streamed", "gradient"}
    assert {row["kernel"] for row in rows} == kernels
    for row in rows:
        assert row["spilled_bytes"] == "0"
        assert int(row["shared_bytes"]) <= int(row["shared_limit_bytes"])
        on_tensor_cores = any(int(row[unit]) for unit in ("mma", "wgmma", "tcgen05"))
        if "PRECISION=tf32" in row["constants"]:
            assert on_tensor_cores
        if "PRECISION=ieee" in row["constants"]:
            assert not on_tensor_cores
            assert int(row["fma"])


def test_sizes_in_sixteens_on_one_chip(tmp_path: Path) -> None:
    check(compiled(tmp_path, "--quick"), {"sm_90"})
    text = (tmp_path / "kernels.md").read_text()
    assert "registers" in text
    assert "wgmma" in text


@pytest.mark.slow
def test_everything(tmp_path: Path) -> None:
    check(compiled(tmp_path), {"sm_80", "sm_90", "sm_100", "sm_120"})
