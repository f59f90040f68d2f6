"""What a run takes is said before it starts, where it is more than a person means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models.effort
from features.matrix import load_matrix
from features.recipe.head import HeadSpec
from features.splits.plan import Fold, SplitPlan
from models.effort import count_fits, warning
from models.problem import Problem
from tests.models import synthetic
from tests.models.test_train import SVC, train


def problem(n_targets: int = 0) -> Problem:
    spec = {"kind": "svr" if n_targets else "svc", "select": "nmse" if n_targets else "uar",
            "grid": {"C": [0.1, 1.0, 10.0]}}  # fmt: skip
    y = np.zeros((10, n_targets)) if n_targets else np.array(["a", "b"] * 5)
    names = tuple("xyz"[:n_targets]) or ("a", "b")
    return Problem(np.zeros((10, 1), np.float32), y, names, HeadSpec.model_validate(spec))


def plan(n_outer: int, n_inner: int = 5, n_train: int = 4) -> SplitPlan:
    fold = Fold("f", np.arange(n_train), np.arange(1))
    return SplitPlan([fold] * n_outer, [[fold] * n_inner] * n_outer, [fold] * n_inner, [])


def test_of_a_usual_plan_nothing_is_said() -> None:
    assert count_fits(problem(), plan(10)) == 11 * 5 * 3 + 11
    assert warning(problem(), plan(10)) == ""


def test_fits_and_rows_are_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2,001 searches of five folds and three cells, and a refit each.
    assert count_fits(problem(), plan(2000)) == 2001 * 15 + 2001
    text = warning(problem(), plan(2000))
    assert text.startswith("32,016 fits to come: 2000 outer folds, 10,005 inner folds x 3 cells; ")
    assert "inner.csv" not in text
    assert "x 3 cells x 2 targets" in warning(problem(2), plan(2000))
    monkeypatch.setattr(models.effort, "MANY_ROWS", 39)
    # Ten folds of four training rows each; 60 bytes of names and 20 a class.
    assert ". inner.csv will have 40 rows, about 0 GB. Fewer: " in warning(problem(), plan(10))
    monkeypatch.setattr(models.effort, "BYTES_A_ROW", 10**8)
    assert "about 4 GB" in warning(problem(), plan(10))


def test_training_says_it_before_the_first_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC)
    assert len(load_matrix(recipe, tmp_path, "one").X) == 160
    monkeypatch.setattr(models.effort, "MANY_FITS", 34)
    train(tmp_path, recipe)
    first, second = capsys.readouterr().out.splitlines()[:2]
    # Five searches of three folds and two cells, and five refits.
    assert first.startswith("one: 35 fits to come: 4 outer folds, 15 inner folds x 2 cells; how ")
    assert second.startswith("one: standard, C ")
