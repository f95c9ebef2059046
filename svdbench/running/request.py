"""From the options of a command, or the keywords of a Python call, to a request for a job."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from svdbench.config.base import EXPERIMENT, OWN, RUN, TRAINED
from svdbench.config.fields import Leaf, functions_of, leaves
from svdbench.config.grammar import override
from svdbench.errors import Failed, UserError, as_user_error
from svdbench.job import Flag, Job, Request, names_model
from svdbench.members import plain

RESUME = "Finish the interrupted run in this folder, with its own settings."
CHECKPOINT = f"{RESUME} Or start from a checkpoint, such as last.pt."
# How files of weights end.
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
QUICK = Flag("--quick", "Small sizes and a short budget: a first look in half a minute.")
FORCE = Flag("--force", "Resume even if svdbench has changed since the run was started.", panel=RUN)
MULTIRUN = Flag(
    "--multirun", "Sweep: one run for each combination of KEY=a,b,… values.", panel=RUN, short="-m"
)


def frame_of(jobs: Sequence[Job]) -> tuple[Flag, ...]:
    """The flags of a command that its frame has for every job of its kind."""
    job = jobs[0]
    help, metavar = (CHECKPOINT, "RUN|FILE") if job.checkpoint else (RESUME, "RUN")
    found = [Flag("--resume", help, str, None, metavar, panel=RUN)]
    quick = [
        each for each in jobs if any(leaf.key.quick is not None for leaf in leaves(each.config))
    ]
    if quick:
        switch = quick[0].switch  # with which alone it is of use
        found.insert(0, QUICK if switch is None else replace(QUICK, panel=switch.panel))
    found += [FORCE] if job.same else []
    found += [MULTIRUN] if job.sweeps else []
    return tuple(found)


def switches(jobs: Sequence[Job]) -> list[Flag]:
    """The flags that choose one of the jobs that share a word."""
    return [job.switch for job in jobs if job.switch is not None]


@dataclass(frozen=True)
class Spelling:
    """An option of a command: the key that it sets, for each job of the command.

    Attributes:
        keys: by the names of the jobs.
        form: TRAINED or OWN, where the option is only for a data set, or for a model of the
            user's own; the heading of a job's switch, where it is only for that; None: for all.
    """

    keys: Mapping[str, Leaf]
    form: str | None

    @property
    def first(self) -> Leaf:
        return next(iter(self.keys.values()))

    @property
    def former(self) -> dict[str, str]:
        """Older spellings of the option, with today's."""
        leaf = self.first
        return dict.fromkeys(leaf.key.former, str(leaf.key.flag))


def spellings(jobs: Sequence[Job]) -> dict[str, Spelling]:
    """The options by keyword: those of the configuration's own keys before those of its bases."""
    keys: dict[str, dict[str, Leaf]] = {}
    for job in jobs:
        for leaf in sorted(leaves(job.config), key=lambda leaf: -leaf.bases):
            if leaf.keyword is not None:
                keys.setdefault(leaf.keyword, {})[job.name] = leaf
    return {keyword: Spelling(own, _form(own, jobs)) for keyword, own in keys.items()}


def _form(keys: Mapping[str, Leaf], jobs: Sequence[Job]) -> str | None:
    """What the first argument, or a switch, must be for an option to mean something."""
    usual = [job for job in jobs if job.switch is None]
    switched = [job.switch for job in jobs if job.switch is not None and job.name in keys]
    jobs, keys = usual, {job.name: keys[job.name] for job in usual if job.name in keys}
    if not keys:
        return switched[0].panel
    if len(keys) < len(jobs):
        (own,) = (job.subject for job in jobs if job.name in keys)
        return OWN if own is not None and own.function is not None else TRAINED
    takes_models = any(job.subject is not None and job.subject.function for job in jobs)
    panels = {leaf.key.panel for leaf in keys.values()}
    return panels.pop() if takes_models and panels in ({TRAINED}, {OWN}) else None


