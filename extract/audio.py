"""Audio files to what a model takes: mono float32 at 16 kHz, or a reason why not.

Conventions
-----------
- What a file's samples are, `features.audio.decode` says; resampling is soxr's `HQ`.
- What cannot be used raises `AudioError` with the reason; nothing is replaced by zeros.

Worker processes import this module: it imports neither torch nor transformers.
"""

from __future__ import annotations

import numpy as np
import soxr

from features.audio.decode import Audio, Clip, decode, not_finite, seconds
from features.common.errors import AudioError

__all__ = ["SAMPLING_RATE_HZ", "Audio", "Clip", "load", "seconds"]

SAMPLING_RATE_HZ = 16_000
"""What every model of the registry takes."""


def load(clip: Clip, min_samples: int = 1) -> Audio:
    """Decode a clip, average its channels, resample it to 16 kHz.

    Parameters
    ----------
    clip : Clip
    min_samples : int
        What the model's first frame needs, at 16 kHz.

    Returns
    -------
    float32, shape (n_samples,)

    Raises
    ------
    AudioError
        Unreadable, empty, NaN or infinite samples, or fewer samples than one frame needs.
    """
    mono, rate = decode(clip)
    if not np.isfinite(mono).all():
        raise not_finite(int((~np.isfinite(mono)).sum()))
    if rate != SAMPLING_RATE_HZ:
        mono = soxr.resample(mono, rate, SAMPLING_RATE_HZ, quality="HQ")
        if not np.isfinite(mono).all():
            raise AudioError("samples too large to be resampled; full scale is 1")
    if len(mono) < min_samples:
        raise AudioError(
            f"no frame: {len(mono)} samples at {SAMPLING_RATE_HZ} Hz, the model needs "
            f"{min_samples}; drop it from the corpus or pass ALLOW_FAILURES"
        )
    return np.ascontiguousarray(mono, dtype=np.float32)
