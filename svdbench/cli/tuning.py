"""The command that measures block sizes."""

from typing import Annotated

import typer

from svdbench.cli.app import app
from svdbench.cli.options import Force, Name, Overrides, Resume, ShowConfig, launch_job, numbers
from svdbench.errors import UserError


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
    resume: Resume = None,
    force: Force = False,
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
        options: dict[str, object] = {
            "sizes.d": numbers(d),
            "sizes.n": n,
            "sizes.m": numbers(m, "--m"),
        }
        options |= {"dtype": dtype, "device": device, "measure.budget_s": budget, "name": name}
        launch_job(
            "tune_blocks", overrides, options, show_config=show_config, resume=resume, force=force
        )
        return
    if overrides or name is not None or resume is not None or force or show_config:
        raise UserError(
            "KEY=VALUE, --name, --resume, --force and --show-config are for a sweep: add --plot"
        )
    lengths, columns = numbers(d) or [], numbers(m or "32", "--m") or []
    from svdbench.schemas import Dtype

    dtype = dtype or "float32"
    if dtype not in Dtype.__members__:
        raise UserError(f"dtype is {dtype!r}: choose from {', '.join(Dtype.__members__)}")
    from svdbench.jobs import tune as job

    job.run(lengths, n, columns, dtype, device or "cpu", budget or 2.0, clear)
