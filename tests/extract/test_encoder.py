"""Exactness against transformers' own forward, and what a checkpoint may be like."""

import hashlib
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from extract.encoders.costs import read_sizes
from extract.encoders.description import Description, describe
from extract.encoders.encoder import Encoder
from extract.encoders.exact.products import GroupedProducts
from extract.encoders.loading import untrained
from extract.encoders.registry import Model, find_model
from features.common.errors import ModelError
from tests.checkpoints import FORMS, alone, save, speechlike

SECONDS = (0.31, 2.9, 1.1, 0.0255, 1.7)  # the fourth gives a single frame
WAYS = ((True, math.inf), (False, 8), (False, 0))  # file_by_file, max_runs
TOLERANCE = 1e-5  # relative, float32; a batch is held to 1e-4


def described(folder: Path, precision: str = "float32", **more: Any) -> Description:
    settings = {"max_seconds": 60.0, **more}
    return describe(Model("some", "transformers"), folder, precision=precision, **settings)


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest relative error of a vector, over layers and utterances."""
    error = np.linalg.norm(found - expected, axis=-1)
    return float((error / np.linalg.norm(expected, axis=-1)).max())


@pytest.mark.parametrize("form", FORMS)
def test_a_padded_batch_equals_each_file_alone(form: str, tmp_path: Path) -> None:
    model = save(tmp_path, form)
    audio = speechlike(SECONDS)
    expected = np.stack([alone(model, tmp_path, samples) for samples in audio], axis=1)
    encoder = Encoder(described(tmp_path))
    # As on a CPU; as on a GPU, run by run without a mask, and padded with one.
    for encoder.file_by_file, encoder.max_runs in WAYS:
        mean = encoder.embed(audio)["mean"]
        assert mean.dtype == np.float32
        assert mean.shape == expected.shape == (4, 5, 24)
        assert worst(mean, expected) <= TOLERANCE


def test_a_setting_that_a_family_does_not_have_is_not_honoured(tmp_path: Path) -> None:
    model = save(tmp_path, "data2vec-audio")
    assert "norms" not in described(tmp_path).key
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "do_stable_layer_norm": True}))
    description = described(tmp_path)
    assert description.key["norms"] == "behind"
    audio = speechlike((0.4, 1.0))
    expected = np.stack([alone(model, tmp_path, samples) for samples in audio], axis=1)
    assert worst(Encoder(description).embed(audio)["mean"], expected) <= TOLERANCE


@pytest.mark.parametrize("form", ["wav2vec2-layer-stable", "hubert-batch-norm", "data2vec-audio"])
def test_positions_by_matrix_products(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path, form)
    audio = speechlike(SECONDS)
    expected = np.stack([alone(model, tmp_path, samples) for samples in audio], axis=1)
    monkeypatch.setattr(
        "extract.encoders.exact.products.positional",
        lambda convolution, device: GroupedProducts(convolution),
    )
    encoder = Encoder(described(tmp_path))
    assert any(isinstance(module, GroupedProducts) for module in encoder.forward._stack.modules())
    for encoder.file_by_file, encoder.max_runs in WAYS:
        assert worst(encoder.embed(audio)["mean"], expected) <= TOLERANCE


@pytest.mark.parametrize("form", ["wav2vec2-group-plain", "wavlm-layer-stable", "whisper"])
def test_batches_that_are_begun_together_are_those_alone(form: str, tmp_path: Path) -> None:
    save(tmp_path, form)
    encoder = Encoder(described(tmp_path, max_seconds=1.5))
    batches = [speechlike((0.9, 0.4, 0.4), 1), speechlike((2.0, 0.3), 2), speechlike((0.5,), 3)]
    expected = [encoder.embed(batch)["mean"] for batch in batches]
    first, second = encoder.begin(batches[0]), encoder.begin(batches[1])
    for samples in batches[0]:
        samples[:] = 0  # the caller's buffers are the caller's again
    np.testing.assert_array_equal(second()["mean"], expected[1])
    third = encoder.begin(batches[2])
    for _ in range(2):
        np.testing.assert_array_equal(first()["mean"], expected[0])
    np.testing.assert_array_equal(third()["mean"], expected[2])


def test_a_batch_that_does_not_fit_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "wav2vec2-layer-stable")
    encoder = Encoder(described(tmp_path))
    audio = speechlike((0.9, 0.4))
    expected = encoder.embed(audio)["mean"]
    first = encoder.begin(audio)
    block = encoder.forward.layers[1]
    with monkeypatch.context() as patch:

        def fail(*args: Any) -> Any:
            raise torch.OutOfMemoryError("made up")

        patch.setattr(block, "forward", fail)
        with pytest.raises(torch.OutOfMemoryError, match="made up"):
            encoder.begin(audio)()
    np.testing.assert_array_equal(first()["mean"], expected)
    np.testing.assert_array_equal(encoder.embed(audio)["mean"], expected)


@pytest.mark.parametrize("seconds", [(0.31, 2.9, 1.1), (29.9, 0.7)])
def test_the_spectrum_made_on_a_gpu_is_the_extractors(
    seconds: tuple[float, ...], tmp_path: Path
) -> None:
    save(tmp_path, "whisper")
    encoder = Encoder(described(tmp_path))
    audio = speechlike(seconds)
    expected = encoder.forward.mel(audio)
    found = encoder.forward.device_mel(audio)
    assert found.shape == expected.shape == (len(seconds), 80, 3000)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_a_shorter_context_is_transformers_encoder_of_that_length(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    model = save(tmp_path, "whisper")
    # The same weights with the first 100 positions: two seconds, as transformers has them.
    short = WhisperModel(
        type(model.config)(**{**model.config.to_dict(), "max_source_positions": 100})
    )
    states = model.encoder.state_dict()
    states["embed_positions.weight"] = states["embed_positions.weight"][:100]
    short.encoder.load_state_dict(states)
    extractor = WhisperFeatureExtractor(chunk_length=2)
    description = described(tmp_path, context_s=2.0)
    assert description.key["context_s"] == 2.0
    assert (description.max_samples, description.padded_samples) == (32_000, 32_000)
    assert read_sizes(description).fixed_s == 2.0
    encoder, audio = Encoder(description), speechlike((0.31, 2.0, 1.1))
    expected = []
    for samples in audio:
        inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")["input_features"]
        with torch.no_grad():
            last = short.encoder.eval()(inputs).last_hidden_state[0]
        expected.append(last[: -(-len(samples) // 320)].double().mean(0).numpy())
    assert worst(encoder.embed(audio)["mean"][-1], np.stack(expected)) <= TOLERANCE
    whole = Encoder(described(tmp_path)).embed(audio)["mean"]
    assert worst(encoder.embed(audio)["mean"][-1], whole[-1]) > 100 * TOLERANCE
    torch.testing.assert_close(
        encoder.forward.device_mel(audio), encoder.forward.mel(audio), rtol=0, atol=2e-4
    )


def test_the_models_own_context_changes_nothing(tmp_path: Path) -> None:
    save(tmp_path, "whisper")
    assert described(tmp_path, context_s=30) == described(tmp_path)


@pytest.mark.parametrize(
    ("form", "context_s", "more", "fault"),
    [
        ("whisper", 30.02, {}, "context_s = 30.02; expected at most the model's own 30 s"),
        ("whisper", 2.01, {}, "context_s = 2.01 is no whole number of positions of 0.02 s"),
        ("whisper", 2.0, {"engine": "reference"}, "context_s = 2: transformers' own forward"),
        ("wav2vec2-group-plain", 2.0, {}, "wav2vec2 models take audio as long as it is"),
    ],
)
def test_a_context_that_cannot_be_is_refused(
    form: str, context_s: float, more: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    save(tmp_path, form)
    with pytest.raises(ModelError, match=fault):
        described(tmp_path, context_s=context_s, **more)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("form", FORMS)
def test_on_cuda_nothing_waits_and_all_is_exact(form: str, tmp_path: Path) -> None:
    model = save(tmp_path, form)
    audio = speechlike(SECONDS)
    expected = np.stack([alone(model, tmp_path, samples) for samples in audio], axis=1)
    encoder = Encoder(described(tmp_path), "cuda")
    for encoder.max_runs in (8, 0):
        encoder.embed(audio)  # what is made once, such as handles, may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            pending = [encoder.begin(audio), encoder.begin(audio[::-1])]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        there, back = (wait()["mean"] for wait in pending)
        assert worst(there, expected) <= 10 * TOLERANCE
        assert worst(back, expected[:, ::-1]) <= 10 * TOLERANCE


@pytest.mark.parametrize("form", ["wav2vec2-group-plain", "data2vec-audio"])
def test_the_usual_batching_would_be_noticed(form: str, tmp_path: Path) -> None:
    """With a mask and a masked mean, but nothing else, the checkpoints above are far off."""
    model = save(tmp_path, form)
    audio = speechlike(SECONDS)
    scaled = [(samples - samples.mean()) / np.sqrt(samples.var() + 1e-7) for samples in audio]
    rows = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(samples) for samples in scaled], batch_first=True
    )
    mask = torch.zeros(rows.shape, dtype=torch.long)
    for row, samples in zip(mask, audio, strict=True):
        row[: len(samples)] = 1
    with torch.no_grad():
        last = model(rows, attention_mask=mask).last_hidden_state
    n_frames = [(len(samples) - 400) // 320 + 1 for samples in audio]
    means = [row[:n].mean(0).numpy() for row, n in zip(last, n_frames, strict=True)]
    expected = np.stack([alone(model, tmp_path, samples)[-1] for samples in audio])
    assert worst(np.stack(means), expected) > 1000 * TOLERANCE


@pytest.mark.parametrize("form", ["wavlm-group-plain", "whisper"])
def test_the_order_of_rows_does_not_matter(form: str, tmp_path: Path) -> None:
    save(tmp_path, form)
    audio = speechlike(SECONDS)
    encoder = Encoder(described(tmp_path))
    mean = encoder.embed(audio)["mean"]
    order = [3, 1, 4, 0, 2]
    assert worst(encoder.embed([audio[i] for i in order])["mean"], mean[:, order]) <= TOLERANCE


@pytest.mark.parametrize("form", ["wav2vec2-layer-stable", "wavlm-group-plain", "whisper"])
@pytest.mark.parametrize("layers", [[0], [1, 2], [3], [0, 3]])
def test_some_layers_are_those_of_all(form: str, layers: list[int], tmp_path: Path) -> None:
    save(tmp_path, form)
    audio = speechlike((0.5, 0.9))
    every = Encoder(described(tmp_path)).embed(audio)["mean"]
    some = Encoder(described(tmp_path, layers=layers))
    assert some.layers == layers
    np.testing.assert_array_equal(some.embed(audio)["mean"], every[layers])
    parameters = sum(weight.numel() for weight in some.forward.layers.parameters())
    whole = sum(
        weight.numel() for weight in Encoder(described(tmp_path)).forward.layers.parameters()
    )
    assert (parameters < whole) == (3 not in layers)  # blocks that nobody asked for are not run


def test_the_checkpoint_says_whether_input_is_normalised(tmp_path: Path) -> None:
    model = save(tmp_path, "hubert-layer-stable", normalise=False)
    audio = speechlike((0.4, 1.0))
    for samples in audio:
        samples.setflags(write=False)
    expected = np.stack([alone(model, tmp_path, samples) for samples in audio], axis=1)
    encoder = Encoder(described(tmp_path))
    assert encoder.key["input_normalisation"] == "none"
    assert worst(encoder.embed(audio)["mean"], expected) <= TOLERANCE


@pytest.mark.parametrize(
    ("form", "head"),
    [
        ("wav2vec2-layer-stable", "ForCTC"),
        ("wav2vec2-group-plain", "ForSequenceClassification"),
        ("wavlm-group-plain", "ForXVector"),
        ("data2vec-audio", "ForCTC"),
        ("whisper", "ForConditionalGeneration"),
        ("whisper", "ForAudioClassification"),
    ],
)
def test_heads_are_dropped_without_complaint(
    form: str, head: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path, form, head=head)
    audio = speechlike((0.4, 1.0))
    capfd.readouterr()
    mean = Encoder(described(tmp_path)).embed(audio)["mean"]
    assert capfd.readouterr() == ("", "")
    bare = model if form == "whisper" else model.base_model
    expected = np.stack([alone(bare, tmp_path, samples) for samples in audio], axis=1)
    assert worst(mean, expected) <= TOLERANCE


@pytest.mark.parametrize("form", ["wav2vec2-group-plain", "whisper"])
def test_weights_that_would_stay_random_are_an_error(form: str, tmp_path: Path) -> None:
    save(tmp_path, form)
    weights = load_file(tmp_path / "model.safetensors")
    gone = [name for name in weights if "encoder.layers.1." in name and "decoder" not in name]
    save_file(
        {name: weight for name, weight in weights.items() if name not in gone},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=rf"{len(gone)} of the encoder's weights.*layers\.1\."):
        Encoder(described(tmp_path))


def test_a_wrong_prefix_everywhere_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, "hubert-group-plain")
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {f"student.{name}": weight for name, weight in weights.items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="would stay random"):
        Encoder(described(tmp_path))


def test_weights_of_another_shape_are_an_error(tmp_path: Path) -> None:
    save(tmp_path, "wav2vec2-group-plain")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 44}))
    with pytest.raises(ModelError, match="intermediate_dense"):
        Encoder(described(tmp_path))


def test_a_lacking_spec_augment_vector_is_none(tmp_path: Path) -> None:
    save(tmp_path, "wav2vec2-group-plain")
    audio = speechlike((0.5,))
    mean = Encoder(described(tmp_path)).embed(audio)["mean"]
    weights = load_file(tmp_path / "model.safetensors")
    del weights["masked_spec_embed"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(Encoder(described(tmp_path)).embed(audio)["mean"], mean)


def test_an_old_bin_file_loads_whole(tmp_path: Path) -> None:
    save(tmp_path, "wav2vec2-layer-stable", head="ForCTC")
    audio = speechlike((0.5, 0.8))
    mean = Encoder(described(tmp_path)).embed(audio)["mean"]
    old = {"original0": "weight_g", "original1": "weight_v"}
    weights = {}
    for name, weight in load_file(tmp_path / "model.safetensors").items():
        stem, _, last = name.rpartition(".parametrizations.weight.")
        weights[f"{stem}.{old[last]}" if stem else name] = weight
    assert any(name.endswith("weight_g") for name in weights)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    description = described(tmp_path)
    assert not description.safetensors
    np.testing.assert_array_equal(Encoder(description).embed(audio)["mean"], mean)


def test_shards_load_whole(tmp_path: Path) -> None:
    model = save(tmp_path / "one", "wavlm-layer-stable")
    save(tmp_path / "many", "wavlm-layer-stable")
    (tmp_path / "many/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "many", max_shard_size="40KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    audio = speechlike((0.5, 0.8))
    single, many = (Encoder(described(tmp_path / name)).embed(audio) for name in ("one", "many"))
    np.testing.assert_array_equal(many["mean"], single["mean"])


def test_a_half_precision_checkpoint_is_computed_in_float32(tmp_path: Path) -> None:
    model = save(tmp_path, "hubert-group-plain")
    model.half().save_pretrained(tmp_path)
    audio = speechlike(SECONDS)
    expected = np.stack([alone(model.float(), tmp_path, samples) for samples in audio], axis=1)
    assert worst(Encoder(described(tmp_path)).embed(audio)["mean"], expected) <= TOLERANCE


@pytest.mark.parametrize("form", ["wav2vec2-group-plain", "wavlm-layer-stable", "whisper"])
@pytest.mark.parametrize(("precision", "near"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_half_precision_is_near_float32(
    form: str, precision: str, near: float, tmp_path: Path
) -> None:
    save(tmp_path, form)
    audio = speechlike((0.5, 1.2))
    mean = Encoder(described(tmp_path)).embed(audio)["mean"]
    encoder = Encoder(described(tmp_path, precision))
    for encoder.file_by_file, encoder.max_runs in WAYS:
        half = encoder.embed(audio)["mean"]
        assert half.dtype == np.float32
        assert 1e-6 < worst(half, mean) < near


def test_long_audio_goes_in_windows_whose_frames_tile_it(tmp_path: Path) -> None:
    model = save(tmp_path, "wav2vec2-layer-stable", normalise=False)
    (short, long) = speechlike((0.4, 3.333))
    encoder = Encoder(described(tmp_path, max_seconds=1.0))
    n_frames = (len(long) - 400) // 320 + 1
    assert n_frames == 166  # at most 49 a window: four windows
    bounds = [0, 42, 83, 124, 166]
    expected = sum(
        alone(model, tmp_path, long[first * 320 : last * 320 + 80]) * (last - first)
        for first, last in zip(bounds[:-1], bounds[1:], strict=True)
    )
    mean = encoder.embed([long, short])["mean"]
    assert worst(mean[:, 0], expected / n_frames) <= TOLERANCE
    assert worst(mean[:, 1], alone(model, tmp_path, short)) <= TOLERANCE
    changed = long.copy()
    changed[-400:] = 0.5
    assert worst(encoder.embed([changed])["mean"][:, 0], mean[:, 0]) > 1e-4


def test_a_long_utterance_is_normalised_before_it_is_cut(tmp_path: Path) -> None:
    save(tmp_path / "yes", "wav2vec2-layer-stable")
    save(tmp_path / "no", "wav2vec2-layer-stable", normalise=False)
    (long,) = speechlike((2.5,))
    long *= np.linspace(0.1, 1, len(long), dtype=np.float32)
    scaled = (long - long.mean()) / np.sqrt(long.var() + 1e-7)
    yes, no = (Encoder(described(tmp_path / name, max_seconds=1.0)) for name in ("yes", "no"))
    assert worst(yes.embed([long])["mean"], no.embed([scaled])["mean"]) <= TOLERANCE


def test_whisper_takes_windows_of_at_most_30_seconds(tmp_path: Path) -> None:
    model = save(tmp_path, "whisper")
    encoder = Encoder(described(tmp_path))
    assert encoder.max_samples == 480_000
    (long,) = speechlike((33.0,))
    expected = (alone(model, tmp_path, long[:264_000]) + alone(model, tmp_path, long[264_000:])) / 2
    assert worst(encoder.embed([long])["mean"][:, 0], expected) <= TOLERANCE


@pytest.mark.parametrize("form", ["hubert-group-plain", "data2vec-audio"])
def test_frames_are_counted_as_transformers_counts_them(form: str, tmp_path: Path) -> None:
    odd = {"conv_kernel": [8, 3, 5, 2, 2, 2, 2], "conv_stride": [4, 3, 2, 2, 2, 1, 2]}
    for name, settings in (("usual", {}), ("odd", odd)):
        model = save(tmp_path / name, form, **settings)
        encoder = Encoder(described(tmp_path / name))
        first = encoder.min_samples
        counted = [encoder._count(n) for n in range(first, first + 2000)]
        lengths = torch.arange(first - 1, first + 2000)
        assert model._get_feat_extract_output_lengths(lengths).tolist() == [0, *counted]
        audio = [samples[: first + 7] for samples in speechlike((0.5, 0.5))]
        expected = np.stack([alone(model, tmp_path / name, samples) for samples in audio], axis=1)
        assert worst(encoder.embed(audio)["mean"], expected) <= TOLERANCE


def test_audio_that_is_no_frame_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "hubert-group-plain")
    encoder = Encoder(described(tmp_path))
    assert encoder.min_samples == 400
    with pytest.raises(ValueError, match=r"utterance 1 of the batch: shape \(399,\).*>= 400"):
        encoder.embed([np.zeros(400, np.float32), np.zeros(399, np.float32)])
    assert encoder.embed([])["mean"].shape == (4, 0, 24)


def test_the_untrained_model_is_the_same_everywhere() -> None:
    description = describe(find_model("wav2vec2-tiny"), precision="float32", max_seconds=60)
    assert not description.trained
    encoder = Encoder(description)
    digest = hashlib.sha256()
    for name, parameter in sorted(untrained().named_parameters()):
        digest.update(name.encode() + parameter.detach().numpy().tobytes())
    assert digest.hexdigest() == "75205f44b475f9607796bdf456c8592f279fd90cf793fc45641fcbbf329dfe87"
    audio = speechlike(SECONDS)
    mean = encoder.embed(audio)["mean"]
    assert mean.shape == (5, 5, 64)
    pinned = [[-1.0373147, 0.25816107, 0.38270143], [0.8068187, 1.247259, 0.7012313]]
    np.testing.assert_allclose(mean[[0, -1], 1, :3], pinned, rtol=1e-4)
    # Utterances differ by more than rounding, in every layer.
    assert (mean.std(axis=1).mean(axis=-1) > 0.05).all()


class Executed:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_checkpoint_that_would_run_code_is_refused_unexecuted(tmp_path: Path, form: str) -> None:
    checkpoint, executed = tmp_path / "checkpoint", tmp_path / "executed"
    model = save(checkpoint, "wav2vec2-group-plain")
    (checkpoint / "model.safetensors").unlink()
    weights = {**model.state_dict(), "more": Executed(executed)}
    path = checkpoint / "pytorch_model.bin"
    if form == "pickle":
        path.write_bytes(pickle.dumps(weights, protocol=2))
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=form == "zip")
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    executed.rmdir()  # the file does what it is made for
    with pytest.raises(
        ModelError, match=r"some: .*not read, nor executed: .*safetensors"
    ) as caught:
        Encoder(described(checkpoint))
    assert "\n" not in str(caught.value)
    assert not executed.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\0\0\0\0\0\0\0{}      "])
def test_weights_that_are_none(tmp_path: Path, name: str, content: bytes) -> None:
    save(tmp_path, "wav2vec2-group-plain")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"^some: \S+") as caught:
        Encoder(described(tmp_path))
    assert "\n" not in str(caught.value)
