"""The speech models and feature sets that are known, and what stands in a checkpoint's files.

Imports neither torch nor transformers: planning reads JSON and needs no weights in memory. A
checkpoint is a folder with `config.json`, `preprocessor_config.json` and weights, either the
user's own or a snapshot in the Hub's cache. Everything that changes an embedding ends up in
`Description.key`, which is what a store is made and compared with.

Layers are counted as everywhere here: 0 is what enters the first transformer block, k < L what
leaves block k, L the model's `last_hidden_state`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from extract.audio import SAMPLING_RATE_HZ
from features.errors import ModelError, nearest
from features.walk import existing

PRECISIONS = ("float32", "bfloat16", "float16")
# transformers' `model_type` of the families whose forward is made exact under padding.
CONVOLUTIONAL = ("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
FAMILIES = (*CONVOLUTIONAL, "whisper")
# Defaults of all six configuration classes in transformers, for keys that a config.json omits.
CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)  # samples, then frames of the layer below
CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)
WHISPER_STRIDE = 320  # samples a position: a hop of 160, halved by the second convolution
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)

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
        Where config, preprocessor file and weights lie; None for the untrained model.
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
    if path is not None:
        folder = existing(path)
        files = checkpoint_files(model.key, folder)
        source = f"sha256:{_sha256(folder, files)}"
    elif model.hub is not None:
        folder = snapshot(model)
        files = checkpoint_files(model.key, folder)
        source = f"{model.hub}@{folder.name}"
    else:
        source = f"untrained:{_json_sha256(TINY_CONFIG)}:seed={TINY_SEED}"
    if folder is None:
        config, preprocessor = TINY_CONFIG, {"do_normalize": True}
    else:
        config = _read_json(model.key, folder / "config.json")
        preprocessor = _read_json(model.key, folder / "preprocessor_config.json")
    where = model.key if folder is None else f"{model.key}: {folder}"

    family = config.get("model_type")
    if family not in FAMILIES:
        raise ModelError(
            f"{where}: config.json is of model_type {family!r}; expected one of "
            f"{', '.join(FAMILIES)}"
        )
    whisper = family == "whisper"
    extractor = "WhisperFeatureExtractor" if whisper else "Wav2Vec2FeatureExtractor"
    if preprocessor.get("feature_extractor_type", extractor) != extractor:
        raise ModelError(
            f"{where}: preprocessor_config.json is of feature_extractor_type "
            f"{preprocessor['feature_extractor_type']!r}; {family} models take {extractor}"
        )
    rate = preprocessor.get("sampling_rate", SAMPLING_RATE_HZ)
    if rate != SAMPLING_RATE_HZ:
        raise ModelError(
            f"{where}: takes audio at {rate} Hz; only {SAMPLING_RATE_HZ} Hz is supported"
        )
    if config.get("add_adapter"):
        raise ModelError(
            f"{where}: add_adapter is set in config.json: frames behind an adapter are not those "
            "of the blocks before it; use a checkpoint without one"
        )
    hidden_size = int(config.get("d_model", 384) if whisper else config.get("hidden_size", 768))
    n_layers = int(
        config.get("encoder_layers" if whisper else "num_hidden_layers", 4 if whisper else 12)
    )
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
        stride, min_samples = WHISPER_STRIDE, int(preprocessor.get("n_fft", 400))
        padded_samples = int(preprocessor.get("chunk_length", 30)) * SAMPLING_RATE_HZ
        max_samples = min(max_samples, padded_samples)
    else:
        kernels = config.get("conv_kernel", CONV_KERNEL)
        strides = config.get("conv_stride", CONV_STRIDE)
        # A frame sees the kernel of the first layer, widened by every later one.
        min_samples, stride, padded_samples = 1, 1, 0
        for width, step in zip(kernels, strides, strict=True):
            min_samples += (width - 1) * stride
            stride *= step
    if max_samples < min_samples:
        raise ModelError(
            f"{where}: max_seconds = {max_seconds:g} is {max_samples} samples; a frame needs "
            f"{min_samples}"
        )

    if whisper:
        normalisation = "log-mel (whisper)"
    else:
        # True is the extractor's own default, for files that do not write it.
        normalise = preprocessor.get("do_normalize", True)
        normalisation = "zero-mean-unit-variance" if normalise else "none"
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
    )


def _stored_layers(where: str, layers: str | Sequence[int], n_layers: int) -> list[int]:
    if layers == "all":
        return list(range(n_layers + 1))
    wanted = sorted({int(layer) for layer in layers})
    outside = [layer for layer in wanted if not 0 <= layer <= n_layers]
    if outside or not wanted:
        raise ModelError(f"{where}: layers {outside or wanted}: the model has 0 to {n_layers}")
    return wanted


def _weights(key: str, folder: Path) -> tuple[list[str], list[str]]:
    """Weight files of a folder, in the order in which transformers prefers them, and the lacking.

    Returns
    -------
    found, missing : list of str
        File names; with an index, the index first. Both are empty where there is neither.
    """
    for single, index in WEIGHTS:
        if (folder / single).is_file():
            return [single], []
        if (folder / index).is_file():
            shards = sorted(set(_read_json(key, folder / index).get("weight_map", {}).values()))
            return [index, *shards], [one for one in shards if not (folder / one).is_file()]
    return [], []


def _missing(key: str, folder: Path) -> list[str]:
    """Name what a checkpoint folder lacks."""
    lacking = [
        name
        for name in ("config.json", "preprocessor_config.json")
        if not (folder / name).is_file()
    ]
    found, shards = _weights(key, folder)
    return lacking + (shards if found else ["weights (model.safetensors or pytorch_model.bin)"])


def checkpoint_files(key: str, folder: Path) -> list[str]:
    """File names of a checkpoint: config, preprocessor file, weights.

    Raises
    ------
    ModelError
        One of them is missing.
    """
    if not folder.is_dir():
        raise ModelError(f"{key}: no folder {folder}: give one with [models.{key}] path = ...")
    lacking = _missing(key, folder)
    if lacking:
        raise ModelError(
            f"{key}: {folder} lacks {', '.join(lacking)}: copy the whole repository of the "
            "checkpoint there; how a model wants its input is not guessed"
        )
    return ["config.json", "preprocessor_config.json", *_weights(key, folder)[0]]


def snapshot(model: Model) -> Path:
    """Folder of a Hub checkpoint, `.../snapshots/<commit>`, from the cache or else fetched.

    What lies in the cache is used as it is, without asking the network: a branch that moved on
    does not change an experiment under way.
    """
    from huggingface_hub import HfApi, snapshot_download

    repo, revision = str(model.hub), model.revision
    where = f"{repo} at {revision or 'its newest revision'}"
    cached = cached_snapshot(model)
    if cached is not None:
        return cached
    try:
        info = HfApi().model_info(repo, revision=revision, timeout=10)
        wanted = _hub_patterns({one.rfilename for one in info.siblings or ()})
        if wanted:
            return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    # The Hub's client changes the types of its errors with its HTTP library.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "no reason given"
        raise ModelError(
            f"{model.key}: no weights of {where} in the Hub's cache, and the Hub cannot be reached "
            f"or refuses ({type(error).__name__}: {reason}): run once with a network, or give a "
            f"local folder with [models.{model.key}] path = ..."
        ) from error
    raise ModelError(f"{model.key}: {where} has no model.safetensors or pytorch_model.bin")


def cached_snapshot(model: Model) -> Path | None:
    """Folder of a complete checkpoint in the Hub's cache; None where it has to be fetched."""
    from huggingface_hub import snapshot_download

    # Not in the cache, or no name of a repository (which the fetch then reports).
    with contextlib.suppress(OSError, ValueError):
        # One file's pattern: what else we need of it is looked for here.
        folder = Path(
            snapshot_download(
                str(model.hub),
                revision=model.revision,
                local_files_only=True,
                allow_patterns=["config.json"],
            )
        )
        if not _missing(model.key, folder):
            return folder
    return None


def _hub_patterns(names: set[str]) -> list[str]:
    """Choose what to fetch of a repository's files; empty where it has no weights."""
    for single, index in WEIGHTS:
        stem, suffix = single.split(".")
        chosen = [single] if single in names else [index, f"{stem}-*.{suffix}"]
        if chosen[0] in names:
            return ["config.json", "preprocessor_config.json", *chosen]
    return []


def _read_json(key: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{key}: {path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{key}: {path} holds a {type(content).__name__}, expected an object")
    return content


def _json_sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(folder: Path, files: Sequence[str]) -> str:
    """Hash names and bytes of a checkpoint's files, wherever the folder lies."""
    digest = hashlib.sha256()
    for name in sorted(files):
        with (folder / name).open("rb") as file:
            one = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{one}  {name}\n".encode())
    return digest.hexdigest()
