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

import os
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs import record as files
from evaluate.runs.record import ALL
from features.common.command import Progress, corpus_root, duration
from features.common.errors import CorpusError, RunError, StoreError
from features.common.files import IrregularFileError, open_regular, write_bytes, write_text
from features.common.words import counted
from features.corpora import read_corpus
from features.corpora.oddities import columns_near, oddities
from features.matrix import (
    Matrix,
    class_list,
    has_truth,
    load_matrix,
    recipe_tables,
    select_rows,
)
from features.recipe.load import Recipe, model_parts
from features.splits.folds import FIRST_S, Fold, Plan
from features.splits.lint import lint
from features.splits.plan import make_plan
from features.splits.truths import notes as truth_notes
from features.splits.truths import refuse_infinite
from features.stores.read import Store, store_path
from features.utterances import SILENT_AUDIO, SPELLINGS, differences, some
from models.effort import count_fits, warning
from models.heads import check_grid
from models.layer_weights import WeightedFits
from models.search import (
    Choice,
    Fits,
    Fitting,
    Inner,
    Positions,
    Problem,
    Refit,
    decide,
    refit,
    route,
    search,
    search_each,
    searches,
)
from models.spool import Spool

HEAD = "head.skops"
OURS = ["models.column_weights.ColumnWeights"]
"""Types of this project that a saved head may hold, of models with weights."""
OUTPUTS = (files.PREDICTIONS, files.INNER, files.SEARCH, HEAD)


@dataclass
class Outcome:
    """What a protocol gives."""

    predictions: list[pd.DataFrame] = field(default_factory=list)
    choices: dict[str, Choice] = field(default_factory=dict)
    head: Any = None
    notes: list[str] = field(default_factory=list)


def check_labels(recipe: Recipe, stores: Path, data: Path) -> list[str]:
    """Compare the tables beside the stores with the corpora they were read from.

    No audio is read but that of rows whose path has changed, and a corpus that is not there is
    passed over: training needs stores alone.

    Returns
    -------
    list of str
        Corpora that are there but cannot be read.

    Raises
    ------
    CorpusError
        A table is missing; or a corpus gives another one now, naming the rows.
    """
    notes, faults = [], []
    tables = recipe_tables(recipe, stores)
    for name, spec in recipe.corpora.items():
        root = corpus_root(recipe, name, data)
        if not root.is_dir():
            continue
        try:
            new = read_corpus(name, root, reader=spec.reader, options=recipe.reader_options(name))
        except CorpusError as error:
            notes.append(f"{name}: the labels in {root} were not compared: {error}")
            continue
        faults += [f"{name}: {line}" for line in differences(tables[name], new)]
        from features.survey import pointed_elsewhere  # libsndfile: only where there is audio

        moved = pointed_elsewhere(tables[name], new, root)
        if moved:
            rows = counted(len(moved), "row names", "rows name")
            faults.append(f"{name}: {rows} another recording: {some(moved)}")
    if faults:
        refresh = "; ".join(
            f"`python -m features table {name} --recipe {recipe.path}`" for name in recipe.corpora
        )
        raise CorpusError(
            "\n  ".join(
                [
                    f"the corpora on disk give other tables than {stores} has:",
                    *faults,
                    f"to train on the new ones: {refresh} (where only labels changed), or make "
                    f"extract (where there are new utterances or recordings)",
                ]
            )
        )
    return notes


def odd_rows(recipe: Recipe, stores: Path) -> list[str]:
    """What is odd in the rows that a recipe trains on, from the tables beside the stores alone.

    Names that the recipe maps to one label, or leaves out, are not odd to it. Of spellings that
    became one, and of silent rows, the table knows.

    Returns
    -------
    list of str
        A line each, with the corpus.

    Raises
    ------
    CorpusError
        A table is missing, or lacks the recipe's target.
    """
    tables = recipe_tables(recipe, stores)
    labels = class_list(recipe, tables)
    wanted = [recipe.target] if recipe.target else list(recipe.targets)
    lines = []
    for corpus, table in tables.items():
        frame, _ = select_rows(recipe, table, labels)
        looked_at = [recipe.target] if recipe.target else []
        found = [
            *(one for one in table.findings if one.kind in (SPELLINGS, SILENT_AUDIO)),
            *columns_near((*table.labels, *table.targets), wanted),
            *oddities(frame, looked_at, table.corpus.get("reader", "")),
        ]
        lines += [f"{corpus}: {one.text}" for one in found]
    return lines


def check_stores(recipe: Recipe, work: Sequence[tuple[str, int | str]], stores: Path) -> None:
    """Look for every store, layer and statistic of the work before any of it is begun.

    Raises
    ------
    StoreError
        Naming all that is missing.
    """
    faults: dict[str, None] = {}
    for model, layer in work:
        for corpus in recipe.corpora:
            for one in model_parts(model):
                try:
                    with Store(store_path(stores, corpus, one)) as store:
                        store.columns_of(layer)
                except StoreError as error:
                    faults[str(error)] = None
    if faults:
        raise StoreError("\n  ".join(faults))


