"""The speech models and feature sets that are known, and what stands in a checkpoint's files.

Imports neither torch nor transformers: planning reads JSON and needs no weights in memory. A
checkpoint is a folder with `config.json`, the settings of its feature extractor and weights (see
`extract.encoders.weights` and `extract.encoders.preprocessor`), either the user's own or a snapshot
in the Hub's cache. Everything that changes an embedding ends up in `Description.key`, which is what
a store is made and compared with.

Layers are counted as everywhere here: 0 is what enters the first transformer block, k < L what
leaves block k, L the model's `last_hidden_state`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.preprocessor import (
    WHISPER_REDUCTION,
    as_json,
    complete,
    extractor_of,
    is_count,
    read_json,
    read_settings,
)
from extract.encoders.weights import CONFIG, checkpoint_files, refuse_config, sha256, snapshot
from features.common.errors import ModelError, nearest
from features.common.walk import existing

PRECISIONS = ("float32", "bfloat16", "float16")
# transformers' `model_type` of the families whose forward is made exact under padding.
CONVOLUTIONAL = ("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
FAMILIES = (*CONVOLUTIONAL, "whisper")
# Defaults of all six configuration classes in transformers, for keys that a config.json omits.
CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)  # samples, then frames of the layer below
CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)
CONV_DIM = (512,) * 7
MOST = 1_000_000  # of any size in config.json: what is larger is no model's

TINY_SEED = 0
TINY_CONFIG: dict[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32] * 7,
    "conv_kernel": list(CONV_KERNEL),
    "conv_stride": list(CONV_STRIDE),
    "conv_bias": False,
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}


@dataclass(frozen=True)
class Model:
    """A speech model or feature set by the name that users type.

    `hidden_size` and `n_layers` are what the checkpoint must have, None where nothing is claimed;
    `params` is rounded; `languages` is empty and `licence` "unknown" where no source says.
    """

    key: str
    kind: Literal["transformers", "acoustic"]
    hub: str | None = None
    revision: str | None = None
    hidden_size: int | None = None
    n_layers: int | None = None
    licence: str = "unknown"
    languages: tuple[str, ...] = ()
    params: int | None = None
    note: str = ""


def _register(*models: Model) -> dict[str, Model]:
    registered: dict[str, Model] = {}
    for model in models:
        if model.key in registered:
            raise ValueError(f"speech model {model.key!r} is registered twice")
        registered[model.key] = model
    return registered


def _speech(
    key: str, hub: str, hidden_size: int, n_layers: int, millions: int, **more: Any
) -> Model:
    params = millions * 10**6
    model = Model(key, "transformers", hub, None, hidden_size, n_layers, params=params)
    return replace(model, **more)


MODELS = _register(
    _speech(
        "wav2vec",
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        1024,
        12,
        165,
        licence="CC BY-NC-SA 4.0",
        languages=("English",),
        note="fine-tuned on MSP-Podcast for emotion dimensions; non-commercial use only",
    ),
    _speech(
        "xlsr-53",
        "facebook/wav2vec2-large-xlsr-53",
        1024,
        24,
        317,
        revision="c3f9d884181a224a6ac87bf8885c84d1cff3384f",
        languages=("53 languages",),
    ),
    _speech(
        "xlsr-53-en",
        "jonatasgrosman/wav2vec2-large-xlsr-53-english",
        1024,
        24,
        317,
        languages=("English",),
        note="xlsr-53 fine-tuned for speech recognition",
    ),
    _speech(
        "xlsr-53-sp",
        "jonatasgrosman/wav2vec2-large-xlsr-53-spanish",
        1024,
        24,
        317,
        languages=("Spanish",),
        note="xlsr-53 fine-tuned for speech recognition",
    ),
    _speech(
        "xlsr-300m",
        "facebook/wav2vec2-xls-r-300m",
        1024,
        24,
        317,
        revision="1a640f32ac3e39899438a2931f9924c02f080a54",
        languages=("128 languages",),
    ),
    _speech(
        "xlsr-1b",
        "facebook/wav2vec2-xls-r-1b",
        1280,
        48,
        965,
        revision="35eaea9a0ed0f97592277d79208e40ab8917d1e3",
        languages=("128 languages",),
    ),
    _speech(
        "xlsr-1b-en",
        "jonatasgrosman/wav2vec2-xls-r-1b-english",
        1280,
        48,
        965,
        languages=("English",),
        note="xlsr-1b fine-tuned for speech recognition",
    ),
    _speech(
        "xlsr-1b-sp",
        "jonatasgrosman/wav2vec2-xls-r-1b-spanish",
        1280,
        48,
        965,
        languages=("Spanish",),
        note="xlsr-1b fine-tuned for speech recognition",
    ),
    _speech(
        "xlsr-2b",
        "facebook/wav2vec2-xls-r-2b",
        1920,
        48,
        2200,
        revision="3b6d89d0fabead7da552eaaa07549c7c9c36d303",
        languages=("128 languages",),
    ),
    _speech(
        "wav2vec2-base",
        "facebook/wav2vec2-base",
        768,
        12,
        95,
        revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
    ),
    _speech("wav2vec2-large", "facebook/wav2vec2-large-960h-lv60-self", 1024, 24, 317),
    _speech(
        "hubert-base",
        "facebook/hubert-base-ls960",
        768,
        12,
        95,
        revision="dba3bb02fda4248b6e082697eee756de8fe8aa8a",
    ),
    _speech("hubert-large", "facebook/hubert-large-ll60k", 1024, 24, 317),
    _speech("hubert-xlarge", "facebook/hubert-xlarge-ls960-ft", 1280, 48, 964),
    _speech("unispeech-large", "microsoft/unispeech-large-1500h-cv", 1024, 24, 317),
    _speech(
        "unispeech-large-multi", "microsoft/unispeech-large-multi-lingual-1500h-cv", 1024, 24, 317
    ),
    _speech(
        "wavlm-base-plus",
        "microsoft/wavlm-base-plus",
        768,
        12,
        95,
        revision="4c66d4806a428f2e922ccfa1a962776e232d487b",
    ),
    _speech(
        "wavlm-large",
        "microsoft/wavlm-large",
        1024,
        24,
        317,
        revision="c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
    ),
    _speech("unispeech-sat-large", "microsoft/unispeech-sat-large", 1024, 24, 317),
    _speech("data2vec-large", "facebook/data2vec-audio-large", 1024, 24, 313),
    _speech("whisper-large-v3", "openai/whisper-large-v3", 1280, 32, 637, note="the encoder alone"),
    Model(
        "wav2vec2-tiny",
        "transformers",
        hidden_size=TINY_CONFIG["hidden_size"],
        n_layers=TINY_CONFIG["num_hidden_layers"],
        licence="MIT",
        note="UNTRAINED: random weights from a configuration and a seed, for the demo and tests",
    ),
    Model("mfcc", "acoustic", licence="MIT", note="mel-frequency cepstral coefficients"),
    Model("log-mel", "acoustic", licence="MIT", note="log mel spectrum"),
    Model(
        "egemaps",
        "acoustic",
        licence="research use only (openSMILE)",
        note="openSMILE functionals of eGeMAPSv02",
    ),
    Model(
        "compare",
        "acoustic",
        licence="research use only (openSMILE)",
        note="openSMILE functionals of ComParE 2016",
    ),
)


@dataclass(frozen=True)
class Description:
    """A speech model as its files say, and all that changes an embedding made with it.

    Attributes
    ----------
    key : dict
        What a store is keyed by; JSON-able.
    folder : Path or None
        Where its files lie; None for the untrained model.
    safetensors : bool
        Which of the two weight formats is read.
    hidden_size, n_layers : int
        Width of an embedding and number of transformer blocks.
    min_samples : int
        Fewest samples at 16 kHz that give a frame.
    max_samples : int
        Most samples that one forward takes; longer utterances go in windows.
    stride : int
        Samples from one frame to the next.
    padded_samples : int
        Samples that a forward computes however short its audio is: 30 s for whisper, else 0.
    trained : bool
        False for random weights.
    preprocessor : dict
        Settings of the feature extractor, all of them: what the encoder makes its own of.
    files : tuple of str
        What of the folder is read.
    """

    key: dict[str, Any]
    folder: Path | None
    safetensors: bool
    hidden_size: int
    n_layers: int
    min_samples: int
    max_samples: int
    stride: int
    padded_samples: int
    trained: bool
    preprocessor: dict[str, Any]
    files: tuple[str, ...]


def find_model(key: str, spec: Any = None) -> Model:
    """Look a model up, or define or override one from a recipe.

    Parameters
    ----------
    key : str
        What the user typed.
    spec : object with attributes hub, revision and path, optional
        A recipe's `[models.KEY]`; each attribute may be None.

    Raises
    ------
    ModelError
        The key is unknown (the nearest ones are named) or the model takes no checkpoint.
    """
    known = MODELS.get(key)
    hub, revision, path = (getattr(spec, name, None) for name in ("hub", "revision", "path"))
    if hub is None and revision is None and path is None:
        if known is None:
            raise ModelError(
                f"unknown speech model {key!r}{nearest(key, MODELS)}; registered: "
                f"{', '.join(MODELS)}; for any other transformers model write [models.{key}] with "
                'hub = "org/repo" or path = "folder"'
            )
        return known
    if known is not None and known.hub is None:
        raise ModelError(f"[models.{key}]: {key} is built in and takes no hub, revision or path")
    if known is not None and hub in (None, known.hub):
        return replace(known, revision=revision or known.revision)
    if hub is None and path is None:
        raise ModelError(f'[models.{key}]: a revision alone; add hub = "org/repo"')
    # Another repository than the registered one: nothing that is registered need hold for it.
    return Model(key, "transformers", hub, revision, note="defined by the recipe")


def describe(
    model: Model,
    path: str | Path | None = None,
    *,
    precision: str,
    layers: str | Sequence[int] = "all",
    max_seconds: float,
) -> Description:
    """Find a checkpoint, fetch it where need be, and read what its files say.

    Parameters
    ----------
    model : Model
        A transformers model.
    path : str or Path, optional
        A local folder that is read instead of the Hub.
    precision : {"float32", "bfloat16", "float16"}
        Of weights and activations; pooling is float32 in any case.
    layers : "all" or sequence of int
        Layers to store.
    max_seconds : float
        Longest piece that one forward takes.

    Raises
    ------
    ModelError
        The checkpoint is missing, incomplete, of an unknown family or not what is registered.
    """
    if model.kind != "transformers":
        raise ValueError(f"{model.key}: {model.kind} features have no checkpoint to describe")
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    folder: Path | None = None
    files: list[str] = []
    mended = "in that folder"
    if path is not None:
        folder = existing(path)
        files = checkpoint_files(model.key, folder)
        source = f"sha256:{sha256(model.key, folder, files)}"
    elif model.hub is not None:
        folder = snapshot(model)
        files = checkpoint_files(model.key, folder)
        source = f"{model.hub}@{folder.name}"
        mended = f"in a copy of the folder that [models.{model.key}] path = ... names"
    else:
        source = f"untrained:{_json_sha256(TINY_CONFIG)}:seed={TINY_SEED}"
    where = model.key if folder is None else f"{model.key}: {folder}"
    config = TINY_CONFIG if folder is None else read_json(model.key, folder / CONFIG)
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ModelError(
            f"{where}: config.json is of model_type {family!r}; expected one of "
            f"{', '.join(FAMILIES)}"
        )
    refuse_config(where, config)
    whisper = family == "whisper"
    if folder is None:
        preprocessor = complete({}, extractor_of(family))
    else:
        preprocessor = read_settings(model.key, folder, config, mended=mended)
    if config.get("add_adapter"):
        raise ModelError(
            f"{where}: add_adapter is set in config.json: frames behind an adapter are not those "
            "of the blocks before it; use a checkpoint without one"
        )
    width, depth = (
        ("d_model", "encoder_layers") if whisper else ("hidden_size", "num_hidden_layers")
    )
    hidden_size = _size(where, width, config.get(width, 384 if whisper else 768))
    n_layers = _size(where, depth, config.get(depth, 4 if whisper else 12))
    for name, found, registered in (
        ("hidden size", hidden_size, model.hidden_size),
        ("number of layers", n_layers, model.n_layers),
    ):
        if registered not in (None, found):
            raise ModelError(
                f"{where}: {name} {found} in config.json, {registered} in the registry: this is "
                f"another model than {model.key}; give it a key of its own"
            )

    max_samples = math.floor(max_seconds * SAMPLING_RATE_HZ)
    if whisper:
        stride = WHISPER_REDUCTION * preprocessor["hop_length"]
        min_samples, padded_samples = preprocessor["n_fft"], preprocessor["n_samples"]
        max_samples = min(max_samples, padded_samples)
    else:
        kernels, strides, _ = _convolutions(where, config)
        # A frame sees the kernel of the first layer, widened by every later one.
        min_samples, stride, padded_samples = 1, 1, 0
        for kernel, step in zip(kernels, strides, strict=True):
            min_samples += (kernel - 1) * stride
            stride *= step
    if max_samples < min_samples:
        raise ModelError(
            f"{where}: max_seconds = {max_seconds:g} is {max_samples} samples; a frame needs "
            f"{min_samples}"
        )

    if whisper:
        normalisation = "log-mel (whisper)"
    else:
        normalisation = "zero-mean-unit-variance" if preprocessor["do_normalize"] else "none"
    key = {
        "model": model.key,
        "source": source,
        "family": family,
        "layers": _stored_layers(where, layers, n_layers),
        "statistics": ["mean"],
        "precision": precision,
        "sampling_rate": SAMPLING_RATE_HZ,
        "max_seconds": float(max_seconds),
        "input_normalisation": normalisation,
    }
    if family == "data2vec-audio" and config.get("do_stable_layer_norm"):
        # transformers' model has no such setting: a store that lacks this member has followed it.
        key["norms"] = "behind"
    return Description(
        key=key,
        folder=folder,
        safetensors=any(name.endswith(".safetensors") for name in files),
        hidden_size=hidden_size,
        n_layers=n_layers,
        min_samples=min_samples,
        max_samples=max_samples,
        stride=stride,
        padded_samples=padded_samples,
        trained=folder is not None,
        preprocessor=preprocessor,
        files=tuple(files),
    )


def _size(where: str, name: str, value: Any) -> int:
    """A size in config.json, checked: JSON holds anything."""
    if not is_count(value) or value > MOST:
        raise ModelError(
            f"{where}: {name} is {as_json(value)} in config.json; expected an integer from 1 to "
            f"{MOST}"
        )
    return int(value)


def _convolutions(where: str, config: Mapping[str, Any]) -> list[list[int]]:
    """Kernels, strides and channels of the convolutions, as many of each."""
    lists = []
    for name, default in (
        ("conv_kernel", CONV_KERNEL),
        ("conv_stride", CONV_STRIDE),
        ("conv_dim", CONV_DIM),
    ):
        values = config.get(name, default)
        if not isinstance(values, list | tuple) or not values:
            raise ModelError(
                f"{where}: {name} is {as_json(values)} in config.json; expected a list of integers"
            )
        lists.append([_size(where, f"{name}[{i}]", one) for i, one in enumerate(values)])
    if len({len(one) for one in lists}) > 1:
        raise ModelError(
            f"{where}: conv_kernel, conv_stride and conv_dim in config.json have "
            f"{', '.join(str(len(one)) for one in lists)} members; expected as many of each"
        )
    return lists


def _stored_layers(where: str, layers: str | Sequence[int], n_layers: int) -> list[int]:
    if layers == "all":
        return list(range(n_layers + 1))
    wanted = sorted({int(layer) for layer in layers})
    outside = [layer for layer in wanted if not 0 <= layer <= n_layers]
    if outside or not wanted:
        raise ModelError(f"{where}: layers {outside or wanted}: the model has 0 to {n_layers}")
    return wanted


def _json_sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
