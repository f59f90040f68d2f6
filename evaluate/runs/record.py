"""What lies in a run's folder, and whether it still holds.

Conventions
-----------
- `runs/<recipe>/<model>[@<layer>]/` holds the run of a head, `runs/<recipe>/fusion/<name>/` that
  of a combination. A *member* is a run's folder name: `mfcc`, `xlsr-1b@12`.
- The protocols beside the main one (`[split] also`) have recipes of their own, named
  `<recipe>/protocols/<protocol>`: `runs/<recipe>/protocols/<protocol>/<model>/`. How they compare
  with the main one is in `runs/<recipe>/protocols/gaps.json`.
- So have its repeats (`[split] seeds`), named `<recipe>/protocols/seed-<seed>`; what they give
  together is in `runs/<recipe>/protocols/seeds.json`.
- `runs/<recipe>/predict/<corpus>/<member>/` holds what a head says of new audio, the truths empty.
- `runs/<recipe>/statistics.json` compares the runs of a recipe with one another,
  `runs/<recipe>/spread.json` sums up those that subsets are chosen from.
- Files appear whole or not at all, and `run.json` is written last: a folder without it is an
  unfinished run.
- A run is fresh while the `fingerprint` in its `run.json` equals that of what it depends on now.
- In predictions every text column is plain text ("" where unknown); numbers read back to the same
  float64; a masked truth is NaN (empty in the file). In JSON, NaN is null.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features.common.errors import OutdatedError, RunError
from features.common.files import (
    IrregularFileError,
    Stamp,
    file_stamp,
    open_regular,
    parse_json,
    read_csv,
    read_text,
    write_text,
)
from features.common.words import counted

if TYPE_CHECKING:
    from features.recipe.load import Recipe

HEADS_NUMERICS = 3
"""Raised with every change that can move a prediction of a head."""
FUSION_NUMERICS = 3
"""Raised with every change that can move a fused prediction."""
SUBSETS_NUMERICS = 2
"""Raised with every change that can move the choice of a subset, or a score of it."""

KEY = ["corpus", "utterance", "partition", "fold", "speaker"]
PREDICTIONS, INNER, SEARCH, SCORES = "predictions.csv", "inner.csv", "search.csv", "scores.json"
ALL = "all"
"""The fold of the choice made over all rows, in `search.csv` and `run.json`."""
SUBSETS = "subsets.json"
_TEXT = {*KEY, "true", "pred"}
_PACKAGES = ("serfuse", "numpy", "scipy", "scikit-learn", "pandas", "joblib", "h5py")


# -- folders ---------------------------------------------------------------------------------


def layer_tag(model: str, layer: int | str) -> str:
    """Name the folder of a model at a layer: the default layer, `last`, goes unsaid.

    Examples
    --------
    >>> layer_tag("xlsr-1b", "last"), layer_tag("xlsr-1b", 12)
    ('xlsr-1b', 'xlsr-1b@12')
    """
    return model if layer == "last" else f"{model}@{layer}"


def split_member(member: str) -> tuple[str, int | str]:
    """Read a member as (model, layer), the inverse of `layer_tag`.

    Examples
    --------
    >>> split_member("xlsr-1b@12"), split_member("mfcc")
    (('xlsr-1b', 12), ('mfcc', 'last'))
    """
    model, _, layer = member.partition("@")
    return model, int(layer) if layer.isdigit() else layer or "last"


def run_folder(runs: Path, recipe_name: str, member: str) -> Path:
    """Folder of a head's run."""
    return Path(runs) / recipe_name / layer_tag(*split_member(member))


def fusion_folder(runs: Path, recipe_name: str, name: str) -> Path:
    """Folder of a combination's run; that of the choice of subsets is named `subsets`."""
    return Path(runs) / recipe_name / "fusion" / name


def new_folder(runs: Path, recipe_name: str, corpus: str, member: str) -> Path:
    """Folder of what a run says of new audio (`features.new_audio`)."""
    return Path(runs) / recipe_name / "predict" / corpus / layer_tag(*split_member(member))


