"""Compressed models of transformers on disk: saving and loading.

The folder has the tensors in ``low-rank.safetensors``, a name that transformers doesn't look
for, so that its own ``from_pretrained`` refuses the folder instead of filling a dense model with
random numbers.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svdbench.errors import UserError, one_line
from svdbench.files import replace_atomically
from svdbench.lowrank.storage import load, save
from svdbench.pretrained.source import PREFIX, PretrainedSource, find_folder

WEIGHTS = "low-rank.safetensors"
# Of a folder of transformers: what is copied. Weights and code are not.
COPIED = (
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("*.model", "chat_template.*", "generation_config.json", "preprocessor_config.json"),
    *("processor_config.json", "modules.json", "1_Pooling/config.json"),
)


def save_pretrained(model: Any, folder: str | Path, source: str | Path) -> Path:
    """Write a compressed model of transformers to a folder, with its tokenizer and configuration.

    Args:
        model: a module made by :func:`svdbench.lowrank.compress` or
            :func:`~svdbench.lowrank.factor`, or the result of ``compress``.
        folder: folder to write to; it may contain other files.
        source: the folder, or the name in the local cache, that the dense model came from.

    Returns:
        The path of the tensors.

    Raises:
        UserError: ``source`` is not such a folder.
        OSError: the files can't be written.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
        >>> dense = BertModel(BertConfig(vocab_size=50, num_hidden_layers=1, **sizes))
        >>> dense.save_pretrained("dense")
        >>> small, _ = svdbench.lowrank.factor(dense, lambda weight: 2)
        >>> save_pretrained(small, "small", "dense").name
        'low-rank.safetensors'
    """
    origin, folder = find_folder(source), Path(folder)
    if folder.exists() and origin.resolve() == folder.resolve():
        raise UserError(f"{folder} has the dense model: save the compressed one to another folder")
    module = model if isinstance(model, nn.Module) else model.model
    path = save(module, folder / WEIGHTS)
    for pattern in COPIED:
        for each in origin.glob(pattern):
            if each.is_file():
                place = folder / each.relative_to(origin)
                place.parent.mkdir(exist_ok=True)
                with replace_atomically(place) as partial:
                    shutil.copyfile(each, partial)
    config = json.loads((origin / "config.json").read_text(encoding="utf-8"))
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    config["architectures"] = [
        f"{PREFIX}{name.removeprefix(PREFIX)}" for name in config.get("architectures") or []
    ]
    config.pop("torch_dtype", None)
    config["dtype"] = str(dtype).removeprefix("torch.")
    with replace_atomically(folder / "config.json") as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def from_pretrained(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Load the compressed model that ``svdbench compress`` or :func:`save_pretrained` wrote.

    It has the transformers class of the dense model, with factored layers, and is in evaluation
    mode; ``generate`` works as before.

    Args:
        folder: folder with config.json and low-rank.safetensors.
        device: device to load it to.
        dtype: dtype of its floating-point parameters; None: as saved.

    Raises:
        UserError: not such a folder, or files in it are missing or damaged.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
        >>> dense = BertModel(BertConfig(vocab_size=50, num_hidden_layers=1, **sizes))
        >>> dense.save_pretrained("dense")
        >>> small, _ = svdbench.lowrank.factor(dense, lambda weight: 2)
        >>> save_pretrained(small, "small", "dense")
        PosixPath('small/low-rank.safetensors')
        >>> type(from_pretrained("small")).__name__
        'BertModel'
    """
    folder = find_folder(folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder} has no {WEIGHTS}: give a folder that svdbench compress wrote; a dense "
            "model is loaded by transformers"
        )
    source = PretrainedSource.of(folder)
    saved = getattr(torch, str(source.config.dtype or torch.float32).removeprefix("torch."))
    try:
        model = load(source.empty_model(saved), folder / WEIGHTS)
    except ValueError as error:
        raise UserError(one_line(error)) from error
    if (folder / "generation_config.json").is_file() and hasattr(model, "generation_config"):
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    if dtype is not None:  # of parameters alone: buffers, as for positions, keep theirs
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
    vars(model)["save_pretrained"] = _refused
    return model.to(device).eval()


def _refused(*args: Any, **kwargs: Any) -> None:
    """In the place of the model's own, whose files transformers would fill with random numbers."""
    raise UserError(
        "transformers can't load factored layers that it saves: call "
        "svdbench.pretrained.save_pretrained(model, folder, source) instead"
    )
