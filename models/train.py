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

import functools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs import record as files
from evaluate.runs.files import read_run, versions
from evaluate.runs.folders import ALL, CURVES, INNER, PREDICTIONS, SCORES, SEARCH, run_folder
from evaluate.runs.freshness import is_fresh, train_inputs
from features.common.errors import RunError
from features.common.files import write_text
from features.common.folders import Folders
from features.common.progress import Progress, duration
from features.common.telling import Tell, silent
from features.matrix import Matrix, has_truth, load_matrix
from features.recipe.heads import table_of
from features.recipe.known.heads import HEADS
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.sequences import Sequences, load_sequences
from features.shares import read_shares, votes_note
from features.splits.folds import FIRST_S, SplitPlan
from features.splits.truths import notes as truth_notes
from features.splits.truths import refuse_infinite
from models.checks import check_outputs, check_sizes
from models.effort import count_fits, warning
from models.fits import Fits, route
from models.folds import DividedRows, Divisions, truths
from models.heads import check_grid, layer_of
from models.layer_weights import WeightedFits
from models.outputs import (
    chosen_cells,
    outputs_of,
    summary,
    write_head,
    write_sorted,
)
from models.problem import Positions, Problem
from models.protocols import ProtocolResult, cross_validation, one_fold
from models.shift import check_shift, shifted_fits
from models.speakers import check_speakers, with_speakers
from models.spool import Spool

if TYPE_CHECKING:
    from models.network_fits import NeuralFits
    from models.neural.place import TrainingPlace

STATES = "training"
"""Folder of a run with the states of its networks, while they are trained."""


