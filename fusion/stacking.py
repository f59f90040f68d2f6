"""Combinations that learn from predictions: weights, ranks, temperatures, stacked heads.

Conventions
-----------
- Stacks of predictions are float64, shape (n_members, n, n_targets) or (n_members, n, n_labels).
- What is learned is learned from `inner.csv` of the same outer fold (devel rows, or the
  out-of-fold predictions of the training rows), never from rows that are scored with it. Rows
  without a truth are left out; of a regression a target at a time.
- Where rows to learn from are themselves shown (devel), they get predictions of rules that were
  learned without them: `crossfit`, in folds without a shared speaker.
- A class that the members have not seen has NaN scores, in a fold for all of them alike.
- Regression: rules are a target each. Classes: members come as probabilities, the softmax of their
  scores.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluate.metrics import metrics
from evaluate.metrics.calibration import probabilities, temperature
from features.common.errors import RunError
from features.common.words import counted
from features.recipe.fusion import FusionSpec

N_FOLDS = 5
SEED = 0
ALPHAS = np.logspace(-4, 4, 17)
"""Of ridge stacking, chosen by generalised cross-validation."""
STRENGTHS = np.logspace(-4, 0, 5)
"""C of logistic stacking, chosen by log loss in folds (`parts`) that hold out no unseen class."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StackedRows:
    """Rows to learn from.

    Attributes
    ----------
    stack : float64, shape (n_members, n, n_columns)
    truth : float64, shape (n, n_targets), NaN where masked; or int64, shape (n,), -1 where masked
    groups : object (str), shape (n,)
        `corpus/speaker`, empty where unknown.
    """

    stack: Floats
    truth: NDArray[Any]
    groups: NDArray[np.object_]

    @property
    def classes(self) -> bool:
        """Whether the truths are classes."""
        return self.truth.ndim == 1

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows with a truth, of a regression for all targets."""
        return self.truth >= 0 if self.classes else ~np.isnan(self.truth).any(axis=1)

    def at(self, rows: NDArray[Any]) -> StackedRows:
        """Some of the rows."""
        return StackedRows(self.stack[:, rows], self.truth[rows], self.groups[rows])


@dataclass(frozen=True)
class Rule:
    """What was learned.

    Attributes
    ----------
    apply : callable
        Stack -> float64, shape (n, n_columns).
    learned : dict
        For `run.json`.
    """

    apply: Callable[[Floats], Floats]
    learned: dict[str, Any] = field(default_factory=dict)


def temperatures(rows: StackedRows) -> Floats:
    """One temperature a member (`evaluate.metrics.calibration.temperature`).

    Returns
    -------
    float64, shape (n_members,)
    """
    known = rows.at(rows.known)
    return np.array([temperature(member, known.truth) for member in known.stack])


def weighted(spec: FusionSpec, rows: StackedRows) -> Rule:
    """A mean with each member's score on the rows as its weight: UAR, or Spearman's rho a target.

    A score that is negative or undefined counts 0; where all are, the weights are equal.

    Parameters
    ----------
    spec : FusionSpec
    rows : StackedRows
        To learn from; those without a truth are left out.

    Returns
    -------
    Rule
        `weights`: shape (n_members, n_targets), of classes (n_members, 1); a column sums to 1.
    """
    known = rows.at(rows.known)
    weights = np.array([_scores(member, known) for member in known.stack])
    weights = np.where(weights > 0, weights, 0.0)  # NaN, too
    weights[:, weights.sum(axis=0) == 0] = 1.0
    return Rule(
        lambda stack: weighted_mean(_values(stack, rows.classes), weights),
        {"weights": weights / weights.sum(axis=0)},
    )


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Mean over the members with weights.

    Parameters
    ----------
    values : float64, shape (n_members, n, n_targets)
    weights : float64, shape (n_members, n_targets) or (n_members, 1)

    Examples
    --------
    >>> weighted_mean(np.array([[[0.0]], [[4.0]]]), np.array([[3.0], [1.0]])).tolist()
    [[1.0]]
    """
    return np.asarray((weights[:, None] * values).sum(axis=0) / weights.sum(axis=0))


def _scores(values: Floats, rows: StackedRows) -> list[float]:
    if rows.classes:
        right = np.nanargmax(values, axis=1) == rows.truth
        return [
            float(np.mean([right[rows.truth == label].mean() for label in np.unique(rows.truth)]))
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.ScoreWarning)  # undefined counts 0
        columns = range(values.shape[1])
        return [metrics.spearman(rows.truth[:, i], values[:, i]) for i in columns]


def _values(stack: Floats, classes: bool) -> Floats:
    """What is averaged: predictions, or probabilities with NaN for a class without a score."""
    return np.where(np.isnan(stack), np.nan, probabilities(stack)) if classes else stack


