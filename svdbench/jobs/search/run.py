"""Runs a search: rounds of trials for each model, each trial a short training of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from svdbench.errors import UserError
from svdbench.job import Job, Request
from svdbench.jobs.search import JOB, Search
from svdbench.jobs.search.rounds import FAILED, Round, Score, SearchRows, best, rounds, survivors
from svdbench.jobs.search.space import (
    RATES,
    Dimension,
    Settings,
    dimensions,
    drawn,
    settings_of,
    with_settings,
    write_preset,
)
from svdbench.measure.clock import Clock, ProcessClock
from svdbench.measure.plan import failure
from svdbench.models.base import SequenceModel
from svdbench.record.run import RunWriter
from svdbench.record.schema import GOOD_ENDINGS
from svdbench.reporting.render import screen
from svdbench.reporting.words import quantity, setting, share
from svdbench.running.session import (
    RunDisplay,
    device_of,
    display,
    interrupted,
    open_record,
    resumption,
    show_results,
)
from svdbench.tasks.base import Batch
from svdbench.training.build import loop_of, parts, start_models
from svdbench.training.learner import Diverged, Learner
from svdbench.training.loop import Loop
from svdbench.training.progress import StepProgress, TrainingOutcome

# A model's ranges are widened so often at most; each time a quarter as many trials are added.
MOST_WIDENED, ADDED = 2, 4
# Steps that the pace of a model is measured by, after the first; and the longest they may take.
PACE_STEPS, PACE_S = 10, 2.0


def start(request: Request) -> Path | None:
    """Search for each of the models that were asked for, or show their configurations."""
    return start_models(request, search_all)


def finish_run(job: Job, configs: Sequence[Search], text: str, folder: Path) -> Path:
    """Finish a search that was interrupted; it has a configuration for each model."""
    return search_all(configs, text, str(folder))


def check(config: Search) -> None:
    """Check the options of the model and the task, without data."""
    parts(config)


def search_all(configs: Sequence[Search], text: str, folder: str | None = None) -> Path:
    """Search for the model of each configuration, one after the other; the folder."""
    place = configs[0].trainer.where()
    clock, console = ProcessClock(device_of(place)), screen()
    for config in configs:  # errors before anything is written
        loop = loop_of(config, config.seed, clock)
        _refuse_without_validation(loop)
        _space(config, loop.learner.model)
    stopped = False
    with open_record(JOB, configs[0], place, text, folder, console) as record:
        if record.resumed:
            done = sum(_unit(config, "best") in record.units for config in configs)
            console.print(resumption(done, len(configs), "models"), markup=False)
        total = sum(len(_planned(config)) for config in configs)
        with display(console, total) as shown:
            try:
                for config in configs:
                    ModelSearch(config, clock, record, shown).run()
            except KeyboardInterrupt:
                stopped = True
    show_results(JOB, record.folder, console)
    if stopped:
        raise interrupted(JOB, record.folder)
    return record.folder


def _planned(config: Search) -> list[int]:
    return [t for each in rounds(config.trials, config.minutes) for t in range(each.trials)]


def _unit(config: Search, what: str) -> str:
    return f"{config.model_name}, {what}"


def _refuse_without_validation(loop: Loop) -> None:
    if loop.split != "validation":
        raise UserError(
            "a search is judged on sequences that are held out, and there are none: set "
            "task.validation to a fraction, such as task.validation=0.05"
        )


def _space(config: Search, model: SequenceModel) -> list[Dimension]:
    found = dimensions(config, model)
    if not found:
        raise UserError(
            f"space is empty for {config.model_name}: leave in at least one range of a key that "
            "it has"
        )
    for each in found:
        if not each.choices and each.key.startswith("model."):
            _refuse_misfit(config, each)
    return found


def _refuse_misfit(config: Search, each: Dimension) -> None:
    """Refuse a range that has ends which the model can't be made with."""
    for end in (each.low, each.high):
        try:
            parts(with_settings(config, {each.key: end}))
        except UserError as error:
            name = each.key.partition(".")[2]
            raise UserError(
                f"space.{name} is [{each.low:g},{each.high:g}], which does not fit "
                f"{config.model_name}: {error}: give another range, or space.{name}=[]"
            ) from error


