"""One rule for all results: what the claims come to, by the numbers and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from svdbench.reporting.words import quantity
from svdbench.reproduce.numbers import Number
from svdbench.reproduce.result import Claim
from svdbench.statistics.agreement import AGREEMENT, agrees


class ResultVerdict(Enum):
    """What became of a published result."""

    holds = "holds"
    part = "holds in part"
    fails = "doesn't hold"
    open = "can't be judged"


RULE = (
    "A claim is shown if the whole interval of our number lies where it says, refuted if none "
    f"of it does, and open otherwise. {AGREEMENT} (± as the table has it). The result "
    "holds if all its claims are shown, in part if some are, doesn't hold if none is and at least "
    "one is refuted, and can't be judged if all are open."
)
ANSWERS = {True: "shown", False: "refuted", None: "open"}


@dataclass(frozen=True)
class Answer:
    """A claim, our number if there is one, and whether it is shown (None: open)."""

    claim: Claim
    number: Number | None
    shown: bool | None


def answer(claim: Claim, number: Number | None) -> Answer:
    """Whether a claim is shown, refuted or open by our number."""
    if number is None:
        return Answer(claim, None, None)
    if claim.at_least is None and claim.at_most is None:
        return Answer(claim, number, _agrees(claim, number))
    least = -float("inf") if claim.at_least is None else claim.at_least
    most = float("inf") if claim.at_most is None else claim.at_most
    if least <= number.low and number.high <= most:
        return Answer(claim, number, True)
    outside = number.high < least or number.low > most
    return Answer(claim, number, False if outside else None)


def _agrees(claim: Claim, number: Number) -> bool | None:
    """Whether the published number may be one of ours; None where the interval is too wide."""
    if claim.published is None or claim.reach is None:
        return None
    return agrees(number.low, number.high, claim.published, claim.tolerance, claim.reach)


def answers(claims: Sequence[Claim], numbers: Mapping[str, Number]) -> list[Answer]:
    """An answer for each claim, those that only stand beside among them."""
    return [answer(claim, numbers.get(claim.number)) for claim in claims]


def verdict(found: Sequence[Answer]) -> ResultVerdict:
    """What the answers come to, by :data:`RULE`."""
    decided = [a.shown for a in found if a.claim.decides]
    if decided and all(decided):
        return ResultVerdict.holds
    if any(decided):
        return ResultVerdict.part
    return ResultVerdict.fails if False in decided else ResultVerdict.open


def reason(found: Sequence[Answer]) -> str:
    """The counts behind a verdict, in words."""
    decided = [a.shown for a in found if a.claim.decides]
    counts = [(decided.count(shown), word) for shown, word in ANSWERS.items()]
    return f"of {quantity(len(decided), 'claim')} " + ", ".join(
        f"{n} {word}" for n, word in counts if n
    )
