"""The command line: options become Hydra overrides, and a job is launched.

Nothing heavy is imported here, so that ``svdbench --help`` answers at once.
"""

import sys
from typing import Annotated, Any

import typer

from svdbench.errors import UserError

app = typer.Typer(
    name="svdbench",
    help="Benchmarks and experiments for neural networks whose weights carry an SVD.",
    epilog="Every key of a command's configuration can be set as [b]key=value[/b] after its "
    "options, as in [b]svdbench time-fasth sizes.m=64 dtype=float64[/b].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

QUICK_SIZES = "[64,128,256]"

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the configuration to set, Hydra's way."),
]
Sizes = Annotated[
    str | None,
    typer.Option("--d", metavar="D,D,…", help="Sizes d to sweep; by default 64 to 1024."),
]
Methods = Annotated[
    str | None, typer.Option(metavar="NAME,…", help="Only these methods; `svdbench methods` lists.")
]
Budget = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Measuring time, all sizes together.")
]
Quick = Annotated[bool, typer.Option("--quick", help="A first look, within half a minute.")]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the run's folder; by default the time.")
]
Seed = Annotated[int | None, typer.Option(help="Of the random inputs and the order of rounds.")]
Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="Sweep: one run per combination of a,b,c values.")
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Print the composed configuration and stop.")
]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from svdbench import __version__

        typer.echo(f"svdbench {__version__}")
        raise typer.Exit


@app.command("time-fasth")
def time_fasth(
    overrides: Overrides = None,
    d: Sizes = None,
    methods: Methods = None,
    budget: Budget = None,
    quick: Quick = False,
    name: Name = None,
    seed: Seed = None,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Time a gradient-descent step for every way to parametrise an orthogonal matrix.

    One step is φ(V)·X with its gradients in V and X, for V (d, d) and X (d, 32).
    No method gets a number unless its output, its orthogonality and both
    gradients agree with float64, before its timing and after.

    Writes results/time-fasth/NAME: every sample and a summary as CSV, the
    environment, the configuration, and plots.
    """
    _launch(
        "time_fasth",
        overrides,
        _timing_options(d, budget, quick, name, seed, methods=methods),
        multirun,
        show_config,
    )


@app.command("time-svd-ops")
def time_svd_ops(
    overrides: Overrides = None,
    d: Sizes = None,
    ops: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Only these operations, as inverse,logdet.")
    ] = None,
    budget: Budget = None,
    quick: Quick = False,
    name: Name = None,
    seed: Seed = None,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Time matrix operations through the factors of W = UΣVᵀ against torch.linalg.

    Inverse, log-determinant, exponential and Cayley map of W (d, d) on
    X (d, 32). One step is the value with its gradients in U, Σ, V and X, or in
    W and X. No method gets a number unless it agrees with float64, before its
    timing and after; the tables show its error beside its time.

    Writes results/time-svd-ops/NAME: every sample and a summary as CSV, the
    environment, the configuration, and a plot.
    """
    _launch(
        "time_svd_ops",
        overrides,
        _timing_options(d, budget, quick, name, seed, ops=ops),
        multirun,
        show_config,
    )


@app.command()
def tune(
    d: Annotated[
        str | None, typer.Option("--d", metavar="D,D,…", help="Sizes to measure; none: show all.")
    ] = None,
    n: Annotated[
        int | None, typer.Option(min=1, help="Reflectors; as many as d by default.")
    ] = None,
    m: Annotated[int, typer.Option(min=1, help="Columns of X.")] = 32,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    budget: Annotated[
        float, typer.Option(min=0.01, metavar="SECONDS", help="Measuring time per size.")
    ] = 2.0,
    clear: Annotated[bool, typer.Option("--clear", help="Forget what is known first.")] = False,
) -> None:
    """Measure which block size makes `apply_reflectors` fastest; show what is known.

    The answers are kept on this machine, per shape, dtype and number of threads,
    and used by every later call of that shape.
    """
    sizes = _sizes(d)
    from svdbench.schemas import Dtype

    if dtype not in Dtype.__members__:
        raise UserError(f"dtype is {dtype!r}: choose from {', '.join(Dtype.__members__)}")
    from svdbench.jobs import tune as job

    job.run(sizes, n, m, dtype, budget, clear)


@app.command()
def methods() -> None:
    """List the orthogonal parametrisations: what each builds, its gradients, its cost."""
    from svdbench.jobs import methods as job

    job.run()


def _sizes(text: str | None) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        sizes = [0]
    if any(size < 1 for size in sizes):
        raise UserError(f"--d is {text!r}: give whole numbers from 1 up, as in --d 64,128")
    return sizes


def _timing_options(
    d: str | None,
    budget: float | None,
    quick: bool,
    name: str | None,
    seed: int | None,
    **chosen: str | None,
) -> list[str]:
    """What the options of a timing command say, as overrides; ``chosen`` are lists of names."""
    options: dict[str, Any] = {}
    if quick:
        options |= {"measure": "quick", "sizes.d": QUICK_SIZES}
    if d is not None:
        options["sizes.d"] = "[" + ",".join(map(str, _sizes(d))) + "]"
    options |= {key: f"[{names}]" for key, names in chosen.items() if names is not None}
    if budget is not None:
        options["measure.budget_s"] = budget
    if name is not None:
        options["name"] = _quoted(name)
    if seed is not None:
        options["seed"] = seed
    return [f"{key}={value}" for key, value in options.items()]


def _quoted(text: str) -> str:
    """A string as Hydra's grammar takes it, whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _launch(
    job: str, typed: list[str] | None, options: list[str], multirun: bool, show_config: bool
) -> None:
    from svdbench.launch import launch, show

    typed = typed or []
    for override in typed:
        if "=" not in override and not override.startswith("~"):
            raise UserError(f"{override!r} is not KEY=VALUE: write it as in sizes.m=64")
    if show_config:
        typer.echo(show(job, [*options, *typed]), nl=False)
    else:
        launch(job, [*options, *typed], multirun)


def main(arguments: list[str] | None = None) -> None:
    """The console script: a mistake of the user's is one line on stderr and exit code 2."""
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a mistake on the command line
            raise
        _fail(f"{error.format_message()} (see --help)")
    else:
        sys.exit(code or 0)


def _fail(message: str, code: int = 2) -> None:
    print(f"svdbench: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
