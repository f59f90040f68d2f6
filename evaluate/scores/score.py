"""Predictions -> `scores.json` of every run.

Conventions
-----------
- Partitions are scored as `evaluate.scores.partition` says.
- A cross-corpus run is also scored a pair of corpora (`transfer`): a row what was trained on, a
  column what was tested. The diagonal is that of the partition `within`, fitted to other speakers
  of the corpus, and empty where the recipe does not ask for it.
- The conditions of the grid of speakers and sentences are compared with its partition `test` on
  the same rows, in pairs (`gaps`).
- Devel rows that settings of the head (or of a fusion's members) were chosen on give an optimistic
  score: `optimistic` of the partition says why (`CHOSEN_ON_DEVEL`).
- Scores by gender, language, corpus, session and speaker (`groups`) are those of
  `evaluate.scores.groups`.
- New statistics need no new training: `scores.json` is made anew whenever the predictions, the
  recipe's `[evaluate]` or `SCORES_NUMERICS` change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluate.metrics import calibration
from evaluate.runs import record as runs
from evaluate.runs.arrays import (
    count_speakers,
    has_truth,
)
from evaluate.runs.files import file_hash, read_run
from evaluate.runs.folders import INNER, PREDICTIONS, SCORES, run_folders
from evaluate.runs.freshness import hash_of_table, is_stale
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from evaluate.scores.gaps import grid_gaps
from evaluate.scores.groups import group_names, read_tables, score_groups
from evaluate.scores.marks import run_marks
from evaluate.scores.names import CHOSEN_ON_DEVEL, PARTITIONS
from evaluate.scores.partition import score_partition, score_transfer
from evaluate.scores.records import (
    Bins,
    Calibration,
    Grouping,
    PartitionScores,
    RunScores,
    number_or_none,
)
from evaluate.scores.stored import FileKind
from evaluate.scores.version_0 import run_scores
from features.common.errors import CorpusError, RunError
from features.common.folders import Folders
from features.recipe.head import uses_test_features
from features.recipe.member import LAST, Member

if TYPE_CHECKING:
    from features.recipe.model import Recipe

SCORES_NUMERICS = 7
"""Raised with every change that can move a score or a bound."""


FILE = FileKind("scores", RunScores, run_scores, run_marks)


@dataclass(frozen=True)
class Scored:
    """A finished run with its scores.

    Attributes
    ----------
    kind : "model" or "fusion"
    member : str
        The folder's name.
    stale : bool
        Made with another recipe than today's.
    record : dict
        `run.json`.
    scores : RunScores
        `scores.json`.
    """

    kind: str
    member: str
    folder: Path
    stale: bool
    record: dict[str, Any]
    scores: RunScores

    @property
    def name(self) -> str:
        """The folder below `runs/<recipe>`."""
        return f"fusion/{self.member}" if self.kind == "fusion" else self.member

    @property
    def at_other_layer(self) -> bool:
        """Whether it is of a head at another layer than the default one, as those of sweeps are."""
        return self.kind == "model" and Member.parse(self.member).layer != LAST

    @property
    def title(self) -> str:
        """How the run is named wherever it is shown."""
        title = str(self.record.get("title", self.member))
        return f"fused: {title}" if self.kind == "fusion" else title

    @property
    def marks(self) -> list[str]:
        """What a reader must know about the row.

        Returns
        -------
        list of str
        """
        flags = {
            "optimistic": self.scores.optimistic,
            "uses unlabelled test data": any(map(uses_test_features, self._heads)),
            "stale": self.stale,
        }
        return [name for name, on in flags.items() if on]

    @property
    def _heads(self) -> list[Mapping[str, Any]]:
        """The settings of its head, or of the heads of its members."""
        recipe = self.record.get("recipe", {})
        if not recipe.get("heads"):
            return [recipe.get("head", {})]
        members = map(Member.parse, self.record.get("members", ()))
        return [recipe["heads"][head] for head in dict.fromkeys(member.head for member in members)]

    @property
    def marked_title(self) -> str:
        """The title with its marks, for plain text."""
        return f"{self.title} ({', '.join(self.marks)})" if self.marks else self.title


def score_run(
    folder: str | Path, recipe: Recipe, *, stores: Path | None = None, force: bool = False
) -> RunScores:
    """Score one run's predictions and write its `scores.json` where it is missing or outdated.

    Parameters
    ----------
    folder : path
    recipe : Recipe
    stores : Path, optional
        The tables beside the stores say who is of which gender, language and session. Scores made
        with a table hold where it is not at hand.
    force : bool
        Score anew in any case.

    Returns
    -------
    RunScores
        As `scores.json` now has them.

    Raises
    ------
    RunError
        On unusable predictions, or predictions of another task than the recipe's.
    """
    folder = Path(folder)
    hashes = _table_hashes(recipe, stores)
    if not force and (old := _up_to_date(folder, recipe, hashes, strict=True)):
        return old
    inputs = _inputs(folder, recipe)
    rows = read_predictions(folder / PREDICTIONS)
    names = _names(rows, folder, recipe)
    notes: list[str] = []
    if lacking := [name for name in recipe.corpora if stores is not None and name not in hashes]:
        notes.append(f"no table of {', '.join(lacking)}: not by gender, language and session")
    of_row = group_names(rows, read_tables(recipe, stores) if stores is not None else {})
    try:
        found = _partitions(rows, names, of_row, recipe, inputs["chosen_on_devel"], notes)
    except ValueError as error:
        raise RunError(f"{folder / PREDICTIONS}: {error}; train anew") from None
    calibrated, no_calibration = _calibration(folder, rows, names)
    across = recipe.split.outer == "cross-corpus"
    scores = RunScores(
        recipe.task,
        inputs["optimistic"],
        count_speakers(rows),
        {name: part for name, (part, _) in found.items()},
        {name: groups for name, (_, groups) in found.items()},
        labels=names if recipe.task == "classification" else (),
        targets=names if recipe.task == "regression" else (),
        calibration=calibrated,
        no_calibration=no_calibration,
        transfer=score_transfer(rows, names, recipe, notes) if across else None,
        gaps=grid_gaps(rows, list(found), recipe),
        warnings=tuple(notes),
    )
    return FILE.write(folder / SCORES, scores, {**inputs, "tables": hashes})


def _partitions(
    rows: pd.DataFrame,
    names: Sequence[str],
    of_row: Mapping[str, np.ndarray],
    recipe: Recipe,
    chosen_on_devel: bool,
    notes: list[str],
) -> dict[str, tuple[PartitionScores, dict[str, Grouping]]]:
    """The scores of every partition, in the order of showing, and those of its groups."""
    order = {name: i for i, name in enumerate(PARTITIONS)}
    known = has_truth(rows, names).to_numpy()
    found = {}
    for name in sorted(rows["partition"].unique(), key=lambda name: (order.get(name, 2), name)):
        here = (rows["partition"] == name).to_numpy()
        groups = {kind: of[here & known] for kind, of in of_row.items()}
        try:
            scored = score_partition(rows[here], name, names, recipe, notes)
            by_group = score_groups(
                rows[here & known], names, groups, recipe.shown, recipe.evaluate
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        optimistic = CHOSEN_ON_DEVEL if name == "devel" and chosen_on_devel else ""
        found[name] = replace(scored, optimistic=optimistic), by_group
        notes += [f"{name}: {optimistic}"] if optimistic else []
    return found


def _names(rows: pd.DataFrame, folder: Path, recipe: Recipe) -> tuple[str, ...]:
    """Labels or targets; predictions of another task than the recipe's are an error."""
    task = "classification" if "true" in rows.columns else "regression"
    if task != recipe.task:
        raise RunError(
            f"{folder}: its predictions are those of a {task}, the recipe's task is "
            f"{recipe.task}; run make train (and make fuse) again"
        )
    return predicted_labels(rows) or predicted_targets(rows)


