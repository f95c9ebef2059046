"""Every Triton configuration that ships, compiled for chips that are not here.

In a process of its own, as the interpreter is on in this one.
"""

from pathlib import Path

import pytest
from command import run_compiled, table

pytest.importorskip("triton", reason="Triton is not installed: Linux only")


def compiled(folder: Path, *options: str) -> list[dict[str, str]]:
    done = run_compiled("svdbench.kernels.triton_ahead", str(folder), *options)
    assert done.returncode == 0, done.stdout + done.stderr  # it lists what spills or doesn't fit
    return table(folder / "kernels.csv")


KERNELS = {
    *("factors", "join", "sweep_resident", "sweep_streamed", "gradient"),
    *("scale", "gram", "invert", "join_strip", "join_tile", "rows", "triangle", "update"),
    *("half_product", "tile_gradient", "recurrence"),
    *("scan", "gated_scan", "gated_gradient", "delta_states", "delta_gradient"),
}


def check(rows: list[dict[str, str]], chips: set[str]) -> None:
    assert {row["chip"] for row in rows} == chips
    assert {row["kernel"] for row in rows} == KERNELS
    for row in rows:
        assert row["spilled_bytes"] == "0"
        assert int(row["shared_bytes"]) <= int(row["shared_limit_bytes"])
        assert row["guarded"] == "True"
        on_tensor_cores = any(int(row[unit]) for unit in ("mma", "wgmma", "tcgen05"))
        assert on_tensor_cores == (
            "PRECISION=" in row["constants"] and "ieee" not in row["constants"]
        )
        multiplies_alone = row["kernel"] in ("scale", "gated_gradient")
        assert on_tensor_cores or multiplies_alone or int(row["fma"])


def test_sizes_in_sixteens_on_one_chip(tmp_path: Path) -> None:
    check(compiled(tmp_path, "--quick"), {"sm_90"})
    again_from_where_it_was_stopped(tmp_path)
    text = (tmp_path / "kernels.md").read_text()
    assert "registers" in text
    assert "wgmma" in text


def again_from_where_it_was_stopped(folder: Path) -> None:
    """All but the last rows are kept: one of them half written, one of an earlier source."""
    path = folder / "kernels.csv"
    whole = path.read_text()
    *kept, changed, last = whole.splitlines(keepends=True)
    changed = changed.rpartition(",")[0] + ",0123456789ab\n"
    path.write_text("".join([*kept, changed, last[:40]]))
    done = run_compiled("svdbench.kernels.triton_ahead", str(folder), "--quick")
    assert f"{len(kept) - 1} of {len(kept) + 1} were compiled before" in done.stdout
    assert path.read_text() == whole


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, False),
        ({"spilled_bytes": 8}, True),
        ({"shared_bytes": 101}, True),
        ({"guarded": False}, True),
        ({"wgmma": 0}, True),  # meant for tensor cores
        ({"constants": "PRECISION=ieee K=16"}, True),  # and not meant for them
        ({"constants": "PRECISION=ieee K=16", "wgmma": 0}, False),
        ({"constants": "K=16", "wgmma": 0}, False),
    ],
)
def test_what_is_wrong_with_a_kernel(changes: dict[str, object], wrong: bool) -> None:
    from svdbench.kernels.triton_ahead import is_wrong

    row = {"constants": "PRECISION=bf16x6 K=16", "spilled_bytes": 0, "guarded": True}
    row |= {"shared_bytes": 100, "shared_limit_bytes": 100, "mma": 0, "wgmma": 4, "tcgen05": 0}
    assert is_wrong(row | changes) == wrong


@pytest.mark.slow
def test_everything(tmp_path: Path) -> None:
    check(compiled(tmp_path), {"sm_80", "sm_90", "sm_100", "sm_120"})


def test_a_step_finds_what_is_compiled_ahead() -> None:
    """By Triton's own key, in which types, alignment and constants of all arguments are."""
    done = run_compiled("shipped_steps")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_barrier_that_is_missing_shows() -> None:
    from svdbench.kernels.triton_ahead import is_guarded

    first, again = "ld.global.b32 %r1;\nbar.sync 0;", "ld.global.b32 %r2;\nst.global.b32 %r2;"
    for body, right in (
        (f"bar.sync 0;\n{first}\n{again}", True),
        (f"{first}\n{again}", False),  # a load before the barrier
        ("bar.sync 0;\nld.global.b32 %r1;\nst.global.b32 %r2;", False),
    ):
        ptx = f"st.global.b32 %r0;\n$L__BB0_1:\n{body}\n@%p1 bra $L__BB0_1;\n"
        assert is_guarded(ptx) == right
