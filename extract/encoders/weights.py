"""The files of a checkpoint that decide what is computed: which, their hash, and the Hub's cache.

Named here is every file that transformers opens for the bare encoder and its input: config.json,
the settings of the feature extractor (see `extract.encoders.preprocessor`) and the weights. They
are what the SHA-256 of a local folder covers and what is fetched of a repository. What would make
transformers compute from other files than these is refused by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.encoders.preprocessor import (
    PREPROCESSOR,
    PROCESSOR,
    has_settings,
    settings_files,
)
from extract.encoders.values import read_json
from features.common.errors import ModelError
from features.common.files import open_regular

if TYPE_CHECKING:
    from extract.encoders.registry import Model

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
# Read where they are there. An adapter is refused, for which its presence has to be known.
MAY_BE_THERE = (PREPROCESSOR, PROCESSOR, ADAPTER)
# In the order in which transformers prefers them.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
# Shards of a distributed checkpoint: where there is one, transformers reads every safetensors file
# of the folder and none of those above.
DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")


def checkpoint_files(key: str, folder: Path) -> list[str]:
    """File names of a checkpoint: config, settings of the feature extractor, weights.

    Parameters
    ----------
    key : str
        The model's, for errors.
    folder : Path
        Of the checkpoint.

    Returns
    -------
    list of str
        In this order; shards behind their index.

    Raises
    ------
    ModelError
        One of them is missing or broken, or others would be read in their place.
    """
    if not folder.is_dir():
        raise ModelError(f"{key}: no folder {folder}: give one with [models.{key}] path = ...")
    lacking = _missing(key, folder)
    if lacking:
        advice = [
            "copy the whole repository of the checkpoint there; how a model wants its input is "
            "not guessed"
        ]
        if PREPROCESSOR in lacking:
            if (folder / PROCESSOR).is_file():
                advice.insert(0, f"its {PROCESSOR} holds no feature_extractor")
            advice.append(
                "for a model that you trained, save that of the model it was trained from beside "
                'it: AutoFeatureExtractor.from_pretrained("org/repo").save_pretrained('
                f'"{folder}")'
            )
        raise ModelError(f"{key}: {folder} lacks {', '.join(lacking)}: {'; '.join(advice)}")
    if (folder / ADAPTER).is_file():
        raise ModelError(
            f"{key}: {folder} has {ADAPTER}: transformers adds such an adapter to the weights "
            "where the package peft is installed, and leaves it out elsewhere; merge it into the "
            "weights (merge_and_unload) or take the file out of a copy of the folder"
        )
    distributed = sorted(path.name for path in folder.iterdir() if DISTRIBUTED.fullmatch(path.name))
    if distributed:
        raise ModelError(
            f"{key}: {folder} has shards of a distributed checkpoint ({distributed[0]}), which "
            "transformers reads in the place of the model's weights: move them elsewhere"
        )
    return [CONFIG, *settings_files(folder), *_weights(key, folder)[0]]


def refuse_config(where: str, config: Mapping[str, Any]) -> None:
    """Refuse what makes config.json no description of what transformers would compute.

    Parameters
    ----------
    where : str
        What errors call the checkpoint.
    config : mapping
        Of config.json.

    Raises
    ------
    ModelError
    """
    auto_map = config.get("auto_map")
    code = [
        f"{name}: {auto_map[name]}"
        for name in ("AutoConfig", "AutoModel")
        if isinstance(auto_map, Mapping) and name in auto_map
    ]
    weights = config.get("transformers_weights")
    for found, what in (
        (
            code,
            f"asks for code of its own (auto_map: {', '.join(code)}), which is never run; if "
            "transformers' own model is meant, take auto_map out of a copy",
        ),
        (
            "configuration_files" in config,
            "names other files (configuration_files), of which transformers takes one by its own "
            "version: in a copy, let config.json be the one that is meant",
        ),
        (
            weights is not None,
            f"names weights of its own (transformers_weights: {weights}): in a copy, call that "
            "file model.safetensors and take the entry out",
        ),
        (
            config.get("quantization_config") is not None,
            "asks for quantised weights (quantization_config), whose forward is another: take a "
            "checkpoint in float32 or half precision",
        ),
    ):
        if found:
            raise ModelError(f"{where}: config.json {what}")


def snapshot(model: Model) -> Path:
    """Folder of a Hub checkpoint, `.../snapshots/<commit>`, from the cache or else fetched.

    What lies in the cache is used as it is, without asking the network: a branch that moved on
    does not change an experiment under way.

    Parameters
    ----------
    model : Model
        With a hub id.

    Returns
    -------
    Path

    Raises
    ------
    ModelError
        Not in the cache, and the Hub cannot be reached, refuses, or has no weights of it.
    """
    from huggingface_hub import HfApi, snapshot_download

    repo, revision = str(model.hub), model.revision
    where = f"{repo} at {revision or 'its newest revision'}"
    cached = cached_snapshot(model)
    if cached is not None:
        return cached
    try:
        info = HfApi().model_info(repo, revision=revision, timeout=10)
        wanted = _hub_patterns({file.rfilename for file in info.siblings or ()})
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
    """Folder of a complete checkpoint in the Hub's cache; None where it has to be fetched.

    Parameters
    ----------
    model : Model
        With a hub id.

    Returns
    -------
    Path or None
        None, too, where the cache lacks a file that is needed.
    """
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


def complete_snapshot(model: Model, folder: Path) -> list[str] | None:
    """Fetch what may be in a repository beside the files that every checkpoint needs.

    A snapshot that another program put into the cache, or an earlier version of this one, may lack
    them, and what is computed must not depend on who filled the cache.

    Parameters
    ----------
    model : Model
        With a hub id.
    folder : Path
        Its snapshot in the Hub's cache; files are added to it.

    Returns
    -------
    list of str or None
        Those of `MAY_BE_THERE` that the repository lacks; None where the Hub cannot be asked.
    """
    from huggingface_hub import HfApi, snapshot_download

    repo, revision = str(model.hub), folder.name
    # Without a network the cache is used as it is; the Hub's client has no common type of error.
    try:
        info = HfApi().model_info(repo, revision=revision, timeout=10)
        there = {file.rfilename for file in info.siblings or ()}
        wanted = [name for name in MAY_BE_THERE if name in there and not (folder / name).is_file()]
        if wanted:
            snapshot_download(repo, revision=revision, allow_patterns=wanted)
    except Exception:
        return None
    return [name for name in MAY_BE_THERE if name not in there]


def _hub_patterns(names: set[str]) -> list[str]:
    """Choose what to fetch of a repository's files; empty where it has no weights."""
    for single, index in WEIGHTS:
        stem, suffix = single.split(".")
        chosen = [single] if single in names else [index, f"{stem}-*.{suffix}"]
        if chosen[0] in names:
            return [CONFIG, *MAY_BE_THERE, *chosen]
    return []