def _calibration(
    folder: Path, rows: pd.DataFrame, names: Sequence[str]
) -> tuple[dict[str, Calibration], str]:
    """Calibration by partition, and why there is none; neither of a regression."""
    if "true" not in rows.columns:
        return {}, ""
    kind = (read_run(folder) or {}).get("scores", "score")
    found = calibration.of_run(rows, read_predictions(folder / INNER), names, kind=kind)
    bins = {
        partition: Calibration(_bins(each.plain), _bins(each.tempered), {**each.temperatures})
        for partition, each in found.items()
    }
    silent = kind in calibration.NO_PROBABILITIES
    return bins, f"its class scores are {kind}, no probabilities" if silent else ""


def _bins(found: calibration.Reliability) -> Bins:
    columns = (found.confidence, found.accuracy)
    confidence, accuracy = (tuple(map(number_or_none, values.tolist())) for values in columns)
    return Bins(confidence, accuracy, tuple(found.counts.tolist()), number_or_none(found.error))


def read_scores(folder: str | Path, recipe: Recipe, *, stores: Path | None = None) -> RunScores:
    """Read a run's `scores.json`, computing nothing.

    Scores that were made without a table hold where there is one.

    Raises
    ------
    RunError
        Where it is missing, or older than the predictions, the recipe's `[evaluate]` or the tables
        beside the stores, where these are named.
    """
    scores = _up_to_date(Path(folder), recipe, _table_hashes(recipe, stores), strict=False)
    if scores is None:
        raise runs.outdated(Path(folder) / SCORES, recipe)
    return scores


