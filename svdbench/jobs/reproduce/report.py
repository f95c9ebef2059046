"""The pages and figures of the results, as Markdown and HTML, from what was kept."""

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from svdbench.files import replace_atomically, write_whole
from svdbench.jobs.reproduce.evidence import JudgedResult, Provenance, read_evidence
from svdbench.jobs.reproduce.numbers import CurvePoint, Number
from svdbench.jobs.reproduce.result import (
    ANSWERS,
    FULL,
    RULE,
    SOURCES,
    CurveFigure,
    PublishedResult,
    ResultVerdict,
    Source,
    all_results,
)
from svdbench.reporting.claims import Answer, Claim, written
from svdbench.reporting.html.page import fill
from svdbench.reporting.plots import (
    between_sizes,
    fix_ticks,
    label_lines,
    name_ticks,
    new_figure,
    plot_band,
    plot_line,
    quiet,
    set_log_ticks,
)
from svdbench.reporting.styles import Style, lines_of
from svdbench.reporting.words import grid, interval, quantity

MOST_SIZES = 10  # of an axis with a tick for each
MARKDOWN, HTML, VERDICTS = "README.md", "index.html", "verdicts.csv"
BADGES = {
    ResultVerdict.holds: "ok",
    ResultVerdict.part: "partly",
    ResultVerdict.fails: "failed",
    ResultVerdict.open: "open",
}

BESIDE = "–"
QUICK_NOTE = (
    "This is the quick version, with fewer seeds and smaller sizes than the published result. It "
    "shows whether anything has changed; only the full version's verdict counts."
)


@dataclass(frozen=True)
class ClaimLine:
    says: str
    published: str
    ours: str
    interval: str
    of: str
    bound: str
    answer: str


@dataclass(frozen=True)
class ResultPage:
    result: PublishedResult
    source: Source
    verdict: str
    badge: str
    reason: str
    rule: str
    deciding: list[ClaimLine]
    beside: list[ClaimLine]
    figures: list[tuple[str, str]]
    hardware: list[str]
    made: list[Provenance]
    command: str
    note: str


def result_page(judged: JudgedResult, variant: str) -> ResultPage:
    """The page of a result; ``variant``: of the command that repeats it."""
    result, numbers = judged.result, judged.measured.numbers
    drawn = {point.figure for point in judged.measured.curves}
    return ResultPage(
        result=result,
        source=SOURCES[result.source],
        verdict=judged.verdict.value,
        badge=BADGES[judged.verdict],
        reason=judged.reason,
        rule=RULE,
        deciding=[_line(a, numbers) for a in judged.answers if a.claim.decides],
        beside=[_line(a, numbers) for a in judged.answers if not a.claim.decides and a.ours],
        figures=[(f.name, f.title) for f in result.figures if f.name in drawn],
        hardware=list(_hardware(judged.made)),
        made=judged.made,
        command=f"svdbench reproduce {result.name}" + (" --quick" if variant != FULL else ""),
        note=QUICK_NOTE if variant != FULL else "",
    )


def write(judged: JudgedResult, root: Path, variant: str) -> None:
    """Draw the figures of a result, and write its pages, into its folder below ``root``."""
    folder, shown = root / judged.result.name, result_page(judged, variant)
    for figure in judged.result.figures:
        draw(figure, judged.measured.curves, folder / f"{figure.name}.png")
    pictures = [
        (title, "data:image/png;base64," + b64encode((folder / f"{n}.png").read_bytes()).decode())
        for n, title in shown.figures
    ]
    write_whole(folder / MARKDOWN, markdown(shown))
    title = judged.result.title
    write_whole(folder / HTML, fill("result.html", title=title, view=shown, pictures=pictures))


def write_index(root: Path, variant: str) -> list[JudgedResult]:
    """Write the list of all results that were kept below ``root``; these, in its order."""
    found = [
        judged for result in all_results() if (judged := read_evidence(result, root)) is not None
    ]
    views = [result_page(judged, variant) for judged in found]
    write_whole(root / MARKDOWN, index_markdown(views))
    write_whole(
        root / HTML,
        fill("results.html", title="Published results, reproduced", views=views, rule=RULE),
    )
    lines = [f"{j.result.name},{j.result.source},{j.verdict.value}\n" for j in found]
    write_whole(root / VERDICTS, "result,source,verdict\n" + "".join(lines))
    return found