def chosen_text(chosen: Mapping[str, int]) -> str:
    """Say which layers the folds of a run chose, the most frequent first.

    Examples
    --------
    >>> chosen_text({"a": 3, "b": 7, "c": 7, "all": 3})
    'layer 7 (2 folds), 3 (1 fold); over all rows layer 3'
    >>> chosen_text({"": 5})
    'layer 5'
    """
    own = [layer for fold, layer in chosen.items() if fold != ALL]
    if len(own) == 1:
        text = f"layer {own[0]}"
    else:
        counts = Counter(sorted(own)).most_common()
        text = "layer " + ", ".join(f"{i} ({counted(n, 'fold')})" for i, n in counts)
    return text + (f"; over all rows layer {chosen[ALL]}" if ALL in chosen else "")


def gaps_path(runs: Path, recipe_name: str) -> Path:
    """File that compares the protocols of a recipe."""
    return Path(runs) / recipe_name / "protocols" / "gaps.json"


def seeds_path(runs: Path, recipe_name: str) -> Path:
    """File that sums up the repeats of a recipe with other seeds."""
    return Path(runs) / recipe_name / "protocols" / "seeds.json"


def statistics_path(runs: Path, recipe_name: str) -> Path:
    """File that compares the runs of a recipe."""
    return Path(runs) / recipe_name / "statistics.json"


def spread_path(runs: Path, recipe_name: str) -> Path:
    """File that sums up the systems that subsets are chosen from."""
    return Path(runs) / recipe_name / "spread.json"


def run_folders(recipe: Recipe, runs: Path) -> Iterator[tuple[str, str, Path]]:
    """All runs that a recipe can have: (kind, member, folder), kind "model" or "fusion"."""
    for model in recipe.models:
        for layer in recipe.head.layers:
            member = layer_tag(model, layer)
            yield "model", member, run_folder(runs, recipe.name, member)
    for name in recipe.fusion:
        yield "fusion", name, fusion_folder(runs, recipe.name, name)


# -- predictions -----------------------------------------------------------------------------


def write_predictions(path: str | Path, frame: pd.DataFrame) -> None:
    """Write predictions whole or not at all.

    Parameters
    ----------
    path : path
        Its folder is made where it is missing.
    frame : DataFrame
        Columns `corpus, utterance, partition, fold, speaker`, then `<target>_true, <target>_pred`
        a target, or `true, pred` and one `score_<class>` a class.

    Raises
    ------
    RunError
        Where `read_predictions` would refuse the file.
    """
    write_text(path, predictions_text(path, frame), RunError)


