"""The families whose forward is exact here, by transformers' `model_type`."""

from __future__ import annotations

from extract.encoders.families.convolutional import Convolutional
from extract.encoders.families.data2vec_audio import Data2VecAudio
from extract.encoders.families.family import Family
from extract.encoders.families.wavlm import WavLM
from extract.encoders.families.whisper import Whisper

_ALL: tuple[Family, ...] = (
    Data2VecAudio(),
    Convolutional("hubert"),
    Convolutional("unispeech"),
    Convolutional("unispeech-sat"),
    Convolutional("wav2vec2"),
    WavLM(),
    Whisper(),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
PREPARATIONS = {family.preparation.name: family.preparation for family in _ALL}
"""The classes that prepare their input, by name."""
