"""A model of transformers in a folder: found on this machine, and loaded as its own class.

Nothing is downloaded, and no code that comes with a model is run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from svdbench.errors import UserError, one_line

INSTALL = "pip install 'svdbench[hf]'"

# What a model does, and the class of transformers that finds its own class.
CAUSAL, MASKED, ENCODER = "causal", "masked", "encoder"
TEXT_CLASSES, TOKEN_CLASSES, IMAGE_CLASSES = "text classes", "token classes", "image classes"
AUTO = {
    CAUSAL: "AutoModelForCausalLM",
    MASKED: "AutoModelForMaskedLM",
    TEXT_CLASSES: "AutoModelForSequenceClassification",
    TOKEN_CLASSES: "AutoModelForTokenClassification",
    IMAGE_CLASSES: "AutoModelForImageClassification",
    ENCODER: "AutoModel",
}
KNOWN = (
    "causal and masked language models, encoders, classifiers of texts, tokens and images: "
    "write a function that builds it, and give MODULE:FUNCTION"
)
# Before the name of the class in the config.json of a compressed model.
PREFIX = "LowRank"
TOKENIZERS = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"),
    *("vocab.txt", "spiece.model", "sentencepiece.bpe.model"),
)


def transformers() -> Any:
    """The package, imported late: it is large, and an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers as package
    except ImportError as error:
        raise UserError(
            f"models of Hugging Face need transformers ({one_line(error)}): {INSTALL}"
        ) from error
    return package


@contextmanager
def silent() -> Iterator[None]:
    """No warnings and no progress bars of transformers within the block."""
    logging = transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@dataclass(frozen=True)
class PretrainedSource:
    """A folder that ``save_pretrained`` wrote.

    Attributes:
        folder: with config.json.
        architecture: the name of the model's class.
        task: one of the keys of :data:`AUTO`.
        config: of transformers.
    """

    folder: Path
    architecture: str
    task: str
    config: Any

    @classmethod
    def of(cls, name: str | Path) -> "PretrainedSource":
        """The model in a folder, or of that name in the local cache.

        Raises:
            UserError: there is none, or one that is not known here.
        """
        package, folder = transformers(), find_folder(name)
        config = read_part(folder, "AutoConfig")
        named = config.architectures or []
        if not named:
            raise UserError(
                f"{folder / 'config.json'} does not name the model's class: write it under the "
                'key architectures, such as ["GPT2LMHeadModel"]'
            )
        architecture = named[0].removeprefix(PREFIX)
        if not getattr(config, "is_encoder_decoder", False):
            for task, auto in AUTO.items():
                if architecture in _classes(getattr(package, auto), config):
                    return cls(folder, architecture, task, config)
        raise UserError(f"{folder} has a {architecture}, and svdbench compresses {KNOWN}")

    @property
    def auto(self) -> Any:
        return getattr(transformers(), AUTO[self.task])

    @property
    def takes_images(self) -> bool:
        own = _classes(self.auto, self.config)[self.architecture]
        return bool(own.main_input_name == "pixel_values")

    def model(self, dtype: torch.dtype | None = None) -> nn.Module:
        """The model with its weights, in evaluation mode; tensors are read one after the other.

        Raises:
            UserError: weights that are missing, damaged or of another model.
        """
        with silent(), readable(self.folder):
            model, found = self.auto.from_pretrained(
                self.folder,
                local_files_only=True,
                trust_remote_code=False,
                dtype="auto" if dtype is None else dtype,
                output_loading_info=True,
            )
        if missing := sorted(found["missing_keys"]):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise UserError(
                f"the weights in {self.folder} lack {', '.join(missing[:3])}{more}: save the whole "
                f"{self.architecture} with save_pretrained"
            )
        if not type(model).__name__ == self.architecture:
            raise UserError(
                f"{self.folder} has a {self.architecture}, and transformers builds a "
                f"{type(model).__name__}: correct the key architectures in its config.json"
            )
        return prepared(model)

    def empty_model(self, dtype: torch.dtype) -> nn.Module:
        """The model without its weights, whose memory is not touched."""
        from transformers.initialization import no_init_weights

        with silent(), readable(self.folder), no_init_weights():
            model: Any = self.auto.from_config(self.config, trust_remote_code=False, dtype=dtype)
        model.tie_weights()
        empty: nn.Module = model.eval()
        return empty

    def tokenizer(self) -> Any:
        """Its tokenizer.

        Raises:
            UserError: there is none in the folder.
        """
        if not any((self.folder / name).is_file() for name in TOKENIZERS):
            raise UserError(
                f"{self.folder} has no tokenizer: save it there with "
                "tokenizer.save_pretrained, or give --data MODULE:FUNCTION"
            )
        return read_part(self.folder, "AutoTokenizer")


def read_part(folder: Path, auto: str) -> Any:
    """What a class of transformers such as ``AutoTokenizer`` makes of the files of a folder."""
    with silent(), readable(folder):
        return getattr(transformers(), auto).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def find_folder(name: str | Path) -> Path:
    """The folder of a model: as named, or that of a name in the local cache.

    Raises:
        UserError: neither is there; nothing is downloaded.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{folder} has no config.json: give a folder that save_pretrained wrote"
            )
        return folder
    if str(name).startswith((".", "/", "~")) or str(name).endswith("/"):
        raise UserError(f"there is no folder {name}: check the path")
    transformers()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), local_files_only=True))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name} is neither a folder nor a model in the local Hugging Face cache, and "
            f"svdbench downloads none: run `hf download {name}` first"
        ) from error


def prepared(model: Any) -> Any:
    """The model for inference without a cache of keys and values."""
    model.eval()
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model


def pooling(folder: Path) -> str | None:
    """How a sentence encoder makes one vector of a text: "mean" or "cls"; None for no such encoder.

    Sentence-transformers write it to 1_Pooling/config.json, beside modules.json.
    """
    path = folder / "1_Pooling" / "config.json"
    if not (folder / "modules.json").is_file() or not path.is_file():
        return None
    own = json.loads(path.read_text(encoding="utf-8"))
    mode = own.get("pooling_mode")
    if mode == "cls" or own.get("pooling_mode_cls_token"):
        return "cls"
    if mode == "mean" or own.get("pooling_mode_mean_tokens"):
        return "mean"
    raise UserError(f"{path} has neither mean nor cls pooling: give MODULE:FUNCTION")


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """What transformers raises for a folder that it can't read, in one line."""
    from safetensors import SafetensorError

    try:
        yield
    except UserError:
        raise
    except (ImportError, LookupError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise UserError(f"{folder}: {one_line(error)}") from error


def _classes(auto: Any, config: Any) -> dict[str, Any]:
    """The classes by name that an Auto class may choose for a configuration."""
    mapping = auto._model_mapping
    found = mapping.get(type(config), ())
    several = found if isinstance(found, tuple | list) else (found,)
    return {each.__name__: each for each in several}
