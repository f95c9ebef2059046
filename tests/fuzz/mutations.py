"""What may become of a file: cut, overwritten, of another kind, or with one value exchanged."""

import csv
import io
import os
import pickle
import socket
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

TOUCHED = "touched"


class Payload:
    """Makes a file where it is unpickled by anybody who runs what it says."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (TOUCHED,)


NUMBERS = ["nan", "inf", "-1", "0", "1e999", "9" * 5000, "0x10", "1_0", "½", "1.5", "-0"]
WORDS = [
    "",
    " ",
    "\0",
    "\r",
    '"',
    "'",
    ",",
    "é",
    "\ufeff",
    "\u202e",
    "[",
    "{",
    "a" * 200_000,
    "<script>",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "é\0",
    [],
    {},
]
VALUES += [[[]], {"a": 1}, [1, "x"], {"": None}]
VALUES += [2**31, 2**63, 2**64, -(2**63), 1e308, -0.0, "nan", "9" * 5000, "1:1:1", "2020-01-01"]
# Read by whoever calls resolvers, which the environment would show.
SECRET = "SVDBENCH_SECRET"
VALUES += [f"${{oc.env:{SECRET}}}", f"x${{oc.decode:${{oc.env:{SECRET}}}}}", "${hydra:job.name}"]
VALUES += ["${seed}", "${", "\ud800", "[red]", "[/]", ["\udfff"], {"_target_": "os.mkdir"}]


def _nested(depth: int, key: str | None = None) -> Any:
    tree: Any = 0
    for _ in range(depth):
        tree = [tree] if key is None else {key: tree}
    return tree


VALUES += [_nested(70), _nested(70, "a"), [[{"a": 1}, None]] * 3]
# Overrides of a sweep, of which none may pass.
OVERRIDES = [
    "++hydra={sweep:{dir:touched}}",
    "++hydra={run:{dir:touched},output_subdir:x}",
    "hydra.sweep.dir=touched",
    "hydra/launcher@x=basic",
    "hydra/launcher=../basic",
    "hydra@x=default",
    "+hydra.callbacks={a:{_target_:os.mkdir,path:touched}}",
    "hydra/launcher=submitit_local",
    "hydra.launcher.submitit_folder=touched",
    "hydra.launcher.setup=['mkdir touched']",
    "+optimizer@hydra.sweep=adam",
    "++model={build:'os:abort'}",
    "++model={_target_:os.mkdir}",
    "~schema",
    "~trainer",
    "schema=compress",
    "results=/proc",
    "++name=../touched",
    f"name=${{oc.env:{SECRET}}}",
    f"results='${{oc.env:{SECRET}}}'",
    "seed=${oc.decode:'0'}",
    "seed=range(0,100000000)",
    "seed=" + "[" * 5000,
    "\ud800=1",
    "a\0b=1",
    "",
    "=",
    "task=[x]",
]
FOREIGN = [
    *(b"", b"\n", b"\0" * 64, b"\xff\xfe\0", b"[" * 100_000, b"{" * 100_000, b'{"a":' * 20_000),
    *(b"a: " * 5000, b"- " * 5000, b"!!python/object/apply:os.mkdir ['touched']\n", b"---\n---\n"),
    b"a: &a [x,x]\n"
    + b"".join(b"%c: &%c [*%c,*%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 117)),
    *(
        b"[" * 50_000 + b"]" * 50_000,
        b"a: " + b"[" * 50_000,
        b"a: " + b"1:" * 50_000 + b"1",
        b"a: 0x" + b"f" * 5000,
        b"a: !!binary x\n",
        b"a: !!float x\n",
        b"? [a]\n: b\n",
        b"<<: {a: 1}\n",
        b'{"a": "\\ud800"}',
        b'{"\\udc00": 1}',
        b'{"a": NaN, "b": -Infinity}',
        b"- 1\n" * 300_000,
        f"a: ${{oc.env:{SECRET}}}\n".encode(),
        f'{{"cpu": "${{oc.env:{SECRET}}}"}}'.encode(),
        pickle.dumps(Payload()),
        pickle.dumps({"learner": Payload()}, protocol=0),
        b"PK\3\4" + b"x" * 40,
    ),
    *(
        b"\x93NUMPY\1\0",
        b"%PDF-1.4",
        b"<html>",
        b"schema_version,job\n",
        b'"',
        b"9" * 5000,
        b"null",
        b"1",
    ),
]


@st.composite
def overwritten(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes of a file that lost some, has others, or is another file."""
    at = draw(st.integers(0, len(data)))
    until = draw(st.integers(at, min(len(data), at + draw(st.sampled_from([1, 8, 100, 10**9])))))
    kind = draw(
        st.sampled_from(["cut", "lost", "twice", "other", "flip", "foreign", "utf-16", "crlf"])
    )
    if kind == "cut":
        return data[:at]
    if kind == "lost":
        return data[:at] + data[until:]
    if kind == "twice":
        return data[:until] + data[at:]
    if kind == "other":
        return data[:at] + draw(st.binary(max_size=20)) + data[until:]
    if kind == "flip":
        return (
            data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            if data[at:]
            else b""
        )
    if kind == "foreign":
        return draw(st.sampled_from(FOREIGN))
    text = data.decode(errors="replace")
    return text.encode("utf-16") if kind == "utf-16" else text.replace("\n", "\r\n").encode()