def predictions_text(path: str | Path, frame: pd.DataFrame) -> str:
    """What `write_predictions` writes.

    Raises
    ------
    RunError
        Where `read_predictions` would refuse it.
    """
    frame = frame.reset_index(drop=True)
    for column in frame.columns.difference(list(_TEXT)):
        frame[column] = frame[column].astype(np.float64)
    _check_predictions(Path(path), frame)
    return frame.to_csv(index=False, lineterminator="\n")


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read predictions, in the order of the file.

    Raises
    ------
    RunError
        On a missing file, missing or unknown columns, values that are no numbers, predictions
        that are not finite, and utterances that stand twice in a fold.
    """
    path = Path(path)
    try:
        frame = read_csv(path)
    except FileNotFoundError:
        raise RunError(f"{path}: no such predictions; run make train (or make fuse)") from None
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: not readable as CSV: {error}; train or fuse anew") from None
    for column in frame.columns:
        if column in _TEXT:
            frame[column] = frame[column].astype(object)
            continue
        text = frame[column].to_numpy(dtype=object)
        try:  # float() reads back exactly what was written; pandas' own parser need not
            frame[column] = np.array([float(one) if one else np.nan for one in text], np.float64)
        except ValueError as error:
            raise RunError(f"{path}: column {column}: {error}; train or fuse anew") from None
    _check_predictions(path, frame)
    return frame


def _check_predictions(path: Path, frame: pd.DataFrame) -> None:
    def refuse(what: str) -> RunError:
        return RunError(f"{path}: {what}; train or fuse anew")

    missing = [column for column in KEY if column not in frame.columns]
    if missing:
        raise refuse(f"no column {', '.join(missing)}")
    if "true" in frame.columns:
        numbers = [f"score_{label}" for label in predicted_labels(frame)]
        expected = [*KEY, "true", "pred", *numbers]
    else:
        targets = predicted_targets(frame)
        numbers = [f"{target}_pred" for target in targets]
        expected = [*KEY, *(f"{t}_{side}" for t in targets for side in ("true", "pred"))]
    if list(frame.columns) != expected or not numbers:
        raise refuse(f"got the columns {list(frame.columns)}, expected {expected} and predictions")
    for column in numbers:
        values = frame[column].to_numpy(dtype=np.float64)
        # The score of a class that the fitted rows lacked is empty.
        bad = np.isinf(values) if "true" in frame.columns else ~np.isfinite(values)
        if bad.any():
            first = frame["utterance"][int(np.argmax(bad))]
            raise refuse(f"column {column}: {int(bad.sum())} values not finite, first at {first}")
    twice = frame.duplicated(["corpus", "utterance", "partition", "fold"])
    if twice.any():
        first = frame[twice].iloc[0]
        stand = counted(int(twice.sum()), "row stands", "rows stand")
        raise refuse(f"{stand} twice, first {first['corpus']} {first['utterance']}")


def predicted_labels(frame: pd.DataFrame) -> tuple[str, ...]:
    """The ordered label list of a predictions frame of a classification."""
    return tuple(c.removeprefix("score_") for c in frame.columns if c.startswith("score_"))


def predicted_targets(frame: pd.DataFrame) -> tuple[str, ...]:
    """The targets of a predictions frame of a regression."""
    return tuple(c.removesuffix("_pred") for c in frame.columns if c.endswith("_pred"))


# -- run.json and freshness ------------------------------------------------------------------


def write_run(folder: str | Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`, which finishes a run.

    `record["inputs"]` is what the run depends on (`train_inputs`, `fusion_inputs`); its
    fingerprint is stored beside it, and so are the hashes of its predictions (`outputs`).
    """
    paths = [Path(folder) / name for name in (PREDICTIONS, INNER, SUBSETS)]
    whole = {
        **record,
        "outputs": {path.name: file_hash(path) for path in paths if path.is_file()},
        "fingerprint": fingerprint(record["inputs"]),
    }
    write_json(Path(folder) / "run.json", whole)


def changed_outputs(folder: str | Path, record: Mapping[str, Any]) -> list[str]:
    """The files of a finished run that are not as it wrote them: somebody changed them since.

    Parameters
    ----------
    record : mapping
        Its `run.json`; of a run that recorded no hashes nothing is known.
    """
    paths = {Path(folder) / name: one for name, one in record.get("outputs", {}).items()}
    return [str(path) for path, one in paths.items() if path.is_file() and file_hash(path) != one]


def outdated(path: Path, recipe: Recipe) -> OutdatedError:
    """The error of scores that are missing, or older than what they are of."""
    return OutdatedError(f"{path}: missing or outdated; run make score RECIPE={recipe.path}")


def read_run(folder: str | Path) -> dict[str, Any] | None:
    """Read `run.json`; None where the run is missing or unfinished."""
    return read_json(Path(folder) / "run.json")


def chosen_on_devel(folder: str | Path) -> bool:
    """Whether settings of a run's head, or of a member's, were chosen on its devel rows.

    With `inner = "devel"`, where there was a choice: of several cells, or several layers.
    """
    folder = Path(folder)
    record = read_run(folder) or {}
    if "members" in record:
        return any(chosen_on_devel(folder.parents[1] / one) for one in record["members"])
    if record.get("recipe", {}).get("split", {}).get("inner") != "devel":
        return False
    if any(len(scores) > 1 for scores in record.get("layer_scores", {}).values()):
        return True
    path = folder / SEARCH
    return path.is_file() and len(set(read_csv(path)["cell"])) > 1


def is_fresh(folder: str | Path, inputs: Mapping[str, Any], outputs: Sequence[str]) -> bool:
    """Say whether a run was finished with these inputs and all its outputs are there."""
    record = read_run(folder)
    return (
        record is not None
        and record.get("fingerprint") == fingerprint(inputs)
        and all((Path(folder) / name).is_file() for name in outputs)
    )