def mean_rank(spec: FusionSpec, rows: StackedRows) -> Rule:
    """The mean position of the predictions among each member's own on the rows, from 0 to 1.

    Parameters
    ----------
    spec : FusionSpec
    rows : StackedRows
        Of a regression; their truths are not asked for.

    Returns
    -------
    Rule
        Gives positions from 0 to 1, not values of the targets.
    """
    ordered = np.sort(rows.stack, axis=1)

    def apply(stack: Floats) -> Floats:
        position = np.empty_like(stack)
        for member, target in np.ndindex(len(stack), stack.shape[2]):
            known, values = ordered[member, :, target], stack[member, :, target]
            below, up_to = (np.searchsorted(known, values, side) for side in ("left", "right"))
            position[member, :, target] = (below + up_to) / (2 * len(known))
        return np.asarray(position.mean(axis=0))

    return Rule(apply, {"unit": "position among the predictions that it was learned from"})


def non_negative(spec: FusionSpec, rows: StackedRows) -> Rule:
    """Non-negative least squares on the members (scipy), of a regression with an intercept.

    Of classes one weight a member, on probabilities, against the indicators of the classes.

    Parameters
    ----------
    spec : FusionSpec
    rows : StackedRows
        To learn from; those without a truth are left out.

    Returns
    -------
    Rule
        `weights`: shape (n_members,) of classes, (n_members, n_targets) else, with `intercept`.

    Raises
    ------
    RunError
        Of classes every weight is 0.
    """
    known = rows.at(rows.known)
    if rows.classes:
        values = _values(known.stack, True)
        seen = np.flatnonzero(~np.isnan(values[0]).any(axis=0))
        wanted = (known.truth[:, None] == seen).astype(float)
        weights, _ = nnls(values[:, :, seen].reshape(len(values), -1).T, wanted.ravel())
        if not weights.any():
            raise RunError("nnls: every weight is 0: no member tells anything; leave it out")

        def of_classes(stack: Floats) -> Floats:
            return np.tensordot(weights, _values(stack, True), axes=1)

        return Rule(of_classes, {"weights": weights})
    centres = known.stack.mean(axis=1)
    middle = known.truth.mean(axis=0)
    columns = [
        nnls((known.stack[:, :, i] - centres[:, None, i]).T, known.truth[:, i] - middle[i])[0]
        for i in range(known.truth.shape[1])
    ]
    weights = np.stack(columns, axis=1)

    def apply(stack: Floats) -> Floats:
        moved = (weights[:, None] * (stack - centres[:, None])).sum(axis=0)
        return np.asarray(middle + moved)

    return Rule(apply, {"weights": weights, "intercept": middle - (weights * centres).sum(axis=0)})


def ridge(spec: FusionSpec, rows: StackedRows) -> Rule:
    """Ridge regression on the members: a target each, or a class each on all probabilities.

    Parameters
    ----------
    spec : FusionSpec
    rows : StackedRows
        To learn from; those without a truth are left out.

    Returns
    -------
    Rule
        `alpha` was chosen by generalised cross-validation; of a regression with `weights`, shape
        (n_members, n_targets).
    """
    known = rows.at(rows.known)
    if rows.classes:
        n_labels = known.stack.shape[2]
        seen = _seen(known)
        wanted = (known.truth[:, None] == seen).astype(float)
        model = RidgeCV(ALPHAS).fit(_side_by_side(known.stack, seen), wanted)

        def of_classes(stack: Floats) -> Floats:
            return _spread(model.predict(_side_by_side(stack, seen)), seen, n_labels)

        return Rule(of_classes, {"alpha": model.alpha_})
    models = [
        RidgeCV(ALPHAS).fit(known.stack[:, :, i].T, known.truth[:, i])
        for i in range(known.truth.shape[1])
    ]

    def apply(stack: Floats) -> Floats:
        return np.stack([model.predict(stack[:, :, i].T) for i, model in enumerate(models)], axis=1)

    weights = np.stack([model.coef_ for model in models], axis=1)
    return Rule(apply, {"alpha": [model.alpha_ for model in models], "weights": weights})


def logistic(spec: FusionSpec, rows: StackedRows) -> Rule:
    """Logistic regression on the members' scores side by side, standardised.

    Parameters
    ----------
    spec : FusionSpec
    rows : StackedRows
        Of classes; those without a truth are left out.

    Returns
    -------
    Rule
        Gives log probabilities. `C` where folds could choose it.
    """
    known = rows.at(rows.known)
    n_labels = known.stack.shape[2]
    seen = _seen(known)
    known = known.at(np.isin(known.truth, seen))
    X = _side_by_side(known.stack, seen, probability=False)
    folds = [
        (train, test)
        for train, test in parts(known)
        if set(known.truth[test]) <= set(known.truth[train])
    ]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    if folds:
        grid = {"logisticregression__C": STRENGTHS}
        model = GridSearchCV(model, grid, cv=folds, scoring=_log_loss)
    model.fit(X, known.truth)

    def apply(stack: Floats) -> Floats:
        found = log_probabilities(model, _side_by_side(stack, seen, probability=False))
        return _spread(found, model.classes_, n_labels)

    return Rule(apply, {"C": model.best_params_["logisticregression__C"]} if folds else {})


