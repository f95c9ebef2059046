"""Successive halving: many short trials, of which the best third goes on, three times as long.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
AISTATS 2016, with a factor of 3 as in Hyperband. Each round trains anew, with a seed of its own: a
schedule then fits its number of steps, and a lucky seed is not carried along.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

FACTOR = 3


@dataclass(frozen=True)
class Round:
    """So many trials, of so many seconds each."""

    number: int
    trials: int
    seconds: float


def rounds(trials: int, minutes: float) -> list[Round]:
    """The rounds of a search, each with about the same part of the minutes.

    Example:
        >>> [(each.trials, each.seconds) for each in rounds(24, 5)]
        [(24, 4.0), (8, 12.0), (3, 36.0)]
    """
    counts = [trials]
    while counts[-1] > FACTOR:
        counts.append(math.ceil(counts[-1] / FACTOR))
    whole = sum(count * FACTOR**number for number, count in enumerate(counts))
    return [
        Round(number, count, FACTOR**number * 60 * minutes / whole)
        for number, count in enumerate(counts)
    ]


# A trial's rank: 0 with its steps to the target, 1 with its lowest loss over the baseline, or 2
# where it has none; the lower the better.
Score = tuple[int, float]
FAILED: Score = (2, 0.0)


def best(scores: Mapping[int, Score], count: int) -> list[int]:
    """The best trials by their scores; of equal ones, the first."""
    return sorted(scores, key=lambda trial: (scores[trial], trial))[:count]


def survivors(scores: Mapping[int, Score], count: int) -> list[int]:
    """The trials of the next round: the preset, 0, whatever its score, and the best of the others.

    So what wins has been compared with the preset, trained equally long.
    """
    others = {trial: score for trial, score in scores.items() if trial != 0}
    return [0, *best(others, count - 1)]
