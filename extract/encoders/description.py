"""What a checkpoint says of itself: family, sizes, layers, hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.families.family import Family, Geometry, Setting
from extract.encoders.families.table import FAMILIES
from extract.encoders.geometry import TINY_CONFIG, TINY_SEED
from extract.encoders.preprocessor import complete, read_settings
from extract.encoders.registry import Model
from extract.encoders.values import checked_size, read_json
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
    geometry : Geometry
        How its frames lie on the samples.
    max_samples : int
        Most samples that one forward takes; longer utterances go in windows.
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
    geometry: Geometry
    max_samples: int
    trained: bool
    preprocessor: dict[str, Any]
    files: tuple[str, ...]

    @property
    def family(self) -> Family:
        """The module that knows its forward."""
        return FAMILIES[self.key["family"]]

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that give a frame."""
        return self.geometry.min_samples

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return self.geometry.stride

    @property
    def padded_samples(self) -> int:
        """Samples that a forward computes however short its audio is; 0: the audio alone."""
        return self.geometry.padded_samples


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found, before anything is asked of it.

    Attributes
    ----------
    where : str
        What errors call it.
    mended : str
        Where a user mends a file of it, for messages.
    source : str
        What a store's key says of its weights.
    """

    folder: Path | None
    files: tuple[str, ...]
    config: dict[str, Any]
    where: str
    mended: str
    source: str


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
    found = _find(model, path)
    where, config = found.where, found.config
    family = _family_of(where, config)
    refuse_config(where, config)
    if found.folder is None:
        settings = complete({}, family.preparation.name)
    else:
        settings = read_settings(model.key, found.folder, config, mended=found.mended)
    if config.get("add_adapter"):
        raise ModelError(
            f"{where}: add_adapter is set in config.json: frames behind an adapter are not those "
            "of the blocks before it; use a checkpoint without one"
        )
    hidden_size, n_layers = _shape(where, config, model, family.width, family.depth)
    geometry = family.geometry(where, config, settings)
    key = {
        "model": model.key,
        "source": found.source,
        "family": family.name,
        "layers": _stored_layers(where, layers, n_layers),
        "statistics": ["mean"],
        "precision": precision,
        "sampling_rate": SAMPLING_RATE_HZ,
        "max_seconds": float(max_seconds),
        "input_normalisation": family.normalisation(settings),
        **family.more_key(config),
    }
    return Description(
        key=key,
        folder=found.folder,
        safetensors=any(name.endswith(".safetensors") for name in found.files),
        hidden_size=hidden_size,
        n_layers=n_layers,
        geometry=geometry,
        max_samples=_max_samples(where, max_seconds, geometry),
        trained=found.folder is not None,
        preprocessor=settings,
        files=found.files,
    )


def _find(model: Model, path: str | Path | None) -> Checkpoint:
    """Find a checkpoint's files, fetching them where need be."""
    if path is None and model.hub is None:
        source = f"untrained:{_json_sha256(TINY_CONFIG)}:seed={TINY_SEED}"
        return Checkpoint(None, (), TINY_CONFIG, model.key, "in that folder", source)
    if path is not None:
        folder = existing(path)
        files = checkpoint_files(model.key, folder)
        source = f"sha256:{sha256(model.key, folder, files)}"
        mended = "in that folder"
    else:
        folder = snapshot(model)
        files = checkpoint_files(model.key, folder)
        source = f"{model.hub}@{folder.name}"
        mended = f"in a copy of the folder that [models.{model.key}] path = ... names"
    config = read_json(model.key, folder / CONFIG)
    return Checkpoint(folder, tuple(files), config, f"{model.key}: {folder}", mended, source)


def _family_of(where: str, config: dict[str, Any]) -> Family:
    """The family that config.json names."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise ModelError(
            f"{where}: config.json is of model_type {name!r}; expected one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def _shape(
    where: str, config: dict[str, Any], model: Model, width: Setting, depth: Setting
) -> tuple[int, int]:
    """Hidden size and number of layers, compared with what is registered."""
    hidden_size = checked_size(where, width.name, config.get(*width))
    n_layers = checked_size(where, depth.name, config.get(*depth))
    for name, found, registered in (
        ("hidden size", hidden_size, model.hidden_size),
        ("number of layers", n_layers, model.n_layers),
    ):
        if registered not in (None, found):
            raise ModelError(
                f"{where}: {name} {found} in config.json, {registered} in the registry: this is "
                f"another model than {model.key}; give it a key of its own"
            )
    return hidden_size, n_layers


def _max_samples(where: str, max_seconds: float, geometry: Geometry) -> int:
    """Most samples of one forward: as the recipe says, within what a forward computes."""
    max_samples = math.floor(max_seconds * SAMPLING_RATE_HZ)
    if geometry.padded_samples:
        max_samples = min(max_samples, geometry.padded_samples)
    if max_samples < geometry.min_samples:
        raise ModelError(
            f"{where}: max_seconds = {max_seconds:g} is {max_samples} samples; a frame needs "
            f"{geometry.min_samples}"
        )
    return max_samples


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