@st.composite
def tables(draw: st.DrawFn, data: bytes) -> bytes:
    """A table with a value, a row or a column that is another."""
    lines = list(csv.reader(io.StringIO(data.decode())))
    row, column = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines[0]) - 1))
    kind = draw(
        st.sampled_from(
            ["value", "value", "column", "name", "repeat", "no row", "no column", "order"]
        )
    )
    text = draw(st.sampled_from([*NUMBERS, *WORDS]) | st.text(max_size=5))
    if kind == "value":
        lines[row][column] = text
    elif kind == "column":
        for line in lines[1:]:
            line[column] = text
    elif kind == "name":
        lines[0][column] = text
    elif kind == "repeat":
        lines += lines[row : row + 1] * 3
    elif kind == "no row":
        del lines[row]
    elif kind == "no column":
        lines = [line[:column] + line[column + 1 :] for line in lines]
    else:
        lines = draw(st.permutations(lines))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().encode(errors="replace")


@st.composite
def sweeps(draw: st.DrawFn, tree: Any) -> Any:
    """What is kept of a sweep, with an override more, or jobs in another folder."""
    changed = deepcopy(tree)
    base = draw(st.sampled_from(changed["bases"]))
    if draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(base["overrides"])))
        base["overrides"].insert(at, draw(st.sampled_from(OVERRIDES)))
    else:
        base["name"] = draw(
            st.sampled_from(["../touched", "/proc/x", "a/b", ".", "..", "a\0b", "-"])
        )
        base["swept"] = draw(st.booleans())
    return changed


@st.composite
def trees(draw: st.DrawFn, tree: Any, values: list[Any] = VALUES) -> Any:
    """A tree of mappings and lists of which one part is another value, or is gone."""
    inner = (
        list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    )
    if not inner or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(values))
    at = draw(st.sampled_from(inner))
    copy = tree.copy()
    if draw(st.integers(0, 9)) == 0:
        del copy[at]
    else:
        copy[at] = draw(trees(tree[at], values))
    return copy


TENSORS = [torch.zeros(0), torch.full((3,), torch.nan), torch.ones(2, 2, dtype=torch.int8)]
TENSORS += [
    torch.ones(3, dtype=torch.complex64),
    torch.eye(2).to_sparse(),
    torch.zeros(5000, dtype=torch.uint8),
]


def saved(state: Any) -> bytes:
    """As ``torch.save`` writes it."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@st.composite
def checkpoints(draw: st.DrawFn, state: Any) -> bytes:
    """A file of ``torch.save`` in which one part is another, or could run something."""
    return saved(draw(trees(state, [*VALUES, *TENSORS, Payload()])))


def _replace(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


# What may be in a file's place.
PLACES: dict[str, Callable[[Path], None]] = {
    "nothing": Path.unlink,
    "a folder": _replace(Path.mkdir),
    "a link to nothing": _replace(lambda path: path.symlink_to("gone")),
    "a link to itself": _replace(lambda path: path.symlink_to(path.name)),
    "a pipe": _replace(os.mkfifo),
    "a file without end": _replace(lambda path: path.symlink_to("/dev/zero")),
    "a socket": _replace(_socket),
    "an empty file": lambda path: path.write_bytes(b"") and None,
    "a file without rights": lambda path: path.chmod(0),
}
