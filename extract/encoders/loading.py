"""Weights of a checkpoint to a model in memory, by transformers; nothing of it is executed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from extract.encoders.description import Description
from extract.encoders.geometry import TINY_CONFIG, TINY_SEED
from extract.encoders.weights import sha256
from features.common.errors import ModelError

# SpecAugment's replacement for masked frames: used in training alone, left out of some checkpoints.
NOT_NEEDED = "masked_spec_embed"


def load_model(description: Description, dtype: torch.dtype) -> tuple[Any, Any]:
    """Bare encoder of a known family, on the CPU, and the extractor that prepares its input.

    Parameters
    ----------
    description : Description
        With engine "exact".
    dtype : torch.dtype
        Of the weights.

    Returns
    -------
    model : transformers' encoder
        Without heads or a decoder.
    extractor : transformers' feature extractor

    Raises
    ------
    ModelError
        transformers cannot load it, some of its weights are missing, or extractor and encoder do
        not go together.
    """
    family = description.family
    if description.folder is None:
        return untrained().to(dtype), _extractor_of(description)
    where, extractor, model, loading = _loaded(description, dtype)
    model = family.bare(model)
    misfit = family.misfit(model, extractor)
    if misfit:
        raise ModelError(f"{where}: {misfit}")
    _refuse_random(where, loading, family.prefix)
    return model, extractor


def load_any(description: Description, dtype: torch.dtype) -> tuple[Any, Any]:
    """Encoder of any family of transformers, on the CPU, and its extractor.

    Parameters
    ----------
    description : Description
    dtype : torch.dtype
        Of the weights.

    Returns
    -------
    model : transformers' encoder
        Of an encoder-decoder the encoder alone.
    extractor : transformers' feature extractor

    Raises
    ------
    ModelError
        transformers cannot load it, or some of its weights are missing.
    """
    if description.folder is None:
        return untrained().to(dtype), _extractor_of(description)
    where, extractor, model, loading = _loaded(description, dtype)
    prefix = ""
    if getattr(model.config, "is_encoder_decoder", False):
        model, prefix = model.get_encoder(), "encoder."
    _refuse_random(where, loading, prefix)
    return model, extractor


def _loaded(description: Description, dtype: torch.dtype) -> tuple[str, Any, Any, Any]:
    """How errors call a checkpoint, its extractor and model, and what is said of its weights."""
    where = f"{description.key['model']}: {description.folder}"
    with _refused_in_one_line(where), _quiet_transformers():
        extractor = _extractor_of(description)
        model, loading = _read(description, dtype)
    _refuse_rewritten(description, where)
    return where, extractor, model, loading


def _extractor_of(description: Description) -> Any:
    """The extractor of the settings that the key was made of, not of files read once more."""
    import transformers

    settings = dict(description.preprocessor)
    name = settings.pop("feature_extractor_type")
    kind = getattr(transformers, str(name), None)
    if not isinstance(kind, type) or not issubclass(kind, transformers.FeatureExtractionMixin):
        raise ValueError(f"transformers has no feature extractor {name}")
    extractor = kind(**settings)
    for name in {"n_samples", "nb_max_frames"} & settings.keys():
        # The class computes them of its own length; a shorter context is said in them alone.
        setattr(extractor, name, settings[name])
    return extractor


def _read(description: Description, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model of a folder, and what transformers says of its weights."""
    import transformers

    # Without `dtype` the weights come in the precision that the config names.
    found: tuple[Any, Any] = transformers.AutoModel.from_pretrained(
        str(description.folder),
        dtype=dtype,
        use_safetensors=description.safetensors,
        trust_remote_code=False,
        weights_only=True,  # of a .bin file; a safetensors file can hold nothing else
        local_files_only=True,
        ignore_mismatched_sizes=True,  # so that they are named below
        output_loading_info=True,
    )
    return found


def _refuse_rewritten(description: Description, where: str) -> None:
    """Refuse a folder that something has written to since the work was planned."""
    source, folder = description.key["source"], description.folder
    if folder is None or not source.startswith("sha256:"):
        return
    # Between planning and now a training may have written the folder anew.
    now = f"sha256:{sha256(description.key['model'], folder, description.files)}"
    if now != source:
        raise ModelError(
            f"{where} is not what it was when the work was planned ({source[:19]}..., "
            f"now {now[:19]}...): let nothing write to it, and extract again"
        )


def _refuse_random(where: str, loading: Any, prefix: str) -> None:
    """Refuse a checkpoint without some of the encoder's weights."""
    wrong = sorted(
        [key for key in loading["missing_keys"] if key.split(".")[-1] != NOT_NEEDED]
        + [entry[0] for entry in loading["mismatched_keys"]]
    )
    wrong = [key for key in wrong if key.startswith(prefix)]
    if wrong:
        raise ModelError(
            f"{where} lacks, or has in another shape, {len(wrong)} of the encoder's "
            f"weights, which would stay random: {', '.join(wrong[:5])}"
            f"{', ...' if len(wrong) > 5 else ''}: the checkpoint is incomplete or its config.json "
            "belongs to another"
        )


def untrained() -> torch.nn.Module:
    """Build the untrained model; its weights depend on the seed alone, on no library's version.

    Returns
    -------
    Wav2Vec2Model
        Of `TINY_CONFIG`, float32, on the CPU.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    settings = {name: value for name, value in TINY_CONFIG.items() if name != "model_type"}
    model = Wav2Vec2Model(Wav2Vec2Config(**settings))
    # A weight norm's two factors are named differently from version to version.
    torch.nn.utils.parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")
    random = np.random.Generator(np.random.PCG64(TINY_SEED))
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1:
            # Uniform with variance 2 / fan-in: half of it goes in the nonlinearities.
            bound = math.sqrt(6 / math.prod(parameter.shape[1:]))
            values = random.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
            parameter.data = torch.from_numpy(values)
        else:
            parameter.data.fill_(float(name.endswith("norm.weight")))
    return model


@contextlib.contextmanager
def _refused_in_one_line(where: str) -> Iterator[None]:
    """Turn what a checkpoint's files make transformers raise into a ModelError."""
    try:
        yield
    except MemoryError:
        raise
    # From safetensors, torch's unpickler, JSON and transformers itself: no common type.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch's first line is advice to load the file with everything that it executes.
        refused = [line for line in lines if "nsupported" in line]
        if type(error).__name__ == "UnpicklingError":
            raise ModelError(
                f"{where}: its weights file is not read, nor executed: it holds more than weights "
                f"({(refused or ['no tensors alone'])[0]}); get a checkpoint in safetensors"
            ) from None
        reason = (lines or [type(error).__name__])[0]
        raise ModelError(
            f"{where}: cannot be loaded: {reason}; get the checkpoint's files anew"
        ) from error


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep its loading bar and report away: heads are dropped, and what lacks is an error here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