def check_outputs(folder: Path, names: Sequence[str] = OUTPUTS) -> None:
    """Refuse folders where a run is to write its files: the fits would be lost.

    Raises
    ------
    RunError
        Naming all of them.
    """
    paths = [folder / name for name in (*names, files.SCORES, "run.json")]
    faults = [f"{path}: is a folder: remove it" for path in paths if path.is_dir()]
    if faults:
        raise RunError("\n  ".join(faults))


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
    folder = files.run_folder(runs, recipe.name, files.layer_tag(model, layer))
    check_outputs(folder)
    if not files.is_fresh(folder, files.train_inputs(recipe, model, layer, stores), OUTPUTS):
        return False
    if (files.read_run(folder) or {}).get("lacking", 0) > allow_failures:
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
    member = files.layer_tag(model, layer)
    folder = files.run_folder(runs, recipe.name, member)
    check_outputs(folder)
    if not force and is_done(
        recipe, model, layer, stores=stores, runs=runs, allow_failures=allow_failures
    ):
        print(f"{member}: nothing to do")
        return folder
    inputs = files.train_inputs(recipe, model, layer, stores)
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
    with Spool(folder / files.INNER) as inner:
        with runner as fits:
            protocol = _one_fold if one_fold else _cross_validation
            outcome = protocol(problem, matrix, plan, known, fits, inner)
        weights = _weights(fits, plan, known) if isinstance(fits, WeightedFits) else None
        seconds = progress.close()

        (folder / "run.json").unlink(missing_ok=True)
        (folder / files.SCORES).unlink(missing_ok=True)
        order = ["partition", "fold"] if one_fold else []
        _write(folder / files.PREDICTIONS, outcome.predictions, order)
        inner.write()
    table = pd.concat([one.table.assign(fold=name) for name, one in outcome.choices.items()])
    table = table[["fold", *table.columns.drop("fold")]]
    write_text(folder / files.SEARCH, table.to_csv(index=False, lineterminator="\n"), RunError)
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
        "versions": files.versions(),
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


def _frame(
    problem: Problem,
    rows: pd.DataFrame,
    positions: Positions,
    partition: str,
    fold: str,
    values: NDArray[np.float64],
) -> pd.DataFrame:
    """Rows of `predictions.csv` or `inner.csv`."""
    part = rows.iloc[positions]
    frame = part[["corpus", "utterance"]].assign(partition=partition, fold=fold)
    frame["speaker"] = part["speaker"]
    truth = problem.y[positions]
    columns: dict[str, Any] = {}
    if problem.labels:
        columns["true"] = truth.astype(object)
        columns["pred"] = decide(values, problem.labels)
        columns.update((f"score_{one}", values[:, i]) for i, one in enumerate(problem.labels))
    else:
        for i, target in enumerate(problem.names):
            columns[f"{target}_true"], columns[f"{target}_pred"] = truth[:, i], values[:, i]
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def _write(path: Path, frames: Sequence[pd.DataFrame], order: Sequence[str]) -> None:
    frame = pd.concat(frames)
    frame["_row"] = frame.index  # the position in the table: sorted by key
    frame = frame.sort_values([*order, "_row"], kind="stable").drop(columns="_row")
    files.write_predictions(path, frame)


def _unseen(problem: Problem, fold: Fold) -> list[str]:
    """Classes that a head which predicts has not seen."""
    fitted_on = problem.y[fold.train]
    unseen = [label for label in problem.labels if not (fitted_on == label).any()]
    if not unseen or not len(fold.test):
        return []
    return [f"{fold.name}: no row to fit on is of {some(unseen)}; they get no score"]


def _chosen(choice: Choice, problem: Problem) -> list[dict[str, Any]]:
    """The chosen cells as JSON-able values."""
    names = problem.names if len(choice.cells) > 1 else [None]
    return [
        {"cell": cell.index, "scaler": cell.scaler, "params": dict(cell.params), "score": score}
        | ({"target": name} if name else {})
        for name, cell, score in zip(names, choice.cells, choice.scores, strict=True)
    ]


def summary(choices: Mapping[str, Choice], select: str) -> str:
    """Name the choice in a line: the cell, or how many cells were chosen over folds and targets.

    The score is the mean over outer folds, the choice over all rows left out.
    """
    own = [one for name, one in choices.items() if name != ALL]
    picked = Counter(str(cell) for one in own for cell in one.cells)
    cell, count = picked.most_common(1)[0]
    if len(picked) > 1:
        cell += f" ({count} of {picked.total()} choices)"
    score = np.mean([score for one in own for score in one.scores])
    return f"{cell}; {select} {score:.4f}"


def save_head(path: Path, head: Any) -> None:
    """Write a fitted head by skops."""
    from skops import io

    write_bytes(path, io.dumps(head), RunError)


def load_head(path: Path) -> Any:
    """Read a head that `save_head` wrote; it holds scikit-learn's and numpy's types, and `OURS`.

    Returns
    -------
    estimator
        Of a regression: `predict(X)` of shape (n, n_targets). Of a classification: a pipeline with
        `predict` and `decision_function`.

    Raises
    ------
    RunError
        Where the file is missing or damaged, or holds types that skops does not trust.
    """
    from skops import io

    try:
        with open_regular(path, "rb") as file:
            # `save_head` does not compress: more than that is made up.
            claimed = sum(one.file_size for one in zipfile.ZipFile(file).infolist())
            if claimed > os.fstat(file.fileno()).st_size:
                raise ValueError(f"its parts claim {claimed} bytes")
            return io.load(file, trusted=OURS)
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (
        OSError,
        ValueError,
        MemoryError,
        zipfile.BadZipFile,
        io.exceptions.UntrustedTypesFoundException,
    ) as error:
        raise RunError(f"{path}: no head to load ({error}); run make train again") from None
