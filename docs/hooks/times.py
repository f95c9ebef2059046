"""The table of all methods in docs/timing.md, from the reference run."""

from pathlib import Path

import pandas as pd

from svdbench.reporting.words import ratio, seconds

RUN = Path(__file__).resolve().parents[2] / "results" / "reference" / "time-fasth"


def method_table() -> str:
    """A row per method: what it builds, its time at each d, and in brackets × FastH's."""
    run = pd.read_csv(RUN / "summary.csv")
    steps = run[run["pass"].eq("step") & run.status.eq("ok")]
    times = steps.pivot(index="method", columns="d", values="median_s")
    sizes = list(times.columns)
    times = times.sort_values(sizes[-1], na_position="last")
    builds = steps.groupby("method").builds.first()
    lines = [
        "| method | builds | " + " | ".join(f"d = {d}" for d in sizes) + " |",
        "|---|---|" + "--:|" * len(sizes),
    ]
    for method, row in times.iterrows():
        cells = [
            "" if pd.isna(s) else f"{seconds(s)} ({ratio(s / times.loc['fasth', d])})"
            for d, s in row.items()
        ]
        lines.append(f"| `{method}` | {builds[method]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(method_table())