@dataclass
class ModelSearch:
    """The search of one model: its trials, round by round, and the best."""

    config: Search
    clock: Clock
    record: RunWriter
    shown: RunDisplay

    def __post_init__(self) -> None:
        model, self.task = parts(self.config)
        self.space = _space(self.config, model)
        self.rows = SearchRows(self.record, self.config, model, self.task)
        self.widened: list[str] = []
        preset = settings_of(self.config, self.space)
        self.settings = [preset, *drawn(self.space, self.config.trials - 1, self.config.seed)]

    def run(self) -> None:
        """All rounds; then the row of the best trial, and its preset."""
        remaining = list(range(len(self.settings)))
        scores: dict[int, Score] = {}
        plan = rounds(self.config.trials, self.config.minutes)
        for each in plan:
            scores = {trial: self.trial(each, trial) for trial in remaining}
            if each.number == 0:
                scores |= self._widen(each, scores)
            if each is not plan[-1]:
                remaining = survivors(scores, plan[each.number + 1].trials)
        (winner,) = best(scores, 1)
        self._finish(winner, scores[winner], plan[-1])

    def trial(self, of: Round, trial: int) -> Score:
        """Train once, unless it has been done; how good it was."""
        unit = _unit(self.config, f"round {of.number + 1}, trial {trial}")
        if unit not in self.record.units:
            self.shown.begin(unit)
            steps = max(1, min(self.config.trainer.steps, int(of.seconds / self.pace)))
            config = self._config_of(of, trial, steps)
            loop = loop_of(config, config.seed, self.clock)
            loop.limits = replace(loop.limits, test=False)
            loop.on_step = self._follow
            outcome = loop.run()
            if outcome.status == "interrupted":
                raise KeyboardInterrupt
            score = _score(outcome, self.task.baseline)
            self.rows.trial(of, trial, self.settings[trial], config, outcome)
            self.record.finish(unit, **{unit: list(score)})
            self.shown.finish(f"{unit}: {self._said(score)}; {said(self.settings[trial])}")
        with self.record.recalling() as memo:
            rank, value = memo[unit]
            return int(rank), float(value)

    def _config_of(self, of: Round, trial: int, steps: int) -> Search:
        """The configuration of a trial; each round has a seed of its own."""
        config = with_settings(self.config, self.settings[trial])
        every = min(config.trainer.evaluate_every, max(1, steps // 4))
        trainer = replace(config.trainer, steps=steps, evaluate_every=every, extrapolate=[])
        return replace(config, seed=config.seed + of.number, trainer=trainer)

    @cached_property
    def pace(self) -> float:
        """Seconds of a step on sequences of full length, measured once for all trials.

        The minimum over several steps, as other work on the machine can only lengthen them.
        """
        unit = _unit(self.config, "pace")
        if unit not in self.record.units:
            learner = loop_of(self.config, self.config.seed, self.clock).learner
            x, y = learner.task.validation_set()
            batch = next(learner.task.split(x, y, self.config.trainer.batch_size))
            times: list[float] = []
            while len(times) <= PACE_STEPS and sum(times[1:]) < PACE_S:
                self.clock.sync()
                start = self.clock.stamp()
                self._step(learner, batch)
                self.clock.sync()
                times.append(self.clock.seconds(start, self.clock.stamp()))
            self.record.finish(unit, **{unit: min(times[1:])})
        with self.record.recalling() as memo:
            return float(memo[unit])

    def _step(self, learner: Learner, batch: Batch) -> None:
        """A step with the preset, which takes as long where it diverges.

        Raises:
            UserError: no step can be taken.
        """
        try:
            learner.learn_from(batch)
        except Diverged:
            pass
        except (RuntimeError, ValueError) as error:
            _, reason = failure(error)
            raise UserError(
                f"{self.config.model_name} can't be trained with its preset: {reason}"
            ) from error

    def _widen(self, of: Round, scores: dict[int, Score]) -> dict[int, Score]:
        """More trials beyond an edge of a rate's range, where the best trial lies at one."""
        found: dict[int, Score] = {}
        for _ in range(MOST_WIDENED):
            (top,) = best(scores | found, 1)
            edges = {
                each.key: edge
                for each in self.space
                if each.key in RATES and (edge := each.edge(self.settings[top].get(each.key)))
            }
            if not edges or (scores | found)[top][0] == FAILED[0]:
                break
            added = [_beyond(each, edges) for each in self.space]
            self.space = [_widened(each, edges) for each in self.space]
            self.widened += [f"{key} {edge}" for key, edge in edges.items()]
            more = max(1, self.config.trials // ADDED)
            start = len(self.settings)
            self.settings += drawn(added, more, self.config.seed + len(self.widened))
            found |= {trial: self.trial(of, trial) for trial in range(start, start + more)}
        return found

    def _finish(self, winner: int, score: Score, last: Round) -> None:
        unit = _unit(self.config, "best")
        settings = self.settings[winner]
        edges = [
            f"{each.key} {edge}"
            for each in self.space
            if each.key in RATES and (edge := each.edge(settings.get(each.key)))
        ]
        steps = max(1, min(self.config.trainer.steps, int(last.seconds / self.pace)))
        preset = None
        if score[0] != FAILED[0]:
            preset = write_preset(
                self.record.folder, self.config, settings, steps, self._said(score)
            )
        if unit not in self.record.units:
            self.rows.best(winner, settings, score, steps, edges, self.widened, preset)
            self.record.finish(unit)

    def _follow(self, tick: StepProgress) -> None:
        left = tick.left_s * tick.steps_per_s
        self.shown.doing(tick.step / max(1.0, tick.step + left), "")

    def _said(self, score: Score) -> str:
        """How good a trial was, in words."""
        rank, value = score
        if rank == 0:
            return f"target reached after {quantity(value, 'step')}"
        return f"loss {share(value)} of baseline" if rank == 1 else "no loss"


def _beyond(each: Dimension, edges: dict[str, str]) -> Dimension:
    return each.beyond(edges[each.key]) if each.key in edges else each


def _widened(each: Dimension, edges: dict[str, str]) -> Dimension:
    return each.widened(edges[each.key]) if each.key in edges else each


def said(settings: Settings) -> str:
    """Settings in a few words: ``lr = 0.003, clip = 1``."""
    return ", ".join(
        f"{key.partition('.')[2]} = {setting(value)}" for key, value in settings.items()
    )


def _score(outcome: TrainingOutcome, baseline: float) -> Score:
    """How good a training was; lower is better."""
    if outcome.reached is not None:
        return 0, float(outcome.reached.step)
    if outcome.status not in GOOD_ENDINGS or outcome.best is None or outcome.best.loss is None:
        return FAILED
    return 1, outcome.best.loss / baseline
