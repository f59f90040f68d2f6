"""The settings of a feature extractor: transformers' own reading of a folder is the oracle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.encoders.description import Description, describe
from extract.encoders.encoder import Encoder
from extract.encoders.families.table import FAMILIES
from extract.encoders.preprocessor import read_settings
from extract.encoders.registry import Model
from features.common.errors import ModelError
from tests.checkpoints import PREFIXES, alone, build, save, speechlike

FILES = ("preprocessor_config.json", "processor_config.json")
WAVEFORM = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
SPECTRUM = {"feature_extractor_type": "WhisperFeatureExtractor"}
TOLERANCE = 1e-5


def write(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def read(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    return read_settings("m", folder, config, mended="there")


def described(folder: Path) -> Description:
    return describe(Model("m", "transformers"), folder, precision="float32", max_seconds=60.0)


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    error = np.linalg.norm(found - expected, axis=-1)
    return float((error / np.linalg.norm(expected, axis=-1)).max())


# What the two files hold, of settings that are to count (`own`) and others that are not (`other`).
LAYOUTS: dict[str, Any] = {
    "preprocessor": lambda own, other: (own, None),
    "nested": lambda own, other: (None, {"feature_extractor": own}),
    "nested as audio": lambda own, other: (None, {"audio_processor": own}),
    "both": lambda own, other: (own, {"feature_extractor": own, "processor_class": "P"}),
    "two nested": lambda own, other: (None, {"feature_extractor": own, "audio_processor": other}),
    "not nested": lambda own, other: (own, {"processor_class": "P", **other}),
    "null": lambda own, other: (own, {"feature_extractor": None, "audio_processor": other}),
    "null as audio": lambda own, other: (own, {"audio_processor": None}),
    "empty": lambda own, other: (None, {"feature_extractor": {}}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_those_that_transformers_takes(
    family: str, layout: str, tmp_path: Path
) -> None:
    from transformers import AutoFeatureExtractor

    whisper = family == "whisper"
    settings: dict[str, Any] = {"padding_value": 0.25, "return_attention_mask": True, "mine": [1]}
    settings |= {"hop_length": 320, "chunk_length": 60} if whisper else {"do_normalize": False}
    # One that names its class and one that leaves it to config.json.
    for number, named in enumerate((SPECTRUM if whisper else WAVEFORM, {})):
        folder = tmp_path / str(number)
        write(folder, "config.json", {"model_type": family, "num_mel_bins": 80})
        contents = LAYOUTS[layout]({**named, **settings}, {"do_normalize": True, "hop_length": 80})
        for name, content in zip(FILES, contents, strict=True):
            if content is not None:
                write(folder, name, content)
        expected = AutoFeatureExtractor.from_pretrained(folder).to_dict()
        assert read(folder) == expected
        if layout != "empty":
            assert expected["padding_value"] == 0.25


def test_what_a_file_computes_or_repeats_is_not_taken_from_it(tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor

    write(tmp_path, "config.json", {"model_type": "whisper"})
    stale = {"n_samples": 1, "nb_max_frames": 2, "mel_filters": [[0.0]], "do_normalize": True}
    write(tmp_path, FILES[0], {**SPECTRUM, **stale, "processor_class": "WhisperProcessor"})
    found = read(tmp_path)
    assert found == AutoFeatureExtractor.from_pretrained(tmp_path).to_dict()
    assert (found["n_samples"], found["nb_max_frames"]) == (480_000, 3000)


@pytest.mark.parametrize("form", ["wav2vec2-layer-stable", "hubert-group-plain", "data2vec-audio"])
def test_settings_of_a_processor_are_in_the_key_and_in_the_vectors(
    form: str, tmp_path: Path
) -> None:
    model = save(tmp_path, form, normalise=False)
    settings = json.loads((tmp_path / FILES[0]).read_text())
    (tmp_path / FILES[0]).unlink()
    write(tmp_path, FILES[1], {"feature_extractor": settings})
    description = described(tmp_path)
    assert description.key["input_normalisation"] == "none"
    audio = speechlike((0.4, 1.0))
    expected = np.stack([alone(model, tmp_path, samples) for samples in audio], axis=1)
    assert worst(Encoder(description).embed(audio)["mean"], expected) <= TOLERANCE


def test_the_encoder_prepares_by_the_settings_of_the_key(tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor

    save(tmp_path, "whisper")
    description = described(tmp_path)
    encoder = Encoder(description)
    assert encoder.forward._extractor.to_dict() == description.preprocessor
    assert description.preprocessor == AutoFeatureExtractor.from_pretrained(tmp_path).to_dict()
    tiny = describe(
        Model("wav2vec2-tiny", "transformers"), precision="float32", max_seconds=60
    ).preprocessor
    assert tiny["do_normalize"]


@pytest.mark.parametrize(
    ("family", "nested", "alone", "said"),
    [
        ("wav2vec2", {"do_normalize": False}, {"do_normalize": True},
         [r"do_normalize is false in processor_config.json \(under feature_extractor\) and true "
          "in preprocessor_config.json"]),
        ("wavlm", {"do_normalize": False}, {},
         [r"do_normalize is false in .* and true \(not given\) in preprocessor_config.json"]),
        ("hubert", {}, {"do_normalize": False, "sampling_rate": 8000},
         [r"sampling_rate is 16000 \(not given\) in .* and 8000 in", r"true \(not given\)"]),
        ("wav2vec2", {"dither": 0.0}, {"dither": 1e-4}, ["dither is 0.0 in .* and 0.0001 in"]),
        ("wav2vec2", WAVEFORM, SPECTRUM, ["feature_extractor_type is .*Wav2Vec2.* and .*Whisper"]),
        ("whisper", {"n_fft": 512}, {}, [r"n_fft is 512 in .* and 400 \(not given\)"]),
        ("whisper", {"padding_value": 0.0}, {"padding_value": 1}, ["padding_value is 0.0 .* 1 in"]),
        ("whisper", {"hop_length": 320, "chunk_length": 60}, {},
         ["hop_length is 320", "chunk_length is 60"]),
    ],
)  # fmt: skip
def test_files_that_disagree_are_refused_by_setting_and_values(
    family: str, nested: dict[str, Any], alone: dict[str, Any], said: list[str], tmp_path: Path
) -> None:
    write(tmp_path, "config.json", {"model_type": family})
    write(tmp_path, FILES[0], alone)
    write(tmp_path, FILES[1], {"feature_extractor": nested})
    with pytest.raises(ModelError, match=r"^m: .*disagree.*there, or delete the one") as caught:
        read(tmp_path)
    for pattern in said:
        caught.match(pattern)


@pytest.mark.parametrize(
    ("family", "nested", "alone"),
    [
        ("wav2vec2", {"do_normalize": True}, {}),
        ("wav2vec2", {"sampling_rate": 16000.0}, {"dither": 0}),
        # Of batches, which have no padding here.
        ("wavlm", {"padding_value": 1.0}, {"padding_side": "left", "return_attention_mask": True}),
        ("whisper", {"n_samples": 1, "processor_class": "P"}, {"nb_max_frames": 7}),
    ],
)
def test_files_may_differ_in_what_moves_no_number(
    family: str, nested: dict[str, Any], alone: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, "config.json", {"model_type": family})
    write(tmp_path, FILES[0], alone)
    write(tmp_path, FILES[1], {"feature_extractor": nested})
    assert read(tmp_path)["sampling_rate"] == 16000


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dither", [1e-4, -1, True, None, "0.1"])
@pytest.mark.parametrize("family", FAMILIES)
def test_noise_is_refused(family: str, dither: Any, nested: bool, tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"model_type": family})
    settings = {"dither": dither}
    write(tmp_path, FILES[nested], {"feature_extractor": settings} if nested else settings)
    message = (
        rf"{FILES[nested]}: dither is {json.dumps(dither)}, which adds noise.*expected 0: mend"
    )
    with pytest.raises(ModelError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("wav2vec2", {"sampling_rate": 8000}, "takes audio at 8000 Hz"),
        ("wav2vec2", {"feature_size": 80}, "feature_size is 80; a waveform has 1"),
        ("wav2vec2", {"do_normalize": "false"}, 'do_normalize is "false"; true or false'),
        ("wav2vec2", {"do_normalize": None}, "do_normalize is null; true or false"),
        ("wav2vec2", {"feature_extractor_type": "ClapFeatureExtractor"},
         "type 'ClapFeatureExtractor'; wav2vec2 models take Wav2Vec2FeatureExtractor"),
        ("wavlm", {"auto_map": {"AutoFeatureExtractor": "mine.Extractor"}},
         r"code of its own \(auto_map: mine.Extractor\), which is never run"),
        ("whisper", {"sampling_rate": 48000}, "takes audio at 48000 Hz"),
        ("whisper", {"feature_size": 128}, "feature_size is 128; num_mel_bins .* is 80"),
        ("whisper", {"hop_length": 80}, "hop_length 80 make 6000 frames; max_source_pos"),
        ("whisper", {"chunk_length": 15}, "chunk_length 15 .* make 1500 frames"),
        ("whisper", {"chunk_length": 30.0}, "chunk_length is 30.0; expected a positive integer"),
        ("whisper", {"n_fft": "400"}, 'n_fft is "400"; expected a positive integer'),
        ("whisper", {"hop_length": 0}, "hop_length is 0; expected a positive integer"),
        ("whisper", {"padding_side": "left"}, 'padding_side is "left"; .*first: "right"'),
        ("whisper", {"padding_value": None}, "padding_value is null; expected a number"),
        ("whisper", {"feature_size": 128, "dither": 1}, "dither is 1.*; feature_size is 128"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nested", [False, True])
def test_a_setting_that_cannot_be_honoured_is_refused_by_name(
    family: str, settings: dict[str, Any], message: str, nested: bool, tmp_path: Path
) -> None:
    write(tmp_path, "config.json", {"model_type": family})
    write(tmp_path, FILES[nested], {"feature_extractor": settings} if nested else settings)
    with pytest.raises(ModelError, match=f"^m: .*{FILES[nested]}.*{message}"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "processor_config.json is not JSON"),
        ("[]", "processor_config.json holds a list, expected an object"),
        ("[" * 100_000, "processor_config.json is not JSON"),
        ('{"feature_extractor": "Wav2Vec2FeatureExtractor"}', "feature_extractor is .Wav2Vec2"),
        ('{"audio_processor": [1]}', r"audio_processor is \[1\], expected an object"),
    ],
)
def test_a_broken_processor_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    save(tmp_path, "wav2vec2-group-plain")
    write(tmp_path, FILES[1], content)
    with pytest.raises(ModelError, match=message):
        described(tmp_path)


def test_whisper_in_other_steps_is_transformers_own(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    model = build("whisper").get_encoder()
    save(tmp_path, "whisper")
    settings = {"hop_length": 80, "chunk_length": 15, "n_fft": 512, "padding_value": 0.125}
    WhisperFeatureExtractor(**settings).save_pretrained(tmp_path)
    description = described(tmp_path)
    assert (description.stride, description.min_samples) == (160, 512)
    assert (description.max_samples, description.padded_samples) == (240_000, 240_000)
    encoder = Encoder(description)
    audio = speechlike((0.31, 2.9))
    extractor = WhisperFeatureExtractor.from_pretrained(tmp_path)
    expected = []
    for samples in audio:
        inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")["input_features"]
        with torch.no_grad():
            last = model(inputs).last_hidden_state[0]
        # Two spectra of 80 samples each a position.
        expected.append(last[: -(-len(samples) // 160)].double().mean(0).numpy())
    assert worst(encoder.embed(audio)["mean"][-1], np.stack(expected)) <= TOLERANCE
    # As it is made on a GPU, padding included.
    torch.testing.assert_close(
        encoder.forward.device_mel(audio), encoder.forward.mel(audio), rtol=0, atol=2e-4
    )


def test_bands_that_the_model_does_not_take_are_named(tmp_path: Path) -> None:
    save(tmp_path, "whisper", num_mel_bins=128)
    path = tmp_path / FILES[0]
    settings = json.loads(path.read_text())
    del settings["feature_size"]
    write(tmp_path, FILES[0], settings)
    with pytest.raises(ModelError, match=r"m: .*80 bands \(feature_size\), config.json takes 128"):
        Encoder(described(tmp_path))


RANDOM = {
    "mask_time_prob": 0.9,
    "mask_time_length": 2,
    "mask_feature_prob": 0.9,
    "mask_feature_length": 2,
    "apply_spec_augment": True,
}
DROPPED = {
    "wav2vec2": ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout",
                 "layerdrop"),
    "whisper": ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "family"),
    [(f"{family}-layer-stable", "wav2vec2") for family in PREFIXES]
    + [("data2vec-audio", "wav2vec2"), ("whisper", "whisper")],
)
def test_what_is_random_in_training_is_not_here(form: str, family: str, tmp_path: Path) -> None:
    save(tmp_path / "calm", form)
    save(tmp_path / "random", form)
    path = tmp_path / "random/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **RANDOM, **dict.fromkeys(DROPPED[family], 0.9)}))
    audio = speechlike((0.5, 0.9))
    calm, random = (Encoder(described(tmp_path / name)) for name in ("calm", "random"))
    expected = calm.embed(audio)["mean"]
    for _ in range(2):
        np.testing.assert_array_equal(random.embed(audio)["mean"], expected)
