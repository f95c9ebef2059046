"""What members of a group must do, as questions.

The tests ask them of our own members, and ``svdbench check`` of other people's. The questions of a
group are the ``CONTRACT`` of the module ``contract`` beside its base class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Make(Protocol):
    """Makes the member in question anew, with options of its constructor."""

    def __call__(self, **options: Any) -> Any: ...


class Fault(Exception):
    """A question answered wrongly.

    Args:
        found: what the member did.
        advice: what to change, where the question's own advice does not fit.
    """

    def __init__(self, found: str, advice: str = "") -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


class NotAsked(Exception):
    """A question that does not apply to a member, with the reason."""


@dataclass(frozen=True)
class Question:
    """One thing that a member must do.

    Attributes:
        text: as a statement about the member, such as ``"leaves its inputs unchanged"``.
        advice: what to change where it is not so.
        ask: raises :class:`Fault` or :class:`NotAsked`, or whatever the member raises.
    """

    text: str
    advice: str
    ask: Callable[[Make], None]

    @property
    def name(self) -> str:
        """The name of its function, for tests."""
        return self.ask.__name__


class Contract:
    """The questions of a group, in the order in which they are asked.

    Args:
        questions: those that it shares with other groups.
    """

    def __init__(self, *questions: Question) -> None:
        self.questions = list(questions)

    def question(
        self, text: str, advice: str = ""
    ) -> Callable[[Callable[[Make], None]], Callable[[Make], None]]:
        """Add a function as a question."""

        def added(ask: Callable[[Make], None]) -> Callable[[Make], None]:
            self.questions.append(Question(text, advice, ask))
            return ask

        return added


def expect(condition: bool, found: str, advice: str = "") -> None:
    """Raise :class:`Fault` unless a condition holds."""
    if not condition:
        raise Fault(found, advice)


def expect_texts(member: Any, *names: str) -> None:
    """Each of these class attributes is a text that says something."""
    for name in names:
        value = getattr(member, name, None)
        expect(
            isinstance(value, str) and bool(value.strip()),
            f"{name} is missing" if value is None else f"{name} is {value!r}",
            f'define it in the class, as {name} = "…"',
        )


def expect_tensor(value: Any, what: str, shape: tuple[int, ...], like: Any) -> None:
    """Something is a tensor of this shape, with the dtype and on the device of another."""
    import torch

    expect(isinstance(value, torch.Tensor), f"{what} is a {type(value).__name__}, not a tensor")
    expect(
        tuple(value.shape) == shape,
        f"{what} has shape {tuple(value.shape)} instead of {shape}",
        "check for a transposed product or a lost dimension",
    )
    given, wanted = plain_dtype(value.dtype), plain_dtype(like.dtype)
    expect(
        value.dtype == like.dtype,
        f"{what} is {given} where the input is {wanted}",
        "make new tensors with dtype=X.dtype and device=X.device",
    )
    expect(
        value.device == like.device,
        f"{what} is on {value.device} where the input is on {like.device}",
        "make new tensors with device=X.device",
    )


def expect_reason(reason: Any) -> None:
    """What ``skip`` returned is None or one sentence."""
    if reason is None:
        return
    sentence = isinstance(reason, str) and len(reason.split()) > 3 and "\n" not in reason
    expect(sentence, f"skip returned {reason!r}", "return None, or the reason in one sentence")


def plain_dtype(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
