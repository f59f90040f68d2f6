"""Combine the predictions of several runs.

The methods that learn nothing are here, those that do in `fusion.stacking`.

Conventions
-----------
- Stacks of predictions are float64, shape (n_members, n, n_targets) or (n_members, n, n_labels).
- Rows are the same row where corpus, utterance, partition and fold agree.
- A class that a member's head has not seen has NaN scores; in the combination it has none either,
  and cannot win. (Members share their folds, so they lack the same classes.)
- `scores` of `run.json` says what the combined class scores are
  (`evaluate.metrics.calibration.KINDS`).
- Where combined scores tie, the first class of the label list wins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from evaluate.runs import record as files
from evaluate.runs.files import versions
from evaluate.runs.folders import INNER, PREDICTIONS, SCORES, fusion_folder, run_folder
from evaluate.runs.freshness import fusion_inputs, is_fresh
from evaluate.runs.predictions import read_predictions, write_predictions
from features.common.errors import RunError
from features.common.folders import Folders
from features.common.telling import Tell, silent
from features.common.words import counted
from features.recipe.fusion import FusionSpec
from features.recipe.known.fusion_methods import FUSION_METHODS
from features.recipe.model import Recipe
from fusion.align import Aligned, align
from fusion.methods import fixed_method
from fusion.stacking import crossfit, learn

OUTPUTS = (PREDICTIONS, INNER)


def fuse(
    recipe: Recipe,
    name: str,
    folders: Folders,
    *,
    force: bool = False,
    tell: Tell = silent,
) -> Path:
    """Combine the runs that `[fusion.NAME]` lists, unless a finished run says the same.

    Parameters
    ----------
    recipe : Recipe
    name : str
    folders : Folders
    force : bool
        Combine although nothing changed.
    tell : callable
        Gets one line, and one a note.

    Returns
    -------
    Path
        The combination's folder.

    Raises
    ------
    RunError
        A member's run is missing or stale, lacks an utterance, or disagrees on a truth.
    """
    spec = recipe.fusion[name]
    folder = fusion_folder(folders.runs, recipe.name, name)
    inputs = fusion_inputs(recipe, name, folders)
    if not force and is_fresh(folder, inputs, OUTPUTS):
        tell(f"fusion {name}: nothing to do")
        return folder
    start = time.monotonic()
    notes, aligned = [], {}
    for output in OUTPUTS:
        predictions = {
            member: read_predictions(run_folder(folders.runs, recipe.name, member) / output)
            for member in spec.members
        }
        aligned[output] = align(predictions, spec.missing, f"fusion {name}: {output}")
        if n_dropped := aligned[output].n_dropped:
            notes.append(f"{output}: {counted(n_dropped, 'row')} dropped that not every member has")
    combined, learned = _by_rule(aligned, spec, f"fusion {name}")
    (folder / "run.json").unlink(missing_ok=True)
    (folder / SCORES).unlink(missing_ok=True)
    for output, rows in combined.items():
        write_predictions(folder / output, rows)
    record = {
        "inputs": inputs,
        "stage": "fuse",
        "title": f"{name} ({spec.method} of {len(spec.members)})",
        "method": spec.method,
        "members": spec.members,
        **({"learned": learned} if learned else {}),
        "scores": FUSION_METHODS[spec.method].gives,
        "recipe": recipe.resolved(),
        "notes": notes,
        "versions": versions(),
        "seconds": {"all": time.monotonic() - start},
    }
    files.write_run(folder, record)
    tell(f"fusion {name}: {spec.method} of {', '.join(spec.members)}")
    for note in notes:
        tell(f"fusion {name}: {note}")
    return folder


def _by_rule(
    aligned: Mapping[str, Aligned], spec: FusionSpec, where: str
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Combine the predictions fold by fold, by what was learned on the inner ones of the fold."""
    found, inner = aligned[PREDICTIONS], aligned[INNER]
    fixed = fixed_method(spec, bool(found.labels))
    if fixed and not spec.calibrate:
        return {name: rows.predicted(fixed(rows.stack)) for name, rows in aligned.items()}, {}
    values = {name: np.empty(rows.stack.shape[1:]) for name, rows in aligned.items()}
    learned = {}
    key = pd.MultiIndex.from_frame(found.predictions[["corpus", "utterance"]])
    inner_key = pd.MultiIndex.from_frame(inner.predictions[["corpus", "utterance"]])
    for fold in found.predictions["fold"].unique():
        at = np.flatnonzero(found.predictions["fold"] == fold)
        of = np.flatnonzero(inner.predictions["fold"] == fold)
        rows = inner.rows.at(of)
        try:
            with threadpool_limits(1):  # small matrices: threads would wait for each other
                rule = learn(spec, fixed, rows)
                crossed = crossfit(spec, fixed, rows)
        except RunError as error:
            raise RunError(f"{where}{f', fold {fold}' if fold else ''}: {error}") from None
        learned[str(fold)] = rule.learned
        values[PREDICTIONS][at] = rule.apply(found.stack[:, at])
        values[INNER][of] = crossed
        # Devel is both: what is learned from a row does not predict it.
        both = inner_key[of].get_indexer(key[at])
        values[PREDICTIONS][at[both >= 0]] = crossed[both[both >= 0]]
    return {name: rows.predicted(values[name]) for name, rows in aligned.items()}, learned
