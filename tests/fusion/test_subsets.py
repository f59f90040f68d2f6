"""Every subset scored by brute force is the oracle: `fusion.combine`, scikit-learn, scipy."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from evaluate.metrics.metrics import ccc, scores_of
from features.common.errors import RunError
from features.recipe.known.fusion_methods import SUBSET_METHODS
from fusion.methods import METHODS, mean
from fusion.subsets.classes import Classes
from fusion.subsets.confusions import macro_f1_bounds
from fusion.subsets.search import (
    NEAR,
    TIES_KEPT,
    Best,
    State,
    SubsetProblem,
    draw,
    greedy,
    members_of,
    search,
)
from fusion.subsets.targets import Shares

SCORES: dict[str, Callable[..., float]] = {
    "uar": balanced_accuracy_score,
    "wa": accuracy_score,
    "macro_f1": partial(f1_score, average="macro", zero_division=np.nan),
}


def classes(
    rng: np.random.Generator, n_members: int, n: int, n_labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Truths and class scores that overlap."""
    truth = rng.integers(0, n_labels, n)
    scores = rng.normal(size=(n_members, n, n_labels))
    scores[:, np.arange(n), truth] += 0.5
    return truth, scores


def f1_by_hand(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that are true or said of twice the right rows over both counts."""
    either = np.union1d(truth, predicted)
    return float(np.mean([
        2 * ((truth == c) & (predicted == c)).sum() / ((truth == c).sum() + (predicted == c).sum())
        for c in either
    ]))  # fmt: skip


def by_brute_force(
    truth: np.ndarray, scores: np.ndarray, method: str, metric: str, k: int
) -> tuple[float, list[tuple[int, ...]]]:
    """The best score, and all subsets that have it."""
    found = {}
    present = np.unique(truth)
    for subset in itertools.combinations(range(len(scores)), k):
        predicted = np.nanargmax(METHODS[method](scores[list(subset)]), axis=1)
        right = predicted == truth
        recalls = [right[truth == label].mean() for label in present]
        found[subset] = float(np.mean(recalls if metric == "uar" else right))
        if metric == "macro_f1":
            found[subset] = f1_by_hand(truth, predicted)
    best = max(found.values())
    ties = [subset for subset, value in found.items() if value > best - 1e-12]
    predicted = np.nanargmax(METHODS[method](scores[list(ties[-1])]), axis=1)
    if set(predicted) <= set(truth):
        assert SCORES[metric](truth, predicted) == pytest.approx(best, abs=1e-12)
    return best, ties


def named(best: Best, n_members: int, k: int) -> list[tuple[int, ...]]:
    return [tuple(one) for one in members_of(np.array(best.masks), n_members, k).tolist()]


@pytest.mark.parametrize("method", SUBSET_METHODS)
@pytest.mark.parametrize(
    ("n_members", "n", "n_labels"), [(7, 60, 3), (11, 90, 4), (5, 30, 2), (3, 20, 6)]
)
def test_winners_and_ties_are_those_of_brute_force(
    rng: np.random.Generator, method: str, n_members: int, n: int, n_labels: int
) -> None:
    truth, scores = classes(rng, n_members, n, n_labels)
    problem = Classes(truth, scores, method, list(SCORES))
    for k in range(1, n_members + 1):
        state = search(problem, k)
        assert state.n_subsets == math.comb(n_members, k)
        for metric in SCORES:
            value, ties = by_brute_force(truth, scores, method, metric, k)
            best = state.best[metric]
            assert best.value == pytest.approx(value, abs=1e-12)
            assert best.count == len(ties)
            assert named(best, n_members, k) == ties[:TIES_KEPT]


@pytest.mark.parametrize("method", SUBSET_METHODS)
def test_a_class_that_a_fold_lacked_cannot_win(rng: np.random.Generator, method: str) -> None:
    truth, scores = classes(rng, 6, 50, 4)
    scores[:, :20, 2] = np.nan
    assert (truth[:20] == 2).any()
    problem = Classes(truth, scores, method, list(SCORES))
    for k in (1, 3, 6):
        state = search(problem, k)
        for metric, best in state.best.items():
            value, ties = by_brute_force(truth, scores, method, metric, k)
            assert (best.value, best.count) == (pytest.approx(value, abs=1e-12), len(ties))
            assert named(best, 6, k) == ties[:TIES_KEPT]
    scores[3, 5, 0] = np.nan
    with pytest.raises(RunError, match="lack the scores of different classes, first in row 6"):
        Classes(truth, scores, method, ["uar"])


@pytest.mark.parametrize("method", SUBSET_METHODS)
def test_scores_that_tie_exactly(rng: np.random.Generator, method: str) -> None:
    truth, scores = classes(rng, 6, 40, 3)
    scores = np.rint(scores)  # sums of whole numbers: the first class of the list wins many rows
    problem = Classes(truth, scores, method, list(SCORES))
    for k in range(1, 7):
        state = search(problem, k)
        for metric in SCORES:
            value, ties = by_brute_force(truth, scores, method, metric, k)
            assert state.best[metric].count == len(ties)
            assert state.best[metric].value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("method", SUBSET_METHODS)
def test_macro_f1_where_a_class_of_the_list_is_never_true(
    rng: np.random.Generator, method: str
) -> None:
    truth, scores = classes(rng, 6, 40, 4)
    truth %= 3
    scores[:, :, 3] += 0.4
    problem = Classes(truth, scores, method, ["macro_f1"])
    for k in (1, 2, 5):
        value, ties = by_brute_force(truth, scores, method, "macro_f1", k)
        best = search(problem, k).best["macro_f1"]
        assert (best.value, best.count) == (pytest.approx(value, abs=1e-12), len(ties))


def test_no_confusion_matrix_has_a_higher_macro_f1_than_its_bound(
    rng: np.random.Generator,
) -> None:
    for n_present, n_labels in ((3, 3), (3, 5), (1, 2)):
        matrices = rng.integers(0, 6, (200, n_labels, n_labels))
        matrices[:, np.arange(n_labels), np.arange(n_labels)] += rng.integers(0, 30, n_labels)
        matrices[:, n_present:] = 0
        for matrix in matrices:
            support = matrix.sum(axis=1)[:n_present]
            if support.all():
                right = np.diagonal(matrix)[:n_present]
                bound = macro_f1_bounds(right, support, n_labels)
                assert scores_of(matrix)["macro_f1"] <= bound + 1e-12


def test_scores_of_any_size(rng: np.random.Generator) -> None:
    truth, scores = classes(rng, 5, 60, 3)
    scores *= 10.0 ** rng.integers(-200, 200, (1, 60, 1))
    scores[:, 0] = 0
    for k in (1, 2, 4):
        value, ties = by_brute_force(truth, scores, "logit-sum", "wa", k)
        best = search(Classes(truth, scores, "logit-sum", ["wa"]), k).best["wa"]
        assert (best.value, best.count) == (pytest.approx(value), len(ties))


def test_equal_members_are_all_counted_and_the_first_are_named() -> None:
    truth = np.array([0, 1, 1])
    scores = np.tile(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), (30, 1, 1))
    best = search(Classes(truth, scores, "logit-sum", ["wa"]), 2).best["wa"]
    assert (best.value, best.count) == (pytest.approx(2 / 3), math.comb(30, 2))
    assert named(best, 30, 2) == [(0, i) for i in range(1, TIES_KEPT + 1)]


def test_recalls_are_compared_as_whole_numbers() -> None:
    # Recalls 1/3 + 3/7 and 2/3 + 2/21 have one mean; as floats they need not.
    support = [3, 21]
    truth = np.repeat([0, 1], support)
    scores = np.zeros((2, 24, 2))
    for member, right in enumerate(([1, 9], [2, 2])):
        won = np.concatenate([np.arange(s) < r for s, r in zip(support, right, strict=True)])
        scores[member, np.arange(24), np.where(won, truth, 1 - truth)] = 1
    assert search(Classes(truth, scores, "mean", ["uar"]), 1).best["uar"].count == 2


def shares(rng: np.random.Generator, n_members: int, n: int, n_targets: int) -> tuple:
    truth = rng.random((n, n_targets)).round(1)
    values = truth + rng.normal(size=(n_members, n, n_targets))
    truth[:4, 0] = np.nan
    return truth, values


def rho(truth: np.ndarray, prediction: np.ndarray) -> float:
    """scipy's, of the rows with a truth, mean over targets."""
    known = ~np.isnan(truth)
    pairs = zip(truth.T, prediction.T, known.T, strict=True)
    return float(np.mean([spearmanr(x[k], y[k]).statistic for x, y, k in pairs]))


ways_to_rank = pytest.mark.parametrize("binned", [False, True], ids=["sorted", "binned"])


@ways_to_rank
@pytest.mark.parametrize("digits", [1, 15], ids=["tied", "free"])
def test_spearman_of_every_subset(rng: np.random.Generator, digits: int, binned: bool) -> None:
    truth, values = shares(rng, 11, 70, 2)
    values = values.round(digits)
    problem = Shares(truth, values, binned=binned)
    for k in (1, 3, 10, 11):
        subsets = list(itertools.combinations(range(11), k))
        expected = np.array([rho(truth, mean(values[list(one)])) for one in subsets])
        found = problem.scores(np.array(subsets), "spearman")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        best = search(problem, k).best["spearman"]
        assert best.value == pytest.approx(expected.max(), abs=1e-12)
        assert named(best, 11, k)[0] == subsets[int(expected.argmax())]
        assert best.count == 1


def scaled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values * 10.0 ** rng.integers(-9, 9, (len(values), 1, 1))


def with_one_outlier(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values[rng.integers(len(values)), 1] = 1e9
    return values


@ways_to_rank
@pytest.mark.parametrize(
    "change",
    [
        lambda values, rng: values,
        lambda values, rng: values.round(),
        lambda values, rng: values**9,
        lambda values, rng: 1e9 + values,
        lambda values, rng: 1e16 + values,
        scaled,
        with_one_outlier,
    ],
    ids=["free", "tied", "heavy tails", "far from 0", "lost in 1e16", "scales", "outlier"],
)
@pytest.mark.parametrize("n", [3, 400])
def test_winners_of_shares_are_those_of_brute_force(
    rng: np.random.Generator,
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    n: int,
    binned: bool,
) -> None:
    truth = rng.random((n, 2)).round(1) + np.arange(n)[:, None] % 2
    values = change(truth + rng.normal(size=(8, n, 2)), rng)
    values[6] = values[2]
    truth[: n // 4, 0] = np.nan
    problem = Shares(truth, values, binned=binned)
    for k in (1, 2, 4, 7):
        subsets = list(itertools.combinations(range(8), k))
        scores = problem.exact(np.array(subsets), "spearman")[1]
        for subset, score in zip(subsets[::9], scores[::9], strict=True):
            if not np.isnan(score):
                assert score == pytest.approx(rho(truth, mean(values[list(subset)])), abs=1e-12)
        # Subsets with member 6 for 2 have the same score; of both together there is another.
        top = np.nanmax(scores)
        ties = [one for one, score in zip(subsets, scores, strict=True) if score == top]
        best = search(problem, k, jobs=2).best["spearman"]
        assert (best.value, best.count) == (top, len(ties))
        assert named(best, 8, k) == ties[:TIES_KEPT]


@pytest.mark.parametrize(
    "change",
    [lambda values, rng: values, lambda values, rng: 1e9 + values, scaled, with_one_outlier],
    ids=["free", "far from 0", "scales", "outlier"],
)
def test_ccc_of_every_subset(
    rng: np.random.Generator,
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
) -> None:
    truth = rng.random((60, 2))
    values = change(truth + rng.normal(size=(8, 60, 2)), rng)
    values[6] = values[2]
    values[5] = 2 * truth.mean() - values[4]  # together they are constant
    truth[:9, 0] = np.nan
    problem = Shares(truth, values, ["ccc", "spearman"])
    for k in (1, 2, 4, 8):
        subsets = list(itertools.combinations(range(8), k))
        known = ~np.isnan(truth)
        expected = np.array([
            np.mean([ccc(x[at], y[at]) for x, y, at in
                     zip(truth.T, mean(values[list(s)]).T, known.T, strict=True)])
            for s in subsets
        ])  # fmt: skip
        np.testing.assert_allclose(problem.scores(np.array(subsets), "ccc"), expected, atol=NEAR)
        best = search(problem, k).best
        assert best["ccc"].value == pytest.approx(np.nanmax(expected), abs=1e-12)
        assert np.nanmax(expected) - expected[subsets.index(named(best["ccc"], 8, k)[0])] < 1e-12
        alone = search(Shares(truth, values), k).best["spearman"]
        assert (best["spearman"].value, best["spearman"].masks) == (alone.value, alone.masks)


@ways_to_rank
def test_bounds_of_shares(rng: np.random.Generator, binned: bool) -> None:
    problem = Shares(*shares(rng, 12, 300, 3), binned=binned)
    for known in (float("nan"), 0.1, 0.9):
        best = -1.0
        for block in problem.parts.blocks(5):
            upper = problem.screen(block, {"spearman": known})["spearman"].ravel()
            subsets = members_of(problem.parts.masks(block).ravel(), 12, 5)
            scores = problem.exact(subsets, "spearman")[1]
            assert (upper >= scores - NEAR).all()
            floor = np.fmax(known, scores.max())
            reached = upper >= floor - NEAR
            np.testing.assert_allclose(upper[reached], scores[reached], rtol=0, atol=NEAR)
            best = max(best, scores.max())
        assert best == search(problem, 5).best["spearman"].value


def test_bins_are_for_large_searches(rng: np.random.Generator) -> None:
    assert not Shares(*shares(rng, 9, 12_241, 9)).binned
    assert Shares(*shares(rng, 14, 9_000, 1)).binned
    assert not Shares(*shares(rng, 8, 2**20 + 1, 1)).binned


def test_ties_of_rho_and_targets_without_truth(rng: np.random.Generator) -> None:
    truth, values = shares(rng, 3, 30, 2)
    truth[:, 1] = np.nan
    values = np.concatenate([values, values[:1]])
    best = search(Shares(truth, values), 1).best["spearman"]
    scores = [rho(truth[:, :1], one[:, :1]) for one in values]
    assert best.value == pytest.approx(max(scores), abs=1e-12)
    assert best.count == (2 if np.argmax(scores) == 0 else 1)


@ways_to_rank
def test_a_constant_prediction_has_no_score(rng: np.random.Generator, binned: bool) -> None:
    truth, values = shares(rng, 3, 30, 1)
    values[1] = 0.5
    problem = Shares(truth, values, binned=binned)
    assert np.isnan(problem.scores(np.array([[1]]), "spearman")).all()
    assert search(problem, 1).best["spearman"].count == 1
    assert search(Shares(truth, values[1:2], binned=binned), 1).best["spearman"] == Best()
    assert greedy(Shares(truth, values[1:2]), "spearman", 1, replacement=True) == []
    truth[:] = 1
    assert search(Shares(truth, values, binned=binned), 2).best["spearman"].count == 0


def problems(rng: np.random.Generator) -> list[SubsetProblem]:
    return [
        Classes(*classes(rng, 14, 45, 3), "vote", ["uar", "wa"]),
        Shares(*shares(rng, 13, 20, 2)),
        Shares(*shares(rng, 13, 20, 2), binned=True),
    ]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("which", [0, 1, 2], ids=["classes", "shares", "binned"])
def test_a_search_that_was_stopped_ends_as_one_that_was_not(
    rng: np.random.Generator, which: int
) -> None:
    problem = problems(rng)[which]
    whole = search(problem, 6, jobs=1)
    n_blocks = whole.n_blocks
    assert n_blocks > 3
    kept: list[str] = []

    def stop(state: State, n_subsets: int) -> None:
        kept.append(json.dumps(state.record()))
        if state.n_blocks % 2 == 0:
            raise Stopped

    stops = 0
    state = None
    while stops < n_blocks // 2:
        with pytest.raises(Stopped):
            search(problem, 6, state, jobs=2, done=stop)
        stops += 1
        state = State.of(json.loads(kept[-1]))
    assert len(kept) == 2 * stops
    assert search(problem, 6, state, jobs=2) == whole


def test_threads_change_nothing(rng: np.random.Generator) -> None:
    for problem in problems(rng):
        assert search(problem, 5, jobs=1) == search(problem, 5, jobs=4)


def test_greedy_selection_step_by_step(rng: np.random.Generator) -> None:
    truth, scores = classes(rng, 6, 40, 3)
    problem = Classes(truth, scores, "mean", ["wa"])
    for replacement in (False, True):
        path = greedy(problem, "wa", 6, replacement=replacement)
        current: list[int] = []
        for step in path:
            free = [i for i in range(6) if replacement or i not in current]
            values = []
            for i in free:
                members = sorted([*current, i])
                predicted = METHODS["mean"](scores[members]).argmax(axis=1)
                values.append(accuracy_score(truth, predicted))
            current = sorted([*current, free[int(np.argmax(values))]])
            assert list(step.members) == current
            assert step.value == pytest.approx(max(values))
        assert len(path) == 6
    assert sorted(greedy(problem, "wa", 6, replacement=False)[-1].members) == list(range(6))


def test_random_subsets(rng: np.random.Generator) -> None:
    drawn = draw(20, 6, 50, seed=1)
    assert drawn.shape == (50, 6)
    assert (np.diff(drawn, axis=1) > 0).all()
    np.testing.assert_array_equal(drawn, draw(20, 6, 50, seed=1))
    assert (drawn != draw(20, 6, 50, seed=2)).any()
    # Each member is as likely as another: 6 of 20.
    counts = np.bincount(draw(20, 6, 20_000, seed=3).ravel(), minlength=20) / 20_000
    np.testing.assert_allclose(counts, 0.3, atol=0.02)


def test_every_subset_stands_in_one_block(rng: np.random.Generator) -> None:
    for problem in problems(rng):
        n = problem.n_members
        for k in range(1, n + 1):
            masks = [problem.parts.masks(one).ravel() for one in problem.parts.blocks(k)]
            found = members_of(np.concatenate(masks), n, k)
            expected = set(itertools.combinations(range(n), k))
            assert len(found) == len(expected)
            assert {tuple(one) for one in found.tolist()} == expected
