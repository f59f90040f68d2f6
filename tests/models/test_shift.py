"""PLDC: against a plain second implementation, through runs, with what it is marked as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluate.runs.files import read_run
from evaluate.scores.score import score_all
from features.common.errors import RecipeError, RunError
from features.common.folders import Folders
from features.matrix import load_matrix
from features.recipe.model import Recipe
from models.predict import usable_run
from models.reproduce import reproduce
from models.shift import likenesses, shifted
from tests.models import synthetic

N, SPEAKERS, D = 180, 9, 6
TEXT = f"""
targets = {list(synthetic.TARGETS)}
[split]
outer = "speaker-k-fold"
outer_folds = 3
inner = "speaker-k-fold"
inner_folds = 2
[head]
kind = "ridge"
select = "spearman"
[head.grid]
alpha = [1.0, 100.0]
[heads.base]
[heads.shifted]
shift = "pldc"
shift_k = 2
[evaluate]
gains = [["base", "shifted"]]
"""


def by_hand(
    X: np.ndarray, y: np.ndarray, speaker: np.ndarray, train: np.ndarray, test: np.ndarray,
    values: np.ndarray, k: int, least: float | None = None,
) -> np.ndarray:  # fmt: skip
    """The equations, speaker by speaker and target by target."""
    X = X.astype(np.float64)
    known = {s: X[[i for i in train if speaker[i] == s]].mean(0) for s in set(speaker[train])}
    result = values.copy()
    for s in set(speaker[test]) - set(known):
        at = [i for i, row in enumerate(test) if speaker[row] == s]
        own = X[test[at]].mean(0)
        likeness = {
            other: own @ of / np.sqrt((own @ own) * (of @ of)) for other, of in known.items()
        }
        near = sorted(likeness, key=lambda other: -likeness[other])[:k]
        if least is not None and np.mean([likeness[other] for other in near]) < least:
            continue
        truths = y[[i for i in train if speaker[i] in near]]
        for target in range(y.shape[1]):
            predicted = values[at, target]
            mu, sigma = np.mean(truths[:, target]), np.std(truths[:, target])
            result[at, target] = (predicted - predicted.mean()) / predicted.std() * sigma + mu
    return result


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speakers with a place, a level and a spread of their own."""
    folder = tmp_path_factory.mktemp("stores")
    rng = np.random.default_rng(1)
    speaker = np.arange(N) % SPEAKERS
    place = rng.normal(size=(SPEAKERS, D))
    signal = rng.normal(size=(N, 3))
    X = place[speaker] + np.concatenate([signal, 0.3 * rng.normal(size=(N, 3))], axis=1)
    level = place @ rng.normal(size=(D, 3))
    Y = level[speaker] + signal + 0.2 * rng.normal(size=(N, 3))
    frame = synthetic.rows(N, speaker=[f"{s:02}" for s in speaker],
                           **dict(zip(synthetic.TARGETS, Y.T, strict=True)))  # fmt: skip
    synthetic.write(folder, frame, {"one": X, "two": X}, targets=synthetic.TARGETS)
    return folder


def trained(recipe: Recipe, head: str, stores: Path, runs: Path, **more: Any) -> Path:
    given = {"folders": Folders(stores=stores, runs=runs), "jobs": 1, **more}
    return synthetic.train(recipe, "one", head=head, **given)


def predicted(folder: Path, file: str = "predictions.csv") -> tuple[pd.DataFrame, np.ndarray]:
    rows = pd.read_csv(folder / file, dtype={"speaker": str, "fold": str})
    return rows, rows[[f"{target}_pred" for target in synthetic.TARGETS]].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize("similarity", [None, 0.4])
