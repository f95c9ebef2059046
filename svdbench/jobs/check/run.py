"""Asks the questions of a group of one member, and prints the answers."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from svdbench.errors import Failed, UserError, as_user_error
from svdbench.files import documents
from svdbench.jobs.check.watch import Asked, answer, within
from svdbench.members import Registry, groups, imported, is_reference, plain
from svdbench.reporting.render import screen

# A time limit for importing a module of the user's own, which may download or train something.
IMPORT_S = 120.0
STYLES = {"pass": "green", "fail": "bold red", "skip": "dim"}


def run(name: str, typed: Sequence[str], group_name: str | None, limit: float) -> None:
    """Check a member.

    Raises:
        UserError: There is no such member, or no such option.
        Failed: An answer is wrong.
    """
    group = group_of(name, group_name)
    options = {key: value for each in typed for key, value in [_option(each)]}
    console = screen()
    console.print(
        Text.assemble((plain(name), "bold"), f": {group.what} (svdbench.extend.{group.kind})")
    )
    with as_user_error():
        quiet = {"tune": False} if "tune" in group.options_of(plain(name)) else {}
    make = partial(_made, group, plain(name), {**quiet, **options})
    answers = []
    for question in group.contract().questions:
        found = answer(question, make, plain(name), limit)
        answers.append(found)
        _show(console, found)
        if found.ends:
            break
    counted = Counter(each.status for each in answers)
    wrong, skipped = counted["fail"], counted["skip"]
    asked = len(answers) - skipped
    summary = f"{asked - wrong} of {asked} passed"
    if skipped:
        summary += f", {skipped} not asked"
    if not wrong:
        console.print(Text(summary))
        return
    raise Failed(f"{name}: {summary}: change what is marked fail and check again")


def group_of(name: str, group_name: str | None = None) -> Registry:
    """The group that a member belongs to, by its base class or its name.

    Raises:
        UserError: There is none, or a name is in several.
    """
    known = {group.plural: group for group in groups()}
    if group_name is not None and plain(group_name) not in known:
        raise UserError(f"no group is called {group_name!r}: choose from {', '.join(known)}")
    chosen = [known[plain(group_name)]] if group_name else list(known.values())
    if is_reference(name):
        found = within(IMPORT_S, f"importing {name}", lambda: imported(name, "a class"))
        if not isinstance(found, type):
            kind = type(found).__name__
            raise UserError(f"{name} is a {kind}, not a class: name the class")
        fitting = [group for group in chosen if issubclass(found, group.base_class())]
        if not fitting:
            kinds = ", ".join(sorted(group.kind for group in chosen))
            raise UserError(
                f"{name} derives from no base class of svdbench.extend: derive it "
                f"from one of {kinds}"
            )
        return fitting[0]
    fitting = [g for g in chosen if plain(name) in g.known()]
    if len(fitting) > 1:
        choices = " or ".join(f"--group {group.plural}" for group in fitting)
        raise UserError(f"{name!r} is in several groups: add {choices}")
    if not fitting:
        from difflib import get_close_matches

        names = [n for group in chosen for n in group.known()]
        close = get_close_matches(plain(name), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "write MODULE:CLASS for one of your own"
        raise UserError(f"no member is called {name!r}: {hint}")
    return fitting[0]


def _made(group: Registry, name: str, options: dict[str, Any], **more: Any) -> Any:
    return group.load(name, **{**options, **more})


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier()):
        raise UserError(f"{text!r} is not KEY=VALUE: write it like block_size=64")
    return key, next(iter(documents(value)), None)


def _show(console: Console, found: Asked) -> None:
    line = Text.assemble(f"  {found.status}  ", found.question.text)
    line.stylize(STYLES[found.status], 2, 6)
    if found.words:
        line.append(f": {found.words}", "" if found.status == "fail" else "dim")
    console.print(line, soft_wrap=True)
    if found.advice:
        console.print(Text(f"        → {found.advice}"), soft_wrap=True)
