"""What a search varies, where its trials lie, and the preset that it ends with.

Trials lie on a Sobol sequence over the same ranges for all models. PyTorch has the sequence, so no
further library is needed: with a few dozen short trials, halved by rounds, a model of the scores
would have little to learn from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from svdbench.config.compose import compose
from svdbench.config.presets import own_file
from svdbench.files import configurations, flat, write_whole
from svdbench.jobs.search import LINEAR, Search
from svdbench.models.base import SequenceModel
from svdbench.record.lines import as_record_error
from svdbench.record.resumption import CONFIG
from svdbench.training.build import overrides_of
from svdbench.training.config import Schedule

Settings = dict[str, Any]
# Ranges of the space for keys of the optimiser; the others are for keys of models.
ORTHOGONAL = "orthogonal_lr"
OPTIMIZER = ("lr", ORTHOGONAL, "clip", "schedule")
RATES = ("optimizer.lr", "optimizer.orthogonal_lr")
# The outer part of a range, at either end, that is its edge; and how far it is widened there.
EDGE, WIDER = 0.1, math.sqrt(10)
DIGITS = 3


@dataclass(frozen=True)
class Dimension:
    """A key and its range, or its choices.

    Attributes:
        key: in full, as ``optimizer.lr``.
        log: whether values are spread by their logarithm.
    """

    key: str
    low: float = 0.0
    high: float = 1.0
    log: bool = True
    choices: tuple[str, ...] = ()

    def at(self, share: float) -> Any:
        """The value at a share of the range, from 0 to 1, with three digits; never outside."""
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def share(self, value: Any) -> float | None:
        """Where a number lies in the range: below 0 and above 1 outside of it."""
        if self.choices or not isinstance(value, int | float) or (self.log and value <= 0):
            return None
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def edge(self, value: Any) -> str:
        """The edge of the range at which a number lies, ``low`` or ``high``; empty inside."""
        share = self.share(value)
        if share is None or EDGE <= share <= 1 - EDGE:
            return ""
        return "low" if share < EDGE else "high"

    def beyond(self, edge: str) -> "Dimension":
        """The range that is added at an edge."""
        if edge == "low":
            return replace(self, low=self.low / WIDER, high=self.low)
        return replace(self, low=self.high, high=self.high * WIDER)

    def widened(self, edge: str) -> "Dimension":
        added = self.beyond(edge)
        return replace(self, low=min(self.low, added.low), high=max(self.high, added.high))


def dimensions(config: Search, model: SequenceModel) -> list[Dimension]:
    """What is searched for a model: the ranges of the space for the keys that it has."""
    has_orthogonal = bool(model.parameter_groups()["orthogonal"])
    found = []
    for name, value in vars(config.space).items():
        group = "optimizer" if name in OPTIMIZER else "model"
        has = name in config.model if group == "model" else has_orthogonal or name != ORTHOGONAL
        if value and has:
            found.append(_dimension(f"{group}.{name}", value, log=name not in LINEAR))
    return found


def _dimension(key: str, value: list[Any], log: bool) -> Dimension:
    if isinstance(value[0], Schedule):
        return Dimension(key, choices=tuple(each.value for each in value))
    low, high = value
    return Dimension(key, low, high, log)


def drawn(space: Sequence[Dimension], count: int, seed: int, skip: int = 0) -> list[Settings]:
    """So many points of the space, the same ones each time.

    Args:
        skip: points of the sequence to leave out first.
    """
    if count < 1 or not space:
        return [{} for _ in range(count)]
    engine = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=seed)
    points = engine.fast_forward(skip).draw(count, dtype=torch.float64)
    return [
        {each.key: each.at(share) for each, share in zip(space, point, strict=True)}
        for point in points.tolist()
    ]


def settings_of(config: Search, space: Sequence[Dimension]) -> Settings:
    """The values that a configuration has for what is searched."""
    found: Settings = {}
    for key in (each.key for each in space):
        group, _, name = key.partition(".")
        value = getattr(config.optimizer, name) if group == "optimizer" else config.model.get(name)
        found[key] = value.value if isinstance(value, Schedule) else value
    return found


def with_settings(config: Search, settings: Settings) -> Search:
    """The configuration of a trial."""
    model, optimizer = dict(config.model), dict[str, Any]()
    for key, value in settings.items():
        group, _, name = key.partition(".")
        if group == "model":
            model[name] = value
        else:
            optimizer[name] = Schedule(value) if name == "schedule" else value
    return replace(config, model=model, optimizer=replace(config.optimizer, **optimizer))


FOLDER = "presets"
# The keys that a preset may set.
KEYS = ("model.", "task.", "optimizer.")
TRAINER = ("batch_size", "evaluate_every", "target")


def write_preset(folder: Path, config: Search, settings: Settings, steps: int, outcome: str) -> str:
    """Write the settings of a model's best trial, and return the file's place in the folder.

    It has all that differs from the defaults, so that it stands for itself.

    Args:
        steps: of the trial.
        outcome: of the trial, in words.
    """
    import yaml  # type: ignore[import-untyped]

    path = own_file(folder / FOLDER, config.model_name)
    lines = [
        f"# Found by svdbench search {config.model_name} --task {config.task_name} --trials "
        f"{config.trials} --minutes {config.minutes:g}:",
        f"# {outcome}, on validation.",
    ]
    found = _different(folder, config) | {"trainer.steps": steps} | settings
    text = "\n".join(lines) + "\n"
    text += yaml.safe_dump(found, sort_keys=False, allow_unicode=True)
    with as_record_error(path):
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text)
    return f"{FOLDER}/{path.name}"


def _different(folder: Path, config: Search) -> dict[str, Any]:
    """What a configuration has other than the defaults, by key; the optimiser first."""
    trees = configurations((folder / CONFIG).read_text(encoding="utf-8"))
    (own,) = [tree for tree in trees if tree["model_name"] == config.model_name]
    overrides = overrides_of(config.model_name, config.task_name, [], presets=False)
    optimizer = f"optimizer={config.optimizer.name}"
    plain = compose("train", [*overrides[config.model_name], optimizer])[1]
    before = dict(flat(configurations(plain)[0]))
    kept = {
        key: value
        for key, value in flat(own)
        if before.get(key, before) != value
        and (key.startswith(KEYS) or key.removeprefix("trainer.") in TRAINER)
    }
    return {"optimizer": config.optimizer.name} | kept