@dataclass(frozen=True)
class Training:
    """How the heads of a recipe are trained; numbers depend on the recipe and the stores alone.

    Attributes
    ----------
    recipe : Recipe
    folders : Folders
    jobs : int
        Processes; -1 is all cores.
    force : bool
        Run although nothing changed.
    allow_failures : int
        How many rows of the tables the stores may lack.
    device : {"auto", "cpu", "cuda", "cuda:N"}
        Where networks are trained; other heads are fitted on the CPU.
    precision : {"float32", "bfloat16"}
        Of networks.
    tell : callable
        Gets what is worth saying: the choice of a run, its score, the time and who fitted, or that
        nothing was to do.
    """

    recipe: Recipe
    folders: Folders
    jobs: int = -1
    force: bool = False
    allow_failures: int = 0
    device: str = "auto"
    precision: str = "float32"
    tell: Tell = silent

    @functools.cached_property
    def place(self) -> TrainingPlace:
        """Where networks are trained; imports torch.

        Raises
        ------
        RunError
            There is no such device, or networks are not trained so.
        """
        from models.neural.place import find_place

        return find_place(self.device, self.precision)

    def check_place(self) -> None:
        """Look for the place where anything was asked for; without that, torch is not imported.

        Raises
        ------
        RunError
            As `place`.
        """
        if (self.device, self.precision) != (Training.device, Training.precision):
            _ = self.place

    @functools.cached_property
    def divisions(self) -> Divisions:
        """The folds, made once for rows that are the same."""
        return Divisions(self.recipe)

    @property
    def _stores(self) -> Path:
        return self.folders.need_stores()

    def folder(self, member: Member) -> Path:
        """Of the run of a member.

        Raises
        ------
        RunError
            A folder lies where one of its files is to be.
        """
        folder = run_folder(self.folders.runs, self.recipe.name, member)
        check_outputs(folder)
        return folder

    def is_done(self, member: Member) -> bool:
        """Whether a finished run says what `train` would make.

        Raises
        ------
        StoreError
            The finished run lacks more than `allow_failures` rows of the tables.
        """
        return self._finished(member, train_inputs(self.recipe, member, self._stores))

    def _finished(self, member: Member, inputs: dict[str, Any]) -> bool:
        folder = self.folder(member)
        kind = self.recipe.head_of(member.head).kind
        if not is_fresh(folder, inputs, outputs_of(kind)):
            return False
        if (read_run(folder) or {}).get("lacking", 0) > self.allow_failures:
            self._rows(member)  # refuses
        return True

    def _rows(self, member: Member) -> tuple[Matrix, Sequences | None]:
        """What a head is fitted on; of one on frames a matrix without columns, and the frames."""
        recipe, head = self.recipe.of_head(member.head), self.recipe.head_of(member.head)
        layer = layer_of(head, member.layer)
        allowed = self.allow_failures
        if head.in_time is None:
            found = load_matrix(recipe, self._stores, member.model, layer, allow_failures=allowed)
            return found, None
        frames = load_sequences(
            recipe, self._stores, member.model, layer,
            source=head.in_time, allow_failures=allowed,
        )  # fmt: skip
        return frames.matrix(), frames

    def train(self, member: Member) -> Path:
        """Fit, choose and predict for one member, unless a finished run says the same.

        Parameters
        ----------
        member : Member
            The stores of its model exist for all corpora of the recipe; its layer is any but
            "best", which `models.layers` assembles.

        Returns
        -------
        Path
            The run's folder.

        Raises
        ------
        StoreError, CorpusError, RecipeError, RunError
            Before anything is fitted, but for a fold that has no score.
        """
        folder = self.folder(member)
        inputs = train_inputs(self.recipe, member, self._stores)
        if not self.force and self._finished(member, inputs):
            self.tell(f"{member}: nothing to do")
            return folder
        start = time.monotonic()
        task = self._task(member)
        with Spool(folder / INNER) as inner:
            result = _fit(task, inner, self.jobs, folder / STATES)
            _write_files(task, result, inner, folder)
        record = {"inputs": inputs, **_record(task, result)}
        record["seconds"] = {"fits": result.seconds, "all": time.monotonic() - start}
        files.write_run(folder, record)
        if result.network:
            from models.neural.engine import forget

            forget(folder / STATES)
        for line in _said(task, result):
            self.tell(line)
        return folder

    def _task(self, member: Member) -> Task:
        """Read and check all that is to be fitted."""
        recipe, head = self.recipe.of_head(member.head), self.recipe.head_of(member.head)
        matrix, frames = self._rows(member)
        check_grid(head, matrix.labels, table_of(member.head))
        place = self.place if HEADS[head.kind].neural else None
        engine = place.engine if place else route(head, len(matrix.X))
        names, y = matrix.labels or recipe.targets, truths(matrix.y)
        table = table_of(member.head)
        X, speakers = with_speakers(matrix, head, self._stores, table)
        shares = None
        if columns := head.shares:
            shares = read_shares(matrix.rows, matrix.labels, columns, table)
        problem = Problem(X, y, names, head, matrix.weights, speakers, frames, shares)
        refuse_infinite(y, names, matrix.rows)
        division = self.divisions.of(matrix.rows, y, matrix.labels)
        known = has_truth(matrix.y)
        much = warning(problem, division.plan)
        if much:
            self.tell(f"{member}: {much}")
        told = [*matrix.notes, *truth_notes(y, names, matrix.rows, known, division.plan.folds)]
        if shares is not None and columns:
            told.append(votes_note(shares, known, columns))
        if head.training and head.training.patience:
            told.append(
                "patience: on inner rows a network is kept as it was at its best score on those "
                "rows; a refit goes on for the median of that"
            )
        division.found.refuse(recipe.path)
        check_sizes(head, division.plan, table)
        told += check_speakers(head, matrix.groups, division.plan, known, table)
        told += check_shift(head, matrix, division.plan, table)
        return Task(
            recipe, member, matrix, problem, known, division, engine, told, bool(much), place
        )


