"""Sweeps over layers: the finished runs of a model at its layers, side by side.

Conventions
-----------
- A sweep is made of the runs of a model with a head at its layers, whether or not the recipe lists
  them.
- The selection score of a layer is the mean over outer folds of what its chosen cell scored on the
  inner folds, or on devel: no held-out row is in it.
- The layer that is highest on the rows it is scored on is optimistic, and marked; `best`, where
  every fold chose its layer on its training rows, is what a reader may expect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.runs.files import read_run
from evaluate.runs.folders import ALL
from evaluate.runs.freshness import is_stale
from evaluate.scores.records import RunScores
from evaluate.scores.score import Scored, read_scores, score_run
from features.common.errors import StoreError
from features.common.folders import Folders
from features.recipe.member import Member
from features.stores.key import store_path
from features.stores.read import Store

if TYPE_CHECKING:
    from features.recipe.model import Recipe


@dataclass(frozen=True)
class Sweep:
    """The runs of one model.

    Attributes
    ----------
    model : str
    head : str
        Of several.
    layers : dict
        Index -> its run, in ascending order.
    others : dict
        Layer of another kind (`mean`, `weighted`, `best`, `6+12`, `last`) -> its run.
    selection : dict
        Index -> mean selection score over outer folds; None where it is undefined.
    """

    model: str
    head: str
    layers: dict[int, Scored]
    others: dict[str, Scored]
    selection: dict[int, float | None]

    @property
    def name(self) -> str:
        """The model, with the head where there are several."""
        return str(Member(self.model, head=self.head))

    @property
    def runs(self) -> list[Scored]:
        """All of them: indices in order, then the others."""
        return [*self.layers.values(), *self.others.values()]

    @property
    def chosen(self) -> dict[str, int]:
        """Outer fold -> the layer that it chose; empty where `best` was not made."""
        best = self.others.get("best")
        return dict(best.record["chosen_layers"]) if best else {}

    def highest(self, partition: str, metric: str) -> int | None:
        """The layer that scores highest on a partition: chosen on what it is scored on.

        Parameters
        ----------
        partition, metric : str

        Returns
        -------
        int or None
            None where no layer has a score there.
        """
        values = {
            layer: part.metrics[metric].value
            for layer, run in self.layers.items()
            if (part := run.scores.partitions.get(partition)) and part.metrics
        }
        known = {layer: value for layer, value in values.items() if value is not None}
        return max(known, key=lambda layer: known[layer]) if known else None


def score_sweeps(recipe: Recipe, folders: Folders, *, force: bool = False) -> list[Sweep]:
    """Score the sweeps of a recipe's models: those with runs at two or more layers."""
    scores_of = partial(score_run, recipe=recipe, stores=folders.stores, force=force)
    return _sweeps(recipe, folders.runs, scores_of)


def read_sweeps(recipe: Recipe, runs_folder: Path) -> list[Sweep]:
    """As `score_sweeps`, but computing nothing: a run without up-to-date scores is a RunError."""
    return _sweeps(recipe, runs_folder, partial(read_scores, recipe=recipe))


def _sweeps(
    recipe: Recipe, runs_folder: Path, scores_of: Callable[[Path], RunScores]
) -> list[Sweep]:
    sweeps = []
    for model, head in product(recipe.models, recipe.by_head):
        layers: dict[int, Scored] = {}
        others: dict[str, Scored] = {}
        folder = runs_folder / recipe.name
        for at in sorted([folder / model, *folder.glob(f"{model}@*")]):
            member, record = _member(at.name), read_run(at)
            if record is None or member is None or (member.head, member.seed) != (head, None):
                continue
            stale = is_stale(recipe, "model", at.name, runs_folder, record)
            run = Scored("model", at.name, at, stale, record, scores_of(at))
            if isinstance(member.layer, int):
                layers[member.layer] = run
            else:
                others[member.layer] = run
        if len(layers) > 1:
            layers = dict(sorted(layers.items()))
            selection = {layer: _selection(run.record) for layer, run in layers.items()}
            sweeps.append(Sweep(model, head, layers, others, selection))
    return sweeps


def _member(name: str) -> Member | None:
    """The member that a folder is named by; None of a folder of something else."""
    try:
        return Member.parse(name)
    except ValueError:
        return None


def _selection(record: dict[str, Any]) -> float | None:
    """The mean over outer folds of the chosen cells' scores; the choice over all rows left out."""
    scores = [
        cell["score"]
        for fold, cells in record["chosen"].items()
        if fold != ALL or len(record["chosen"]) == 1
        for cell in cells
    ]
    return None if not scores or None in scores else float(np.mean(scores))


def single_layers(recipe: Recipe, stores: Path) -> list[str]:
    """Say which models have no layers to compare; one without a store is passed over.

    Parameters
    ----------
    recipe : Recipe
    stores : Path

    Returns
    -------
    list of str
        A line a model.
    """
    lines = []
    corpus = next(iter(recipe.corpora))
    for model in recipe.models:
        with contextlib.suppress(StoreError), Store(store_path(stores, corpus, model)) as store:
            if len(store.layers) == 1:
                lines.append(f"{model} has one layer in its store; nothing to compare")
    return lines
