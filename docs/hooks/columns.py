"""The columns of every table that a command writes, from the schema."""

from importlib import import_module

from svdbench.record.columns import meaning
from svdbench.record.schema import COMMON, TableSchema

# The tables of each job, by the module that has them.
TABLES = {
    "time-fasth": {"svdbench.record.schema": ("SAMPLES", "SUMMARY")},
    "time-svd-ops": {"svdbench.record.schema": ("SAMPLES", "SUMMARY")},
    "time-rnn": {"svdbench.jobs.time_rnn.run": ("LOOP_SAMPLES", "LOOP_SUMMARY")},
    "time-layers": {"svdbench.jobs.time_layers.run": ("LAYER_SAMPLES", "LAYER_SUMMARY")},
    "time-svd": {"svdbench.jobs.time_svd.run": ("SAMPLES", "SUMMARY")},
    "tune": {"svdbench.jobs.tune.run": ("SUMMARY", "MODEL", "FIT")},
    "train": {"svdbench.record.schema": ("TRAINING", "TRAINED", "LENGTHS")},
    "gradients": {"svdbench.jobs.gradients.run": ("NORMS",)},
    "search": {"svdbench.jobs.search.rounds": ("TRIALS", "BEST")},
    "compress": {"svdbench.record.schema": ("COMPRESSION", "COMPRESSED", "LAYERS")},
    "accelerate-when": {"svdbench.jobs.accelerate_when.run": ("WHEN_SAMPLES", "WHEN_SUMMARY")},
    "accelerate": {"svdbench.record.schema": ("ACCELERATION", "ACCELERATED", "LAYERS", "RIVALS")},
    "compress-model": {"svdbench.jobs.compress_model.run": ("SUMMARY", "LAYERS", "POINTS")},
    "time-compressors": {"svdbench.jobs.time_compressors.rows": ("SUMMARY", "SAMPLES")},
    "rank-reveal": {"svdbench.jobs.rank_reveal.tables": ("SAMPLES", "SUMMARY", "CURVES", "POINTS")},
}


def tables_of(job: str) -> list[TableSchema]:
    """The tables that a job writes."""
    return [
        getattr(import_module(module), name)
        for module, names in TABLES[job].items()
        for name in names
    ]


def columns_page() -> str:
    """A section for each job, a table for each of its files; those of several jobs once."""
    lines = ["## In every table", "", *_table("", COMMON)]
    shared: dict[tuple[TableSchema, ...], list[str]] = {}
    for job in TABLES:
        shared.setdefault(tuple(tables_of(job)), []).append(job)
    for tables, jobs in shared.items():
        lines += ["", "## " + ", ".join(f"`{job}`" for job in jobs)]
        for table in tables:
            lines += ["", f"### `{table.name}.csv` of `{jobs[0]}`", ""]
            lines += [f"`status` is one of {', '.join(f'`{one}`' for one in table.statuses)}.", ""]
            lines += _table(jobs[0], table.own)
    return "\n".join(lines)


def _table(job: str, columns: tuple[str, ...]) -> list[str]:
    rows = (f"| `{column}` | {meaning(job, column)} |" for column in columns)
    return ["| column | meaning |", "|---|---|", *rows]
