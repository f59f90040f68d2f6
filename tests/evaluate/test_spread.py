"""Statistics over systems, by hand and beside the scores that the pages have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluate.runs.folders import spread_path
from evaluate.scores.records import Estimate
from evaluate.scores.score import score_all
from evaluate.scores.spread import make_spread, read_spread
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.model import Recipe
from tests.evaluate import made

MORE = """
[fusion.subsets]
k = "all"
alone = true
[[published]]
name = "table"
title = "Table"
source = "Someone"
heading = "UAR"
columns = [{ name = "UAR" }]
rows = [{ name = "mean", statistic = "mean", figures = [0.5] }]
"""


def finished(tmp_path: Path, more: str = MORE, corpora: str = "mine") -> tuple[Recipe, Path]:
    """Two systems, the second right more often."""
    recipe = made.recipe(tmp_path, "classification", more, corpora)
    for member, right in (("one", 0.5), ("two", 0.9)):
        frame = made.classification(n=80, seed=3, right=right)
        if len(corpora.split()) > 1:
            first = frame["utterance"] < "u050"
            frame["corpus"] = np.where(first, *corpora.split())
        made.finish(recipe, tmp_path / "runs", member, frame)
    return recipe, tmp_path / "runs"


def test_statistics_over_two_systems(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path)
    scored = score_all(recipe, Folders(runs=folder))
    found = make_spread(recipe, scored, folder)
    assert found == read_spread(recipe, scored, folder)
    assert found.systems == ("one", "two")
    part = found.partitions["test"]
    assert (part.n, part.n_speakers, part.corpora) == (80, 5, {})
    for metric in ("uar", "wa"):
        own = [one.scores.partitions["test"].metrics[metric] for one in scored]
        low, high = (one.value for one in own)
        assert low < high
        one = part.metrics[metric]
        assert one.by_system == {"one": low, "two": high}
        assert one.mean.value == pytest.approx((low + high) / 2)
        assert one.deviation == Estimate(pytest.approx((high - low) / np.sqrt(2)))
        # The same rows, speakers and draws as those of the run's own score.
        assert one.largest == replace(own[1], marks=("optimistic",))
        assert one.least == own[0]
        assert own[0].low < one.mean.low < one.mean.high < own[1].high


def test_each_corpus_alone(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path, corpora="mine yours")
    scored = score_all(recipe, Folders(runs=folder))
    part = make_spread(recipe, scored, folder).partitions["test"]
    assert {name: one.n for name, one in part.corpora.items()} == {"mine": 50, "yours": 30}
    for corpus, one in part.corpora.items():
        alone = [s.scores.partitions["test"].corpora[corpus].metrics for s in scored]
        values = [each["uar"].value for each in alone]
        assert list(one.metrics["uar"].by_system.values()) == values
        assert one.metrics["uar"].mean.value == pytest.approx(np.mean(values))


def test_made_where_it_is_asked_for_and_all_systems_are_there(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path, MORE.partition("[[published]]")[0])
    assert make_spread(recipe, score_all(recipe, Folders(runs=folder)), folder) is None
    recipe, folder = finished(tmp_path)
    (folder / "study" / "two" / "run.json").unlink()
    assert make_spread(recipe, score_all(recipe, Folders(runs=folder)), folder) is None
    assert not spread_path(folder, "study").exists()
    recipe, folder = finished(tmp_path)
    stale = made.recipe(tmp_path, "classification", MORE + "[head.grid]\nC = [5.0]")
    assert make_spread(stale, score_all(stale, Folders(runs=folder)), folder) is None


def test_what_is_outdated_is_made_anew_and_never_shown(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path)
    scored = score_all(recipe, Folders(runs=folder))
    with pytest.raises(RunError, match=r"spread\.json: missing or outdated; run make score REC"):
        read_spread(recipe, scored, folder)
    before = make_spread(recipe, scored, folder)
    stamp = spread_path(folder, "study").stat().st_mtime_ns
    make_spread(recipe, scored, folder)
    assert spread_path(folder, "study").stat().st_mtime_ns == stamp
    made.finish(recipe, folder, "one", made.classification(n=80, seed=4, right=0.6))
    scored = score_all(recipe, Folders(runs=folder))
    with pytest.raises(RunError, match="outdated"):
        read_spread(recipe, scored, folder)
    assert make_spread(recipe, scored, folder) != before
