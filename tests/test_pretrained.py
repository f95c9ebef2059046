"""``svdbench compress FOLDER``: models of transformers, from their folder to one of factors."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_mistake, run, table
from pretrained_models import save_model, save_tokenizer, text
from torch.nn import functional as F

from svdbench.errors import UserError
from svdbench.lowrank import LowRankLinear, factor, unfactor
from svdbench.lowrank.layers.linear import LowRankTransposedLinear
from svdbench.lowrank.losses import IGNORED
from svdbench.pretrained import from_pretrained, save_pretrained
from svdbench.pretrained.perplexity import Perplexity
from svdbench.pretrained.sequences import TokenSequences
from svdbench.pretrained.texts import Texts, read_texts

transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")

QUICK = ["--context", "32", "--params", "0.5", "--name", "one", "timing_s=0"]
RESULT = Path("results/compress-model/one")


def made(auto: str, name: str, **more: Any) -> Any:
    """A model and a tokenizer in the folder ``dense``, and a text in ``text.txt``."""
    model = save_model(Path("dense"), auto, name, **more)
    save_tokenizer(Path("dense"), masked="Masked" in auto)
    Path("text.txt").write_text(text(120))
    return model


def compressed(data: str = "text.txt") -> dict[str, str]:
    code, _, err = run(["compress", "dense", "--data", data, *QUICK])
    assert code == 0, err
    return table(RESULT / "summary.csv")[0]


def of_results(row: dict[str, str]) -> Any:
    """The compressed model, which has as many parameters as its row says."""
    small = from_pretrained(RESULT)
    assert any(isinstance(each, LowRankLinear) for each in small.modules())
    assert sum(p.numel() for p in small.parameters()) == int(float(row["n_params"]))
    return small


def test_a_causal_model_comes_back_in_factors_and_generates() -> None:
    made("AutoModelForCausalLM", "llama")
    row = compressed()
    small = of_results(row)
    assert type(small).__name__ == "LlamaForCausalLM"
    tokenizer = transformers.AutoTokenizer.from_pretrained(RESULT)
    ids = tokenizer("the of", return_tensors="pt")
    assert small.config.use_cache
    generated = small.generate(**ids, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert generated.shape[1] == ids["input_ids"].shape[1] + 5
    # Every target counts once in the perplexity, and the loss is the mean over them.
    dense, increase = float(row["dense_loss"]), float(row["increase"])
    assert math.isclose(float(row["dense_perplexity"]), math.exp(dense), rel_tol=1e-4)
    assert math.isclose(float(row["perplexity"]), math.exp(dense + increase), rel_tol=1e-4)
    assert float(row["perplexity_low"]) < float(row["perplexity"]) < float(row["perplexity_high"])
    assert row["document"] == "paragraph"
    assert int(float(row["tokens"])) == 32 * int(float(row["examples"]))


def test_tied_embeddings_stay_tied_and_transformers_refuses_the_folder() -> None:
    made("AutoModelForCausalLM", "gpt2")
    small = of_results(compressed())
    assert small.lm_head.W1 is small.transformer.wte.W1
    assert small.lm_head.W2 is small.transformer.wte.W2
    layers = {row["layer"]: row for row in table(RESULT / "layers.csv")}
    packed = layers["transformer.h.0.attn.c_attn.weight"]  # queries, keys and values as one matrix
    assert (packed["rows"], packed["columns"]) == ("96", "32")
    for name in ("AutoModelForCausalLM", "AutoModel", "GPT2LMHeadModel"):
        with pytest.raises(OSError, match="no file named"):
            getattr(transformers, name).from_pretrained(RESULT)
    config = json.loads((RESULT / "config.json").read_text())
    assert config["architectures"] == ["LowRankGPT2LMHeadModel"]
    with pytest.raises(UserError, match="a dense model is loaded by transformers"):
        from_pretrained("dense")
    (RESULT / "low-rank.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        from_pretrained(RESULT)


def test_a_masked_model_predicts_its_masks() -> None:
    made("AutoModelForMaskedLM", "bert")
    row = compressed()
    assert of_results(row)(torch.tensor([[1, 4, 2]])).logits.shape == (1, 3, 320)
    masks = round(0.15 * 30)
    assert int(float(row["tokens"])) == masks * int(float(row["examples"]))
    dense = math.exp(float(row["dense_loss"]))
    assert math.isclose(float(row["dense_perplexity"]), dense, rel_tol=1e-4)


def test_conv1d_is_a_linear_layer_with_its_weight_transposed() -> None:
    dense = transformers.pytorch_utils.Conv1D(24, 16)
    x = torch.randn(5, 16)
    small, (entry,) = factor(dense, 4, skip_last=False)
    assert isinstance(small, LowRankTransposedLinear)
    assert (entry.weight.rows, entry.weight.columns, entry.rank) == (24, 16, 4)
    U, S, Vh = torch.linalg.svd(dense.weight)
    near = U[:, :4] * S[:4] @ Vh[:4]
    torch.testing.assert_close(small.weight, near, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(small(x), x @ near + dense.bias, rtol=1e-4, atol=1e-6)
    back = unfactor(small)
    assert type(back) is type(dense)
    torch.testing.assert_close(back(x), small(x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(small.to_linear()(x), small(x), rtol=1e-4, atol=1e-6)


def test_no_document_is_in_two_parts_and_every_token_is_predicted_once() -> None:
    tokenizer = save_tokenizer(Path("dense"))
    documents = [f"{word} " * 9 for word in text(1, 400).split()[:40]]
    cut = TokenSequences(tokenizer, "causal", 16, seed=1)
    parts = cut.parts({"": Texts(documents, None, "paragraph")}, {})
    seen: set[int] = set()
    for part in parts.values():
        owners = {int(i) for each in part.documents for i in each.unique()}
        assert not owners & seen
        seen |= owners
        (x, y), *_ = part.batches
        torch.testing.assert_close(x["input_ids"][0, 1:], y[0, :-1])
        torch.testing.assert_close(x["input_ids"][1:, 0], y[:-1, -1])
    assert cut.parts({"": Texts(documents, None, "paragraph")}, {"search": 2})["search"].count == 2


def test_masks_are_the_same_for_the_same_seed_and_never_the_ends() -> None:
    tokenizer = save_tokenizer(Path("dense"), masked=True)
    texts = {"": Texts(text(60).split("\n\n"), None, "paragraph")}
    first, again = (TokenSequences(tokenizer, "masked", 32, seed=3).parts(texts, {}) for _ in "ab")
    for (x, y), (other, _) in zip(first["search"].batches, again["search"].batches, strict=True):
        ids = x["input_ids"]
        assert ids.equal(other["input_ids"])
        assert (ids[:, 0] == 1).all()
        assert (ids[:, -1] == 2).all()
        assert ((ids == tokenizer.mask_token_id) == (y != IGNORED)).all()


def test_documents_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "train.txt").write_text("one\n\ntwo\n \nthree")
    (folder / "test.jsonl").write_text('{"text": "four", "label": 1}\n{"text": "five", "label": 0}')
    found = read_texts(folder)
    assert found["calibration"] == Texts(["one", "two", "three"], None, "paragraph")
    assert found["held_out"] == Texts(["four", "five"], [1, 0], "row")
    (folder / "test.jsonl").rename(folder / "other.md")
    assert read_texts(folder)[""].unit == "paragraph"
    for i in range(20):
        (folder / f"{i}.py").write_text(f"a\n\nb{i}")
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    assert read_texts(folder)[""].unit == "file"
    assert len(read_texts(folder)[""].documents) == 22
    table = tmp_path / "a.csv"
    table.write_text('text,label\n"a, b",x\nc,y\n')
    assert read_texts(table) == {"": Texts(["a, b", "c"], ["x", "y"], "row")}


def test_the_interval_covers_what_other_documents_would_give() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(200):  # documents of very different lengths, alike within
        tokens = torch.randint(5, 200, (30,), generator=generator)
        own = 3 + 0.5 * torch.randn(30, generator=generator)
        found = Perplexity.of((own * tokens).double(), tokens.double())
        inside += found.low <= math.exp(3) <= found.high
    assert 180 <= inside <= 198
    assert Perplexity.of(torch.tensor([2.0]), torch.tensor([1.0])).high == math.inf


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["./nowhere", "--data", "text.txt"], "there is no folder ./nowhere: check the path"),
        (["nobody/nothing", "--data", "text.txt"], "run `hf download nobody/nothing` first"),
        (["./empty", "--data", "text.txt"], "empty has no config.json"),
        (["dense", "--data", "no.txt"], "can't read no.txt"),
        (["dense", "--data", "short.txt"], "give more"),
        (["dense", "--data", "text.txt", "--context", "65"], "the model takes at most 64 tokens"),
        (["dense", "--data", "text.txt", "--weights", "w.safetensors"], "has weights of its own"),
        (["dense", "--data", "text.txt", "--epochs", "3"], "and dense is a model: leave it out"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    made("AutoModelForCausalLM", "gpt2")
    Path("empty").mkdir()
    Path("short.txt").write_text("the of and")
    assert_mistake(run(["compress", *arguments]), says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["OtherLMHeadModel"]}, "svdbench compresses causal and masked"),
        ({"architectures": None}, "write it under the key architectures"),
        ({"architectures": ["GPT2ForSequenceClassification"]}, "lack score.weight: save the whole"),
        ({"model_type": "unheard_of"}, "unheard_of"),
    ],
)
def test_another_model_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    made("AutoModelForCausalLM", "gpt2")
    path = Path("dense/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert_mistake(run(["compress", "dense", "--data", "text.txt"]), says)


def test_weights_in_half_precision_are_saved_in_it() -> None:
    made("AutoModelForCausalLM", "llama")
    auto, half = transformers.AutoModelForCausalLM, torch.bfloat16
    small: Any = factor(auto.from_pretrained("dense", dtype=half), 4)[0]
    save_pretrained(small, "small", "dense")
    loaded: Any = from_pretrained("small")
    assert {p.dtype for p in loaded.parameters()} == {half}
    assert {p.dtype for p in from_pretrained("small", dtype=torch.float32).parameters()} == {
        torch.float32
    }
    ids = torch.tensor([[5, 6, 7]])
    assert F.mse_loss(loaded(ids).logits, small(ids).logits) == 0
    with pytest.raises(UserError, match="transformers can't load factored layers"):
        loaded.save_pretrained("again")
    save_pretrained(loaded, "again", "small")  # of what was trained on, say
    assert json.loads(Path("again/config.json").read_text())["architectures"] == [
        "LowRankLlamaForCausalLM"
    ]
    with pytest.raises(UserError, match="to another folder"):
        save_pretrained(small, "dense", "dense")
