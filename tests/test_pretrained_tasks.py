"""``svdbench compress FOLDER`` for encoders, classifiers and vision models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run, table
from pretrained_models import save_model, save_tokenizer, text
from safetensors.torch import save_file

from svdbench.lowrank.layers.base import LowRankLayer
from svdbench.pretrained import from_pretrained

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

RESULT = Path("results/compress-model/one")


def compressed(data: str, *more: str) -> tuple[Any, dict[str, str], str]:
    """The compressed model, its row, and the report."""
    shutil.rmtree("results", ignore_errors=True)
    quick = ["--params", "0.5", "--name", "one", "timing_s=0"]
    code, out, err = run(["compress", "./dense", "--data", data, *quick, *more])
    assert code == 0, err
    small = from_pretrained(RESULT)
    assert any(isinstance(each, LowRankLayer) for each in small.modules())
    return small, table(RESULT / "summary.csv")[0], out


def test_an_encoder_keeps_its_vectors_and_its_pooler() -> None:
    model = save_model(Path("dense"), "AutoModel", "bert")
    save_tokenizer(Path("dense"), masked=True)
    Path("text.txt").write_text(text(100))
    small, row, out = compressed("text.txt", "--context", "32")
    assert float(row["dense_loss"]) == pytest.approx(0, abs=1e-6)  # of itself
    assert 0 < float(row["increase"]) < 1
    assert row["perplexity"] == ""
    assert small.pooler.dense.weight.equal(model.pooler.dense.weight)
    assert "pooler.dense.weight left as it is" in out


def test_a_sentence_encoder_keeps_its_embeddings() -> None:
    save_model(Path("dense"), "AutoModel", "bert")
    save_tokenizer(Path("dense"), masked=True)
    Path("dense/modules.json").write_text("[]")
    Path("dense/1_Pooling").mkdir()
    Path("dense/1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    Path("text.txt").write_text(text(80, words=9))
    _, row, _ = compressed("text.txt")
    assert row["splits"].startswith("40 + 20 + 20 paragraphs")
    assert 0 < float(row["increase"]) < 1
    assert Path(RESULT, "1_Pooling/config.json").is_file()


def test_a_classifier_with_labels_and_without() -> None:
    names = {"label2id": {"low": 0, "high": 1, "other": 2}}
    names |= {"id2label": {i: name for name, i in names["label2id"].items()}}
    save_model(Path("dense"), "AutoModelForSequenceClassification", "bert", **names)
    save_tokenizer(Path("dense"), masked=True)
    lines = [
        {"text": each[: 20 + 3 * i], "label": ("low", "high", 2)[i % 3]}
        for i, each in enumerate(text(60, words=20).split("\n\n"))
    ]
    Path("rows.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    _, row, _ = compressed("rows.jsonl")
    assert float(row["dense_loss"]) > 0.5
    Path("text.txt").write_text("\n\n".join(line["text"] for line in lines))  # type: ignore[misc]
    _, row, _ = compressed("text.txt")
    assert float(row["dense_loss"]) == pytest.approx(0, abs=1e-6)
    lines[5]["label"] = "unheard of"
    Path("rows.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    answer = run(["compress", "./dense", "--data", "rows.jsonl"])
    assert answer.code == 2
    assert "the model has no label 'unheard of': give a number below 3" in answer.err


def test_a_vision_transformer_takes_pictures_and_arrays() -> None:
    image = pytest.importorskip("PIL.Image")
    names = {"label2id": {"cats": 0, "dogs": 1}, "id2label": {0: "cats", 1: "dogs"}}
    save_model(Path("dense"), "AutoModelForImageClassification", "vit", **names)
    pixels = {"pixel_values": torch.randn(48, 3, 16, 16), "labels": torch.arange(48) % 2}
    save_file(pixels, "images.safetensors")
    small, row, _ = compressed("images.safetensors")
    assert float(row["dense_loss"]) > 0.1
    assert small(pixels["pixel_values"][:2]).logits.shape == (2, 2)
    for i in range(24):
        path = Path("pictures", ("cats", "dogs")[i % 2], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.frombytes("RGB", (20, 20), bytes(torch.randint(0, 256, (1200,)).tolist())).save(path)
    answer = run(["compress", "./dense", "--data", "pictures"])
    assert answer.code == 2
    assert "has no preprocessor_config.json, which says how pictures become inputs" in answer.err
    own = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}
    Path("dense/preprocessor_config.json").write_text(json.dumps(own))
    _, row, _ = compressed("pictures")
    assert row["splits"].startswith("12 + 6 + 6 images")
    assert Path(RESULT, "preprocessor_config.json").is_file()