@dataclass(frozen=True)
class Task:
    """One run: what is to be fitted, on which folds, and by whom.

    Attributes
    ----------
    recipe : Recipe
        Of its head alone.
    known : bool, shape (n,)
        Rows with a truth.
    engine : str
        Who fits the cells (`models.fits.route`).
    told : list of str
        What is known before the first fit, and said after the last.
    long : bool
        Whether it is more than a person means.
    place : TrainingPlace or None
        Where networks are trained; None of other heads.
    """

    recipe: Recipe
    member: Member
    matrix: Matrix
    problem: Problem
    known: NDArray[np.bool_]
    division: DividedRows
    engine: str
    told: list[str]
    long: bool
    place: TrainingPlace | None = None

    @property
    def one_fold(self) -> bool:
        """Whether there is one division into train, devel and test."""
        return self.division.plan.single or self.recipe.split.outer == "predefined"

    @property
    def n_layers(self) -> int:
        """How many layers are weighted against each other."""
        weighted = layer_of(self.problem.head, self.member.layer) == "weighted"
        return len(self.matrix.layers) if weighted else 1

    @property
    def n_columns(self) -> int:
        """Columns of a row, or of a frame."""
        frames = self.problem.frames
        if frames is not None:
            return frames.n_columns
        return self.matrix.X.shape[1] // self.n_layers

    @property
    def title(self) -> str:
        """The run's name as it is shown."""
        return self.matrix.title + self.member.tag


@dataclass(frozen=True)
class Trained:
    """What the fits of a run gave.

    Attributes
    ----------
    weights : dict or None
        Of a weighting of layers, its factors by fold.
    network : NetworkOutcome or None
        What a network leaves beside predictions.
    n_fits : int
    warned : dict
        How often scikit-learn warned of what.
    seconds : float
        That the fits took.
    """

    outcome: ProtocolResult
    weights: dict[str, list[float]] | None
    network: NetworkOutcome | None
    n_fits: int
    warned: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class NetworkOutcome:
    """What a network leaves beside predictions.

    Attributes
    ----------
    curves : DataFrame
        A row a point of a learning curve (`NeuralFits.curve_table`).
    layer_weights : dict
        Outer fold -> weight of each layer; empty where it weighs none.
    """

    curves: pd.DataFrame
    layer_weights: dict[str, list[float]]


def _fit(task: Task, inner: Spool, jobs: int, states: Path) -> Trained:
    """Search, fit again and predict; what is predicted of inner folds goes to the spool."""
    problem, plan, known = task.problem, task.division.plan, task.known
    first_s = FIRST_S if task.long else None
    progress = Progress(f"train {task.member}", count_fits(problem, plan), "fits", first_s=first_s)
    n_fits = int(progress.total)
    runner: AbstractContextManager[Fits | WeightedFits | NeuralFits]
    if HEADS[problem.head.kind].neural:
        from models.network_fits import NeuralFits as Networks

        runner = Networks(problem, jobs, progress, task.n_layers, states, task.place)
    elif task.n_layers > 1:
        runner = nullcontext(WeightedFits(problem, task.n_layers, jobs, n_fits, progress))
    else:
        parts = [part[known[part]] for part in _parts(plan, len(known))]
        runner = Fits(problem, jobs, n_fits, progress, parts)
    with runner as fits:
        protocol = one_fold if task.one_fold else cross_validation
        shifting = shifted_fits(problem, task.matrix, fits)
        outcome = protocol(problem, task.matrix, plan, known, shifting or fits, inner)
    outcome.notes += shifting.notes() if shifting else []
    weights = _weights(fits, plan, known) if isinstance(fits, WeightedFits) else None
    network = None
    if not isinstance(fits, Fits | WeightedFits):
        network = _network(fits, plan, known)
    return Trained(outcome, weights, network, fits.done, dict(fits.warned), progress.close())