def test_runs_are_shifted_as_the_equations_say(
    similarity: float | None, stores: Path, tmp_path: Path
) -> None:
    text = TEXT.replace("[1.0, 100.0]", "[1.0]")
    if similarity is not None:
        text = text.replace("shift_k = 2", f"shift_k = 2\nshift_similarity = {similarity}")
    recipe, told = synthetic.recipe(tmp_path, text), []
    plain = trained(recipe, "base", stores, tmp_path / "runs")
    moved = trained(recipe, "shifted", stores, tmp_path / "runs", tell=told.append)
    matrix = load_matrix(recipe.of_head("base"), stores, "one")
    speaker, place = matrix.rows["speaker"].to_numpy(), matrix.rows["utterance"].tolist()
    rows, values = predicted(plain)
    found = predicted(moved)[1]
    kept = 0
    for fold in sorted(set(rows["fold"])):
        here = (rows["fold"] == fold).to_numpy()
        test = np.array([place.index(name) for name in rows.loc[here, "utterance"]])
        train = np.setdiff1d(np.arange(N), test)
        expected = by_hand(matrix.X, matrix.y, speaker, train, test, values[here], 2, similarity)
        np.testing.assert_allclose(found[here], expected, rtol=1e-9, atol=1e-9)
        same = np.isclose(found[here], values[here]).all(axis=1)
        kept += len(set(rows.loc[here, "speaker"][same]))
    assert (kept > 0) == (similarity is not None)
    assert kept < SPEAKERS
    (said,) = [note for note in read_run(moved)["notes"] if "shift = 'pldc'" in note]
    assert f"of {SPEAKERS - kept} of {SPEAKERS} held-out speakers" in said
    assert "uses unlabelled test data" in said
    assert any(said in line for line in told)
    assert ("keep theirs" in said) == bool(kept)


def test_inner_folds_are_shifted_by_their_own_speakers(stores: Path, tmp_path: Path) -> None:
    text = TEXT.replace("[1.0, 100.0]", "[1.0]")
    recipe = synthetic.recipe(tmp_path, text)
    plain, moved = (
        trained(recipe, head, stores, tmp_path / "runs") for head in ("base", "shifted")
    )
    rows, values = predicted(plain, "inner.csv")
    again, found = predicted(moved, "inner.csv")
    assert again["utterance"].equals(rows["utterance"])
    matrix = load_matrix(recipe.of_head("base"), stores, "one")
    truth = dict(zip(matrix.rows["utterance"], matrix.y, strict=True))
    here = (rows["fold"] == "0").to_numpy()
    for speaker in sorted(set(rows.loc[here, "speaker"])):
        at = here & (rows["speaker"] == speaker).to_numpy()
        assert not np.allclose(found[at], values[at])
        order = [np.argsort(of[:, 0]).tolist() for of in (values[at], found[at])]
        assert order[0] == order[1]
        means = found[at].mean(axis=0)  # that of two of the other speakers, pooled
        others = sorted(set(rows.loc[here, "speaker"]) - {speaker})
        pooled = [
            np.mean([truth[u] for u in rows.loc[here & rows["speaker"].isin([a, b]), "utterance"]],
                    axis=0)
            for i, a in enumerate(others) for b in others[i + 1 :]
        ]  # fmt: skip
        assert min(np.abs(means - each).max() for each in pooled) < 1e-9


@pytest.mark.slow
def test_a_shifted_run_is_marked_chosen_by_shifted_scores_and_made_again(
    stores: Path, tmp_path: Path
) -> None:
    recipe, runs = synthetic.recipe(tmp_path, TEXT), tmp_path / "runs"
    for head in ("base", "shifted"):
        folder = trained(recipe, head, stores, runs)
    plain, marked = score_all(recipe, Folders(stores=stores, runs=runs))
    assert (plain.marks, marked.marks) == ([], ["uses unlabelled test data"])
    search = [pd.read_csv(run.folder / "search.csv")["score"] for run in (plain, marked)]
    assert not np.allclose(*search)
    lines, equal = reproduce(folder, stores=stores, jobs=1)
    assert equal, lines
    with pytest.raises(RunError, match="shift = 'pldc': one@shifted shifts predictions by all"):
        usable_run(recipe, "one@shifted", runs)
    assert "shift" not in read_run(plain.folder)["inputs"]["head"]


