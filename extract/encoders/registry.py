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

from dataclasses import dataclass, replace
from typing import Any, Literal

from extract.encoders.geometry import (
    TINY_CONFIG,
)
from features.common.errors import ModelError, nearest


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


def _whisper(size: str, hidden_size: int, n_layers: int, millions: int) -> Model:
    """The encoder of one of OpenAI's checkpoints."""
    languages = ("English",) if size.endswith(".en") else ("99 languages",)
    return _speech(
        f"whisper-{size}",
        f"openai/whisper-{size}",
        hidden_size,
        n_layers,
        millions,
        licence="MIT",
        languages=languages,
        note="the encoder alone",
    )


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
    _whisper("tiny", 384, 4, 8),
    _whisper("tiny.en", 384, 4, 8),
    _whisper("base", 512, 6, 21),
    _whisper("small", 768, 12, 88),
    _whisper("medium", 1024, 24, 307),
    _whisper("large-v2", 1280, 32, 637),
    _whisper("large-v3", 1280, 32, 637),
    _whisper("large-v3-turbo", 1280, 32, 637),
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


def find_model(key: str, spec: Any = None) -> Model:
    """Look a model up, or define or override one from a recipe.

    Parameters
    ----------
    key : str
        What the user typed.
    spec : object with attributes hub, revision and path, optional
        A recipe's `[models.KEY]`; each attribute may be None.

    Returns
    -------
    Model
        The registered record, with another revision where the recipe gives one; or a new record
        for a hub id or a path.

    Raises
    ------
    ModelError
        The key is unknown (the nearest ones are named) or the model takes no checkpoint.

    Examples
    --------
    >>> find_model("wavlm-large").hub
    'microsoft/wavlm-large'
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
