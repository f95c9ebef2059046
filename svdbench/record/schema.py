"""Tables: columns, statuses, and the identity of a cell.

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
# How a training may end, besides.
TRAINING_STATUSES = (*STATUSES, "target", "nan", "interrupted")
# Keys of a configuration that say where a run is, not what it is.
PLACE = ("name", "results")
# The endings of a training that has a result; ``timeout``: its clock stopped it.
GOOD_ENDINGS = ("ok", "target", "timeout")

# ``version`` is of the svdbench that wrote the row; runs of earlier ones have no such column.
COMMON = ("schema_version", "job", "run_id", "cell", "status", "reason", "version")


@dataclass(frozen=True)
class TableSchema:
    """A CSV file of a run: ``name``.csv with the common columns, then its own."""

    name: str
    own: tuple[str, ...]
    statuses: tuple[str, ...] = STATUSES

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
        if row.get("status") not in self.statuses:
            raise ValueError(
                f"{row.get('status')!r} is not a status: use one of {', '.join(self.statuses)}"
            )


# The timing jobs. A job of another kind describes its own tables, with these names.
_CASE = ("method", "d", "n", "m", "block_size", "device", "dtype", "threads", "l2")

SAMPLES = TableSchema("samples", (*_CASE, "round", "fwd_s", "bwd_s", "step_s"))

SUMMARY = TableSchema(
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

# The training job: a cell is a model, a task, their settings and a seed. ``threads`` are those
# of each of the ``processes``, of all nodes.
_TRAINED = (
    *("model", "task", "seed", "hidden_size", "length", "batch_size"),
    *("optimizer", "lr", "orthogonal_lr", "device", "threads", "processes"),
)

# A row for each evaluation. ``train_loss`` and ``grad_norm`` are means over the steps since
# the row before, and ``step_s`` their seconds each; ``elapsed_s`` is training alone, without
# evaluations; ``relative_loss`` is loss / baseline_loss.
TRAINING = TableSchema(
    "samples",
    (
        *_TRAINED,
        *("step", "epoch", "split", "loss", "baseline_loss", "relative_loss", "accuracy"),
        *("train_loss", "grad_norm", "sigma_min", "sigma_max", "promise"),
        *("n_params", "step_s", "elapsed_s"),
    ),
    TRAINING_STATUSES,
)

# A row for each seed. ``loss`` and ``accuracy`` are those of the last evaluation, ``best_`` of
# the lowest loss, ``test_`` of the test set, looked at once, with the weights of ``test_step``.
TRAINED = TableSchema(
    "summary",
    (
        *_TRAINED,
        *("task_title", "loss_unit", "metric", "chance", "kind", "n_params"),
        *("step", "epoch", "split", "loss", "baseline_loss", "relative_loss", "accuracy"),
        *("train_loss", "grad_norm", "sigma_min", "sigma_max", "promise"),
        *("best_step", "best_loss", "best_accuracy"),
        *("test_step", "test_loss", "test_accuracy"),
        *("target", "steps_to_target", "seconds_to_target"),
        *("step_s", "steps_per_s", "elapsed_s", "evaluation_s", "device_name"),
    ),
    TRAINING_STATUSES,
)

# A row for each length of test sequences, ``times`` that of training; ``length`` is the
# one of training.
LENGTHS = TableSchema(
    "lengths",
    (
        *_TRAINED,
        *("n_params", "times", "test_length"),
        *("loss", "baseline_loss", "relative_loss", "accuracy", "metric", "chance"),
    ),
    TRAINING_STATUSES,
)

# The jobs that compress weights while they are trained: a cell is a network, a data set, a
# method with its settings, and a seed. ``rank`` is what was asked for, ``alpha`` and ``phi``
# those of SVD-DNN: l = α × …, and the share of the steps before the switch.
_COMPRESSED = (
    *("model", "dataset", "method", "arm", "rank", "alpha", "phi", "seed", "every"),
    *("batch_size", "optimizer", "lr", "device", "threads"),
)

# Results of a network: its scores on ``split``; ``train_loss``, the mean over the epoch's
# batches in their order; and the cost of inference with factors where they save: parameters,
# multiply-adds of one example, and bytes. ``energy`` is the share of ‖W‖² that compression
# kept, over all layers, and ``rel_error`` = ‖W − W_k‖/‖W‖ of the last compression.
_SCORES = (
    *("epoch", "step", "split", "loss", "accuracy", "train_loss"),
    *("n_params", "macs", "bytes", "energy", "rel_error"),
)

# A row for each epoch. ``epoch_s`` is training with all compressing, which took ``decompose_s``
# of it; ``elapsed_s`` their sum so far; neither has evaluations in it.
COMPRESSION = TableSchema(
    "samples", (*_COMPRESSED, *_SCORES, "epoch_s", "decompose_s", "elapsed_s"), TRAINING_STATUSES
)

# A row for each arm and seed, with the scores of its last epoch. ``epoch_s`` is the median
# epoch, ``speedup`` the median over epochs of the dense arm's time over this one's, of
# SVD-DNN that of the whole training;
# ``added`` the time of compressing over that of the rest; ``ceiling`` the multiplications of
# the dense arm over this one's, in training; ``latency_s`` a median forward pass of
# ``latency_batch`` examples, with factors where they save.
COMPRESSED = TableSchema(
    "summary",
    (
        *_COMPRESSED,
        *_SCORES,
        *("epoch_s", "decompose_s", "elapsed_s", "speedup", "added", "ceiling"),
        *("latency_s", "latency_batch", "device_name"),
    ),
    TRAINING_STATUSES,
)

# The job that trains in low rank beside dense networks has more columns. ``budget_of`` is what
# all arms were given alike, with ``seconds`` so many; ``used_s`` are process seconds over the
# number of threads, so far; ``search_s`` those of choosing the rates of all arms.
# ``multiplications`` are those of the training so far, and ``train_bytes`` parameters, buffers
# and the optimiser's state. ``dtype`` is that of products; ``compile_s`` are the used seconds of
# compiling in a training, which no other column has, without what was compiled before it.
# ``baseline_loss``, ``metric`` and ``chance`` are of a sequence task.
_BUDGETED = ("budget_of", "budget_s", "used_s", "dtype", "compiled")
ACCELERATION = TableSchema("samples", (*COMPRESSION.own, *_BUDGETED), TRAINING_STATUSES)
ACCELERATED = TableSchema(
    "summary",
    (
        *(*COMPRESSED.own, *_BUDGETED, "multiplications", "train_bytes", "search_s", "compile_s"),
        *("loss_unit", "baseline_loss", "metric", "chance"),
    ),
    TRAINING_STATUSES,
)
# What a step of each arm costs, on average over its training; and for each smaller dense network
# what it was chosen for: the time or the multiplications of ``rival_of``, or a share of the width.
RIVALS = TableSchema(
    "rivals", (*_COMPRESSED, "width", "chosen_by", "rival_of", "step_s", "multiplications")
)

# A row for each weight of an arm: its rank, and whether it is smaller as
# two factors; if not, why it stays dense.
LAYERS = TableSchema(
    "layers",
    (*_COMPRESSED, *("layer", "rows", "columns", "kept", "form", "dense_numbers", "numbers")),
)


def ended_well(row: Mapping[str, Any]) -> bool:
    """Whether a row of any table has a result. Of a timing, timeout says that it has none."""
    trained = row.get("seed") not in (None, "")
    return row.get("status") in (GOOD_ENDINGS if trained else GOOD_ENDINGS[:1])


def cell_id(**what_defines_it: Any) -> str:
    """Twelve hexadecimal digits that stand for a cell, the same in every run and process.

    Takes what JSON can hold: strings, numbers, booleans, None, and lists and
    mappings of them. Raises TypeError on anything else, as its text may differ
    from run to run.
    """
    text = json.dumps(what_defines_it, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
