"""How a checkpoint wants its input: the settings of its feature extractor.

transformers looks for them in two files of a checkpoint's folder:

- `processor_config.json`, which `save_pretrained` of a processor writes: the object under
  `feature_extractor`, or else the one under `audio_processor`;
- `preprocessor_config.json`, which `save_pretrained` of a feature extractor writes, where the first
  file is not there or holds neither.

`read_settings` alone resolves them. The key of a store, the length of a frame and the extractor
that prepares the audio are all made of what it gives, so that none can know other settings than
the others. Imports neither torch nor transformers.

A setting that changes a number is honoured or refused by name. Without effect are those of batches
(`padding_value` and `padding_side` of waveforms, `return_attention_mask`: no padding is seen here),
those that transformers computes anew from the others (`n_samples`, `nb_max_frames`, `mel_filters`),
and those that it takes from the caller, never from a file (`do_normalize` of whisper).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.families.table import FAMILIES, PREPARATIONS
from extract.encoders.values import as_json, is_number, read_json
from features.common.errors import ModelError

PROCESSOR = "processor_config.json"
PREPROCESSOR = "preprocessor_config.json"
NESTED = ("feature_extractor", "audio_processor")
"""Members of the first file that hold an extractor's settings, in the order of preference."""


def settings_files(folder: Path) -> list[str]:
    """Those of the two files that are there; transformers opens no other for the input."""
    return [name for name in (PREPROCESSOR, PROCESSOR) if (folder / name).is_file()]


def has_settings(key: str, folder: Path) -> bool:
    """Whether one of the files holds an extractor's settings."""
    return (folder / PREPROCESSOR).is_file() or _nested(key, folder)[1] is not None


