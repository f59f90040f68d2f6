"""What a checkpoint says of itself: family, sizes, layers, hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.families.family import ConfigSetting, Family, Geometry
from extract.encoders.families.other import REFERENCE
from extract.encoders.families.table import FAMILIES
from extract.encoders.geometry import TINY_CONFIG, TINY_SEED
from extract.encoders.preprocessor import complete, read_any_settings, read_settings
from extract.encoders.registry import Model
from extract.encoders.values import checked_size, read_json
from extract.encoders.weights import CONFIG, checkpoint_files, refuse_config, sha256, snapshot
from extract.frames import FrameOutput, frame_layers, frame_outputs, frames_hz
from features.common.errors import ModelError
from features.common.walk import existing
from features.recipe.known.engines import ENGINES
from features.recipe.known.precisions import PRECISIONS

WIDTHS = [ConfigSetting("d_model", 0), ConfigSetting("hidden_size", 0)]
"""Names that any encoder's width may have in config.json; none has a default."""
DEPTHS = [
    ConfigSetting("encoder_layers", 0),
    ConfigSetting("encoder_num_hidden_layers", 0),
    ConfigSetting("num_hidden_layers", 0),
]
"""Names that the number of its blocks may have."""


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
    engine : {"exact", "reference"}
        Whose forward computes: ours, many files at once, or transformers' own, file by file.
    framewise : tuple of FrameOutput
        What is given in time beside the means: frames, segments, both, or nothing.
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
    engine: Literal["exact", "reference"] = "exact"
    framewise: tuple[FrameOutput, ...] = ()

    feature_set: ClassVar[str | None] = None
    """No set that decoders compute."""
    default: ClassVar[tuple[str, ...]] = ("mean",)
    """Statistics that a recipe gets that names none."""

    @property
    def columns(self) -> dict[str, int]:
        """Width of each statistic."""
        return {"mean": self.hidden_size}

    def column_names(self) -> dict[str, list[str]]:
        """Columns have no names."""
        return {}

    @property
    def remark(self) -> str:
        """What is said when an extraction starts; "" for nothing."""
        if self.engine == "exact":
            return ""
        return (
            f"{self.key['family']} by transformers' own forward, file by file (engine = "
            '"reference"): exact by construction, slower'
        )

    def portable(self) -> Description:
        """The same, with its folder as other working directories call it."""
        return self if self.folder is None else replace(self, folder=self.folder.absolute())

    @property
    def family(self) -> Family:
        """The module that knows its forward; KeyError where engine = "reference" alone runs it."""
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
    engine: str = "auto",
    context_s: float | None = None,
    frames: Sequence[int | str] = (),
    frames_dtype: str = "float16",
    segments: int | None = None,
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
    engine : {"auto", "exact", "reference"}
        Whose forward computes; auto: ours where the family is known, else transformers' own.
    context_s : float, optional
        Seconds that audio is padded to in the place of the model's own.
    frames : sequence of int or "last"
        Layers whose states of every frame are wanted.
    frames_dtype : {"float16", "float32"}
        Of segments, too.
    segments : int, optional
        Parts of every utterance whose means of all stored layers are wanted.

    Returns
    -------
    Description
        Its key says all that changes a number of the store: source of the weights, family, layers,
        precision, preparation of the input.

    Raises
    ------
    ModelError
        The checkpoint is missing, incomplete, not what is registered, or of an unknown
        family where engine is "exact"; or it cannot have such a context.
    """
    if model.kind != "transformers":
        raise ValueError(f"{model.key}: {model.kind} features have no checkpoint to describe")
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    found = _find(model, path)
    where, config = found.where, found.config
    family = _family_of(where, config, engine)
    _refuse_other_forward(found)
    settings, context = _with_context(where, _settings(model, found, family), family, context_s)
    widths, depths = ([family.width], [family.depth]) if family else (WIDTHS, DEPTHS)
    hidden_size = _size(where, config, widths, model, "hidden size", model.hidden_size)
    n_layers = _size(where, config, depths, model, "number of layers", model.n_layers)
    geometry = (family or REFERENCE).geometry(where, config, settings)
    key = {
        "model": model.key,
        "source": found.source,
        "family": config["model_type"],
        "layers": _stored_layers(where, layers, n_layers),
        "statistics": ["mean"],
        "precision": precision,
        "sampling_rate": SAMPLING_RATE_HZ,
        "max_seconds": float(max_seconds),
        **(family or REFERENCE).key_members(config, settings),
        **context,
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
        engine="exact" if family else "reference",
        framewise=frame_outputs(
            frame_layers(where, frames, n_layers),
            segments,
            stored=key["layers"],
            dtype=frames_dtype,
            width=hidden_size,
            hz=frames_hz(geometry.stride),
        ),
    )


def _refuse_other_forward(found: Checkpoint) -> None:
    """Refuse code, weights and adapters that config.json asks for beside the encoder itself."""
    refuse_config(found.where, found.config)
    if found.config.get("add_adapter"):
        raise ModelError(
            f"{found.where}: add_adapter is set in config.json: frames behind an adapter are not "
            "those of the blocks before it; use a checkpoint without one"
        )


def _settings(model: Model, found: Checkpoint, family: Family | None) -> dict[str, Any]:
    """Settings of the feature extractor."""
    if found.folder is None:
        return complete({}, FAMILIES[found.config["model_type"]].preparation.name)
    read = read_settings if family else read_any_settings
    return read(model.key, found.folder, found.config, mended=found.mended)


def _with_context(
    where: str, settings: dict[str, Any], family: Family | None, context_s: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings that pad to another length, and what a key says of it (of its own: nothing)."""
    if context_s is None:
        return settings, {}
    if family is None:
        raise ModelError(
            f"{where}: context_s = {context_s:g}: transformers' own forward takes the model's own "
            'length alone; take [extract] engine = "auto", or leave context_s out'
        )
    changed = family.shortened(where, settings, context_s)
    return changed, {} if changed == settings else {"context_s": float(context_s)}


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


def _family_of(where: str, config: dict[str, Any], engine: str) -> Family | None:
    """The family whose forward computes; None where transformers' own does."""
    name = config.get("model_type")
    if engine not in ENGINES:
        raise ModelError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if not isinstance(name, str) or (engine == "exact" and name not in FAMILIES):
        raise ModelError(
            f"{where}: config.json is of model_type {name!r}; expected one of "
            f'{", ".join(FAMILIES)}, or [extract] engine = "auto", which runs any other speech '
            "encoder by transformers' own forward"
        )
    towers = [part for part in ("audio_config", "text_config") if part in config]
    if towers and name not in FAMILIES:
        raise ModelError(
            f"{where}: config.json has {towers[0]}: a {name} model has its audio tower beside "
            "others; what is missing is that tower alone: save it with save_pretrained, and the "
            "feature extractor beside it"
        )
    return None if engine == "reference" else FAMILIES.get(name)


def _size(
    where: str,
    config: dict[str, Any],
    settings: Sequence[ConfigSetting],
    model: Model,
    what: str,
    registered: int | None,
) -> int:
    """A size by the first of its names that config.json has, compared with the registered one."""
    named = next((setting for setting in settings if setting.name in config), settings[-1])
    found = checked_size(where, named.name, config.get(*named))
    if registered not in (None, found):
        raise ModelError(
            f"{where}: {what} {found} in config.json, {registered} in the registry: this is "
            f"another model than {model.key}; give it a key of its own"
        )
    return found


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
