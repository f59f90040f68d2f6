"""The fits of a search by networks: all that are known at once are trained together.

Conventions
-----------
- A fit is that of `models.problem`: one cell on one fold's rows. Its scaler is fitted on its rows
  and goes into the network (`FittedNet.inputs`); the saved head is the network alone.
- Draws are a function of the seed and of which rows are fitted, so that no bit depends on which
  fits are trained together, in which process, or how many there are.
- Inner rows score the learning curve by the recipe's `select`. With `patience` they say where it
  ends, too; a fit of a chosen cell, which has no inner rows, then goes on for the median of what
  its search's inner folds took.
- States are kept in a folder, so that a training that was stopped goes on where it was.

Must not be imported on the path of a classical training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from evaluate.runs.curves import COLUMNS
from features.common.errors import RunError
from features.sequences import Sequences
from models.fits import Counting
from models.neural.engine import STACK_MOST, CurveRow, NeuralFit, NeuralRows, Scoring, train
from models.neural.estimator import NeuralClassifier, NeuralRegressor, shares_or_labels
from models.neural.nets import FittedNet
from models.neural.place import TrainingPlace
from models.neural.scales import Affine
from models.neural.settings import NeuralSettings
from models.neural.utterances import moments, scale_of
from models.problem import Fit, Positions, Problem
from models.search import selection_scores
from models.single import Fitted, by_label, truth_of

SERIAL_WORK = 1e11
"""Multiplications of all steps below which no processes are started: some twenty seconds."""
WIDTH = 256
"""Of the first layer of most networks: for the rule of `SERIAL_WORK`."""
LAYERS = "layers"
"""The parameter of `superb` whose softmax weighs the layers."""


@dataclass(frozen=True)
class InnerScore:
    """A score of outputs on inner rows, as the recipe chooses by it; for other processes, too.

    Attributes
    ----------
    select : str
    y : shape (n,) or (n, n_targets)
        Truths of all rows of the problem.
    labels : tuple of str
        All classes; empty for regression.
    classes : tuple of str
        Those of the outputs.
    """

    select: str
    y: NDArray[Any]
    labels: tuple[str, ...]
    classes: tuple[str, ...]

    def __call__(self, outputs: NDArray[np.float64], positions: Positions) -> float:
        """The mean over targets, or the score of the classes; NaN where it is undefined."""
        if not np.isfinite(outputs).all():
            return float("nan")
        values = by_label(outputs, self.classes, self.labels) if self.labels else outputs
        scores = selection_scores(self.select, self.y[positions], values, self.labels)
        return float(np.mean(scores))


@dataclass(frozen=True)
class Piece:
    """Fits of one shape that one process trains together.

    Attributes
    ----------
    fits : list of NeuralFit
    tests : list of tuple of int64
        Rows that each is applied to.
    positions : list of int
        Their places among those that were asked for.
    """

    fits: list[NeuralFit]
    tests: list[tuple[Positions, ...]]
    positions: list[int]


@dataclass(frozen=True)
class TrainedNet:
    """What one fit gave: outputs at each of its tests, its network, and how it went."""

    outputs: list[NDArray[np.float64]]
    net: FittedNet
    curve: tuple[CurveRow, ...]
    step: int
    epoch: float
    failure: str


def train_piece(
    rows: NeuralRows, piece: Piece, scoring: Scoring, folder: Path | None, place: TrainingPlace
) -> list[TrainedNet]:
    """Train the fits of a piece and apply each to its tests, on the CPU; in any process."""
    results = train(
        rows, piece.fits, scoring, device=place.device, precision=place.precision, folder=folder
    )
    return [
        TrainedNet(
            [] if result.failure else [result.net.outputs(rows.X, test) for test in tests],
            result.net, result.curve, result.step, result.epoch, result.failure,
        )
        for result, tests in zip(results, piece.tests, strict=True)
    ]  # fmt: skip


@dataclass(frozen=True)
class FitCurve:
    """The learning curve of one fit: `search`, `cell` and `inner` are those of `Fit`."""

    title: str
    search: str
    cell: int
    inner: bool
    rows: tuple[CurveRow, ...]


class NeuralFits:
    """Runs fits of one problem by the engine; a context manager like `models.fits.Fits`.

    Parameters
    ----------
    problem : Problem
    jobs : int
        Processes; -1 is all cores. No bit depends on it.
    progress : Counting, optional
    n_layers : int
        Layers that lie side by side in the columns.
    folder : Path, optional
        Where states are kept.
    place : TrainingPlace, optional
        Where they are trained; the CPU. Elsewhere one process trains all of one shape at once.

    Attributes
    ----------
    done : int
        Finished fits.
    warned : Counter
        Empty: a training that fails is an error.
    curves : list of FitCurve
        Of all fits, in their order.
    nets : dict
        Rows that were fitted (hashed) -> network, of fits of chosen cells.
    """

    def __init__(
        self,
        problem: Problem,
        jobs: int,
        progress: Counting | None = None,
        n_layers: int = 1,
        folder: Path | None = None,
        place: TrainingPlace | None = None,
    ) -> None:
        self.problem, self.progress, self.n_layers, self.folder = (
            problem,
            progress,
            n_layers,
            folder,
        )
        self.place = place or TrainingPlace()
        self.jobs = joblib.effective_n_jobs(jobs) if self.place.kind == "cpu" else 1
        self.done = 0
        self.warned: Counter[str] = Counter()
        self.curves: list[FitCurve] = []
        self.nets: dict[str, FittedNet] = {}
        self._moments: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._lasted: dict[tuple[str, int], list[TrainedNet]] = {}

    def __enter__(self) -> NeuralFits:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def __call__(self, fits: Sequence[Fit]) -> list[Fitted]:
        """Run fits; results in their order.

        Raises
        ------
        RunError
            A training diverged: its loss is no number.
        """
        found: list[Fitted | None] = [None] * len(fits)
        curves: dict[int, FitCurve] = {}
        by_classes: dict[tuple[str, ...], list[int]] = {}
        for i, fit in enumerate(fits):
            by_classes.setdefault(self._classes(fit), []).append(i)
        for classes, positions in by_classes.items():
            heads = {i: self._head(fits[i]) for i in positions}
            todo = {i: self._fit(fits[i], heads[i]) for i in positions}
            pieces = self._pieces(todo, fits)
            for piece, results in self._trained(pieces, classes):
                for i, trained in zip(piece.positions, results, strict=True):
                    fit = fits[i]
                    if trained.failure:
                        raise RunError(f"{fit.title}: {trained.failure}")
                    if fit.inner:
                        self._lasted.setdefault(fit.cell, []).append(trained)
                    else:
                        self.nets[rows_hash(fit.train)] = trained.net
                    curves[i] = FitCurve(fit.title, *fit.cell, fit.inner, trained.curve)
                    found[i] = self._fitted(fit, heads[i], classes, trained)
                self._finish(len(results))
        self.curves += [curves[i] for i in sorted(curves)]
        return [fitted for fitted in found if fitted is not None]

    def _classes(self, fit: Fit) -> tuple[str, ...]:
        """The classes of the rows that are fitted, ascending; empty for regression."""
        if not self.problem.labels:
            return ()
        return tuple(sorted(set(self.problem.y[fit.train].tolist())))

    def _head(self, fit: Fit) -> NeuralClassifier | NeuralRegressor:
        head: NeuralClassifier | NeuralRegressor = fit.pipeline["head"]
        if self.n_layers > 1:
            head.set_params(n_layers=self.n_layers)
        if (speakers := self.problem.speakers) is not None:
            head.set_params(n_speakers=len(speakers.names))
            if speakers.n_means:
                head.set_params(speaker_width=speakers.n_means)
        return head

    def _fit(self, fit: Fit, head: NeuralClassifier | NeuralRegressor) -> NeuralFit:
        """A training as the engine takes it."""
        y = truth_of(self.problem.y, fit)
        inner = fit.tests[0] if fit.inner else None
        weights = targets = None
        if isinstance(head, NeuralClassifier):
            if head.class_weight is not None:
                classes = np.array(self._classes(fit), dtype=object)
                given = head.class_weight
                if isinstance(given, dict):
                    given = {name: given.get(name, 1.0) for name in classes}
                found = compute_class_weight(given, classes=classes, y=y)
                weights = tuple(float(weight) for weight in found)
        else:
            targets = Affine.of(y.reshape(len(y), -1))
        return NeuralFit(
            self._settings(fit, head), fit.train, int(head.random_state), rows_hash(fit.train),
            inner, weights, self._inputs(fit), targets,
        )  # fmt: skip

    def _settings(self, fit: Fit, head: NeuralClassifier | NeuralRegressor) -> NeuralSettings:
        """Of a chosen cell with patience: as long as the median of its inner folds."""
        settings = head.settings()
        if settings.patience is None or fit.inner:
            return settings
        lasted = self._lasted[fit.cell]
        if settings.steps is not None:
            steps = round(float(np.median([each.step for each in lasted])))
            return replace(settings, patience=None, steps=max(steps, 1))
        epochs = round(float(np.median([each.epoch for each in lasted])))
        return replace(settings, patience=None, epochs=max(epochs, 1))

    def _frame_scale(self, frames: Sequences, train: Positions) -> Affine:
        """Of all frames of some rows; the sums of each row are kept."""
        if self._moments is None:
            self._moments = moments(frames)
        sums, squares = (part[train].sum(0) for part in self._moments)
        return scale_of(sums, squares, int(frames.lengths[train].sum()))

    def _inputs(self, fit: Fit) -> Affine | None:
        """What the scaler does to the columns, and their weights behind it, as one step."""
        scaler, speakers = fit.pipeline["scaler"], self.problem.speakers
        if self.problem.frames is not None:
            plain = scaler == "passthrough"
            return None if plain else self._frame_scale(self.problem.frames, fit.train)
        n = self.problem.X.shape[1] - (speakers.n_columns if speakers else 0)
        centre, scale = np.zeros(n), np.ones(n)
        if scaler != "passthrough":
            scaler.fit(self.problem.X[fit.train, :n].astype(np.float64))
            centre, scale = _affine_of(scaler)
        if self.problem.weights is not None:
            scale = scale / self.problem.weights
        elif scaler == "passthrough":
            return None
        if speakers:
            centre = np.append(centre, np.zeros(speakers.n_columns))
            scale = np.append(scale, np.ones(speakers.n_columns))
        return Affine(centre.astype(np.float32), scale.astype(np.float32))

    def _pieces(self, todo: dict[int, NeuralFit], fits: Sequence[Fit]) -> list[Piece]:
        """Fits of one shape side by side, in pieces that occupy all processes."""
        by_shape: dict[tuple[Any, ...], list[int]] = {}
        for i, fit in todo.items():
            by_shape.setdefault(fit.settings.shape, []).append(i)
        pieces = []
        for positions in by_shape.values():
            size = -(-len(positions) // self.jobs)
            if self.place.kind == "cpu":
                size = min(STACK_MOST, size)
            for start in range(0, len(positions), size):
                part = positions[start : start + size]
                pieces.append(Piece([todo[i] for i in part], [fits[i].tests for i in part], part))
        return pieces

    def _targets(self, classes: tuple[str, ...]) -> NDArray[np.float32]:
        """What all rows are fitted to: shares of the classes that are fitted, or values."""
        problem = self.problem
        if not classes:
            return np.asarray(problem.y, dtype=np.float32)
        targets = (problem.y[:, None] == np.array(classes, dtype=object)).astype(np.float64)
        if problem.shares is not None:
            own = [problem.labels.index(name) for name in classes]
            targets = shares_or_labels(problem.shares[:, own], targets)
        return np.asarray(targets, dtype=np.float32)

    def _trained(
        self, pieces: Sequence[Piece], classes: tuple[str, ...]
    ) -> Iterator[tuple[Piece, list[TrainedNet]]]:
        """Each piece with its results, as they come."""
        problem, targets = self.problem, self._targets(classes)
        pooled = np.ascontiguousarray(problem.X, dtype=np.float32)
        rows = NeuralRows(pooled if problem.frames is None else problem.frames, targets)
        select = problem.head.select
        score = InnerScore(select, problem.y, problem.labels, classes)
        scoring = Scoring(select, score)
        work = sum(fit.n_steps * fit.settings.batch_size for piece in pieces for fit in piece.fits)
        if problem.frames is not None:
            work *= max(round(float(problem.frames.lengths.mean())), 1)
        jobs = 1 if work * rows.n_columns * WIDTH < SERIAL_WORK else min(self.jobs, len(pieces))
        parallel = joblib.Parallel(jobs, return_as="generator")
        results = parallel(
            joblib.delayed(train_piece)(rows, piece, scoring, self.folder, self.place)
            for piece in pieces
        )
        yield from zip(pieces, results, strict=True)

    def _fitted(
        self,
        fit: Fit,
        head: NeuralClassifier | NeuralRegressor,
        classes: tuple[str, ...],
        trained: TrainedNet,
    ) -> Fitted:
        """What the search asks for: predictions, and the head where it is kept."""
        labels = self.problem.labels
        outputs = [by_label(out, classes, labels) if labels else out for out in trained.outputs]
        if not fit.keep:
            return Fitted(outputs, None, Counter())
        frames = self.problem.frames
        head.n_features_in_ = self.problem.X.shape[1] if frames is None else frames.n_columns
        if isinstance(head, NeuralClassifier):
            head.classes_ = np.array(classes, dtype=object)
        else:
            head.one_target_ = False
        head.net_ = trained.net
        head.curve_ = [dict(vars(row)) for row in trained.curve]
        head.n_steps_, head.n_epochs_ = trained.step, trained.epoch
        if self.problem.speakers:
            head.speakers_ = self.problem.speakers.names
        return Fitted(outputs, head, Counter())

    def curve_table(self) -> pd.DataFrame:
        """The learning curves, a row a point; columns as of `evaluate.runs.curves`."""
        rows = [
            (each.title, each.search, each.cell, each.inner, *vars(row).values())
            for each in self.curves
            for row in each.rows
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def layer_weights(self, train: Positions) -> list[float]:
        """The weight of each layer in the network that was fitted on some rows; none elsewhere."""
        net = self.nets.get(rows_hash(train))
        if net is None or LAYERS not in net.parameters:
            return []
        powers = np.exp(net.parameters[LAYERS] - net.parameters[LAYERS].max())
        return np.asarray(powers / powers.sum(), dtype=np.float64).tolist()

    def _finish(self, n_fits: int) -> None:
        self.done += n_fits
        if self.progress:
            self.progress.add(n_fits)


def rows_hash(rows: Positions) -> str:
    """Which rows are fitted, as a text."""
    return hashlib.blake2b(np.asarray(rows, "<i8").tobytes(), digest_size=8).hexdigest()


def _affine_of(scaler: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and scale of a fitted scaler of scikit-learn's."""
    if hasattr(scaler, "data_range_"):  # minmax: x * scale_ + min_
        scale = 1 / scaler.scale_
        return -scaler.min_ * scale, scale
    centre = scaler.center_ if hasattr(scaler, "center_") else scaler.mean_
    return centre, scaler.scale_
