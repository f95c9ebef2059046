"""Language models of GPT-2's and Llama's shape, trained here on the standard library's sources.

About 1.4 M parameters, 1024 tokens of byte-pair encoding, sequences of 128 tokens; some minutes
on two cores. The same seed, machine and number of threads give the same weights. One of eight
files is held out from training; compression is calibrated and judged on those.
"""

import json
import math
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.files import kept, sources

TOKENS, LENGTH, WIDTH, LAYERS, HEADS = 1024, 128, 160, 4, 5
STEPS, BATCH, RATE = 800, 16, 3e-3
APART = 8  # every eighth file is held out


def folder(name: str) -> Path:
    """``gpt2`` or ``llama`` with its tokenizer, as ``save_pretrained`` writes it; trained once."""
    path = kept() / name
    if not (path / "model.safetensors").exists():
        _train(name, path)
    return path


def gpt2() -> nn.Module:
    return _loaded("gpt2")


def llama() -> nn.Module:
    return _loaded("llama")


class Logits(nn.Module):
    """A language model whose output is a tensor: logits (B, T, 1024)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        found: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return found


def gpt2_logits() -> nn.Module:
    return Logits(gpt2()).eval()


def llama_logits() -> nn.Module:
    return Logits(llama()).eval()


def sequences(count: int) -> Tensor:
    """Sequences (N, 129) of files that were held out from training, in a fixed random order."""
    every = _blocks(tokens(False))
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))
    return every[order[:count]]


def loader(count: int = 512) -> tuple[Tensor, Tensor]:
    """Tokens (N, 128), and those that follow."""
    found = sequences(count)
    return found[:, :-1].contiguous(), found[:, 1:].contiguous()


def few() -> tuple[Tensor, Tensor]:
    return loader(48)


def texts(count: int = 64) -> list[str]:
    """The beginnings of files held out, as plain text."""
    return [text[:4000] for text in sources()[::APART] if len(text) > 500][:count]


def tokenizer() -> Any:
    """A byte-level byte-pair encoding of the standard library's sources."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    path = kept() / f"tokenizer-{TOKENS}.json"
    if not path.exists():
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(_training_files()[::4], TOKENS, show_progress=False)
        trained.save(str(path))
    return PreTrainedTokenizerFast(tokenizer_file=str(path))


@cache
def tokens(training: bool) -> Tensor:
    """The tokens of all files for training, or of all that are held out."""
    found = tokenizer().backend_tokenizer
    texts = _training_files() if training else list(sources()[::APART])
    return torch.tensor([i for text in texts for i in found.encode(text).ids])


def _training_files() -> list[str]:
    return [text for number, text in enumerate(sources()) if number % APART]


def _blocks(found: Tensor) -> Tensor:
    whole = len(found) // (LENGTH + 1) * (LENGTH + 1)
    return found[:whole].view(-1, LENGTH + 1)


def untrained(name: str, **sizes: int) -> nn.Module:
    """The model with random weights; ``sizes`` replace LAYERS and WIDTH."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    layers, width = sizes.get("layers", LAYERS), sizes.get("width", WIDTH)
    if name == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=TOKENS,
                n_positions=2 * LENGTH,
                n_embd=width,
                n_layer=layers,
                n_head=HEADS,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
    if name != "llama":
        raise ValueError(f"no model is called {name!r}: choose gpt2 or llama")
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=TOKENS,
            max_position_embeddings=2 * LENGTH,
            hidden_size=width,
            intermediate_size=8 * width // 3 // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            num_key_value_heads=1,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def train(name: str, *, steps: int = STEPS, seed: int = 0, **sizes: int) -> tuple[nn.Module, float]:
    """A model trained by AdamW with a cosine schedule, and its loss on files held out (nats)."""
    torch.manual_seed(seed)
    model = untrained(name, **sizes).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.1, betas=(0.9, 0.95))
    warm = max(1, steps // 20)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / warm) * (0.55 + 0.45 * math.cos(math.pi * step / steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    data, start = tokens(True), time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        begins = torch.randint(len(data) - LENGTH - 1, (BATCH,), generator=generator)
        block = torch.stack([data[i : i + LENGTH + 1] for i in begins.tolist()])
        loss = _loss(model, block)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(
                f"{name}: step {step + 1}, {loss:.3f}, {time.monotonic() - start:.0f} s", flush=True
            )
    model.eval()
    with torch.no_grad():
        return model, float(_loss(model, sequences(128)))


def _loss(model: nn.Module, block: Tensor) -> Tensor:
    logits = model(input_ids=block[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), block[:, 1:].flatten())


def _train(name: str, path: Path) -> None:
    model, loss = train(name)
    tokenizer().save_pretrained(path)
    (path / "training.json").write_text(
        json.dumps({"loss": loss, "steps": STEPS, "python": sys.version.split()[0]})
    )
    model.save_pretrained(path)  # type: ignore[operator]


def _loaded(name: str) -> nn.Module:
    from transformers import AutoModelForCausalLM

    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder(name))
    return model.eval()


if __name__ == "__main__":
    for each in sys.argv[1:] or ["gpt2", "llama"]:
        print(folder(each))