def request_of(
    jobs: Sequence[Job], options: Mapping[str, Spelling], given: Mapping[str, Any]
) -> Request:
    """What was asked for, from the values of the parameters."""
    subject, typed = given.get("subject"), list(given["overrides"] or ())
    if subject is not None and "=" in subject:  # KEY=VALUE may stand first
        subject, typed = None, [subject, *typed]
    refuse_no_keys(typed)
    _refuse_checkpoint(jobs, subject)
    job = _job_for(jobs, subject, given)
    if subject is not None and job.subject is None:
        raise UserError(f"svdbench {job.words} takes no {subject!r}: leave it out")
    typed = [canonical_override(job, text) for text in typed]
    settings: dict[str, Any] = dict(job.settings)
    if given.get("quick"):
        quick = {each.name: each.key.quick for each in leaves(job.config)}
        settings |= {name: value for name, value in quick.items() if value is not None}
        if not any(value is not None for value in quick.values()):
            flag = switches(jobs)[0].flag
            raise UserError(f"--quick needs {flag}: add it, or leave --quick out")
    asked: dict[str, Any] = {}
    flag_of: dict[str, str | None] = {}
    key = None if job.subject is None or subject is None else job.subject.key(subject)
    if key is not None:
        asked[key] = subject
    for keyword, spelling in options.items():
        if (value := given[keyword]) is not None:
            _refuse_other_form(spelling, job, subject)
            _refuse_other_job(spelling, job, jobs)
            leaf = spelling.keys[job.name]
            asked[leaf.name], flag_of[leaf.name] = value_of(leaf, value), leaf.key.flag
    flags = {flag.keyword: given[flag.keyword] for flag in job.flags}
    multirun = bool(given.get("multirun"))
    resume, start, functions = given["resume"], None, list[str]()
    if resume is not None:
        from svdbench.members import references

        start = job.checkpoint if subject is not None and not Path(resume).is_dir() else None
        if start is None:
            calls = functions_of(job.config)
            named = {key: v for key, v in asked.items() if key in calls or references(v)}
            functions = [named[key] for key in calls if key in named]
            functions += references([subject, *asked.values(), *flags.values()])
            rest = [
                flag_of.get(key) or override(key, value)
                for key, value in asked.items()
                if key not in named
            ]
            bare = [] if subject is None or key is not None or references(subject) else [subject]
            _refuse_with_resume([*rest, *typed, *bare, *(["-m"] if multirun else [])])
        else:
            asked[start], resume = resume, None
    chosen = settings | asked
    return Request(
        job,
        (*_overrides(chosen), *typed),
        options=chosen,
        typed=tuple(typed),
        subject=subject,
        flags=flags,
        functions=functions,
        multirun=multirun,
        show_config=given["show_config"],
        resume=resume,
        force=bool(given.get("force")),
    )


def value_of(leaf: Leaf, given: Any) -> Any:
    """The value of an option: of a list, what stands between commas."""
    flag, key = str(leaf.key.flag), leaf.key
    if leaf.is_list:
        return _list(leaf, given)
    value = key.canonical(given)
    with as_user_error():
        key.check(flag, value)
    return value


def _list(leaf: Leaf, given: str) -> list[Any]:
    flag, kind = leaf.key.flag, leaf.kind.__args__[0]
    parts = [part.strip() for part in given.split(",")]
    if kind is str:
        return [leaf.key.canonical(part) for part in parts]
    try:
        values = [kind(part) for part in parts] if given or kind is float else []
    except ValueError:
        values = None
    if kind is int and (values is None or any(each < 1 for each in values)):
        raise UserError(
            f"{flag} is {given!r}: give whole numbers of at least 1, such as {flag} 64,128"
        )
    if values is None:
        raise UserError(
            f"{flag} is {given!r}: give numbers separated by commas, such as {flag} 0.5,0.25"
        )
    return values


def refuse_no_keys(typed: Sequence[str]) -> None:
    for given in typed:
        # After -- may stand what looks like an option; Hydra has some, one of which runs a pickle.
        if given.startswith(("-", "=")) or ("=" not in given and not given.startswith("~")):
            raise UserError(f"{given!r} is not KEY=VALUE: write it like sizes.m=64")


