"""Plans of many folds: small, and the same rows as scikit-learn gives."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

import features.splits.folds
from features.recipe.split import SplitSpec
from features.splits.group_folds import stratified_groups
from features.splits.lint import lint
from features.splits.plan import SplitPlan, make_plan
from tests.models.synthetic import rows

TOP = Path(__file__).resolve().parents[2]


def table(n_speakers: int, n: int) -> tuple[pd.DataFrame, np.ndarray]:
    speaker = np.random.default_rng(0).integers(0, n_speakers, n)
    frame = rows(n, speaker=[f"s{i:04}" for i in speaker], sentence=[f"{i % 50}" for i in range(n)])
    return frame, np.array(["calm", "keen", "sad"])[np.arange(n) // 7 % 3]


def split(**values: object) -> SplitSpec:
    return SplitSpec.model_validate({"outer": "leave-one-speaker-out", **values})


@pytest.mark.parametrize("seed", range(40))
def test_groups_are_given_as_scikit_learn_gives_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k, n_classes = rng.integers(2, 12), rng.integers(1, 11)
    n_groups = int(rng.integers(k, 50))
    group = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, n_groups * 9)])
    y = rng.integers(0, n_classes, len(group)) if seed % 4 else group % n_classes
    if seed % 3 == 0:  # ties everywhere: every speaker says everything equally often
        group = np.repeat(np.arange(n_groups), n_classes * 3)
        y = np.tile(np.arange(n_classes * 3), n_groups) // 3
    theirs = StratifiedGroupKFold(int(k), shuffle=True, random_state=seed).split(group, y, group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = [test.tolist() for _, test in theirs]
    fold = stratified_groups(y, group, int(k), seed)[group]
    assert [np.flatnonzero(fold == i).tolist() for i in range(k)] == expected


def walk(plan: SplitPlan, n: int) -> None:
    """Ask for the rows of every fold, one at a time; every row is held out once at each place."""
    held = np.zeros(n, dtype=int)
    for fold, inner in zip(plan.folds, plan.inner, strict=True):
        held[fold.test] += 1
        inside = np.zeros(n, dtype=int)
        for one in inner:
            inside[one.test] += 1
            assert len(one.train) + len(one.test) == n - len(fold.test)
        assert inside[fold.train].all()
        assert inside.sum() == len(fold.train)
    assert (held == 1).all()


@pytest.mark.parametrize("inner", ["speaker-k-fold", "stratified-k-fold"])
def test_a_plan_of_many_folds_is_small(inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n_speakers, n = 100, 8_000
    frame, y = table(n_speakers, n)
    monkeypatch.setattr(
        features.splits.folds, "MOST_KEPT", 10 * n
    )  # ten folds of rows, all of groups
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        walk(make_plan(frame, y, y != "", split(inner=inner)), n)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    positions = 8 * n * n_speakers  # of the outer folds alone, were they kept: 6.4 MB
    assert peak < positions / 2
    assert peak < 400 * n


def test_codes_that_are_not_kept_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, y = table(9, 200)

    def described() -> list[list[list[int]]]:
        plan = make_plan(frame, y, y != "", split(inner="stratified-k-fold", inner_folds=3))
        # From the end, fold by fold the other way round: as nobody asks.
        return [[one.test.tolist() for one in inner] for inner in [plan.inner[i]
                for i in reversed(range(9))]]  # fmt: skip

    kept = described()
    monkeypatch.setattr(features.splits.folds, "MOST_KEPT", 0)
    assert described() == kept


@pytest.mark.slow
@pytest.mark.process
def test_2000_speakers_of_200000_rows_fit_into_two_gigabytes() -> None:
    script = """
import resource
import numpy as np
from features.splits.plan import make_plan
from tests.features.test_folds import split, table
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
frame, y = table(2000, 200_000)
plan = make_plan(frame, (y == "sad").astype(float)[:, None], y != "", split())
outer = [len(fold.train) + len(fold.test) for fold in plan.folds]
inner = [len(one.train) + len(one.test) for one in plan.inner[1999]]
print(len(plan.inner), set(outer), set(inner), len(plan.folds[1999].train))
"""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **single}, cwd=TOP, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n = 200_000 - int((table(2000, 200_000)[0]["speaker"] == "s1999").sum())
    assert done.stdout == f"2000 {{200000}} {{{n}}} {n}\n"


def test_what_is_found_in_many_folds_holds_few_names() -> None:
    frame, y = table(40, 2_000)
    spec = split(inner="stratified-k-fold", inner_folds=2, expect_overlap=["sentence"])
    found = lint(frame, y, ("calm", "keen", "sad"), make_plan(frame, y, y != "", spec), spec)
    assert not found.faults
    assert len(found.inner) == 2 * 41
    for one in found.inner:
        assert one.n_shared["speaker"] == one.of["speaker"] >= 39
        assert one.shared["speaker"] == [f"made/s{i:04}" for i in range(6)
                                         if f"made/s{i:04}" != one.fold][:5]  # fmt: skip
    assert found.record()["inner_parts"][-1]["shared"]["speaker"] == {"n": 40, "of": 40}
    assert any(": made/0, made/1, made/10 and 31 more" in note for note in found.notes)
