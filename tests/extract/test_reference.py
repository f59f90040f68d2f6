"""The reference path: a speech encoder equals transformers alone, or says what it lacks."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from extract.encoders.description import Description, describe
from extract.encoders.encoder import Encoder
from extract.encoders.families.table import FAMILIES
from extract.encoders.reference import ReferenceEncoder
from extract.encoders.registry import Model, find_model
from features.common.errors import AudioError, ModelError
from tests.checkpoints import alone, edit, save, speechlike, stirred

SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}
TOWER: dict[str, Any] = {
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "num_mel_bins": 80,
}
# name -> (class prefix, class, settings, extractor)
FORMS: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "wav2vec2-bert": (
        "Wav2Vec2Bert",
        "Model",
        {**SMALL, "feature_projection_input_dim": 160},
        transformers.SeamlessM4TFeatureExtractor(),
    ),
    "wav2vec2-conformer": (
        "Wav2Vec2Conformer",
        "Model",
        {**SMALL, "conv_dim": [16] * 7, "num_conv_pos_embedding_groups": 4},
        transformers.Wav2Vec2FeatureExtractor(),
    ),
    "sew-d": (
        "SEWD",
        "Model",
        {
            **SMALL,
            "conv_dim": [16] * 7,
            "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
            "conv_stride": [5, 2, 2, 2, 2, 2, 2],
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
        transformers.Wav2Vec2FeatureExtractor(),
    ),
    "moonshine": (
        "Moonshine",
        "Model",
        {
            "hidden_size": 24,
            "encoder_num_hidden_layers": 2,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
            "intermediate_size": 40,
            "vocab_size": 50,
        },
        transformers.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True),
    ),
    "qwen2_audio_encoder": (
        "Qwen2Audio",
        "Encoder",
        TOWER,
        transformers.WhisperFeatureExtractor(return_attention_mask=True),
    ),
    "voxtral_encoder": (
        "Voxtral",
        "Encoder",
        {**SMALL, "num_mel_bins": 80},
        transformers.WhisperFeatureExtractor(),
    ),
}


def positions(n_samples: int) -> int:
    """Positions of Whisper's two convolutions that so many samples cover."""
    return math.ceil(math.ceil(n_samples / 160) / 2)


