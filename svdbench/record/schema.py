"""What a row says: columns, statuses, and the identity of a cell.

Percentages are fractions, and a unit is part of its column's name (``_s``, ``_bytes``).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# 2: the timing tables have ``l2`` and the columns about bytes; before, all was warm.
SCHEMA_VERSION = 2

STATUSES = ("ok", "skipped", "oom", "timeout", "failed", "gate")
PASSES = ("fwd", "bwd", "step")

COMMON = ("schema_version", "job", "run_id", "cell", "status", "reason")


@dataclass(frozen=True)
class Table:
    """A CSV file of a run: ``name``.csv with the common columns, then its own."""

    name: str
    own: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return COMMON + self.own

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise ValueError if ``row`` has a column or a status that the schema has not."""
        unknown = [column for column in row if column not in self.columns]
        if unknown:
            raise ValueError(
                f"{self.name}.csv has no column {', '.join(map(repr, unknown))}: "
                f"add it to the table, or use one of {', '.join(self.columns)}"
            )
        if row.get("status") not in STATUSES:
            raise ValueError(
                f"{row.get('status')!r} is not a status: use one of {', '.join(STATUSES)}"
            )


# The timing jobs. A job of another kind describes its own tables, with these names.
_CASE = ("method", "d", "n", "m", "block_size", "device", "dtype", "threads", "l2")

SAMPLES = Table("samples", (*_CASE, "round", "fwd_s", "bwd_s", "step_s"))

SUMMARY = Table(
    "summary",
    (
        *_CASE,
        "pass",
        *("median_s", "q25_s", "q75_s", "reps"),
        *("error", "orthogonality", "grad_V_error", "grad_X_error"),
        *("flops", "gflops", "floor_s", "of_floor", "peak_bytes", "vs_best"),
        *("kind", "builds", "matmul_gflops", "foreign_cores", "operation"),
        *("least_bytes", "gbytes_per_s", "bytes_floor_s", "of_larger_floor"),
        *("copy_gbytes_per_s", "device_name"),
    ),
)


def cell_id(**what_defines_it: Any) -> str:
    """Twelve hexadecimal digits that stand for a cell, the same in every run and process.

    Takes what JSON can hold: strings, numbers, booleans, None, and lists and
    mappings of them. Raises TypeError on anything else, as its text may differ
    from run to run.
    """
    text = json.dumps(what_defines_it, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
