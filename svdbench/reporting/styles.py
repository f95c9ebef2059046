"""One colour and one mark for every method, model, driver and arm, in every picture.

A name has the same colour wherever it is drawn. FastH is black, and so is the factored way of a
matrix operation, which is built on it; the unchanged network of a comparison is grey. Members of
one family share a hue, and marks of different shapes and sizes tell them apart, also where their
lines coincide: the larger ones are hollow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

Style = dict[str, Any]

# Colour-blind safe: the eight of Okabe and Ito (2008) with yellow darkened, then four of Tol.
BLACK, GREY = "#000000", "#6e6e6e"
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, OLIVE, INDIGO = "#E69F00", "#56B4E9", "#8A6D00", "#332288"
WINE, TEAL, ROSE = "#882255", "#44AA99", "#CC6677"
HUES = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, OLIVE, INDIGO, WINE, TEAL, ROSE, GREY]

# Small and filled, or larger and hollow, so that each is seen around or inside the others.
MARKS: tuple[Style, ...] = (
    {"marker": "o", "markersize": 4.5},
    {"marker": "s", "markersize": 7.0, "markerfacecolor": "none"},
    {"marker": "D", "markersize": 8.5, "markerfacecolor": "none"},
    {"marker": "^", "markersize": 10.0, "markerfacecolor": "none"},
    {"marker": "v", "markersize": 6.5},
    {"marker": "P", "markersize": 8.5, "markerfacecolor": "none"},
)
# A line of more points has no marks.
MOST_MARKS = 24
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))

# Families by colour; a name's place in its family gives the mark.
_FAMILIES: tuple[tuple[str, str], ...] = (
    (BLACK, "fasth fasth_each_step"),
    (BLACK, "exp_svd"),
    (BLACK, "inverse_svd"),
    (BLACK, "logdet_svd"),
    (BLACK, "cayley_svd"),
    (BLACK, "auto"),
    (GREY, "dense dnn stock"),
    (GREY, "rnn torch_rnn"),
    (GREY, "linear"),
    # Orthogonal methods.
    (BLUE, "cayley cayley_dense torch_cayley"),
    (GREEN, "geotorch matrix_exp torch_matrix_exp"),
    (ORANGE, "householder_product ormqr torch_householder torch_householder_map"),
    (VERMILLION, "parallel"),
    (SKY, "sequential reflectors_each_step"),
    (PURPLE, "cwy fasthpp"),
    # Matrix operations.
    (VERMILLION, "inverse_solve"),
    (VERMILLION, "cayley_solve"),
    (SKY, "inverse_inv"),
    (GREEN, "logdet_lu"),
    (ORANGE, "exp_dense"),
    (PURPLE, "exp_taylor"),
    # Recurrent networks, and the loops that run them.
    (BLUE, "spectral_rnn spectral modrelu_spectral_rnn spectral_blocks"),
    (VERMILLION, "lstm torch_lstm minlstm"),
    (ORANGE, "gru torch_gru mingru"),
    (GREEN, "orthogonal_rnn orthogonal_blocks"),
    (SKY, "factorized_rnn"),
    (OLIVE, "irnn lem cornn"),
    (PURPLE, "exprnn asrnn"),
    (INDIGO, "scornn"),
    (WINE, "urnn"),
    (TEAL, "fc_urnn"),
    (ROSE, "lru"),
    (BLACK, "reflector_rnn deltaproduct deltanet"),
    # Truncated SVDs and compressors.
    (BLUE, "randomized rsvd"),
    (SKY, "gram"),
    (VERMILLION, "torch_svd"),
    (VERMILLION, "truncsvd"),
    (ORANGE, "torch_svd_lowrank"),
    (OLIVE, "torch_svd_lowrank_oversampled"),
    (GREEN, "sklearn_randomized whitened"),
    (PURPLE, "scipy_svds"),
    # Choices of ranks.
    (BLUE, "α_0.5"),
    (VERMILLION, "α_0.25"),
    (GREEN, "α_0.125"),
    (PURPLE, "α_0.0625"),
    (ORANGE, "α_1"),
    (BLUE, "kronecker"),
    (ORANGE, "uniform"),
    (PURPLE, "energy"),
    (SKY, "minimax"),
    (OLIVE, "exhaustive exact"),
    # Ways to compress a model.
    (VERMILLION, "svd_llm svd_llm_v2"),
    (GREEN, "asvd"),
    (WINE, "fwsvd"),
    (SKY, "alds"),
    (BLUE, "frontier"),
    (PURPLE, "published"),
)
_NAMED = {
    name: (color, place) for color, names in _FAMILIES for place, name in enumerate(names.split())
}
# Names drawn thick and above the others: those that a picture is about.
_FIRST = frozenset(
    {"fasth", "exp_svd", "inverse_svd", "logdet_svd", "cayley_svd"}
    | {"spectral_rnn", "spectral", "kronecker"}
)


def styles_of(names: Sequence[str]) -> dict[str, Style]:
    """A style for every name of a picture: colour, mark, line and order.

    A name that is followed by settings, as ``lstm lr=0.01``, has the colour of its first word;
    several of one word have lighter shades, other marks and dashes. Other names have the hues
    that the picture does not use yet, in the order given.

    Args:
        names: labels of the lines of one picture, each once.

    Returns:
        keyword arguments of ``axes.plot`` by name.

    Example:
        >>> styles_of(["fasth", "mine:Mine"])["fasth"]["color"]
        '#000000'
    """
    known = {name: _NAMED[word] for name in names if (word := _word(name)) in _NAMED}
    used = {color for color, _ in known.values()}
    free = [color for color in HUES if color not in used] or HUES
    others = [name for name in names if name not in known]
    styles: dict[str, Style] = {}
    taken: dict[tuple[str, int], int] = {}
    for name in names:
        if name in known:
            color, place = known[name]
        else:
            number = others.index(name)
            color, place = free[number % len(free)], number
        again = taken.get((color, place), 0)
        taken[color, place] = again + 1
        first = _word(name) in _FIRST and not again
        styles[name] = {
            "color": _shade(color, again),
            "linestyle": DASHES[again % len(DASHES)],
            "linewidth": 2.4 if first else 1.4,
            "zorder": 5 if first else 3,
            **MARKS[(place + 2 * again) % len(MARKS)],
        }
    return styles


def lines_of(names: Sequence[str], points: float = math.inf) -> dict[str, Style]:
    """The same for curves, which have no marks where they have many points."""
    if points <= MOST_MARKS:
        return styles_of(names)
    return {
        name: {key: value for key, value in style.items() if not key.startswith("marker")}
        for name, style in styles_of(names).items()
    }


def _shade(color: str, again: int) -> str:
    """A colour that is lighter each time that it is used again."""
    from matplotlib.colors import to_hex, to_rgb

    part = 1 / (1 + 0.55 * again)
    red, green, blue = (1 - part * (1 - channel) for channel in to_rgb(color))
    return to_hex((red, green, blue))


def _word(name: str) -> str:
    """The member that a label is of, in the spelling of the families.

    It is the label as a whole, what is before its comma, or its first word; without a number or
    an ``n`` at its end, which tells how many reflectors a loop has.
    """
    spelt = name.strip().lower().replace("-", "_")
    share = re.search(r"α ([\d.]+)", spelt)
    start = spelt.partition(",")[0].strip()
    for word in (f"α_{share[1]}" if share else "", spelt, start, start.split(" ", 1)[0]):
        plain = re.sub(r"_(n|\d+)$", "", word.replace(" ", "_"))
        if plain in _NAMED:
            return plain
    return spelt
