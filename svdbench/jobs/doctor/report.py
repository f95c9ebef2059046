"""The report of ``doctor``: facts by subject, then findings with their remedies."""

from collections.abc import Iterator
from typing import Any

from rich.filesize import decimal

from svdbench.jobs.doctor.facts import EXTRAS, Facts
from svdbench.jobs.doctor.verdicts import Verdict
from svdbench.reporting.report import Lines, Report, Style, Table, TableCell
from svdbench.reporting.words import fixed, integer, number, quantity, seconds, share, size

Line = tuple[str, str]


def report(found: Facts, judged: list[Verdict]) -> Report:
    sections = {
        "software": _software(found["versions"]),
        "packages": _packages(found["packages"]),
        "CPU": _cpu(found["cpu"], found["frequency"]),
        "threads": _threads(found["threads"], found["cpu"]),
        "GPU": _gpus(found["gpus"]),
        "memory": _memory(found["memory"]),
        "data sets": _data(found["data"]),
        "right now": _load(found["load"]),
    }
    made = Report("this machine")
    for name, lines in sections.items():
        table = Table.of(name, ["", ""], [], keys=1)
        for label, text in lines:
            table.add(TableCell(f"{label:14}", "dim"), text)
        if table.rows:
            made.blocks += [table, Lines([""])]
    bad = any(verdict.level == "unreliable" for verdict in judged)
    made.headline = _headline(judged)
    made.tone = "bad" if bad else "good"
    made.blocks.append(_verdicts(judged))
    return made


def _headline(judged: list[Verdict]) -> str:
    causes = sum(verdict.level == "unreliable" for verdict in judged)
    notes = len(judged) - causes
    words = [f"{notes} note{'s' * (notes != 1)}"] if notes else []
    if causes:
        start = f"timings here are unreliable now: {causes} cause{'s' * (causes != 1)}"
        return ", ".join([start, *words])
    return "; ".join(["nothing makes timings here unreliable now", *words])


def _verdicts(judged: list[Verdict]) -> Table:
    """A mark, the cause, and below it the remedy."""
    table = Table.of("", ["", ""], [], keys=1)
    marks: dict[bool, tuple[str, Style]] = {True: ("✗", "bad"), False: ("!", "warn")}
    for verdict in judged:
        mark = TableCell(*marks[verdict.level == "unreliable"])
        table.add(mark, TableCell(verdict.cause, below=f"→ {verdict.remedy}"))
    return table


def _software(versions: Facts) -> Iterator[Line]:
    source = versions["source"]
    commit = f", commit {source['commit'][:8]}{' + changes' * source['dirty']}" if source else ""
    yield "svdbench", f"{versions['svdbench']}{commit}"
    yield "python", f"{versions['python']} on {versions['platform']}"
    cuda = f"CUDA {versions['cuda']}" if versions["cuda"] else "CPU only"
    cudnn = f", cuDNN {versions['cudnn']}" if versions["cudnn"] else ""
    yield "torch", f"{versions['torch']} ({cuda}{cudnn})"
    mkl = f" {versions['mkl']}" if versions["mkl"] else ""
    parts = [f"{versions['blas']}{mkl}" if versions["blas"] else "unknown"]
    parts += [f"oneDNN {versions['onednn']}"] if versions["onednn"] else []
    parts += [versions["openmp"]] if versions["openmp"] else []
    yield "BLAS", ", ".join(parts)
    names = ("triton", "numpy", "scipy", "hydra")
    yield "others", ", ".join(f"{name} {versions[name] or 'missing'}" for name in names)


def _packages(packages: list[Facts]) -> Iterator[Line]:
    """What is needed in a word, what extras add by name."""
    needed = [one for one in packages if one["extra"] is None]
    if needed:
        wrong = [f"{one['package']}{one['needs']}" for one in needed if not one["fits"]]
        yield "needed", f"missing: {', '.join(wrong)}" if wrong else f"all {len(needed)} installed"
    for extra in dict.fromkeys(one["extra"] for one in packages if one["extra"]):
        own = [one for one in packages if one["extra"] == extra]
        versions = ", ".join(f"{one['package']} {one['installed'] or 'missing'}" for one in own)
        purpose = f" (to {EXTRAS[extra]})" if extra in EXTRAS else ""
        yield f"[{extra}]", f"{versions}{purpose}"


