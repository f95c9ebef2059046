"""Models of Hugging Face transformers: loaded from a folder, compressed, and saved as factors.

``svdbench compress FOLDER --data TEXT`` does all of it; :func:`from_pretrained` loads the result.
"""

from svdbench.pretrained.saving import from_pretrained, save_pretrained

__all__ = ["from_pretrained", "save_pretrained"]
