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
QUICK_HIDDEN, QUICK_LENGTH = "[32,64]", "[50]"
GRADIENT_STEPS, GRADIENTS_EVERY = 2000, 50

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


@app.command("time-rnn")
def time_rnn(
    overrides: Overrides = None,
    hidden: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Hidden sizes; by default 64,128,256.")
    ] = None,
    length: Annotated[
        str | None, typer.Option(metavar="T,T,…", help="Steps of a sequence; by default 200.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Only these, as spectral,torch_rnn.")
    ] = None,
    budget: Budget = None,
    quick: Quick = False,
    name: Name = None,
    seed: Seed = None,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Time the loop of a recurrent network over T steps, forward and backward.

    Of the Spectral-RNN: reflectors one by one at every step, FastH at every
    step, W built once. Beside them torch.nn.RNN, LSTM and GRU. One step is all
    states of 128 sequences with the gradients in the inputs and all parameters.
    No way gets a number unless it agrees with float64, before its timing and
    after.

    Writes results/time-rnn/NAME: every sample and a summary as CSV, the
    environment, the configuration, and plots.
    """
    given = []
    if quick:
        given += ["measure=quick", f"sizes.hidden={QUICK_HIDDEN}", f"sizes.length={QUICK_LENGTH}"]
        given += ["rnn.fasth_each_step.tune=false", "rnn.spectral.tune=false"]
    lists = {"sizes.hidden": _list("--hidden", hidden), "sizes.length": _list("--length", length)}
    given += [f"{key}={value}" for key, value in lists.items() if value is not None]
    given += _timing_options(None, budget, False, name, seed, methods=methods)
    _launch("time_rnn", overrides, given, multirun, show_config)


@app.command()
def train(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="spectral-rnn, lstm, …; several as a,b; or all."),
    ],
    overrides: Overrides = None,
    task: Annotated[
        str, typer.Option(metavar="TASK", help="addition, copy, smnist or pmnist.")
    ] = "addition",
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps of the optimiser, at most.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Stop each training by the clock.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Stop where loss ≤ SHARE × baseline; 0: don't."),
    ] = None,
    hidden: Annotated[int | None, typer.Option(metavar="N", help="Hidden units.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="B", help="Sequences in a batch.")] = None,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="Learning rate.")] = None,
    orthogonal_lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="The same, of what makes the recurrent weight."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="K", help="Train K times, with seed, seed + 1, ….")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the initialisation and the samples.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="FILE", help="Go on from a checkpoint, as last.pt.")
    ] = None,
    preset: Annotated[
        bool, typer.Option("--preset/--no-preset", help="Start from what conf/preset has.")
    ] = True,
    name: Name = None,
    multirun: Multirun = False,
    show_config: ShowConfig = False,
) -> None:
    """Train MODEL on TASK and watch its loss against the baseline.

    Starts from settings that converge, of conf/preset, over which all options and
    KEY=VALUE win. Evaluates as it goes on sequences held out, keeps the best and the
    last weights, stops at the target, and looks at the test set once, at the end.

    Writes results/train/NAME: every evaluation and a summary as CSV, checkpoints, the
    environment, the configuration, and plots against iterations and seconds. With
    several models, or --multirun, a folder for each and plots of all.
    """
    options = {
        "trainer.steps": steps,
        "trainer.max_minutes": max_minutes,
        "trainer.target": target,
        "trainer.batch_size": batch,
        "trainer.seeds": seeds,
        "model.hidden_size": hidden,
        "optimizer.lr": lr,
        "optimizer.orthogonal_lr": orthogonal_lr,
        "trainer.resume": resume,
        "seed": seed,
    }
    if "=" in model:
        raise UserError(f"the first argument is MODEL, not {model!r}: as in svdbench train lstm")
    typed = _key_values(overrides)
    from svdbench.jobs import train_models as job
    from svdbench.training.presets import override

    given = [override(key, value) for key, value in options.items() if value is not None]
    if show_config:
        typer.echo(job.configurations(model, task, [*given, *typed], presets=preset), nl=False)
    elif not job.train(model, task, [*given, *typed], name=name, presets=preset, multirun=multirun):
        raise typer.Exit(1)


@app.command()
def gradients(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="spectral-rnn, lstm, …; several as a,b; or all."),
    ],
    overrides: Overrides = None,
    task: Annotated[
        str, typer.Option(metavar="TASK", help="addition, copy, smnist or pmnist.")
    ] = "addition",
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps of the optimiser.")
    ] = GRADIENT_STEPS,
    every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps from look to look.")
    ] = GRADIENTS_EVERY,
    seed: Annotated[int | None, typer.Option(help="Of the initialisation and the samples.")] = None,
    name: Name = None,
    show_config: ShowConfig = False,
) -> None:
    """Train MODEL on TASK and look at ‖∂L/∂h_t‖ for every step t of the sequence.

    Trains as `svdbench train` does, with its presets and keys, but to the last
    step and without checkpoints. Gradients that vanish or explode show as a
    slope over t.

    Writes results/gradients/NAME: norms, evaluations and a summary as CSV, the
    environment, the configuration, heat maps over t and training, and curves.
    """
    kept: dict[str, Any] = {"trainer.steps": steps, "trainer.evaluate_every": every}
    kept |= {"trainer.target": 0, "trainer.checkpoint": "false"}
    kept |= {} if seed is None else {"seed": seed}
    given = [f"{key}={value}" for key, value in kept.items()] + _key_values(overrides)
    from svdbench.jobs import gradients as job

    if show_config:
        typer.echo(job.configurations(model, task, given), nl=False)
    else:
        job.run(model, task, given, name=name)


@app.command()
def tune(
    overrides: Overrides = None,
    d: Annotated[
        str | None,
        typer.Option(
            "--d", metavar="D,D,…", help="Sizes to measure; none: show all, or 64 to 1024 to plot."
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option(min=1, help="Reflectors; as many as d by default.")
    ] = None,
    m: Annotated[
        str | None,
        typer.Option("--m", metavar="M,M,…", help="Columns of X: 32, or 8,32,128 to plot."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32 (default), float64, bfloat16 or float16.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu (default), cuda or cuda:N.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.01, metavar="SECONDS", help="Measuring time per d and m: 2, or 8 to plot."
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Forget what is known first.")] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Sweep the block size, and say how to choose it.")
    ] = False,
    name: Name = None,
    show_config: ShowConfig = False,
) -> None:
    """Measure which block size makes `apply_reflectors` fastest; show what is known.

    The answers are kept on this machine, per shape, dtype and number of threads,
    and used by every later call of that shape.

    With --plot every block size is measured instead, for each d and m, with the
    rules that people use and a cost model. Writes results/tune/NAME: CSV, the
    environment, the configuration, and plots. Nothing is kept for later calls.
    """
    if plot:
        if clear:
            raise UserError("--clear has no part in --plot: run `svdbench tune --clear` first")
        options: dict[str, Any] = {"sizes.n": n, "dtype": dtype, "device": device}
        options |= {"measure.budget_s": budget, "name": None if name is None else _quoted(name)}
        options |= {"sizes.d": _list("--d", d), "sizes.m": _list("--m", m)}
        given = [f"{key}={value}" for key, value in options.items() if value is not None]
        _launch("tune_blocks", overrides, given, False, show_config)
        return
    if overrides or name is not None or show_config:
        raise UserError("KEY=VALUE, --name and --show-config are for a sweep: add --plot")
    sizes, columns = _sizes(d), _sizes(m or "32", "--m")
    from svdbench.schemas import Dtype

    dtype = dtype or "float32"
    if dtype not in Dtype.__members__:
        raise UserError(f"dtype is {dtype!r}: choose from {', '.join(Dtype.__members__)}")
    from svdbench.jobs import tune as job

    job.run(sizes, n, columns, dtype, device or "cpu", budget or 2.0, clear)


@app.command()
def methods() -> None:
    """List the orthogonal parametrisations: what each builds, its gradients, its cost."""
    from svdbench.jobs import methods as job

    job.run()


def _list(option: str, text: str | None) -> list[int] | None:
    return None if text is None else _sizes(text, option)


def _sizes(text: str | None, option: str = "--d") -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        sizes = [0]
    if any(size < 1 for size in sizes):
        raise UserError(
            f"{option} is {text!r}: give whole numbers from 1 up, as in {option} 64,128"
        )
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

    given = [*options, *_key_values(typed)]
    if show_config:
        typer.echo(show(job, given), nl=False)
    else:
        launch(job, given, multirun)


def _key_values(typed: list[str] | None) -> list[str]:
    """The overrides that were typed, if they are any."""
    typed = typed or []
    for override in typed:
        if "=" not in override and not override.startswith("~"):
            raise UserError(f"{override!r} is not KEY=VALUE: write it as in sizes.m=64")
    return typed


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