@pytest.mark.parametrize(
    ("head", "more"),
    [
        ("svr", 'grid = { kernel = ["linear"], C = [1.0] }'),
        ("mlp", "training = { epochs = 2, hidden = [4] }"),
    ],
)
def test_any_regression_head_is_shifted(head: str, more: str, stores: Path, tmp_path: Path) -> None:
    text = TEXT.replace('kind = "ridge"', f'kind = "{head}"\n{more}').replace(
        "[head.grid]\nalpha = [1.0, 100.0]\n", ""
    )
    recipe = synthetic.recipe(tmp_path, text)
    rows, found = predicted(trained(recipe, "shifted", stores, tmp_path / "runs"))
    assert np.isfinite(found).all()
    spread = pd.DataFrame(found).groupby(rows["speaker"]).std()
    assert (spread > 0.5).all(axis=None)  # the spread of the truths


def test_one_row_and_constant_predictions_get_the_mean_of_the_truths() -> None:
    truths = np.array([[1.0, 0.0], [2.0, 4.0]])
    np.testing.assert_array_equal(shifted(np.array([[7.0, 9.0]]), truths), [[1.5, 2.0]])
    found = shifted(np.array([[3.0, 1.0], [3.0, 2.0]]), truths)
    np.testing.assert_array_equal(found, [[1.5, 0.0], [1.5, 4.0]])
    equal = np.full((10, 2), 0.1)  # their mean is not 0.1, so that their deviation is not 0
    assert equal.std(axis=0).any()
    np.testing.assert_array_equal(shifted(equal, truths), np.tile([1.5, 2.0], (10, 1)))


def test_seen_speakers_and_masked_rows_have_no_neighbours() -> None:
    X, codes = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 2])
    (alone,) = likenesses(X, codes, np.array([0, 1]), np.array([2, 3]), 5)
    assert (alone.speaker, alone.at.tolist(), alone.rows.tolist()) == (2, [1], [0, 1])
    assert likenesses(X, codes, np.array([0, 1]), np.array([2]), 5) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('shift = "pldc"\n', "", "shift_k: goes with shift = 'pldc'"),
        ("shift_k = 2", "shift_k = 0", "shift_k: got 0"),
        ("shift_k = 2", "shift_similarity = 1.5", "shift_similarity: got 1.5"),
        ('"pldc"', '"pldcs"', "did you mean 'pldc'"),
        ("shift_k = 2", 'standardise = "speaker"', "leaves no speaker more alike"),
    ],
)
def test_what_cannot_be_shifted_is_refused(old: str, new: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=fault):
        synthetic.recipe(tmp_path, TEXT.replace(old, new))


def test_a_shift_without_a_held_out_speaker_or_of_classes_is_refused(tmp_path: Path) -> None:
    text = TEXT.replace("speaker-k-fold\"\nouter_folds = 3", 'sentence-disjoint"\n'
                        'expect_overlap = ["speaker"]')  # fmt: skip
    classes = TEXT.replace(f"targets = {list(synthetic.TARGETS)}", 'target = "emotion"')
    classes = classes.replace('"ridge"', '"svc"').replace('"spearman"', '"uar"')
    with pytest.raises(RecipeError, match=r"shift: goes with targets"):
        synthetic.recipe(tmp_path, classes.replace("alpha", "C"))
    folder = tmp_path / "sentences"
    rng = np.random.default_rng(0)
    rows = synthetic.rows(60, speaker=[f"{i % 3}" for i in range(60)],
                          sentence=[f"{i // 3 % 5}" for i in range(60)],
                          **{t: rng.normal(size=60) for t in synthetic.TARGETS})  # fmt: skip
    synthetic.write(folder, rows, {"one": rng.normal(size=(60, 4))}, targets=synthetic.TARGETS)
    with pytest.raises(RecipeError, match="every test speaker has fitted rows"):
        trained(synthetic.recipe(tmp_path, text), "shifted", folder, tmp_path / "runs")
