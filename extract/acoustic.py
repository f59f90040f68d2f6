"""Feature sets without a GPU, behind the interface of the speech models: one layer, 0.

Conventions
-----------
- `log-mel`: 80 mel bands (HTK scale, 20 Hz to 8 kHz), 25 ms Hamming windows every 10 ms, natural
  logarithm of the power; `mfcc`: the first 13 coefficients of the orthonormal DCT-II of the same.
  Both are stored as mean and standard deviation over frames; the frames themselves where
  `[extract] frames` asks for layer 0, their only one, and their segments where it asks for these.
- `egemaps` (eGeMAPSv02, 88) and `compare` (ComParE 2016, 6,373) are openSMILE's functionals. The
  package `opensmile` is an extra, since its licence allows research use only.
- Pre-emphasis and dither are off. Windows are not padded at the ends.

Worker processes compute all of it, one utterance at a time; torch is never imported.
"""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from extract.audio import SAMPLING_RATE_HZ, Audio
from extract.frames import (
    FrameOutput,
    UtteranceFrames,
    frame_layers,
    frame_outputs,
    frames_hz,
    rounded,
    segment_means,
)
from features.common.errors import AudioError, ModelError
from features.recipe.known.frame_kinds import FRAMES, NONE_OF, SEGMENTS

N_MELS = 80
N_MFCC = 13
WINDOW = 400
HOP = 160
N_FFT = 512
MIN_HZ, MAX_HZ = 20.0, 8000.0
FLOOR = 1e-10
"""Power below which the logarithm is taken of this value (digital silence)."""

Features = dict[str, NDArray[np.float32]]

_FRAMEWISE = {"mfcc": N_MFCC, "log-mel": N_MELS}
_OPENSMILE = {"egemaps": ("eGeMAPSv02", 88), "compare": ("ComParE_2016", 6373)}
_SMILE_WINDOW = 960
"""Samples of openSMILE's longest window, 60 ms."""


@dataclass(frozen=True)
class AcousticDescription:
    """What is stored for an acoustic set; the same attributes as a speech model's description."""

    key: dict[str, Any]
    columns: dict[str, int]
    layers: list[int]
    default: list[str]
    min_samples: int
    framewise: tuple[FrameOutput, ...] = ()
    trained: bool = True

    n_layers: ClassVar[int] = 0
    padded_samples: ClassVar[int] = 0
    folder: ClassVar[Path | None] = None
    """Of no checkpoint."""
    remark: ClassVar[str] = ""
    """Nothing is said when an extraction starts."""

    @property
    def feature_set(self) -> str:
        """The set, which the processes that decode compute."""
        return str(self.key["model"])

    def column_names(self) -> dict[str, list[str]]:
        """Names of the columns of each statistic."""
        return column_names(self.feature_set)

    def portable(self) -> AcousticDescription:
        """The same: nothing of it lies in a folder."""
        return self


def describe(
    name: str,
    frames: Sequence[int | str] = (),
    frames_dtype: str = "float16",
    segments: int | None = None,
) -> AcousticDescription:
    """Key and shape of a feature set, without computing anything.

    Parameters
    ----------
    name : {"mfcc", "log-mel", "egemaps", "compare"}
    frames : sequence of int or "last"
        Layers whose frames are wanted: 0, the only one, or none.
    frames_dtype : {"float16", "float32"}
    segments : int, optional
        Parts of an utterance whose means are wanted.

    Returns
    -------
    AcousticDescription
        `columns` has the width of each statistic: frames give mean and std, openSMILE functionals.

    Raises
    ------
    ModelError
        openSMILE is asked for and not installed; frames or segments are wanted of a set that has
        none.
    """
    key: dict[str, Any] = {
        "model": name,
        "layers": [0],
        "n_layers": 0,
        "precision": "float32",
        "sampling_rate": SAMPLING_RATE_HZ,
        "input_normalisation": "none",
    }
    if name in _FRAMEWISE:
        parameters = {
            "n_mels": N_MELS, "window": WINDOW, "hop": HOP, "n_fft": N_FFT, "min_hz": MIN_HZ,
            "max_hz": MAX_HZ, "floor": FLOOR, "scale": "htk", "taper": "hamming",
        }  # fmt: skip
        if name == "mfcc":
            parameters["n_mfcc"] = N_MFCC
        width = _FRAMEWISE[name]
        key |= {"source": "serfuse", "parameters": parameters, "statistics": ["mean", "std"]}
        columns = {"mean": width, "std": width}
        outputs = frame_outputs(
            frame_layers(name, frames, 0), segments,
            stored=[0], dtype=frames_dtype, width=width, hz=frames_hz(HOP),
        )  # fmt: skip
        return AcousticDescription(key, columns, [0], ["mean", "std"], WINDOW, outputs)
    if frames or segments is not None:
        kind = FRAMES if frames else SEGMENTS
        raise ModelError(
            f"{name}: functionals have no {kind}: set {NONE_OF[kind]} in [models.{name}], or leave "
            "it out with MODEL=..."
        )
    feature_set, width = _OPENSMILE[name]
    try:
        version = importlib.metadata.version("opensmile")
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"{name}: needs the package opensmile (research use only), which is not installed; "
            f"run make with EXTRAS=demo,opensmile,dev or pip install opensmile"
        ) from None
    key |= {
        "source": f"opensmile {version}",
        "parameters": {"feature_set": feature_set, "feature_level": "func"},
        "statistics": ["functionals"],
    }
    return AcousticDescription(key, {"functionals": width}, [0], ["functionals"], _SMILE_WINDOW)


