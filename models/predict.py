"""`python -m models predict RECIPE --audio PATH...`: the saved heads on new audio.

Conventions
-----------
- A head is applied to features of the very key that it was fitted on: another model revision,
  precision, cut or numerics is an error.
- The layer is the run's: of `best` the one chosen over all rows, of `weighted` the factors learned
  over all rows.
- A file without features is left out; `python -m fusion predict` names and counts it.
- What a member says lies in `runs/<recipe>/predict/<corpus>/<member>/`, for `python -m fusion
  predict`; truths are empty.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs import record as files
from evaluate.runs.files import versions
from evaluate.runs.folders import ALL, PREDICTIONS, new_folder, run_folder
from evaluate.runs.freshness import finished_run, new_inputs
from evaluate.runs.predictions import predicted_labels, read_predictions, write_predictions
from features.common.command import Subcommand
from features.common.errors import RunError
from features.common.folders import Folders
from features.common.telling import Tell, aloud, silent
from features.common.words import counted
from features.matrix import Features, load_features
from features.new_audio import add_audio, corpus_name, system_of
from features.recipe.arguments import folders_of, recipe_of
from features.recipe.extract import model_parts
from features.recipe.head import HeadSpec
from features.recipe.heads import table_of
from features.recipe.member import BEST, Member
from features.recipe.model import Recipe
from features.sequences import Sequences, load_frames
from features.stores.failures import named_failures, read_failures
from features.stores.key import store_path
from features.stores.seen import source_of
from models.heads import layer_of
from models.layer_weights import mix
from models.outputs import read_head
from models.search import decide
from models.single import apply
from models.speakers import new_speakers

SHOWN = 60
"""Characters of a value of a key that are shown."""


def main(args: argparse.Namespace) -> None:
    """Apply the head of every run that is asked for; one line each.

    Parameters
    ----------
    args : Namespace
        Of `parser`.
    """
    recipe = recipe_of(args)
    members = system_of(recipe, args.fusion, args.member).members
    records = {member: usable_run(recipe, member, args.runs) for member in members}
    if args.check:
        return
    corpus = corpus_name(args.audio)
    for member, record in records.items():
        predict(recipe, member, corpus, record, folders_of(args), tell=aloud)


def usable_run(recipe: Recipe, member: str, runs: Path) -> dict[str, Any]:
    """The `run.json` of a run whose head can be applied to new audio.

    Parameters
    ----------
    recipe : Recipe
    member : str
        Its name.
    runs : Path

    Returns
    -------
    dict

    Raises
    ------
    RunError
        As `evaluate.runs.freshness.finished_run`; or its rows were standardised, or its
        speakers have to be known.
    """
    record = finished_run(recipe, "model", member, runs)
    head = Member.parse(member).head
    if by := recipe.head_of(head).standardise:
        raise RunError(
            f"{recipe.path}: [{table_of(head)}] standardise = {by!r}: the head of {member} expects "
            f"rows that are centred and scaled by all rows of their {by}, which new audio does not "
            "have; train without it"
        )
    if shift := recipe.head_of(head).shift:
        raise RunError(
            f"{recipe.path}: [{table_of(head)}] shift = {shift!r}: {member} shifts predictions by "
            "all of a speaker's, and whose speech new audio is, is not known; train without it"
        )
    if recipe.head_of(head).speaker == "mean-mfcc":
        raise RunError(
            f"{recipe.path}: [{table_of(head)}] speaker = 'mean-mfcc': the head of {member} takes "
            "MFCC means of known speakers, and whose speech new audio is, is not known; "
            "speaker = 'embedding' gives it the mean row"
        )
    return record


def predict(
    recipe: Recipe,
    member: str,
    corpus: str,
    record: Mapping[str, Any],
    folders: Folders,
    *,
    tell: Tell = silent,
) -> Path:
    """Apply the saved head of one run to the features of new audio.

    Parameters
    ----------
    corpus : str
        The corpus that the audio is (`features.new_audio.corpus_name`).
    record : mapping
        The run's `run.json`.
    folders : Folders
    tell : callable
        Gets a line that counts the files.

    Returns
    -------
    Path
        The folder of the predictions.

    Raises
    ------
    StoreError, CorpusError
        The features are missing or damaged.
    RunError
        The features have another key than those of the run, or no file has any; the head cannot be
        loaded.
    """
    run = Member.parse(member)
    stores, runs = folders.need_stores(), folders.runs
    at = run_folder(runs, recipe.name, member)
    parts, spec = model_parts(run.model), recipe.head_of(run.head)
    for part in parts:
        trained = {
            name: store["key"] if len(parts) == 1 else store["key"][part]
            for name, store in record["stores"].items()
        }
        _refuse_other_key(at, trained, stores, corpus, part, spec.in_time)
    wanted = record["layers"][0] if run.layer == BEST else layer_of(spec, run.layer)
    features = _features(stores, corpus, run.model, wanted, spec)
    X: NDArray[np.float32] | Sequences
    if isinstance(features, Features):
        X = features.X
        if "layer_factors" in record:
            X = mix(X, np.array(record["layer_factors"][ALL])).astype(np.float32)
        if spec.speaker:
            X = new_speakers(X)
    else:
        X = features
    labels = predicted_labels(read_predictions(at / PREDICTIONS))
    values = apply(read_head(at, spec.kind), X, labels)
    columns: dict[str, Any] = {"partition": "", "fold": "", "speaker": ""}
    if labels:
        columns |= {"true": "", "pred": decide(values, labels)}
        columns |= {f"score_{label}": values[:, i] for i, label in enumerate(labels)}
    else:
        for i, target in enumerate(recipe.targets):
            columns |= {f"{target}_true": np.nan, f"{target}_pred": values[:, i]}
    folder = new_folder(runs, recipe.name, corpus, member)
    (folder / "run.json").unlink(missing_ok=True)
    rows = pd.concat(
        [
            features.rows[["corpus", "utterance"]],
            pd.DataFrame(columns, index=features.rows.index),
        ],
        axis=1,
    )
    write_predictions(folder / PREDICTIONS, rows)
    inputs = new_inputs(recipe, member, corpus, folders)
    files.write_run(folder, {"inputs": inputs, "stage": "predict", "versions": versions()})
    unseen = ", their speakers taken as unseen: the mean row of the fitted ones"
    tell(f"{member}: {counted(len(rows), 'file')}{unseen if spec.speaker else ''}")
    return folder


def _features(
    stores: Path, corpus: str, model: str, layer: int | str, head: HeadSpec
) -> Features | Sequences:
    """What a head is applied to: pooled features, or frames."""
    if head.in_time is not None:
        return load_frames(stores, corpus, model, layer, source=head.in_time)
    return load_features(stores, corpus, model, layer, head.statistics)


def _refuse_other_key(
    at: Path,
    trained: Mapping[str, dict[str, Any]],
    stores: Path,
    corpus: str,
    model: str,
    kind: str | None,
) -> None:
    """Refuse features that were not computed as those that the head was fitted on.

    Parameters
    ----------
    at : Path
        The run's folder.
    trained : mapping
        Corpus -> the key of what the run was trained on.
    stores : Path
    corpus, model : str
        Of the new audio.
    kind : {"frames", "segments"} or None
        What the head reads in time.
    """
    path = store_path(stores, corpus, model)
    if not path.exists() and len(read_failures(path)):
        raise RunError("\n  ".join([f"{path}: no file could be read:", *named_failures([path])]))
    source = source_of(stores, corpus, model, kind)
    path, now = source.path, source.key
    for corpus, key in trained.items():
        other = [
            f"{name} was {_shown(key.get(name))}, is {_shown(now.get(name))}"
            for name in sorted({*key, *now})
            if key.get(name) != now.get(name)
        ]
        if other:
            raise RunError(
                f"{path}: not as the features of {corpus} that the run in {at} was trained on: "
                f"{'; '.join(other)}; make extract and make train again, or go back to those "
                "settings and versions"
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_audio(parser)
    parser.add_argument(
        "--check", action="store_true", help="look for the runs alone; predict nothing"
    )


COMMAND = Subcommand(
    "predict",
    main,
    "apply the saved heads of a recipe's runs to new audio, extracted before",
    ("recipe", "stores", "runs"),
    _arguments,
)
