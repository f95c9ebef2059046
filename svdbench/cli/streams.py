"""Standard output and error, whatever they lead to.

A character that their encoding lacks is written as near as ASCII comes to it. A stream that
is closed leads to nowhere. Output that can't be written stops a command as ^C does: in order,
what was finished kept. Errors that can't be written are dropped.
"""

import _thread
import codecs
import errno
import io
import os
import select
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

HANDLER = "svdbench.nearest"

# What Unicode itself doesn't decompose into ASCII.
NEAREST = {
    **{"–": "-", "—": "-", "−": "-", "·": ".", "×": "x", "±": "+-", "√": "sqrt", "‖": "||"},
    **{"≤": "<=", "≥": ">=", "≈": "~", "≠": "!=", "→": "->", "←": "<-", "∞": "inf", "∂": "d"},
    **{"µ": "u", "μ": "u", "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "Δ": "delta"},
    **{"ε": "epsilon", "λ": "lambda", "π": "pi", "Π": "prod", "ρ": "rho", "σ": "sigma"},
    **{"Σ": "Sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Ω": "Omega", "ℓ": "l", "∈": "in"},
    **{"⌈": "ceil(", "⌉": ")", "⌊": "floor(", "⌋": ")", "⋯": "...", "∘": "o", "⊗": "(x)"},
}


class OutputLost(KeyboardInterrupt):
    """Standard output can't be written to; nobody catches it but who catches ^C."""


class Output(io.FileIO):
    """A file descriptor that remembers that it couldn't be written to.

    Attributes:
        fault: why, from then on; what comes after is dropped.
    """

    def __init__(self, descriptor: int, strict: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.strict = strict
        self.fault: OSError | None = None

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write, or raise OutputLost once, in the main thread, if ``strict``."""
        if self.fault is None:
            try:
                while (written := super().write(data)) is None:  # it doesn't block by itself
                    select.select((), (self,), ())
                return written
            except OSError as error:
                self.fault = error
                if self.strict:
                    self._stop()
        return len(memoryview(data).cast("B"))

    def _stop(self) -> None:
        if threading.current_thread() is threading.main_thread():
            raise OutputLost
        _thread.interrupt_main()

    def message(self, ending: str) -> str:
        """The fault in words; empty for a closed pipe where there is nothing else to say.

        Args:
            ending: how the command ended.
        """
        if self.fault is None:
            return ending
        if self.fault.errno == errno.EPIPE:
            return ending and f"standard output was closed: {ending}"
        why = f"standard output can't be written: {self.fault.strerror}"
        return f"{why}: {ending or 'send it elsewhere'}"


@contextmanager
def standard_streams() -> Iterator[Output | None]:
    """Standard output and error as described above, within the block.

    Yields:
        Standard output, unless it is not the process's own.
    """
    codecs.register_error(HANDLER, nearest)
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    output = None
    with open(os.devnull, "w", encoding="utf-8", errors=HANDLER) as nowhere:
        if _is_own(sys.stdout, sys.__stdout__, 1):
            output = Output(1, strict=True)
            sys.stdout = _text(output, sys.stdout)
        if _is_own(sys.stderr, sys.__stderr__, 2):
            sys.stderr = _text(Output(2, strict=False), sys.stderr)
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        try:
            yield output
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(ValueError, OutputLost):  # closed by code of the user's
                    stream.flush()
            sys.stdout, sys.stderr = before


def nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's error handler: ASCII for a character, or the byte of a file's name."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    plain = NEAREST.get(character) or unicodedata.normalize("NFKD", character)
    kept = "".join(NEAREST.get(each, each) for each in plain if not unicodedata.combining(each))
    return kept if kept.isascii() and kept else "?", error.start + 1


def _fill_descriptors() -> None:
    """Nothing that is opened later may take the number of a standard stream."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _is_own(stream: TextIO | None, original: TextIO | None, descriptor: int) -> bool:
    """Whether a stream is the process's own and open, not what somebody has put in its place."""
    with suppress(OSError, ValueError):
        return stream is not None and stream is original and stream.fileno() == descriptor
    return False


def _text(raw: Output, before: TextIO) -> io.TextIOWrapper:
    with suppress(OSError, ValueError):
        before.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(cast(io.RawIOBase, raw)),
        before.encoding,
        HANDLER,
        line_buffering=bool(before.line_buffering) or not raw.strict,
        write_through=getattr(before, "write_through", False),
    )