def markdown(shown: ResultPage) -> str:
    return _templates().get_template("result.md").render(view=shown)


def index_markdown(views: Sequence[ResultPage]) -> str:
    return _templates().get_template("results.md").render(views=views, rule=RULE)


def _line(found: Answer, numbers: Mapping[str, Number]) -> ClaimLine:
    claim, number = found.claim, numbers.get(found.claim.number)
    bounds = [("≥", claim.at_least), ("≤", claim.at_most)]
    bound = " and ".join(f"{sign} {written(b, claim.form)}" for sign, b in bounds if b is not None)
    published = "" if claim.published is None else written(claim.published, claim.form)
    place = f" ({claim.place})" if claim.place and published else ""
    return ClaimLine(
        says=claim.says,
        published=published + place,
        ours="not measured" if number is None else written(number.mean, claim.form),
        interval="" if number is None else _interval(number.low, number.high, claim.form),
        of="" if number is None else number.of,
        bound=bound or _agreement(claim),
        answer=ANSWERS[found.shown] if claim.decides else BESIDE,
    )


def _agreement(claim: Claim) -> str:
    reach = claim.reach if claim.decides else None
    return "" if reach is None else f"agrees, ± {written(reach, claim.form)} at most"


def _interval(low: float, high: float, form: str) -> str:
    if low == high or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return interval(low, high, partial(written, form=form))


def _hardware(made: Sequence[Provenance]) -> Iterator[str]:
    """Where the runs were made, each machine once."""
    for machine in dict.fromkeys((one.cpu, one.cores, one.gpus, one.torch) for one in made):
        cpu, cores, gpus, torch = machine
        count = "" if cores is None else quantity(cores, "core")
        yield ", ".join(filter(None, (cpu, count, gpus, f"torch {torch}")))


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("svdbench.jobs.reproduce", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    return found


def draw(figure: CurveFigure, points: Sequence[CurvePoint], path: Path) -> bool:
    """Draw a curve for each series as a PNG; False where there is nothing to draw."""
    own = [point for point in points if point.figure == figure.name]
    if not own:
        return False
    drawing = new_figure(8.6, 4.8)
    axes = drawing.add_subplot()
    series = list(dict.fromkeys(point.series for point in own))
    most = max(Counter(point.series for point in own).values())
    for name, style in lines_of(series, most).items():
        _series(axes, [point for point in own if point.series == name], name, style)
    sizes = sorted({point.x for point in own})
    if "y" in figure.log:
        axes.set_yscale("log")
    if "x" in figure.log:
        axes.set_xscale("log", base=2)
        # Labels of neighbours would run into each other.
        after = [*sizes[1:], math.inf]
        apart = [x for x, next_x in zip(sizes, after, strict=True) if next_x > 1.2 * x]
        if len(apart) <= MOST_SIZES:
            fix_ticks(axes.xaxis, between_sizes(apart))
    elif all(x == int(x) for x in sizes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    quiet(axes)
    if "y" in figure.log:
        set_log_ticks(axes.yaxis)
        name_ticks(axes.yaxis, grid)
    axes.set_title(figure.title, loc="left")
    axes.set_xlabel(figure.x)
    axes.set_ylabel(figure.y)
    label_lines(axes)
    with replace_atomically(path) as partial:
        drawing.savefig(partial, format="png", metadata={"Software": None})
    return True


def _series(axes: Axes, points: Sequence[CurvePoint], label: str, style: Style) -> None:
    points = sorted(points, key=lambda point: point.x)
    plot_line(axes, [p.x for p in points], [p.value for p in points], label=label, **style)
    banded = [point for point in points if point.low is not None and point.high is not None]
    if banded:
        lows, highs = [p.low for p in banded], [p.high for p in banded]
        plot_band(axes, [p.x for p in banded], lows, highs, style["color"])
