"""The preset that a search ends with: a file as those of conf/preset."""

from pathlib import Path
from typing import Any

from svdbench.config.compose import compose
from svdbench.config.presets import own_file
from svdbench.files import configurations, flat, write_whole
from svdbench.jobs.search.config import Search
from svdbench.jobs.search.space import Settings
from svdbench.record.lines import as_record_error
from svdbench.record.resumption import CONFIG
from svdbench.training.build import overrides_of

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