def canonical_override(job: Job, text: str) -> str:
    """KEY=VALUE with its key, and the names in its value, as ``conf`` spells them."""
    key, equals, value = text.partition("=")
    if not equals or key.lstrip("+~").startswith("hydra"):
        return text
    key = key.replace("-", "_")
    for leaf in leaves(job.config):
        if leaf.name == key and leaf.key.aliases:
            value = ",".join(leaf.key.canonical(part) for part in value.split(","))
        elif leaf.name == key and leaf.key.group:
            value = ",".join(map(_plain_name, value.split(",")))
    if key == EXPERIMENT:
        value = ",".join(map(_plain_name, value.split(",")))
    return f"{key}={value}"


def _plain_name(text: str) -> str:
    return plain(text) if re.fullmatch(r"[\w -]+", text) else text


def former_spellings(options: Mapping[str, Spelling]) -> dict[str, str]:
    """Older spellings of a command's options, with today's."""
    return dict(pair for spelling in options.values() for pair in spelling.former.items())


def _refuse_checkpoint(jobs: Sequence[Job], subject: str | None) -> None:
    """Refuse a file of weights where the function belongs that builds the model."""
    takes_models = any(job.subject is not None and job.subject.function for job in jobs)
    if subject is not None and takes_models and Path(subject).suffix.lower() in CHECKPOINTS:
        raise UserError(
            f"{subject} is a file of weights: name the function that builds the model, such as "
            f"my_net:build, and add --weights {subject}"
        )


def _job_for(jobs: Sequence[Job], subject: str | None, given: Mapping[str, Any]) -> Job:
    """Which of the jobs that share a word is chosen by its switch, or else takes the subject."""
    for job in jobs:
        if job.switch is not None and given.get(job.switch.keyword):
            return job
    jobs = [job for job in jobs if job.switch is None] or jobs
    if len(jobs) == 1:
        return jobs[0]
    is_model = subject is not None and names_model(subject)
    for job in jobs:
        if job.subject is not None and (job.subject.function is not None) == is_model:
            return job
    return jobs[0]


def _refuse_other_form(spelling: Spelling, job: Job, subject: str | None) -> None:
    """Refuse an option that is only for a data set, or for a model of the user's own."""
    if spelling.form not in (TRAINED, OWN):
        return
    own = job.subject is not None and subject is not None and names_model(subject)
    if own == (spelling.form == OWN):
        return
    flag = spelling.first.key.flag
    if own:
        raise UserError(
            f"{flag} is for networks that are trained on a data set, and {subject} is a model: "
            "leave it out"
        )
    raise UserError(f"{flag} is for a model of your own: name it first, such as my_net:build")


def _refuse_other_job(spelling: Spelling, job: Job, jobs: Sequence[Job]) -> None:
    """Refuse an option that only another job of the command has."""
    if job.name in spelling.keys:
        return
    flag = spelling.first.key.flag
    switches = [each.switch for each in jobs if each.name in spelling.keys and each.switch]
    if switches:
        raise UserError(f"{flag} needs {switches[0].flag}: add it, or leave {flag} out")
    raise UserError(f"{flag} is not for svdbench {job.words}: leave it out")


def _overrides(options: Mapping[str, Any]) -> list[str]:
    return [override(key, value) for key, value in options.items()]


def _refuse_with_resume(given: Sequence[str]) -> None:
    if given:
        raise UserError(
            f"--resume finishes a run with its own settings: leave out {given[0]}, or start "
            "another run"
        )


def perform(request: Request) -> Any:
    """Start, resume or show what is requested; returns what the job returns.

    Raises:
        Failed: a method, model or other member of the user's own called ``sys.exit``.
    """
    from svdbench.record.resumption import mixing_versions
    from svdbench.user_code import described

    try:
        with mixing_versions(request.force):
            if request.resume is None:
                return request.job.start(request)
            from svdbench.running.start import resume

            return resume(request.resume, request.job, request.functions)
    except SystemExit as error:
        raise Failed(
            f"the run was ended by {described(error)}: return, or raise a ValueError"
        ) from error
