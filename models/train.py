"""One head on one model's stores: splits, choice, predictions, the fitted head, the search table.

Conventions
-----------
- With predefined partitions the cell is chosen on devel (or in inner folds of train); devel is
  predicted by the head fitted on train, test by the head refitted on train + devel. In a
  cross-validation every outer fold makes a choice of its own on its training rows.
- A row without a truth (of a regression: without all of them) is predicted where it is held out,
  and neither fitted nor used for a choice.
- `head.skops` is fitted on all rows with a truth, by the choice made over all of them: in a
  cross-validation, and with predefined partitions and inner folds, by a search of its own (fold
  `all` in `search.csv`).
- A class that a head has not seen has an empty score.
- A finished run stays until the fits of the new one are done; then `run.json` is removed first and
  written last. A run that was stopped is done anew.
- torch is not imported, but by skops where it is installed: after the fits, by the one function
  that saves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs import record as files
from evaluate.runs.files import read_run, versions
from evaluate.runs.folders import ALL, INNER, PREDICTIONS, SCORES, SEARCH, layer_tag, run_folder
from evaluate.runs.freshness import is_fresh, train_inputs
from features.common.errors import RunError
from features.common.files import write_text
from features.common.findings import some
from features.common.progress import Progress, duration
from features.matrix import (
    Matrix,
    has_truth,
    load_matrix,
)
from features.recipe.model import Recipe
from features.splits.folds import FIRST_S, Fold, Plan
from features.splits.lint import lint
from features.splits.plan import make_plan
from features.splits.truths import notes as truth_notes
from features.splits.truths import refuse_infinite
from models.checks import check_outputs
from models.effort import count_fits, warning
from models.fits import Fits, Fitting, route
from models.heads import check_grid
from models.layer_weights import WeightedFits
from models.outputs import HEAD, OUTPUTS, _chosen, _frame, _write, save_head, summary
from models.problem import Positions, Problem
from models.search import (
    Choice,
    Inner,
    Refit,
    refit,
    search,
    search_each,
    searches,
)
from models.spool import Spool


@dataclass
class Outcome:
    """What a protocol gives."""

    predictions: list[pd.DataFrame] = field(default_factory=list)
    choices: dict[str, Choice] = field(default_factory=dict)
    head: Any = None
    notes: list[str] = field(default_factory=list)


def is_done(
    recipe: Recipe,
    model: str,
    layer: int | str,
    *,
    stores: Path,
    runs: Path,
    allow_failures: int = 0,
) -> bool:
    """Whether a finished run says what `train_model` would make.

    Raises
    ------
    StoreError
        The finished run lacks more than `allow_failures` rows of the tables.
    """
    folder = run_folder(runs, recipe.name, layer_tag(model, layer))
    check_outputs(folder)
    if not is_fresh(folder, train_inputs(recipe, model, layer, stores), OUTPUTS):
        return False
    if (read_run(folder) or {}).get("lacking", 0) > allow_failures:
        load_matrix(recipe, stores, model, layer, allow_failures=allow_failures)  # refuses
    return True


def train_model(
    recipe: Recipe,
    model: str,
    layer: int | str = "last",
    *,
    stores: Path,
    runs: Path,
    jobs: int = -1,
    force: bool = False,
    allow_failures: int = 0,
) -> Path:
    """Fit, choose and predict for one model and layer, unless a finished run says the same.

    Prints one line: the choice, its score, the time and who fitted, or that nothing was to do.

    Parameters
    ----------
    recipe : Recipe
    model : str
        Model whose stores exist for all corpora of the recipe.
    layer : int or str
        As of a recipe, but "best", which `models.layers` assembles.
    stores, runs : Path
    jobs : int
        Processes; -1 is all cores. It changes no number.
    force : bool
        Run although nothing changed.
    allow_failures : int
        How many rows of the tables the stores may lack.

    Returns
    -------
    Path
        The run's folder.

    Raises
    ------
    StoreError, CorpusError, RecipeError, RunError
        Before anything is fitted, but for a fold that has no score.
    """
    member = layer_tag(model, layer)
    folder = run_folder(runs, recipe.name, member)
    check_outputs(folder)
    if not force and is_done(
        recipe, model, layer, stores=stores, runs=runs, allow_failures=allow_failures
    ):
        print(f"{member}: nothing to do")
        return folder
    inputs = train_inputs(recipe, model, layer, stores)
    start = time.monotonic()
    matrix = load_matrix(recipe, stores, model, layer, allow_failures=allow_failures)
    check_grid(recipe.head, matrix.labels)
    engine = route(recipe.head, len(matrix.X))
    names = matrix.labels or recipe.targets
    y = matrix.y if matrix.y.ndim == 2 else matrix.y.astype(str)
    problem = Problem(matrix.X, y, names, recipe.head, matrix.weights)
    n_layers = len(matrix.layers) if layer == "weighted" else 1
    refuse_infinite(y, names, matrix.rows)
    known = has_truth(matrix.y)
    plan = make_plan(matrix.rows, y, known, recipe.split)
    much = warning(problem, plan)
    if much:
        print(f"{member}: {much}", flush=True)
    told = [*matrix.notes, *truth_notes(y, names, matrix.rows, known, plan.folds)]
    checked = lint(matrix.rows, y, matrix.labels, plan, recipe.split)
    checked.refuse(recipe.path)
    progress = Progress(
        f"train {member}", count_fits(problem, plan), "fits", first_s=FIRST_S if much else None
    )
    n_fits = int(progress.total)
    runner: AbstractContextManager[Fits | WeightedFits]
    if n_layers > 1:
        runner = nullcontext(WeightedFits(problem, n_layers, jobs, n_fits, progress))
    else:
        parts = [one[known[one]] for one in _parts(plan, len(y))]
        runner = Fits(problem, jobs, n_fits, progress, parts)
    one_fold = plan.single or recipe.split.outer == "predefined"
    with Spool(folder / INNER) as inner:
        with runner as fits:
            protocol = _one_fold if one_fold else _cross_validation
            outcome = protocol(problem, matrix, plan, known, fits, inner)
        weights = _weights(fits, plan, known) if isinstance(fits, WeightedFits) else None
        seconds = progress.close()

        (folder / "run.json").unlink(missing_ok=True)
        (folder / SCORES).unlink(missing_ok=True)
        order = ["partition", "fold"] if one_fold else []
        _write(folder / PREDICTIONS, outcome.predictions, order)
        inner.write()
    table = pd.concat([one.table.assign(fold=name) for name, one in outcome.choices.items()])
    table = table[["fold", *table.columns.drop("fold")]]
    write_text(folder / SEARCH, table.to_csv(index=False, lineterminator="\n"), RunError)
    save_head(folder / HEAD, outcome.head)
    title = matrix.title if layer == "last" else f"{matrix.title}@{layer}"
    notes = [*matrix.findings, *told, *outcome.notes, *checked.notes]
    record = {
        "inputs": inputs,
        "stage": "train",
        "model": model,
        "layer": layer,
        "title": title,
        "recipe": recipe.resolved(),
        "chosen": {name: _chosen(one, problem) for name, one in outcome.choices.items()},
        "split": checked.record(),
        "seeds": {"split": recipe.split.seed, "head": recipe.head.random_state},
        "stores": matrix.identity,
        "corpora": {
            str(name): {"utterances": len(part), "with_truth": int(known[part.index].sum())}
            for name, part in matrix.rows.groupby("corpus")
        },
        "layers": matrix.layers,
        **({"layer_factors": weights} if weights else {}),
        "columns": matrix.X.shape[1] // n_layers,
        "lacking": matrix.n_lacking,
        "notes": notes,
        "engine": engine,
        "fits": fits.done,
        "fit_warnings": dict(fits.warned),
        "versions": versions(),
        "seconds": {"fits": seconds, "all": time.monotonic() - start},
    }
    files.write_run(folder, record)
    print(f"{title}: {summary(outcome.choices, recipe.head.select)}, {duration(seconds)}, {engine}")
    for text, count in fits.warned.items():
        print(f"{title}: {count} of {fits.done} fits: {text}")
    for note in [*told, *outcome.notes, *checked.declared, *checked.absent]:
        print(f"{title}: {note}")
    return folder


def _one_fold(
    problem: Problem,
    matrix: Matrix,
    plan: Plan,
    known: NDArray[np.bool_],
    fits: Fitting,
    inner: Spool,
) -> Outcome:
    """One division into train, devel and test."""
    rows, outcome = matrix.rows, Outcome()
    (fold,) = plan.folds
    learn, devel, test = fold.train, fold.devel, fold.test
    everything = np.flatnonzero(known)
    both = np.sort(np.concatenate([learn, devel[known[devel]]]))
    wanted: dict[str, Refit] = {}
    if not plan.final:
        choice = last = search(problem, plan.inner[0], fits, "devel", known)
        # The chosen cell was fitted on train and applied to devel already: no fit to repeat.
        outcome.predictions.append(_frame(problem, rows, devel, "devel", fold.name, choice.values))
        inner.add(fold.name, outcome.predictions[0])
        outcome.choices = {fold.name: choice}
    else:
        inners = [Inner(plan.inner[0], "train"), Inner(plan.final, ALL)]
        choice, last = searches(problem, inners, fits)
        frame = _frame(problem, rows, choice.positions, "inner", fold.name, choice.values)
        inner.add(fold.name, frame)
        outcome.choices = {fold.name: choice, ALL: last}
        if len(devel):
            wanted["devel"] = Refit(choice.cells, learn, (devel,), "train")
    if len(test):
        wanted["test"] = Refit(choice.cells, both, (test,), "train + devel")
    if len(test) and last.cells == choice.cells and np.array_equal(both, everything):
        wanted["test"] = replace(wanted["test"], keep=True)  # masked test: it is the head itself
    else:
        wanted[ALL] = Refit(last.cells, everything, (), "all rows", keep=True)
    fitted = refit(problem, list(wanted.values()), fits)
    for (name, one), (values, head) in zip(wanted.items(), fitted, strict=True):
        outcome.head = head if head is not None else outcome.head
        for held in one.tests:
            outcome.predictions.append(_frame(problem, rows, held, name, fold.name, values[0]))
    outcome.notes = [
        *_unseen(problem, Fold("devel", learn, devel)),
        *_unseen(problem, Fold("test", both, test)),
    ]
    return outcome


def _cross_validation(
    problem: Problem,
    matrix: Matrix,
    plan: Plan,
    known: NDArray[np.bool_],
    fits: Fitting,
    inner: Spool,
) -> Outcome:
    """Outer folds with a choice each; the refits of all of them are one batch.

    The rows of a fold, and what is predicted of its inner folds, are held for the fold's own batch
    alone: of many folds they are far more than the matrix.
    """
    rows, outcome = matrix.rows, Outcome()
    everything = np.flatnonzero(known)
    inners = [
        Inner(folds, f"outer fold {fold.name}")
        for fold, folds in zip(plan.folds, plan.inner, strict=True)
    ]
    inners.append(Inner(plan.final, ALL))
    names = [*(fold.name for fold in plan.folds), ALL]
    for name, choice in zip(names, search_each(problem, inners, fits), strict=True):
        if name != ALL:
            inner.add(name, _frame(problem, rows, choice.positions, "inner", name, choice.values))
        outcome.choices[name] = choice.without_rows()

    def wanted() -> Iterator[Refit]:
        for fold, one in zip(plan.folds, inners[:-1], strict=True):
            outcome.notes.extend(_unseen(problem, fold))
            yield Refit(outcome.choices[fold.name].cells, fold.train, (fold.test,), one.where)
        yield Refit(outcome.choices[ALL].cells, everything, (), "all rows", keep=True)

    *fitted, (_, outcome.head) = refit(problem, wanted(), fits)
    for fold, (values, _) in zip(plan.folds, fitted, strict=True):
        outcome.predictions.append(
            _frame(problem, rows, fold.test, fold.partition, fold.name, values[0])
        )
    return outcome


def _weights(fits: WeightedFits, plan: Plan, known: NDArray[np.bool_]) -> dict[str, list[float]]:
    """The factors of the layers by outer fold, and those of the saved head (`ALL`)."""
    found = {fold.name: fits.factors([fold.train])[0] for fold in plan.folds}
    found[ALL] = fits.factors([np.flatnonzero(known)])[0]
    return {name: one.tolist() for name, one in found.items()}


def _parts(plan: Plan, n: int) -> list[Positions]:
    """Disjoint rows that the folds are mostly made of."""
    taken, parts = np.zeros(n, dtype=bool), []
    for fold in plan.folds:
        for part in (fold.test, fold.devel):
            if len(part) and not taken[part].any():
                taken[part] = True
                parts.append(part)
    if len(plan.folds) == 1:
        parts.append(plan.folds[0].train)
    return parts


def _unseen(problem: Problem, fold: Fold) -> list[str]:
    """Classes that a head which predicts has not seen."""
    fitted_on = problem.y[fold.train]
    unseen = [label for label in problem.labels if not (fitted_on == label).any()]
    if not unseen or not len(fold.test):
        return []
    return [f"{fold.name}: no row to fit on is of {some(unseen)}; they get no score"]
