"""Compressed models of transformers as int8 (torchao) and as ONNX."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_models import save_model
from torch import nn

from svdbench.lowrank import factor, plain_layers
from svdbench.lowrank.layers.base import LowRankLayer

pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("elsewhere", "one_thread")]


def small_gpt2() -> Any:
    """A factored model that returns nothing but logits."""
    model = factor(save_model(Path("dense"), "AutoModelForCausalLM", "gpt2"), 8, skip_last=False)[0]
    model.config.use_cache = False  # type: ignore[union-attr]
    return model.eval()


@torch.no_grad()
def test_int8_after_compression() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    model, ids = small_gpt2(), torch.randint(5, 300, (2, 12))
    plain: Any = plain_layers(model)
    assert not any(isinstance(module, LowRankLayer) for module in plain.modules())
    assert plain.lm_head[1].weight is plain.transformer.wte[0].weight  # tied as before
    logits = model(ids).logits
    torch.testing.assert_close(plain(ids).logits, logits)
    before = copy.deepcopy(plain.state_dict())
    quantization.quantize_(plain, quantization.Int8WeightOnlyConfig())
    quantised = [each for each in plain.modules() if isinstance(each, nn.Linear)]
    assert all("Int8" in type(each.weight).__name__ for each in quantised)
    assert len(quantised) == 2 * 8 + 2 + 2  # of the blocks, both embeddings and the last layer
    assert (plain(ids).logits - logits).norm() < 0.03 * logits.norm()
    assert before.keys() == plain.state_dict().keys()


def test_onnx_gives_the_same_logits_for_any_size() -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, ids = small_gpt2(), torch.randint(5, 300, (2, 12))
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.onnx.export(
            model, (), kwargs={"input_ids": ids}, dynamic_shapes={"input_ids": sizes}, dynamo=True
        )
    assert program is not None
    program.save("small.onnx")
    session = runtime.InferenceSession("small.onnx")
    for other in (ids, torch.randint(5, 300, (3, 20))):
        (logits,) = session.run(None, {"input_ids": other.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(other).logits)
