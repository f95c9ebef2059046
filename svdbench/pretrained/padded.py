"""A text as an example: padded in batches of similar lengths, with its label if it has one."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import UserError
from svdbench.pretrained.sequences import TOKENS, Batch, ExamplePart, deal
from svdbench.pretrained.texts import PARTS, Texts

# Examples of a batch, at most.
ROWS = 32


def text_parts(
    texts: dict[str, Texts],
    tokenizer: Any,
    config: Any,
    *,
    context: int,
    most: dict[str, int | None],
    seed: int,
) -> dict[str, ExamplePart]:
    """Texts to calibrate, to search and held out, cut after ``context`` tokens."""
    rows = {
        name: list(
            zip(each.documents, labels(each.labels, config, len(each.documents)), strict=True)
        )
        for name, each in texts.items()
    }
    dealt = deal(rows, torch.Generator().manual_seed(seed), "texts")
    # Without a token to pad with, a classifier takes one text at a time.
    alone = tokenizer.pad_token_id is None or getattr(config, "pad_token_id", None) is None
    at_once = 1 if alone else ROWS
    return {
        name: _part(dealt[name][: most.get(name)], tokenizer, context, at_once) for name in PARTS
    }


def labels(given: Sequence[int | str] | None, config: Any, count: int) -> list[int | float | None]:
    """The numbers of labels, by the names that the model's configuration has.

    Raises:
        UserError: a label that the model has no output for.
    """
    if given is None:
        return [None] * count
    if config.num_labels == 1:
        return [float(label) for label in given]
    found: list[int | float | None] = []
    known = {str(name): int(number) for name, number in (config.label2id or {}).items()}
    for label in given:
        number = known.get(str(label))
        if number is None and str(label).lstrip("-").isdigit():
            number = int(label)
        if number is None or not 0 <= number < config.num_labels:
            raise UserError(
                f"the model has no label {label!r}: give a number below {config.num_labels}, or "
                f"one of {', '.join(list(known)[:5])}"
            )
        found.append(number)
    return found


def _part(rows: list[tuple[str, Any]], tokenizer: Any, context: int, at_once: int) -> ExamplePart:
    found = tokenizer([text for text, _ in rows], truncation=True, max_length=context)["input_ids"]
    order = sorted(range(len(rows)), key=lambda i: len(found[i]))
    batches: list[Batch] = []
    while order:
        taken, length = 0, 0
        for i in order:  # as many as are short enough together
            longer = max(length, len(found[i]))
            if taken == at_once or (taken and longer * (taken + 1) > TOKENS):
                break
            taken, length = taken + 1, longer
        own, order = order[:taken], order[taken:]
        ids, labels_of = [found[i] for i in own], [rows[i][1] for i in own]
        batches.append(_batch(ids, labels_of, tokenizer, length))
    return ExamplePart(batches, [])


def _batch(several: list[list[int]], given: list[Any], tokenizer: Any, length: int) -> Batch:
    pad = tokenizer.pad_token_id or 0
    ids = [own + [pad] * (length - len(own)) for own in several]
    seen = [[1] * len(own) + [0] * (length - len(own)) for own in several]
    x = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(seen)}
    if None in given:
        return x, None
    y = torch.tensor(given)
    return x, y.unsqueeze(1) if y.is_floating_point() else y


def pool(model: nn.Module, how: str) -> None:
    """Have a sentence encoder return one vector (B, n) of each text, by a hook.

    Args:
        how: "mean", over its tokens, or "cls", that of the first.
    """
    model.register_forward_hook(partial(_pooled, how), with_kwargs=True)


def _pooled(how: str, module: nn.Module, args: Any, given: dict[str, Any], output: Any) -> Tensor:
    hidden: Tensor = output.last_hidden_state
    if how == "cls":
        return hidden[:, 0]
    seen = given["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * seen).sum(1) / seen.sum(1).clamp(min=1)
