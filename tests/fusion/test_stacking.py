"""What combinations learn: against oracles, from the right rows, and in the right units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import lsq_linear
from scipy.stats import percentileofscore, spearmanr
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler

from evaluate.metrics.calibration import KINDS, probabilities, temperature
from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.fusion import FusionSpec
from features.recipe.known.fusion_methods import FUSION_METHODS
from fusion import stacking
from fusion.combine import fuse
from fusion.methods import fixed_method
from fusion.stacking import STRENGTHS, StackedRows, crossfit, learn, log_probabilities, parts
from tests.fusion.combining import combine
from tests.fusion.test_combine import classes
from tests.models import synthetic
from tests.models.test_train import RIDGE, SVC

N = 120


def spec(method: str, n: int = 3, **more: object) -> FusionSpec:
    members = [f"m{i}" for i in range(n)]
    return FusionSpec.model_validate({"method": method, "members": members, **more})


def values(rng: np.random.Generator) -> StackedRows:
    """Two targets by three members: a good one, a bad one, and one that is wrong about b."""
    truth = rng.normal(size=(N, 2))
    noise = rng.normal(size=(3, N, 2))
    stack = truth + noise * np.array([0.3, 2.0, 0.6])[:, None, None]
    stack[2, :, 1] *= -1
    truth[::17, 0] = np.nan
    return StackedRows(stack, truth, np.array([f"s{i % 6}" for i in range(N)], dtype=object))


def scores(rng: np.random.Generator, k: int = 3) -> StackedRows:
    """Class scores of three members of falling quality."""
    truth = rng.integers(0, k, N)
    stack = rng.normal(size=(3, N, k))
    stack[:, np.arange(N), truth] += np.array([2.0, 1.0, 0.2])[:, None]
    truth[::19] = -1
    return StackedRows(stack, truth, np.array([f"s{i % 6}" for i in range(N)], dtype=object))


def test_weights_are_the_scores_on_the_rows(rng: np.random.Generator) -> None:
    rows = values(rng)
    rule = learn(spec("weighted"), None, rows)
    known = ~np.isnan(rows.truth).any(axis=1)
    rho = np.array(
        [
            [spearmanr(rows.truth[known, i], one[known, i]).statistic for i in range(2)]
            for one in rows.stack
        ]
    )
    wanted = np.maximum(rho, 0)
    assert wanted[2, 1] == 0
    np.testing.assert_allclose(rule.learned["weights"], wanted / wanted.sum(axis=0))
    by_hand = sum(w * one for w, one in zip(rule.learned["weights"], rows.stack, strict=True))
    np.testing.assert_allclose(rule.apply(rows.stack), by_hand)

    rows = scores(rng)
    rule = learn(spec("weighted"), None, rows)
    known = rows.truth >= 0
    uar = np.array(
        [
            recall_score(rows.truth[known], one[known].argmax(axis=1), average="macro")
            for one in rows.stack
        ]
    )
    np.testing.assert_allclose(rule.learned["weights"][:, 0], uar / uar.sum())
    assert rule.apply(rows.stack).sum(axis=1) == pytest.approx(1)


def test_members_that_all_fail_are_weighed_alike() -> None:
    stack = np.stack([np.arange(9.0), np.arange(9.0) + 1])[:, :, None]
    rows = StackedRows(stack, -np.arange(9.0)[:, None], np.full(9, "", dtype=object))
    assert learn(spec("weighted", 2), None, rows).learned["weights"].tolist() == [[0.5], [0.5]]


def test_non_negative_least_squares_is_scipy_s_bounded_minimum(rng: np.random.Generator) -> None:
    rows = values(rng)
    rule = learn(spec("nnls"), None, rows)
    known = ~np.isnan(rows.truth).any(axis=1)
    for i in range(2):
        A = np.column_stack([rows.stack[:, known, i].T, np.ones(known.sum())])
        bounds = ([0] * 3 + [-np.inf], np.inf)
        oracle = lsq_linear(A, rows.truth[known, i], bounds, tol=1e-14).x
        np.testing.assert_allclose(rule.learned["weights"][:, i], oracle[:3], atol=1e-6)
        assert rule.learned["intercept"][i] == pytest.approx(oracle[3], abs=1e-6)
    assert rule.learned["weights"][2, 1] == 0
    weights, intercept = rule.learned["weights"][:, 0], rule.learned["intercept"][0]
    found = rule.apply(rows.stack)[:, 0]
    np.testing.assert_allclose(found, rows.stack[:, :, 0].T @ weights + intercept)


def test_non_negative_weights_of_classes(rng: np.random.Generator) -> None:
    rows = scores(rng)
    rule = learn(spec("nnls"), None, rows)
    known = rows.truth >= 0
    A = probabilities(rows.stack[:, known]).reshape(3, -1).T
    b = np.eye(3)[rows.truth[known]].ravel()
    oracle = lsq_linear(A, b, (0, np.inf), tol=1e-14).x
    np.testing.assert_allclose(rule.learned["weights"], oracle, atol=1e-6)
    assert rule.learned["weights"][0] > rule.learned["weights"][2]


def test_ridge_is_scikit_learn_s(rng: np.random.Generator) -> None:
    rows = values(rng)
    rule = learn(spec("ridge"), None, rows)
    known = ~np.isnan(rows.truth).any(axis=1)
    for i in range(2):
        oracle = RidgeCV(stacking.ALPHAS).fit(rows.stack[:, known, i].T, rows.truth[known, i])
        found = rule.apply(rows.stack)[:, i]
        np.testing.assert_allclose(found, oracle.predict(rows.stack[:, :, i].T))
    assert rule.learned["weights"][2, 1] < 0  # unlike nnls, it makes use of a member that is wrong


def test_logistic_is_scikit_learn_s_at_the_chosen_strength(rng: np.random.Generator) -> None:
    rows = scores(rng)
    rule = learn(spec("logistic"), None, rows)
    known = rows.truth >= 0
    X = np.concatenate(list(rows.stack), axis=1)
    scaler = StandardScaler().fit(X[known])
    oracle = LogisticRegression(C=rule.learned["C"], max_iter=1000)
    oracle.fit(scaler.transform(X[known]), rows.truth[known])
    found = rule.apply(rows.stack)
    np.testing.assert_allclose(np.exp(found), oracle.predict_proba(scaler.transform(X)))


@pytest.mark.parametrize("n_labels", [2, 3])
def test_log_probabilities_are_finite_where_probabilities_are_rounded_to_0(
    rng: np.random.Generator, n_labels: int
) -> None:
    X, truth = rng.normal(size=(60, 4)), rng.integers(0, n_labels, 60)
    model = LogisticRegression().fit(X, truth)
    np.testing.assert_allclose(log_probabilities(model, X), model.predict_log_proba(X), atol=1e-12)
    far = 1e6 * X
    found = log_probabilities(model, far)
    assert np.isfinite(found).all()
    assert found.min() < -1e5
    assert (found.argmax(axis=1) == model.predict(far)).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)


def test_logistic_weighs_strengths_by_a_log_loss_that_is_finite(rng: np.random.Generator) -> None:
    """A row far off on the wrong side, whose probability is rounded to 0: no warning, no -inf."""
    rows = scores(rng)
    far = rows.stack.copy()
    row = np.flatnonzero(rows.truth == 0)[0]
    far[:, row] = [-1e4, 1e4, 0.0]
    found = learn(spec("logistic"), None, StackedRows(far, rows.truth, rows.groups))
    assert found.learned["C"] in STRENGTHS
    assert np.isfinite(found.apply(1e3 * far)).all()


@pytest.mark.parametrize("method", ["nnls", "ridge", "logistic", "weighted"])
def test_a_class_that_no_member_has_seen_stays_without_a_score(
    rng: np.random.Generator, method: str
) -> None:
    rows = scores(rng)
    rows.stack[:, :, 1] = np.nan
    found = learn(spec(method), None, rows).apply(rows.stack)
    assert np.isnan(found[:, 1]).all()
    assert not np.isnan(found[:, [0, 2]]).any()
    known = rows.truth != 1
    assert (np.nanargmax(found, axis=1) == rows.truth)[known & (rows.truth >= 0)].mean() > 0.7


def test_ranks_are_positions_among_the_learned_predictions(rng: np.random.Generator) -> None:
    rows = values(rng)
    rows.stack[0, :5] = 1.0  # ties
    rule = learn(spec("rank-mean"), None, rows)
    other = rng.normal(size=(3, 7, 2))
    other[0, 0] = 1.0
    wanted = [
        [
            np.mean([percentileofscore(one[:, i], x[i], "mean") / 100
                     for one, x in zip(rows.stack, row, strict=True)])
            for i in range(2)
        ]
        for row in other.transpose(1, 0, 2)
    ]  # fmt: skip
    np.testing.assert_allclose(rule.apply(other), wanted)


def test_temperatures_are_a_member_each(rng: np.random.Generator) -> None:
    rows = scores(rng)
    rows = StackedRows(
        rows.stack * np.array([100, 1, 0.01])[:, None, None], rows.truth, rows.groups
    )
    mean = fixed_method(spec("mean"), True)
    rule = learn(spec("mean", calibrate=True), mean, rows)
    known = rows.truth >= 0
    wanted = [temperature(one[known], rows.truth[known]) for one in rows.stack]
    assert rule.learned["temperatures"] == pytest.approx(wanted)
    by_hand = np.mean([probabilities(one, t) for one, t in zip(rows.stack, wanted, strict=True)], 0)
    np.testing.assert_allclose(rule.apply(rows.stack), by_hand)


def test_folds_share_no_speaker(rng: np.random.Generator) -> None:
    rows = values(rng)
    held_out = []
    for train, test in parts(rows):
        assert not set(rows.groups[train]) & set(rows.groups[test])
        held_out += test.tolist()
    assert sorted(held_out) == list(range(N))
    lone = StackedRows(rows.stack, rows.truth, np.full(N, "s", dtype=object))
    assert len(list(parts(lone))) == stacking.N_FOLDS
    nobody = StackedRows(rows.stack, rows.truth, np.full(N, "", dtype=object))
    assert len(list(parts(nobody))) == stacking.N_FOLDS


def test_crossfit_predicts_a_speaker_by_the_others(rng: np.random.Generator) -> None:
    rows = values(rng)
    found = crossfit(spec("ridge"), None, rows)
    for train, test in parts(rows):
        rule = learn(spec("ridge"), None, rows.at(train))
        np.testing.assert_allclose(found[test], rule.apply(rows.stack[:, test]))


def test_too_few_rows_to_learn_from_are_refused(rng: np.random.Generator) -> None:
    rows = values(rng).at(np.arange(2))
    with pytest.raises(RunError, match="1 row with a truth to learn 'ridge' of 3 members from"):
        learn(spec("ridge"), None, rows)


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("median", [0.3, 0.7]),
        ("max", [0.9 / 1.8, 0.9 / 1.8]),
        ("product", [0.9 * 0.3 * 0.1 / (0.9 * 0.3 * 0.1 + 0.1 * 0.7 * 0.9)] * 1 + [0.7]),
        ("trimmed", [0.3, 0.7]),
    ],
)
def test_fixed_methods_by_hand(method: str, wanted: list[float]) -> None:
    frames = {
        f"m{i}": classes([np.log([p, 1 - p]).tolist()]) for i, p in enumerate([0.9, 0.3, 0.1])
    }
    fused, _ = combine(frames, spec(method))
    assert fused[["score_a", "score_b"]].to_numpy()[0] == pytest.approx(wanted)


def test_given_weights_learn_nothing() -> None:
    frames = {f"m{i}": classes([np.log([p, 1 - p]).tolist()]) for i, p in enumerate([0.8, 0.2])}
    fused, _ = combine(frames, spec("weighted", 2, weights=[3, 1]))
    assert fused["score_a"].tolist() == [pytest.approx(0.65)]
    assert fused["pred"].tolist() == ["a"]


def fused(folder: Path, text: str, method: str, more: str = "") -> tuple[Path, dict[str, Path]]:
    recipe = synthetic.recipe(folder, f'{text}\n[fusion.x]\nmethod = "{method}"\n{more}')
    members = {
        model: synthetic.train(
            recipe, model, folders=Folders(stores=folder, runs=folder / "runs"), jobs=1
        )
        for model in recipe.models
    }
    return fuse(recipe, "x", Folders(stores=folder, runs=folder / "runs")), members


def stack(members: dict[str, Path], name: str, columns: list[str]) -> np.ndarray:
    return np.stack([read_predictions(at / name)[columns].to_numpy() for at in members.values()])


def test_devel_is_predicted_without_itself_and_test_by_all_of_devel(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    folder, members = fused(tmp_path, RIDGE, "nnls")
    columns = [f"{one}_pred" for one in synthetic.TARGETS]
    inner = read_predictions(members["one"] / "inner.csv")
    truth = inner[[f"{one}_true" for one in synthetic.TARGETS]].to_numpy()
    rows = StackedRows(
        stack(members, "inner.csv", columns), truth, ("made/" + inner["speaker"]).to_numpy()
    )
    found = read_predictions(folder / "predictions.csv")
    test = (found["partition"] == "test").to_numpy()
    rule = learn(spec("nnls", 2), None, rows)
    every = stack(members, "predictions.csv", columns)
    np.testing.assert_allclose(found[columns][test], rule.apply(every[:, test]))
    crossed = crossfit(spec("nnls", 2), None, rows)
    np.testing.assert_allclose(found[columns][~test], crossed)
    np.testing.assert_allclose(read_predictions(folder / "inner.csv")[columns], crossed)
    assert not np.allclose(crossed, rule.apply(rows.stack))
    learned = read_run(folder)["learned"][""]
    np.testing.assert_allclose(learned["weights"], rule.learned["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["logistic", "mean"])
def test_every_outer_fold_learns_from_its_own_inner_rows(tmp_path: Path, method: str) -> None:
    synthetic.classes(tmp_path)
    text = SVC.replace("[0.001, 0.1]", "[0.1]")
    folder, members = fused(tmp_path, text, method, "calibrate = true")
    found, inner = (read_predictions(folder / name) for name in ("predictions.csv", "inner.csv"))
    columns = [f"score_{one}" for one in synthetic.LABELS]
    every = {name: stack(members, name, columns) for name in ("predictions.csv", "inner.csv")}
    one = spec(method, 2, calibrate=True)
    for fold in found["fold"].unique():
        at, of = ((frame["fold"] == fold).to_numpy() for frame in (found, inner))
        truth = pd.Index(synthetic.LABELS).get_indexer(pd.Index(inner["true"][of]))
        groups = ("made/" + inner["speaker"][of]).to_numpy()
        rows = StackedRows(every["inner.csv"][:, of], truth, groups)
        rule = learn(one, fixed_method(one, True), rows)
        wanted = rule.apply(every["predictions.csv"][:, at])
        np.testing.assert_allclose(found[columns][at], wanted, rtol=1e-9)
        assert found["pred"][at].tolist() == np.array(synthetic.LABELS)[wanted.argmax(1)].tolist()
    run = read_run(folder)
    assert sorted(run["learned"]) == sorted(found["fold"].unique())
    assert run["scores"] == ("score" if method == "logistic" else "probability")
    assert {known.gives for known in FUSION_METHODS.values()} <= set(KINDS)
    assert all(len(one["temperatures"]) == 2 for one in run["learned"].values())
