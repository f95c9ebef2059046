"""``svdbench`` and ``python -m svdbench``.

Imports nothing until it runs, so that ^C while the command line is loaded is one line, too.
"""

import signal
import sys


def main() -> None:
    """The console script."""
    try:
        from svdbench.running.processes import end_with_parent

        end_with_parent()  # before the other imports, which take their time
        from svdbench.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("svdbench: interrupted\n")
        code: str | int | None = 130
    else:
        try:
            run()
        except SystemExit as end:
            code = end.code
    # From here on, while the interpreter ends, ^C has nothing to say.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


if __name__ == "__main__":
    main()
