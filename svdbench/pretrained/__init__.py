"""Models of Hugging Face transformers: read from a folder, compressed, and saved in factors."""

from svdbench.pretrained.saving import from_pretrained, save_pretrained

__all__ = ["from_pretrained", "save_pretrained"]
