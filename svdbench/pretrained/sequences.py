"""Token sequences for language models and encoders: packed documents, or one text per example.

Documents are packed without padding. Texts as examples are padded in batches of similar lengths,
with their labels if they have any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import UserError
from svdbench.lowrank.losses import IGNORED
from svdbench.pretrained.source import CAUSAL, MASKED, PretrainedSource
from svdbench.pretrained.texts import PARTS, Texts

# Tokens of a sequence, where the model allows so many, and where none are asked for.
CONTEXT = 512
# Tokens of a batch: few enough that activations take less memory than the model.
TOKENS = 512
# Of the tokens of a masked language model.
MASKED_SHARE = 0.15
# With fewer sequences in all, they become shorter; not below so many tokens.
SEQUENCES, SHORTEST = 48, 16

Batch = tuple[dict[str, Tensor], Tensor | None]


@dataclass(frozen=True)
class ExamplePart:
    """Examples of one purpose.

    Attributes:
        batches: of inputs by name, and targets, or None.
        documents: for each batch the number of the document that each target is of, in the
            targets' shape; empty where targets are no tokens.
    """

    batches: list[Batch]
    documents: list[Tensor]

    @property
    def count(self) -> int:
        return sum(len(next(iter(x.values()))) for x, _ in self.batches)


@dataclass(frozen=True)
class TokenSequences:
    """Cuts texts into sequences for a model.

    Attributes:
        tokenizer: of transformers.
        task: causal: each token is predicted from those before it; masked: 15 % of the tokens
            are masked, and predicted; otherwise there are no targets.
        context: tokens of a sequence, with those that the tokenizer adds.
        seed: of the parting and of the masks.
    """

    tokenizer: Any
    task: str
    context: int
    seed: int

    def parts(self, texts: dict[str, Texts], most: dict[str, int | None]) -> dict[str, ExamplePart]:
        """Sequences for calibration, search and evaluation; no document is in two of them.

        Consecutive documents are joined to sequences, which are split into a half and two quarters.

        Args:
            texts: by part, or all under "".
            most: sequences of each part.
        """
        generator = torch.Generator().manual_seed(self.seed)
        ids = {name: self._ids(each.documents) for name, each in texts.items()}
        passages = {name: _passages(each, self._body) for name, each in ids.items()}
        dealt = deal(passages, generator)
        found, first = {}, 0
        for name in PARTS:
            documents = [each for passage in dealt[name] for each in passage]
            found[name] = self._packed(documents, first, most.get(name), name, generator)
            first += len(documents)
        return found

    @property
    def _affixes(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        plain = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("a")["input_ids"]
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return whole[:start], whole[start + len(plain) :] if self.task != CAUSAL else []
        return [], []

    @property
    def _body(self) -> int:
        """Tokens of the text in a sequence, those that are only targets included."""
        before, after = self._affixes
        if self.task == CAUSAL:
            return self.context + (not before)
        return self.context - len(before) - len(after)

    def _ids(self, documents: Sequence[str]) -> list[list[int]]:
        found = self.tokenizer(list(documents), add_special_tokens=False, verbose=False)
        end = self.tokenizer.eos_token_id if self.task == CAUSAL else None
        return [ids + [end] * (end is not None) for ids in found["input_ids"] if ids]

    def _packed(
        self,
        documents: list[list[int]],
        first: int,
        most: int | None,
        name: str,
        generator: torch.Generator,
    ) -> ExamplePart:
        stream = torch.tensor([token for ids in documents for token in ids])
        owner = torch.repeat_interleave(
            torch.arange(first, first + len(documents)), torch.tensor([len(d) for d in documents])
        )
        before, after = self._affixes
        body, step = self._body, self.context if self.task == CAUSAL else self._body
        count = max((len(stream) - body) // step + 1, 0)
        if not count:
            raise UserError(
                f"the text {name.replace('_', ' ')} has {len(stream):,} tokens, fewer than one "
                f"sequence of {self.context}: give more text, or a smaller --context"
            )
        count = count if most is None else min(count, most)
        windows = stream.unfold(0, body, step)[:count]
        owners = owner.unfold(0, body, step)[:count]
        put = [torch.tensor(each).expand(count, -1) for each in (before, after)]
        if self.task == CAUSAL:
            inputs = torch.cat((put[0].long(), windows[:, :-1]), 1)
            targets, owners = windows, owners
            if not before:
                targets, owners = windows[:, 1:], owners[:, 1:]
            return _batches(inputs, targets, owners)
        inputs = torch.cat((put[0].long(), windows, put[1].long()), 1)
        if self.task != MASKED:
            return _batches(inputs, None, None)
        masked = max(round(MASKED_SHARE * body), 1)
        chosen = torch.rand(count, body, generator=generator).argsort(1)[:, :masked] + len(before)
        targets = torch.full_like(inputs, IGNORED).scatter(1, chosen, inputs.gather(1, chosen))
        every = torch.zeros_like(inputs)
        every[:, len(before) : len(before) + body] = owners
        return _batches(inputs.scatter(1, chosen, self.tokenizer.mask_token_id), targets, every)


def context_of(source: PretrainedSource, tokenizer: Any, asked: int | None, tokens: int) -> int:
    """Tokens of a sequence: as asked for, or 512 where the model and the text allow that.

    Args:
        tokens: in all the text, about.

    Raises:
        UserError: more than the model allows.
    """
    limits = [getattr(source.config, "max_position_embeddings", None), tokenizer.model_max_length]
    most = min([int(each) for each in limits if each and each > 0], default=CONTEXT)
    if asked is not None:
        if asked > most:
            raise UserError(f"--context is {asked}: the model takes at most {most} tokens")
        return asked
    found = min(most, CONTEXT)
    while found > SHORTEST and tokens < SEQUENCES * found:
        found //= 2
    return found


def deal(
    given: dict[str, list[Any]], generator: torch.Generator, unit: str = "passages"
) -> dict[str, list[Any]]:
    """What is given, in three parts: those that have a name as they are, others dealt out.

    Raises:
        UserError: too few to part.
    """
    found = {name: each for name, each in given.items() if name}
    rest = given.get("", found.get("calibration"))
    if rest is None:
        raise UserError("there is no text to calibrate on: add a file train.txt")
    missing = [name for name in PARTS if name == "calibration" or name not in found]
    if len(rest) < len(missing):
        raise UserError(
            f"there are {len(rest)} {unit}, which can't be split in {len(missing)}: give more"
        )
    order = torch.randperm(len(rest), generator=generator)
    share = max(len(rest) // (len(missing) + 1), 1) if len(missing) > 1 else 0
    edges = [len(rest) - share * (len(missing) - 1)] + [share] * (len(missing) - 1)
    for name, rows in zip(missing, order.split(edges), strict=True):
        found[name] = [rest[i] for i in sorted(rows.tolist())]
    return found


def _passages(documents: list[list[int]], least: int) -> list[list[list[int]]]:
    """Documents in order, in groups of at least so many tokens; the last may have fewer."""
    found: list[list[list[int]]] = []
    room = 0
    for ids in documents:
        if room <= 0:
            found.append([])
            room = least
        found[-1].append(ids)
        room -= len(ids)
    return found


def _batches(inputs: Tensor, targets: Tensor | None, owners: Tensor | None) -> ExamplePart:
    rows = max(TOKENS // inputs.shape[1], 1)
    y: Any = [None] * len(inputs) if targets is None else targets.split(rows)
    pairs = zip(inputs.split(rows), y, strict=False)
    batches: list[Batch] = [({"input_ids": x}, each) for x, each in pairs]
    return ExamplePart(batches, [] if owners is None else list(owners.split(rows)))


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
