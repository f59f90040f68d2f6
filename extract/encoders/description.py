"""What a checkpoint says of itself: family, sizes, layers, hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.geometry import (
    CONV_DIM,
    CONV_KERNEL,
    CONV_STRIDE,
    FAMILIES,
    MOST,
    TINY_CONFIG,
    TINY_SEED,
)
from extract.encoders.preprocessor import (
    WHISPER_REDUCTION,
    as_json,
    complete,
    extractor_of,
    is_count,
    read_json,
    read_settings,
)
from extract.encoders.registry import Model
from extract.encoders.weights import CONFIG, checkpoint_files, refuse_config, sha256, snapshot
from features.common.errors import ModelError
from features.common.walk import existing
from features.recipe.known.precisions import PRECISIONS


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