def _cpu(cpu: Facts, frequency: Facts) -> Iterator[Line]:
    yield "model", f"{cpu['cpu'] or 'unknown'}{', virtual' * bool(cpu['virtual'])}"
    low = f", {', '.join(cpu['low_precision'])}" if cpu["low_precision"] else ""
    yield "SIMD", f"{cpu['simd']}{low}"
    counts = ("physical", "logical", "visible")
    cores = [f"{cpu[f'cores_{what}']} {what}" for what in counts if cpu[f"cores_{what}"]]
    nodes = [f"{cpu['numa_nodes']} NUMA nodes"] if (cpu["numa_nodes"] or 1) > 1 else []
    quota = [f"{number(cpu['quota_cores'])} by quota"] if cpu["quota_cores"] else []
    yield "cores", ", ".join([*cores, *quota, *nodes])
    if cpu["caches"]:
        yield "caches", ", ".join(f"{name} {size}" for name, size in cpu["caches"].items())
    clocks = []
    if frequency["mhz"]:
        low, high = min(frequency["mhz"]), max(frequency["mhz"])
        clocks.append(f"{low}–{high} MHz" if high > low else f"{low} MHz")
    if frequency["max_mhz"]:
        clocks.append(f"at most {size(frequency['max_mhz'])} MHz")
    if frequency["boost"] is not None:
        clocks.append(f"turbo {'on' if frequency['boost'] else 'off'}")
    clocks.append(f"governor {frequency['governor'] or 'not readable'}")
    heat = frequency["throttled"]
    clocks.append(
        f"throttled {'not readable' if heat is None else quantity(heat, 'time') + ' since boot'}"
    )
    yield "clocks", ", ".join(clocks)


def _threads(threads: Facts, cpu: Facts) -> Iterator[Line]:
    yield "torch", f"{threads['torch']} within an operation, {threads['interop']} between"
    if cpu["affinity"]:
        yield (
            "affinity",
            f"core {cpu['affinity']}"
            if cpu["affinity"].isdecimal()
            else f"cores {cpu['affinity']}",
        )
    if threads["variables"]:
        settings = [f"{name}={value}" for name, value in threads["variables"].items()]
        yield "variables", ", ".join(settings)


def _gpus(gpus: list[Facts]) -> Iterator[Line]:
    if not gpus:
        yield "", "none"
    for i, gpu in enumerate(gpus):
        memory = f"{integer(gpu['memory_mib'] / 1024)} GiB" if gpu["memory_mib"] else None
        clock = f"{size(gpu['clock_mhz'])} MHz" if gpu["clock_mhz"] else None
        if clock and gpu["max_clock_mhz"]:
            clock += f" of {size(gpu['max_clock_mhz'])}"
        parts = [
            gpu["name"],
            f"compute capability {gpu['capability']}" if gpu["capability"] else None,
            f"driver {gpu['driver']}" if gpu["driver"] else None,
            memory,
            clock,
            f"{integer(gpu['temperature_c'])} °C" if gpu["temperature_c"] is not None else None,
            "not seen by torch" if gpu["device"] == "" else None,
        ]
        yield gpu["device"] or f"GPU {i}", ", ".join(filter(None, parts))


def _memory(memory: Facts) -> Iterator[Line]:
    total, free = memory["total_bytes"], memory["available_bytes"]
    parts = [f"{decimal(total)} in total"] if total else []
    parts += [f"{decimal(free)} available"] if free is not None else []
    parts += [f"limited to {decimal(memory['limit_bytes'])}"] if memory["limit_bytes"] else []
    parts += [f"{decimal(memory['swap_used_bytes'])} swapped"] if memory["swap_used_bytes"] else []
    yield "", ", ".join(parts) or "unknown"


def _data(data: Facts) -> Iterator[Line]:
    if data["folder"]:
        yield "folder", data["folder"]
    for state in dict.fromkeys(data["sets"].values()):
        yield state, ", ".join(name for name, own in data["sets"].items() if own == state)


def _load(load: dict[str, Any]) -> Iterator[Line]:
    yield "product", f"{load['product']}, {load['repetitions']} times"
    yield (
        "time",
        f"{seconds(load['median_s'])}, middle half {seconds(load['q25_s'])}–"
        f"{seconds(load['q75_s'])}, worst {seconds(load['worst_s'])}; "
        f"{integer(load['gflops'])} Gflop/s",
    )
    others, steal = load["foreign_cores"], load["steal"]
    yield (
        "others",
        f"{'unknown' if others is None else fixed(others)} cores busy, steal "
        f"{'unknown' if steal is None else share(steal, 2)}",
    )
    if load["load_average"]:
        one, five, fifteen = map(fixed, load["load_average"])
        yield "load average", f"{one} (1 min), {five} (5 min), {fifteen} (15 min)"