def complete(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Settings with all that is left out, as the extractor's own `to_dict` gives them.

    Examples
    --------
    >>> complete({"do_normalize": False}, "Wav2Vec2FeatureExtractor")["sampling_rate"]
    16000
    """
    left_out = ("processor_class", "mel_filters", "window")
    preparation = PREPARATIONS[kind]
    found = {name: value for name, value in settings.items() if name not in left_out}
    whole = {**preparation.defaults, **found, "feature_extractor_type": kind}
    return {**whole, **preparation.computed(whole)}


def read_settings(
    key: str, folder: Path, config: Mapping[str, Any], *, mended: str
) -> dict[str, Any]:
    """Resolve and check the settings that an extractor is made of.

    Parameters
    ----------
    key : str
        The model's key, for messages.
    folder : Path
        Of a checkpoint that has at least one of the two files.
    config : mapping
        Its config.json; of a family that is known.
    mended : str
        Where a user mends a file of it, for messages.

    Returns
    -------
    dict
        Equal to `AutoFeatureExtractor.from_pretrained(folder).to_dict()`.

    Raises
    ------
    ModelError
        A file is broken, the two contradict each other, or a setting cannot be honoured.
    """
    where = f"{key}: {folder}"
    family = str(config.get("model_type"))
    kind = FAMILIES[family].preparation.name
    member, nested = _nested(key, folder)
    name = PROCESSOR if nested is not None else PREPROCESSOR
    alone = (
        read_json(key, folder / PREPROCESSOR) if PREPROCESSOR in settings_files(folder) else None
    )
    settings = nested if nested is not None else alone
    if settings is None:
        raise ValueError(f"{folder} has no settings of a feature extractor")

    auto_map = settings.get("auto_map")
    if isinstance(auto_map, Mapping) and "AutoFeatureExtractor" in auto_map:
        raise ModelError(
            f"{where}: {name} asks for code of its own (auto_map: "
            f"{auto_map['AutoFeatureExtractor']}), which is never run; if transformers' {kind} is "
            f"meant, take auto_map out of it {mended}"
        )
    found = settings.get("feature_extractor_type") or config.get("feature_extractor_type") or kind
    if found != kind:
        raise ModelError(
            f"{where}: {name} is of feature_extractor_type {found!r}; {family} models take {kind}"
        )
    if nested is not None and alone is not None:
        _refuse_conflict(where, kind, member, nested, alone, mended)
    whole = complete(settings, kind)
    if whole["sampling_rate"] != SAMPLING_RATE_HZ:
        raise ModelError(
            f"{where}: {name}: takes audio at {whole['sampling_rate']} Hz; only "
            f"{SAMPLING_RATE_HZ} Hz is supported"
        )
    faults = _faults(settings, whole, config)
    if faults:
        raise ModelError(
            f"{where}: {name}: {'; '.join(faults)}: mend it {mended}, or take another checkpoint"
        )
    return whole


def read_any_settings(
    key: str, folder: Path, config: Mapping[str, Any], *, mended: str
) -> dict[str, Any]:
    """Resolve the settings of an extractor whose class need not be known here.

    Parameters
    ----------
    key, folder, config, mended
        As of `read_settings`.

    Returns
    -------
    dict
        As the file has them, with the name of the class; all of them, where the class is known.

    Raises
    ------
    ModelError
        As `read_settings`; of settings that are not known here, noise and another sampling rate.
    """
    if config.get("model_type") in FAMILIES:
        return read_settings(key, folder, config, mended=mended)
    where = f"{key}: {folder}"
    member, nested = _nested(key, folder)
    name = PROCESSOR if nested is not None else PREPROCESSOR
    alone = read_json(key, folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else None
    settings = dict(nested if nested is not None else alone or {})
    differ = sorted(n for n in {*(nested or {})} & {*(alone or {})} if nested[n] != alone[n])  # type: ignore[index]
    kind = settings.get("feature_extractor_type")
    faults = []
    if differ:
        faults.append(
            f"{PREPROCESSOR} and {PROCESSOR} (under {member}) disagree on {', '.join(differ)}"
        )
    if "auto_map" in settings:
        faults.append("auto_map asks for code of its own, which is never run")
    if not isinstance(kind, str):
        faults.append("feature_extractor_type is missing: the class that prepares the audio")
    if settings.get("sampling_rate", SAMPLING_RATE_HZ) != SAMPLING_RATE_HZ:
        faults.append(
            f"takes audio at {as_json(settings['sampling_rate'])} Hz; only {SAMPLING_RATE_HZ} Hz "
            "is supported"
        )
    if settings.get("dither"):
        faults.append(f"dither is {as_json(settings['dither'])}, which adds noise; expected 0")
    if faults:
        raise ModelError(f"{where}: {name}: {'; '.join(faults)}: mend it {mended}")
    return complete(settings, str(kind)) if kind in PREPARATIONS else settings


def _nested(key: str, folder: Path) -> tuple[str, dict[str, Any] | None]:
    """Member of processor_config.json that transformers takes, and its settings, if any."""
    if not (folder / PROCESSOR).is_file():
        return "", None
    processor = read_json(key, folder / PROCESSOR)
    # The first member that is there, even where it is null: so transformers looks it up.
    member = next((name for name in NESTED if name in processor), "")
    settings = processor[member] if member else None
    if settings is not None and not isinstance(settings, dict):
        raise ModelError(
            f"{key}: {folder / PROCESSOR}: {member} is {as_json(settings)}, expected an object "
            "with the settings of a feature extractor"
        )
    return member, settings


def _refuse_conflict(
    where: str,
    kind: str,
    member: str,
    nested: Mapping[str, Any],
    alone: Mapping[str, Any],
    mended: str,
) -> None:
    """Refuse two files that disagree: one of them is stale, and nobody here knows which."""
    missing = {"dither": 0.0}
    first, second = ({**missing, **complete(settings, kind)} for settings in (nested, alone))
    names = list(PREPARATIONS[kind].matters)
    # `complete` says what the class is; here counts what the second file says, if it says it.
    second["feature_extractor_type"] = alone.get("feature_extractor_type") or kind
    names.append("feature_extractor_type")
    differ = [
        f"{name} is {_said(name, nested, first)} in {PROCESSOR} (under {member}) and "
        f"{_said(name, alone, second)} in {PREPROCESSOR}"
        for name in names
        if first[name] != second[name]
    ]
    if differ:
        raise ModelError(
            f"{where}: two files say how the audio is prepared, and disagree: {'; '.join(differ)}: "
            f"transformers 5 reads the first file, earlier ones the second; make them agree "
            f"{mended}, or delete the one that is wrong there"
        )


def _said(name: str, file: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    return as_json(whole[name]) + ("" if name in file else " (not given)")


def _faults(
    settings: Mapping[str, Any], whole: Mapping[str, Any], config: Mapping[str, Any]
) -> list[str]:
    """Settings that cannot be honoured, each with what was expected."""
    faults = []
    if not is_number(dither := whole.get("dither", 0.0)) or dither != 0:
        faults.append(
            f"dither is {as_json(dither)}, which adds noise: no two runs would give the same "
            "vectors; expected 0"
        )
    kind = whole["feature_extractor_type"]
    return faults + PREPARATIONS[kind].faults(settings, whole, config)