def scores_at_hand(folder: Path) -> RunScores | None:
    """A run's `scores.json`, whatever `[evaluate]` says today.

    None where it is missing, of other predictions than those that are there, or made by a version
    that computed other numbers.
    """
    found = FILE.at(folder / SCORES)
    now = {
        "numerics": SCORES_NUMERICS,
        "predictions": file_hash(folder / PREDICTIONS),
    }
    return found.record if found and now == {key: found.inputs.get(key) for key in now} else None


def _up_to_date(
    folder: Path, recipe: Recipe, tables: Mapping[str, str], *, strict: bool
) -> RunScores | None:
    """The scores that are there; not `strict`, a table that they were made without is no matter."""
    found = FILE.at(folder / SCORES)
    if found is None:
        return None
    inputs = found.inputs
    used = inputs.pop("tables", {})
    same = all(used.get(name, "" if strict else hash_) == hash_ for name, hash_ in tables.items())
    return found.record if same and inputs == _inputs(folder, recipe) else None


def _table_hashes(recipe: Recipe, stores: Path | None) -> dict[str, str]:
    """Corpus -> hash of its table, where there is one."""
    if stores is None:
        return {}
    found = {}
    for corpus in recipe.corpora:
        with contextlib.suppress(CorpusError):
            found[corpus] = hash_of_table(stores / corpus)
    return found


def _inputs(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """What scores depend on."""
    for path in (folder / PREDICTIONS, folder / INNER):
        if not path.is_file():
            raise RunError(
                f"{path}: missing from a finished run; run make train (or make fuse) again"
            )
    return {
        "numerics": SCORES_NUMERICS,
        "predictions": file_hash(folder / PREDICTIONS),
        "inner": file_hash(folder / INNER),
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "outer": recipe.split.outer,
        "optimistic": bool((read_run(folder) or {}).get("optimistic", False)),
        "chosen_on_devel": runs.chosen_on_devel(folder),
    }


def score_all(recipe: Recipe, folders: Folders, *, force: bool = False) -> list[Scored]:
    """Score every finished run of a recipe: models in the recipe's order, then fusions.

    Raises
    ------
    RunError
        Where no run is finished.
    """
    scores_of = partial(score_run, recipe=recipe, stores=folders.stores, force=force)
    return _finished(recipe, folders.runs, scores_of)


def read_all(recipe: Recipe, folders: Folders) -> list[Scored]:
    """As `score_all`, but computing nothing: a run without up-to-date scores is a RunError."""
    scores_of = partial(read_scores, recipe=recipe, stores=folders.stores)
    return _finished(recipe, folders.runs, scores_of)


def _finished(
    recipe: Recipe, runs_folder: Path, scores_of: Callable[[Path], RunScores]
) -> list[Scored]:
    result = []
    for kind, member, folder in run_folders(recipe, runs_folder):
        record = read_run(folder)
        if record is not None:
            stale = is_stale(recipe, kind, member, runs_folder, record)
            result.append(Scored(kind, member, folder, stale, record, scores_of(folder)))
    if not result:
        raise RunError(
            f"{runs_folder / recipe.name}: no finished run; run make train RECIPE={recipe.path}"
        )
    return result


def optimism(partition: str, scored: Sequence[Scored]) -> str:
    """Why the scores of a partition are optimistic; empty where those of no run are."""
    found = [run.scores.partitions.get(partition) for run in scored]
    return next((part.optimistic for part in found if part and part.optimistic), "")