def head_settings(recipe: Recipe, model: str, layer: int | str) -> dict[str, Any]:
    """What the run of a head depends on in the recipe and the program."""
    weights = recipe.weights_of(model)
    return {
        "numerics": HEADS_NUMERICS,
        "model": model,
        **({"weights": weights} if weights is not None else {}),
        "layer": layer,
        "head": recipe.head.model_dump(mode="json", exclude={"layer"}),
        "split": recipe.split.settings(),
        "target": recipe.target,
        "targets": list(recipe.targets),
        "labels": list(recipe.labels) if recipe.labels else None,
        "label_maps": recipe.label_maps,
    }


def train_inputs(recipe: Recipe, model: str, layer: int | str, stores: Path) -> dict[str, Any]:
    """What the run of a head depends on: settings, tables and stores.

    Raises
    ------
    CorpusError, StoreError
        Where a table or a store is missing.
    """
    from features.recipe.load import model_parts
    from features.splits.emobox import emobox_hash
    from features.stores.read import Store, store_path

    corpora = {}
    for corpus in recipe.corpora:
        identities = {}
        for part in model_parts(model):
            with Store(store_path(Path(stores), corpus, part)) as store:
                identities[part] = store.identity
        corpora[corpus] = {
            "table": hash_of_table(Path(stores) / corpus),
            "store": identities if len(identities) > 1 else identities[model],
        }
    inputs = {**head_settings(recipe, model, layer), "corpora": corpora}
    if recipe.split.emobox is not None:
        root, names = Path(recipe.split.emobox).expanduser(), recipe.split.emobox_names
        lists = {corpus: emobox_hash(root, corpus, names.get(corpus)) for corpus in recipe.corpora}
        inputs["emobox"] = lists
    return inputs


def hash_of_table(folder: Path) -> str:
    """Hash what a head, or a group of rows, can depend on in the table of a folder.

    Raises
    ------
    CorpusError
        Where it is missing or damaged.
    """
    files = [folder / f"utterances.{suffix}" for suffix in ("csv", "json")]
    return _cached_hash(folder.absolute(), tuple(file_stamp(file) for file in files))


@functools.lru_cache
def _cached_hash(folder: Path, stamps: tuple[Stamp | None, ...]) -> str:
    """Hash a table once for all models that ask: seconds each for the largest corpora."""
    from features.utterances import read_table, table_hash

    return table_hash(read_table(folder))


def fusion_inputs(recipe: Recipe, name: str, runs: Path, stores: Path) -> dict[str, Any]:
    """What a combination depends on: its settings and its members' predictions.

    Raises
    ------
    RunError
        Where a member's run is missing, or was made with other settings, tables or stores.
    """
    check_members(recipe, recipe.fusion[name].members, f"fusion {name}", runs, stores)
    return fusion_settings(recipe, name, runs)


def check_members(
    recipe: Recipe, members: Sequence[str], what: str, runs: Path, stores: Path
) -> None:
    """Refuse runs that are missing, or were made with other settings, tables or stores.

    Raises
    ------
    RunError
        Naming the first, and `what` needs it.
    """
    for member in members:
        model, layer = split_member(member)
        folder = run_folder(runs, recipe.name, member)
        again = f"run make train RECIPE={recipe.path} MODEL={model}"
        if read_run(folder) is None:
            raise RunError(f"{what}: {member} has no finished run in {folder}; {again}")
        if not is_fresh(folder, train_inputs(recipe, model, layer, stores), (PREDICTIONS, INNER)):
            raise RunError(
                f"{what}: the run of {member} in {folder} is stale: the recipe, the table "
                f"or the store has changed since; {again}"
            )


def fusion_settings(recipe: Recipe, name: str, runs: Path) -> dict[str, Any]:
    """What a combination depends on; a member without a file has null for its hash."""
    spec = recipe.fusion[name]
    return {
        "numerics": FUSION_NUMERICS,
        "fusion": spec.model_dump(mode="json"),
        "members": _member_hashes(recipe, spec.members, runs),
    }


def subsets_settings(recipe: Recipe, runs: Path) -> dict[str, Any]:
    """What the choice of subsets depends on; a member without a file has null for its hash."""
    spec = recipe.subsets
    if spec is None:
        raise ValueError(f"{recipe.path}: no [fusion.subsets]")
    return {
        "numerics": [FUSION_NUMERICS, SUBSETS_NUMERICS],
        "subsets": spec.settings(),
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "members": _member_hashes(recipe, spec.members, runs),
    }