def log_probabilities(model: Any, X: Floats) -> Floats:
    """Logarithms of a logistic regression's probabilities: finite, however small these are.

    `predict_log_proba` takes the logarithm of what has been rounded, in the end to 0.

    Parameters
    ----------
    model : estimator
        A fitted logistic regression, or what ends with one.
    X : float64, shape (n, n_columns)

    Returns
    -------
    float64, shape (n, n_classes)
    """
    values = model.decision_function(X)
    if values.ndim == 1:  # two classes: that of the second less that of the first
        values = np.stack([np.zeros_like(values), values], axis=1)
    return np.asarray(log_softmax(values, axis=1))


def _log_loss(model: Any, X: Floats, truth: NDArray[np.int64]) -> float:
    """Higher is better; scikit-learn's own refuses folds that lack a class."""
    column = np.searchsorted(model.classes_, truth)
    return float(log_probabilities(model, X)[np.arange(len(X)), column].mean())


def _seen(rows: StackedRows) -> NDArray[np.int64]:
    """The classes that all members have a score for and that some row is of."""
    scored = np.flatnonzero(~np.isnan(rows.stack[0]).any(axis=0))
    return np.intersect1d(scored, rows.truth)


def _side_by_side(stack: Floats, seen: NDArray[np.int64], *, probability: bool = True) -> Floats:
    values = probabilities(stack) if probability else stack
    return np.concatenate(list(values[:, :, seen]), axis=1)


def _spread(values: Floats, seen: NDArray[np.int64], n_labels: int) -> Floats:
    """Values of some classes as columns of all of them, NaN for the others."""
    whole = np.full((len(values), n_labels), np.nan)
    whole[:, seen] = values
    return whole


LEARNED: Mapping[str, Callable[[FusionSpec, StackedRows], Rule]] = MappingProxyType(
    {
        "weighted": weighted,
        "rank-mean": mean_rank,
        "nnls": non_negative,
        "ridge": ridge,
        "logistic": logistic,
    }
)


def learn(spec: FusionSpec, fixed: Callable[[Floats], Floats] | None, rows: StackedRows) -> Rule:
    """The rule of a combination: temperatures where asked for, then its method.

    Parameters
    ----------
    spec : FusionSpec
    fixed : callable or None
        The method, where there is nothing to learn.
    rows : StackedRows
        To learn from.

    Returns
    -------
    Rule
        With `temperatures`, shape (n_members,), where asked for.

    Raises
    ------
    RunError
        Fewer rows with a truth than members.
    """
    n_known = int(rows.known.sum())
    if n_known < len(rows.stack):
        raise RunError(
            f"{counted(n_known, 'row')} with a truth to learn '{spec.method}' of "
            f"{len(rows.stack)} members from; use a method that learns nothing, as 'mean'"
        )
    divide = temperatures(rows)[:, None, None] if spec.calibrate else None
    if divide is not None:
        rows = StackedRows(rows.stack / divide, rows.truth, rows.groups)
    rule = Rule(fixed) if fixed else LEARNED[spec.method](spec, rows)
    if divide is None:
        return rule
    return Rule(
        lambda stack: rule.apply(stack / divide),
        {**rule.learned, "temperatures": divide.ravel()},
    )


def parts(rows: StackedRows) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds for rows to learn from: no shared speaker where two or more are known.

    Parameters
    ----------
    rows : StackedRows

    Yields
    ------
    train, test : int64, shape (n_train,) and (n_test,)
        Positions of rows.
    """
    known = rows.groups != ""
    # Rows of nobody are groups of their own.
    alone = np.char.add("row ", np.arange(len(rows.groups)).astype(str)).astype(object)
    groups = np.where(known, rows.groups, alone)
    n_groups = len(set(groups))
    if n_groups < 2:
        yield from KFold(min(N_FOLDS, len(groups)), shuffle=True, random_state=SEED).split(groups)
    else:
        splitter = GroupKFold(min(N_FOLDS, n_groups), shuffle=True, random_state=SEED)
        yield from splitter.split(groups, groups=groups)


def crossfit(
    spec: FusionSpec, fixed: Callable[[Floats], Floats] | None, rows: StackedRows
) -> Floats:
    """Predictions of rows by rules that were learned without them and their speakers.

    Returns
    -------
    float64, shape (n, n_columns)
    """
    result = np.empty(rows.stack.shape[1:])
    for train, test in parts(rows):
        result[test] = learn(spec, fixed, rows.at(train)).apply(rows.stack[:, test])
    return result