def sha256(key: str, folder: Path, files: Sequence[str]) -> str:
    """Hash names and bytes of a checkpoint's files, wherever the folder lies.

    Parameters
    ----------
    key : str
        The model's, for errors.
    folder : Path
        Of the checkpoint.
    files : sequence of str
        Names; their order does not matter.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ModelError
        One cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        try:
            with open_regular(folder / name, "rb") as file:
                of_file = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"{key}: {folder / name} cannot be read: {error.strerror}") from error
        digest.update(f"{of_file}  {name}\n".encode())
    return digest.hexdigest()


def _missing(key: str, folder: Path) -> list[str]:
    """Name what a checkpoint folder lacks."""
    lacking = [CONFIG] if not (folder / CONFIG).is_file() else []
    if not has_settings(key, folder):
        lacking.append(PREPROCESSOR)
    found, shards = _weights(key, folder)
    return lacking + (shards if found else ["weights (model.safetensors or pytorch_model.bin)"])


def _weights(key: str, folder: Path) -> tuple[list[str], list[str]]:
    """Weight files of a folder, those that transformers prefers, and the lacking of them.

    Returns
    -------
    found, missing : list of str
        File names; with an index, the index first. Both are empty where there is neither.
    """
    for single, index in WEIGHTS:
        if (folder / single).is_file():
            return [single], []
        if (folder / index).is_file():
            names = read_json(key, folder / index).get("weight_map")
            if (
                not isinstance(names, dict)
                or not names
                or not all(
                    isinstance(name, str) and Path(name).name == name for name in names.values()
                )
            ):
                raise ModelError(
                    f"{key}: {folder / index}: weight_map is not an object of weights and the "
                    "names of files beside it; get the checkpoint's files anew"
                )
            shards = sorted(set(names.values()))
            return [index, *shards], [shard for shard in shards if not (folder / shard).is_file()]
    return [], []