def column_names(name: str) -> dict[str, list[str]]:
    """Names of the columns of each statistic."""
    if name in _OPENSMILE:
        return {"functionals": list(_smile(name).feature_names)}
    names = [f"{name}-{i}" for i in range(_FRAMEWISE[name])]
    return {"mean": names, "std": names}


def compute(name: str, audio: Audio) -> Features:
    """Features of one utterance.

    Parameters
    ----------
    name : str
        `mfcc`, `log-mel`, `egemaps` or `compare`.
    audio : float32, shape (n_samples,)
        At 16 kHz, at least one window long.

    Returns
    -------
    dict
        Statistic -> float32, shape (n_columns,).

    Raises
    ------
    AudioError
        openSMILE gives no value.
    """
    if name in _OPENSMILE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "Segment too short": refused below
            values = _smile(name)(audio, SAMPLING_RATE_HZ)[0, :, 0].astype(np.float32)
        missing = int((~np.isfinite(values)).sum())
        if missing:
            raise AudioError(f"openSMILE gives no value for {missing} of {len(values)} features")
        return {"functionals": values}
    return _pooled(_frames(name, audio))


def compute_framewise(
    name: str, audio: Audio, outputs: Sequence[FrameOutput]
) -> tuple[Features, dict[str, UtteranceFrames]]:
    """Features of one utterance, and its frames, or segments, before they are pooled.

    Parameters
    ----------
    name : {"mfcc", "log-mel"}
    audio : float32, shape (n_samples,)
        As of `compute`.
    outputs : sequence of FrameOutput
        As the set was described.

    Returns
    -------
    features : dict
        As `compute` gives them.
    framewise : dict
        Kind of each output -> UtteranceFrames, one layer.
    """
    frames = _frames(name, audio)[None]
    framewise = {
        output.kind: rounded(frames, output.dtype)
        if output.n_segments is None
        else segment_means(frames, output.n_segments, output.dtype)
        for output in outputs
    }
    return _pooled(frames[0]), framewise


def _frames(name: str, audio: Audio) -> NDArray[np.float64]:
    """Frames of a frame-wise set, float64, shape (n_frames, n_columns)."""
    frames = log_mel(audio)
    if name == "mfcc":
        from scipy.fft import dct

        frames = dct(frames, type=2, norm="ortho", axis=1)[:, :N_MFCC]
    return frames


def _pooled(frames: NDArray[np.float64]) -> Features:
    return {
        "mean": frames.mean(axis=0, dtype=np.float64).astype(np.float32),
        "std": frames.std(axis=0, dtype=np.float64).astype(np.float32),
    }


def log_mel(audio: Audio) -> NDArray[np.float64]:
    """Log mel spectrum.

    Parameters
    ----------
    audio : float32, shape (n_samples,)
        At 16 kHz.

    Returns
    -------
    float64, shape (n_frames, 80)
        `n_frames = 1 + (n_samples - 400) // 160`; natural logarithm of the power.
    """
    from transformers.audio_utils import spectrogram

    spectrum = spectrogram(
        audio, np.hamming(WINDOW), WINDOW, HOP, N_FFT, power=2.0, center=False,
        mel_filters=_filters(), mel_floor=FLOOR, log_mel="log", dtype=np.dtype(np.float64),
    )  # fmt: skip
    return spectrum.T


@functools.cache
def _filters() -> NDArray[np.float64]:
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(
        N_FFT // 2 + 1, N_MELS, MIN_HZ, MAX_HZ, SAMPLING_RATE_HZ, norm=None, mel_scale="htk"
    )


@functools.cache
def _smile(name: str) -> Any:
    import opensmile

    return opensmile.Smile(
        feature_set=opensmile.FeatureSet[_OPENSMILE[name][0]],
        feature_level=opensmile.FeatureLevel.Functionals,
    )
