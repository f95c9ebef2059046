"""Tiny models of transformers with random weights, made from their configurations."""

from pathlib import Path
from typing import Any

import torch

WORDS = "the of and to in is that it was for on are as with his they at be this from have or by one"
WORDS += " had not but what all were when we there can an your which their said if do will each"
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]


def text(paragraphs: int = 60, words: int = 40, seed: int = 0) -> str:
    """Paragraphs in which each word tells something of the next one."""
    generator, known = torch.Generator().manual_seed(seed), WORDS.split()
    table = torch.rand(len(known), len(known), generator=generator) ** 8
    found, word = [], 0
    for _ in range(paragraphs):
        own = []
        for _ in range(words):
            word = int(torch.multinomial(table[word], 1, generator=generator))
            own.append(known[word])
        found.append(" ".join(own) + ".")
    return "\n\n".join(found) + "\n"


def save_tokenizer(folder: Path, vocabulary: int = 320, masked: bool = False) -> Any:
    """A byte-level BPE trained on :func:`text`; with <s> and </s> around a text if ``masked``."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    raw = ByteLevelBPETokenizer()
    raw.train_from_iterator([text()], vocabulary, special_tokens=SPECIAL, show_progress=False)
    inner = raw._tokenizer
    if masked:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    names |= {"pad_token": "<pad>", "mask_token": "<mask>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **names)
    tokenizer.save_pretrained(folder)
    return tokenizer


def configuration(name: str, **more: Any) -> Any:
    """The configuration of a tiny model: gpt2, llama, bert or vit."""
    import transformers

    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64}
    if name == "gpt2":
        own = {"vocab_size": 320, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
        return transformers.GPT2Config(**(own | ids | more))
    if name == "llama":
        own = {"vocab_size": 320, "max_position_embeddings": 64, "num_key_value_heads": 2}
        return transformers.LlamaConfig(**(sizes | own | ids | more))
    if name == "bert":
        own = {"vocab_size": 320, "max_position_embeddings": 64}
        return transformers.BertConfig(**(sizes | own | ids | more))
    own = {"image_size": 16, "patch_size": 8}
    return transformers.ViTConfig(**(sizes | own | more))


def save_model(folder: Path, auto: str, name: str, **more: Any) -> Any:
    """A model that transformers has saved to a folder, without a tokenizer."""
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, auto).from_config(configuration(name, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that logits are not all alike
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    model.save_pretrained(folder)
    return model
