"""The encoder families: transformers' `model_type`s that are known, and which engines compute them.

`extract.encoders.families` has a module for each whose forward is exact here. Any other speech
encoder of transformers is tried by its own forward where it comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from features.recipe.known.engines import EXACT, REFERENCE
from features.recipe.known.records import TASKS, by_key

_BOTH = (EXACT, REFERENCE)


@dataclass(frozen=True)
class EncoderFamily:
    """One family of speech encoders.

    Attributes
    ----------
    key : str
        transformers' `model_type`, which config.json says.
    name : str
        What a reader calls it.
    engines : tuple of str
        Which may compute it; that of `auto` is the first.
    module : str
        Of `extract.encoders.families`, with its exact forward; empty where `exact` is not among
        the engines.
    """

    key: str
    name: str
    engines: tuple[str, ...] = (REFERENCE,)
    module: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """A speech model goes with any."""
        return TASKS


ENCODER_FAMILIES = by_key(
    [
        EncoderFamily("data2vec-audio", "data2vec-audio", _BOTH, "data2vec_audio"),
        EncoderFamily("hubert", "HuBERT", _BOTH, "convolutional"),
        EncoderFamily("unispeech", "UniSpeech", _BOTH, "convolutional"),
        EncoderFamily("unispeech-sat", "UniSpeech-SAT", _BOTH, "convolutional"),
        EncoderFamily("wav2vec2", "wav2vec 2.0", _BOTH, "convolutional"),
        EncoderFamily("wavlm", "WavLM", _BOTH, "wavlm"),
        EncoderFamily("whisper", "Whisper", _BOTH, "whisper"),
        EncoderFamily("wav2vec2-bert", "Wav2Vec2-BERT"),
        EncoderFamily("wav2vec2-conformer", "Wav2Vec2-Conformer"),
        EncoderFamily("sew-d", "SEW-D"),
        EncoderFamily("moonshine", "Moonshine"),
        EncoderFamily("qwen2_audio_encoder", "Qwen2-Audio"),
        EncoderFamily("voxtral_encoder", "Voxtral"),
    ]
)


def computed_by(engine: str) -> tuple[str, ...]:
    """The families that an engine computes, in their order.

    Examples
    --------
    >>> "sew-d" in computed_by("exact"), "sew-d" in computed_by("reference")
    (False, True)
    """
    return tuple(key for key, family in ENCODER_FAMILIES.items() if engine in family.engines)
