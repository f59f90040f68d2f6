"""The plan: order, budget, and what a resume takes from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from extract.plan.batches import Pending, current_plan, make_batches, padded_seconds, read_plan
from features.common.errors import StoreError

KEY = {"model": "toy", "precision": "float32"}


def jobs(rng: np.random.Generator, n: int = 50) -> list[Pending]:
    return [Pending(f"u{i:02}", f"{i:032x}", float(rng.uniform(0.5, 8))) for i in range(n)]


def test_batches_hold_every_job_once_within_the_budget(rng: np.random.Generator) -> None:
    given = jobs(rng)
    batches = make_batches(given, 20.0)
    assert sorted(j.utterance for b in batches for j in b) == [j.utterance for j in given]
    assert all(len(b) * b[0].seconds <= 20.0 for b in batches)
    lengths = [j.seconds for b in batches for j in b]
    assert lengths == sorted(lengths, reverse=True)
    assert padded_seconds(batches) < 1.2 * sum(lengths)


def test_an_utterance_longer_than_the_budget_is_alone(rng: np.random.Generator) -> None:
    batches = make_batches([Pending("long", "", 100.0), *jobs(rng, 5)], 20.0)
    assert [j.utterance for j in batches[0]] == ["long"]


def test_the_plan_depends_on_the_utterances_alone(rng: np.random.Generator) -> None:
    given = jobs(rng)
    shuffled = [given[i] for i in rng.permutation(len(given))]
    assert make_batches(given, 20.0) == make_batches(shuffled, 20.0)


def test_a_resume_takes_the_plan_on_disk_whatever_the_budget(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    given = jobs(rng)
    first = current_plan(tmp_path, KEY, given, set(), 20.0)
    sealed = {(j.utterance, j.audio_hash) for j in first.batches[0]}
    again = current_plan(tmp_path, KEY, given, sealed, 5.0)
    assert again == first == read_plan(tmp_path)
    assert again.name == first.name


def test_a_changed_corpus_makes_a_new_plan_for_what_is_left(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    given = jobs(rng)
    first = current_plan(tmp_path, KEY, given, set(), 20.0)
    sealed = {(j.utterance, j.audio_hash) for j in first.batches[0]}
    changed = [*given, Pending("new", "f" * 32, 1.0)]
    second = current_plan(tmp_path, KEY, changed, sealed, 20.0)
    assert second.jobs() == {(j.utterance, j.audio_hash) for j in changed} - sealed
    assert second.name != first.name
    assert read_plan(tmp_path) == second


def test_a_plan_of_another_key_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    current_plan(tmp_path, KEY, jobs(rng), set(), 20.0)
    with pytest.raises(StoreError, match="precision: stored 'float32', asked 'bfloat16'"):
        current_plan(tmp_path, {**KEY, "precision": "bfloat16"}, jobs(rng), set(), 20.0)


def test_a_broken_plan_says_what_to_delete(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(StoreError, match=r"plan.json: cannot be read .* delete"):
        read_plan(tmp_path)
    assert read_plan(tmp_path / "other") is None


@pytest.mark.parametrize(
    "text",
    [
        '{"key": {}, "batches": [[]]}',
        '{"key": [1], "batches": []}',
        '{"key": {}, "batches": [[["a", "00", "1"]]]}',
        '{"key": {}, "batches": [[["a", "00", NaN]]]}',
        '{"key": {}, "batches": [[["a", [], 1.0]]]}',
        '{"key": ' + "[" * 100_000,
    ],
)
def test_a_plan_of_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(StoreError, match=r"plan.json: cannot be read .* delete"):
        read_plan(tmp_path)