def _member_hashes(
    recipe: Recipe, members: Sequence[str], runs: Path
) -> dict[str, dict[str, str | None]]:
    hashes = {}
    for member in members:
        paths = [run_folder(runs, recipe.name, member) / one for one in (PREDICTIONS, INNER)]
        hashes[member] = {p.name: file_hash(p) if p.is_file() else None for p in paths}
    return hashes


def is_stale(recipe: Recipe, kind: str, member: str, runs: Path, record: Mapping[str, Any]) -> bool:
    """Say whether a finished run was made with another recipe, without looking at stores.

    Parameters
    ----------
    kind : "model" or "fusion"
    member : str
        The run's folder name.
    record : mapping
        Its `run.json`.
    """
    if kind == "fusion":
        now = fusion_settings(recipe, member, runs)
        for one in recipe.fusion[member].members:
            under = read_run(run_folder(runs, recipe.name, one))
            if under is not None and is_stale(recipe, "model", one, runs, under):
                return True
    else:
        now = head_settings(recipe, *split_member(member))
        if set(record["inputs"]["corpora"]) != set(recipe.corpora):
            return True
    apart = ("corpora", "emobox")  # of tables, stores and lists
    then = {key: value for key, value in record["inputs"].items() if key not in apart}
    return bool(then != plain(now))


def finished_run(recipe: Recipe, kind: str, member: str, runs: Path) -> dict[str, Any]:
    """The `run.json` of a run that today's recipe says, too; stores are not looked at.

    Parameters
    ----------
    kind : "model" or "fusion"
    member : str
        The run's folder name.

    Raises
    ------
    RunError
        It is missing or unfinished, or was made with other settings.
    """
    model = kind == "model"
    folder = (run_folder if model else fusion_folder)(runs, recipe.name, member)
    again = f"run make {'train' if model else 'fuse'} RECIPE={recipe.path}"
    record = read_run(folder)
    if record is None:
        raise RunError(f"{folder}: no finished run of {member}; {again}")
    if is_stale(recipe, kind, member, runs, record):
        raise RunError(
            f"{folder}: the run of {member} was made with other settings than {recipe.path} has "
            f"now; {again}, or go back to those settings"
        )
    return record


def new_inputs(
    recipe: Recipe, member: str, corpus: str, runs: Path, stores: Path
) -> dict[str, Any]:
    """What the predictions of new audio depend on: the run that predicts, the audio, its features.

    Raises
    ------
    CorpusError, StoreError
        There is no table of the audio, or no store.
    """
    from features.recipe.load import model_parts
    from features.stores.read import Store, store_path
    from features.utterances import read_table, table_hash

    identities = {}
    for part in model_parts(split_member(member)[0]):
        with Store(store_path(Path(stores), corpus, part)) as store:
            identities[part] = store.identity
    return {
        "run": file_hash(run_folder(runs, recipe.name, member) / "run.json"),
        "audio": table_hash(read_table(Path(stores) / corpus), ["path", "audio_hash"]),
        "stores": identities,
    }


def fingerprint(settings: Any) -> str:
    """BLAKE2b-128 of the canonical JSON of `settings`, as hex.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": (2,)}) == fingerprint({"b": [2], "a": 1})
    True
    """
    text = json.dumps(plain(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_hash(path: str | Path) -> str:
    """BLAKE2b-128 of a file's bytes, as hex."""
    with open_regular(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, without importing them."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


# -- files -----------------------------------------------------------------------------------


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON whole or not at all, NaN as null, with a digest of the rest."""
    whole = {**plain(value), "digest": fingerprint(value)}
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", RunError)


def read_json(path: str | Path) -> dict[str, Any] | None:
    """Read what `write_json` wrote; None where there is no such file.

    Raises
    ------
    RunError
        Where the file is damaged, or is not what was written.
    """
    try:
        value = parse_json(read_text(path))
        if not isinstance(value, dict) or value.pop("digest", None) != fingerprint(value):
            raise ValueError("not as it was written")
        return value
    except FileNotFoundError:
        return None
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (ValueError, OSError, RecursionError) as error:
        raise RunError(f"{path}: damaged: {error}; remove it and run the command again") from None


def plain(value: Any) -> Any:
    """Turn mappings, sequences, paths, numpy scalars and NaN into JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
