"""Whether a published number may be one of ours: the one rule for reports and results.

The interval is that in which one more run of ours would lie, as most numbers were published
of a single run. An interval that is wide agrees with anything, so each number has a *reach*:
the half-width from which on the interval says nothing. :func:`default_reach` is that of
numbers whose claim gives none.
"""

AGREEMENT = (
    "A published number agrees if it lies in the interval of one more run, and that is narrow "
    "enough to say something"
)
# Of numbers between 0 and 1 that are shown in percent, and of all others relative to them.
SHARE_REACH, RELATIVE_REACH = 0.03, 0.2


def default_reach(published: float, is_share: bool) -> float:
    """The largest half-width that says something: three points of a share, a fifth otherwise."""
    return SHARE_REACH if is_share else RELATIVE_REACH * abs(published)


def agrees(
    low: float, high: float, published: float, tolerance: float, reach: float
) -> bool | None:
    """Whether ``published`` may be one of ours; None where the interval can't tell.

    It does not agree outside the interval, however wide that is; inside, only an interval of
    at most ``2 * reach`` counts. A single run has no interval and can't tell.

    Args:
        low, high: of one more run of ours.
        tolerance: how far the published number may be off as it was read or rounded.
        reach: the half-width beyond which an interval is too wide to say anything.
    """
    if not low - tolerance <= published <= high + tolerance:
        return False
    return True if high - low <= 2 * reach else None