# name -> valid frames of (a block's states, the last states); None: all.
VALID: dict[str, Callable[[int], tuple[int | None, int | None]]] = {
    # Pairs of spectra: the second of a pair has to be the audio's.
    "wav2vec2-bert": lambda n: ((1 + (n - 400) // 160) // 2,) * 2,
    # Two positions are averaged behind the blocks; a last one alone is dropped.
    "qwen2_audio_encoder": lambda n: (positions(n), positions(n) // 2),
    "voxtral_encoder": lambda n: (positions(n),) * 2,
}


def made(folder: Path, form: str) -> Any:
    """Write a random checkpoint of a form, and give its model."""
    prefix, kind, settings, extractor = FORMS[form]
    name = f"{prefix}EncoderConfig" if kind == "Encoder" else f"{prefix}Config"
    torch.manual_seed(0)
    config = getattr(transformers, name)(**settings)
    model = stirred(getattr(transformers, f"{prefix}{kind}")(config).eval())
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model


def described(folder: Path, **more: Any) -> Description:
    settings: dict[str, Any] = {"precision": "float32", "max_seconds": 60.0, **more}
    return describe(Model("some", "transformers"), folder, **settings)


def by_transformers(model: Any, folder: Path, form: str, samples: np.ndarray) -> np.ndarray:
    """Means of transformers' own forward on one file, as its documentation calls it."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = dict(extractor(samples, sampling_rate=16000, return_tensors="pt"))
    encoder = model.get_encoder() if form == "moonshine" else model
    if "encoder" in form:
        inputs = {"input_features": inputs["input_features"]}
    with torch.no_grad():
        output = encoder(**inputs, output_hidden_states=True)
    of_block, of_last = VALID.get(form, lambda n: (None, None))(len(samples))
    means = [state[0, :of_block].double().mean(0) for state in output.hidden_states[:-1]]
    return torch.stack([*means, output.last_hidden_state[0, :of_last].double().mean(0)]).numpy()


@pytest.mark.parametrize("form", FORMS)
def test_it_equals_transformers_on_the_file_alone(form: str, tmp_path: Path) -> None:
    model = made(tmp_path, form)
    assert described(tmp_path).engine == ("exact" if form in FAMILIES else "reference")
    description = described(tmp_path, engine="reference")
    assert description.engine == description.key["engine"] == "reference"
    assert (description.n_layers, description.hidden_size) == (2, 24)
    audio = speechlike((0.31, 1.7, 1.1213))
    expected = np.stack(
        [by_transformers(model, tmp_path, form, samples) for samples in audio], axis=1
    )
    found = ReferenceEncoder(description).embed(audio)["mean"]
    assert found.dtype == np.float32
    assert found.shape == (3, 3, 24)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    one_layer = described(tmp_path, engine="reference", layers=[1])
    some = ReferenceEncoder(one_layer).embed(audio[:1])["mean"]
    np.testing.assert_array_equal(some, found[1:2, :1])


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_a_spectrogram_transformer_has_no_mask(tmp_path: Path) -> None:
    config = transformers.ASTConfig(**SMALL, max_length=256, num_mel_bins=128)
    transformers.ASTModel(config).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(max_length=256).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="ASTFeatureExtractor gives no attention_mask") as caught:
        ReferenceEncoder(described(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["wav2vec2-layer-stable", "data2vec-audio", "whisper"])
def test_known_families_run_by_it_when_asked(form: str, tmp_path: Path) -> None:
    model = save(tmp_path, form)
    exact, other = described(tmp_path), described(tmp_path, engine="reference")
    assert exact == described(tmp_path, engine="exact")
    assert "engine" not in exact.key
    assert other.key["engine"] == "reference"
    audio = speechlike((0.4, 1.3))
    expected = np.stack([alone(model, tmp_path, samples) for samples in audio], axis=1)
    found = ReferenceEncoder(other).embed(audio)["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, Encoder(exact).embed(audio)["mean"], rtol=1e-3, atol=1e-4)


def test_the_untrained_model_runs_by_it_too() -> None:
    settings: dict[str, Any] = {"precision": "float32", "max_seconds": 60.0}
    model = find_model("wav2vec2-tiny")
    audio = speechlike((0.7,))
    found = ReferenceEncoder(describe(model, engine="reference", **settings)).embed(audio)["mean"]
    expected = Encoder(describe(model, **settings)).embed(audio)["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_long_utterances_go_in_pieces_weighted_by_their_frames(tmp_path: Path) -> None:
    model = made(tmp_path, "moonshine")
    (samples,) = speechlike((2.5,))
    encoder = ReferenceEncoder(described(tmp_path, max_seconds=1.0))
    total, count = 0.0, 0
    for piece in np.array_split(samples, 3):
        n_frames = (((len(piece) - 127) // 64 + 1 - 7) // 3 + 1 - 3) // 2 + 1
        total += n_frames * by_transformers(model, tmp_path, "moonshine", piece)
        count += n_frames
    found = encoder.embed([samples])["mean"][:, 0]
    np.testing.assert_allclose(found, total / count, rtol=1e-5, atol=1e-6)


def test_too_little_audio_is_said_of_the_utterance(tmp_path: Path) -> None:
    made(tmp_path, "moonshine")
    encoder = ReferenceEncoder(described(tmp_path))
    with pytest.raises(AudioError, match="MoonshineEncoder makes nothing of 500 samples"):
        encoder.begin([np.zeros(500, np.float32)])


def test_exact_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    made(tmp_path, "sew-d")
    with pytest.raises(
        ModelError, match=f"model_type 'sew-d'; expected one of {', '.join(FAMILIES)}"
    ):
        described(tmp_path, engine="exact")
    with pytest.raises(ModelError, match="engine 'other': expected one of auto, exact, reference"):
        described(tmp_path, engine="other")


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"audio_config": {}}, "what is missing is that tower alone"),
        ("config.json", {"auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
        ("config.json", {"num_hidden_layers": None}, "num_hidden_layers is null"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "takes audio at 8000 Hz"),
        ("preprocessor_config.json", {"dither": 0.1}, "dither is 0.1, which adds noise"),
        ("preprocessor_config.json", {"auto_map": {}}, "code of its own, which is never run"),
        ("preprocessor_config.json", {"feature_extractor_type": None}, "type is missing"),
    ],
)
def test_what_planning_sees_is_refused_in_one_line(
    file: str, changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    made(tmp_path, "wav2vec2-bert")
    edit(tmp_path / file, **changes)
    with pytest.raises(ModelError, match=match) as caught:
        described(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"num_hidden_layers": 3}, "lacks, or has in another shape"),
        ("config.json", {"model_type": "no-such"}, "cannot be loaded"),
        ("preprocessor_config.json", {"feature_extractor_type": "Trainer"}, "no feature extractor"),
        ("preprocessor_config.json", {"num_mel_bins": 40, "feature_size": 40}, "does not run"),
    ],
)
def test_what_loading_sees_is_refused_in_one_line(
    file: str, changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    made(tmp_path, "wav2vec2-bert")
    edit(tmp_path / file, **changes)
    with pytest.raises(ModelError, match=match) as caught:
        ReferenceEncoder(described(tmp_path))
    assert "\n" not in str(caught.value)


def test_text_models_are_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SMALL, vocab_size=30)
    transformers.BertModel(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="BertModel takes input_ids, no audio"):
        ReferenceEncoder(described(tmp_path))


WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, NoTorch())
from extract.encoders.description import describe
from extract.encoders.registry import Model

found = describe(Model("m", "transformers"), sys.argv[1], precision="float32", max_seconds=60)
print(found.engine, found.n_layers, found.hidden_size, found.max_samples)
"""


def test_planning_needs_no_torch(tmp_path: Path) -> None:
    made(tmp_path, "qwen2_audio_encoder")
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (answer.stdout, answer.stderr) == ("reference 2 24 480000\n", "")