def _network(fits: NeuralFits, plan: SplitPlan, known: NDArray[np.bool_]) -> NetworkOutcome:
    """What networks leave, by outer fold and of the saved head (`ALL`)."""
    rows = {fold.name: fold.train for fold in plan.folds} | {ALL: np.flatnonzero(known)}
    found = {name: fits.layer_weights(train) for name, train in rows.items()}
    return NetworkOutcome(fits.curve_table(), {k: v for k, v in found.items() if v})


def _write_files(task: Task, result: Trained, inner: Spool, folder: Path) -> None:
    """Write all files of a run but its record, which is taken away first."""
    (folder / "run.json").unlink(missing_ok=True)
    (folder / SCORES).unlink(missing_ok=True)
    outcome = result.outcome
    order = ["partition", "fold"] if task.one_fold else []
    write_sorted(folder / PREDICTIONS, outcome.predictions, order)
    inner.write()
    table = pd.concat([choice.table.assign(fold=name) for name, choice in outcome.choices.items()])
    table = table[["fold", *table.columns.drop("fold")]]
    write_text(folder / SEARCH, table.to_csv(index=False, lineterminator="\n"), RunError)
    write_head(folder, task.problem.head.kind, outcome.head)
    if result.network:
        curves = result.network.curves.to_csv(index=False, lineterminator="\n")
        write_text(folder / CURVES, curves, RunError)


def _record(task: Task, result: Trained) -> dict[str, Any]:
    """The run's `run.json`, but for its inputs and times."""
    recipe, matrix, found = task.recipe, task.matrix, task.division.found
    choices = result.outcome.choices
    return {
        "stage": "train",
        "model": task.member.model,
        "layer": task.member.layer,
        **({"head": task.member.head} if task.member.head else {}),
        "title": task.title,
        "recipe": recipe.resolved(),
        "chosen": {name: chosen_cells(choice, task.problem) for name, choice in choices.items()},
        "split": found.record(),
        "seeds": {"split": recipe.split.seed, "head": task.problem.head.random_state},
        "stores": matrix.identity,
        "corpora": {
            str(name): {"utterances": len(part), "with_truth": int(task.known[part.index].sum())}
            for name, part in matrix.rows.groupby("corpus")
        },
        "layers": matrix.layers,
        **({"layer_factors": result.weights} if result.weights else {}),
        **_of_layers(result.network),
        "columns": task.n_columns,
        "lacking": matrix.n_lacking,
        "notes": [*recipe.notes, *matrix.findings, *task.told, *result.outcome.notes, *found.notes],
        "engine": task.engine,
        **({"device": task.place.record()} if task.place else {}),
        "fits": result.n_fits,
        "fit_warnings": result.warned,
        "versions": versions(*(["torch"] if task.place else [])),
    }


def _of_layers(network: NetworkOutcome | None) -> dict[str, Any]:
    """The weights of layers that a network learned."""
    return {"layer_weights": network.layer_weights} if network and network.layer_weights else {}


def _said(task: Task, result: Trained) -> Iterator[str]:
    """The lines about a finished run."""
    found, choices = task.division.found, result.outcome.choices
    chosen = summary(choices, task.problem.head.select)
    yield f"{task.title}: {chosen}, {duration(result.seconds)}, {task.engine}"
    for text, count in result.warned.items():
        yield f"{task.title}: {count} of {result.n_fits} fits: {text}"
    for note in [*task.told, *result.outcome.notes, *found.declared, *found.absent]:
        yield f"{task.title}: {note}"


def _weights(
    fits: WeightedFits, plan: SplitPlan, known: NDArray[np.bool_]
) -> dict[str, list[float]]:
    """The factors of the layers by outer fold, and those of the saved head (`ALL`)."""
    found = {fold.name: fits.factors([fold.train])[0] for fold in plan.folds}
    found[ALL] = fits.factors([np.flatnonzero(known)])[0]
    return {name: factors.tolist() for name, factors in found.items()}


def _parts(plan: SplitPlan, n: int) -> list[Positions]:
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
