"""Repeats with other seeds: what they give together, and which part of a gain they have."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from evaluate.__main__ import parser as score_parser
from evaluate.report import sheets
from evaluate.report.writers.terminal import to_terminal
from evaluate.runs.files import read_run
from evaluate.runs.folders import run_folder
from evaluate.scores import gaps, score, seeds
from evaluate.statistics import resampling as intervals
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.model import Recipe
from fusion.__main__ import main as fuse
from models.__main__ import main as train
from models.__main__ import parser as train_parser
from tests.evaluate import made
from tests.models import synthetic

REPEATED = "[evaluate]\nbootstrap = 100\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    found = made.recipe(tmp_path, "classification", REPEATED)
    split = found.split.model_copy(update={"seeds": [1, 2, 3]})
    return found.model_copy(update={"split": split})


def printed(recipe: Recipe, found: Mapping[str, Any] | None) -> str:
    return "\n".join(to_terminal(sheet, 300) for sheet in sheets.seeds(recipe, found, {}))


def finish(recipe: Recipe, folder: Path, frames: dict[int, dict[str, pd.DataFrame]]) -> None:
    """Runs of the repeats, seed -> member -> predictions."""
    for seed, of in frames.items():
        for member, frame in of.items():
            made.finish(recipe.repeats()[seed], folder, member, frame)


def three(n: int = 60) -> dict[int, dict[str, pd.DataFrame]]:
    """Predictions of the same rows by two models, other ones with every seed."""
    truth = made.classification(n)
    return {
        seed: {
            "one": guess(truth, 10 * seed, 0.5),
            "two": guess(truth, 10 * seed + 1, 0.2),
        }
        for seed in (1, 2, 3)
    }


def guess(frame: pd.DataFrame, seed: int, right: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    wrong = rng.choice(made.LABELS, len(frame))
    return frame.assign(pred=np.where(rng.random(len(frame)) < right, frame["true"], wrong))


def uar(frame: pd.DataFrame, weights: np.ndarray | None = None) -> float:
    return float(balanced_accuracy_score(frame["true"], frame["pred"], sample_weight=weights))


def test_scores_and_gains_by_hand(recipe: Recipe, tmp_path: Path) -> None:
    frames = three()
    finish(recipe, tmp_path, frames)
    found = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    assert found is not None
    part = found.partitions["test"]
    assert (found.seeds, found.left_out, part.same_rows) == ((1, 2, 3), {}, True)
    scores = np.array([[uar(of[name]) for of in frames.values()] for name in ("one", "two")])
    one = part.systems["one"]["uar"]
    assert list(one.by_seed) == [1, 2, 3]
    np.testing.assert_allclose(list(one.by_seed.values()), scores[0])
    assert one.mean == pytest.approx(scores[0].mean())
    assert one.deviation == pytest.approx(np.std(scores[0], ddof=1))
    assert (one.least, one.largest) == (min(scores[0]), max(scores[0]))

    (pair,) = part.pairs["uar"]
    gains = scores[0] - scores[1]
    deviation = np.std(gains, ddof=1)
    assert (pair.a, pair.b) == ("one", "two")
    np.testing.assert_allclose(list(pair.by_seed.values()), gains)
    assert pair.of_gain == pytest.approx(deviation / gains.mean())
    groups = [f"mine/{one}" for one in frames[1]["one"]["speaker"]]
    drawn = intervals.draw(groups * 3, 100, recipe.evaluate.seed)
    weights = drawn.counts[drawn.unit[:60]]
    apart = [
        np.mean([uar(of["one"], column) - uar(of["two"], column) for of in frames.values()])
        for column in weights.T
    ]
    assert (pair.mean.low, pair.mean.high) == pytest.approx(
        tuple(np.quantile(apart, [0.025, 0.975]))
    )
    assert pair.error == pytest.approx(np.std(apart, ddof=1))
    share = deviation**2 / (deviation**2 + np.var(apart, ddof=1))
    assert pair.share == pytest.approx(share)
    assert seeds.read_seeds(recipe, tmp_path) == found


def test_resamples_that_lack_a_class_are_left_out(recipe: Recipe, tmp_path: Path) -> None:
    """One speaker alone is ever sad: (1 - 1/5)^5 of the resamples lack the class."""
    frames = three()
    for of in frames.values():
        for name, frame in of.items():
            rows = (frame["true"] == "sadness") & (frame["speaker"] != "00")
            of[name] = frame.assign(true=frame["true"].mask(rows, "anger"))
    finish(recipe, tmp_path, frames)
    found = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    assert found is not None
    groups = [f"mine/{one}" for one in frames[1]["one"]["speaker"]]
    drawn = intervals.draw(groups * 3, 100, recipe.evaluate.seed)
    whole = drawn.counts[0] > 0
    apart = [
        np.mean([uar(of["one"], column) - uar(of["two"], column) for of in frames.values()])
        for column in drawn.counts[drawn.unit[:60]].T[whole]
    ]
    pair = found.partitions["test"].pairs["uar"][0]
    assert (pair.mean.low, pair.mean.high) == pytest.approx(
        tuple(np.quantile(apart, [0.025, 0.975]))
    )
    text = f"{(~whole).sum()} of 100 resamples lack a class and are left out"
    assert pair.lacking == text
    assert found.partitions["test"].pairs["wa"][0].lacking == ""
    assert text in printed(recipe, found).splitlines()


def test_repeats_without_any_difference_leave_the_speakers(recipe: Recipe, tmp_path: Path) -> None:
    same = three()[1]
    finish(recipe, tmp_path, dict.fromkeys((1, 2, 3), same))
    found = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    assert found is not None
    (pair,) = found.partitions["test"].pairs["uar"]
    gap = gaps.paired_gap(same["one"], same["two"], recipe).metrics["uar"]
    assert (pair.deviation, pair.of_gain, pair.share) == (0, 0, 0)
    assert pair.mean.value == pytest.approx(gap.value)
    assert (pair.mean.low, pair.mean.high) == pytest.approx((gap.low, gap.high))


def test_utterances_without_a_speaker_are_the_same_in_all_seeds(
    recipe: Recipe, tmp_path: Path
) -> None:
    same = {name: one.assign(speaker="") for name, one in three()[1].items()}
    finish(recipe, tmp_path, dict.fromkeys((1, 2), same))
    found = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    assert found is not None
    (pair,) = found.partitions["test"].pairs["uar"]
    gap = gaps.paired_gap(same["one"], same["two"], recipe).metrics["uar"]
    assert (pair.mean.low, pair.mean.high) == pytest.approx((gap.low, gap.high))


def test_seeds_that_hold_out_other_rows(recipe: Recipe, tmp_path: Path) -> None:
    frames = three()
    halves = {
        seed: {name: one.iloc[10 * seed : 10 * seed + 30] for name, one in of.items()}
        for seed, of in frames.items()
    }
    finish(recipe, tmp_path, halves)
    found = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    assert found is not None
    part = found.partitions["test"]
    assert not part.same_rows
    expected = [uar(of["one"]) - uar(of["two"]) for of in halves.values()]
    np.testing.assert_allclose(list(part.pairs["uar"][0].by_seed.values()), expected)
    assert "hold out other rows" in printed(recipe, found)


def test_what_is_left_out_is_said(recipe: Recipe, tmp_path: Path) -> None:
    frames = three()
    del frames[2]["two"]
    finish(recipe, tmp_path, frames)
    other = recipe.model_copy(update={"head": recipe.head.model_copy(update={"kind": "svc"})})
    finish(other, tmp_path, {3: {"two": frames[3]["two"]}})
    found = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    assert found is not None
    assert found.left_out == {
        "two, seed 3": "made with another recipe",
        "two": "only one seed has a run to take",
    }
    assert list(found.partitions["test"].systems) == ["one"]
    assert found.partitions["test"].pairs["uar"] == ()
    assert "left out: two, seed 3: made with another recipe" in printed(recipe, found)


def test_one_seed_is_no_repeat(recipe: Recipe, tmp_path: Path) -> None:
    assert seeds.make_seeds(recipe, Folders(runs=tmp_path)) is None
    finish(recipe, tmp_path, {1: three()[1]})
    assert seeds.make_seeds(recipe, Folders(runs=tmp_path)) is None
    assert seeds.read_seeds(recipe, tmp_path) is None
    assert printed(recipe, None) == ""


def test_regressions_are_repeated_too(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, more=REPEATED)
    split = recipe.split.model_copy(update={"seeds": [1, 2]})
    recipe = recipe.model_copy(update={"split": split})
    frames = {
        seed: {
            name: made.regression().assign(
                Sadness_pred=made.regression(seed=seed + at)["Sadness_pred"].to_numpy()
            )
            for at, name in enumerate(("one", "two"))
        }
        for seed in (1, 2)
    }
    finish(recipe, tmp_path, frames)
    found = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    assert found is not None
    assert list(found.partitions) == ["devel", "test"]
    pair = found.partitions["test"].pairs["spearman"][0]
    one, two = (
        score.read_scores(run_folder(tmp_path, recipe.repeats()[2].name, name), recipe.repeats()[2])
        for name in ("one", "two")
    )
    values = [at.partitions["test"].metrics["spearman"].value for at in (one, two)]
    assert pair.by_seed[2] == pytest.approx(values[0] - values[1])


def test_outdated_with_the_predictions(recipe: Recipe, tmp_path: Path) -> None:
    frames = three()
    finish(recipe, tmp_path, frames)
    with pytest.raises(RunError, match="scores.json: missing"):
        seeds.read_seeds(recipe, tmp_path)
    before = seeds.make_seeds(recipe, Folders(runs=tmp_path))
    finish(recipe, tmp_path, {1: {"one": frames[2]["one"]}})
    score.score_all(recipe.repeats()[1], Folders(runs=tmp_path))
    with pytest.raises(RunError, match="seeds.json: missing or outdated"):
        seeds.read_seeds(recipe, tmp_path)
    assert seeds.make_seeds(recipe, Folders(runs=tmp_path)) != before


def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
    target = "emotion"
    [split]
    outer = "leave-one-session-out"
    expect_overlap = ["session"]
    inner_folds = 2
    seeds = [1, 5]
    [head]
    kind = "linear-svc"
    select = "uar"
    [head.grid]
    C = [0.001, 0.1]
    [fusion.mean]
    method = "mean"
    [evaluate]
    bootstrap = 100
    """
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, text.replace("\n    ", "\n"))
    where = ["--stores", str(tmp_path), "--runs", str(tmp_path / "runs")]
    given = [recipe.path, "--data", str(tmp_path / "data"), "--jobs", "1", *where]
    train(train_parser().parse_args(given))
    fuse(
        argparse.Namespace(recipe=recipe.path, stores=tmp_path, runs=tmp_path / "runs", force=False)
    )
    out = capsys.readouterr().out
    assert out.count("protocol study/protocols/seed-5:") == 2  # trained, fused
    args = score_parser().parse_args(["score", recipe.path, *where])
    args.main(args)
    out = capsys.readouterr().out
    assert "by protocol" not in out
    lines = out[out.index("UAR on test over seeds 1, 5") :].splitlines()
    assert [line.split("  ")[0] for line in lines[3:6]] == ["one", "two", "fused: mean (mean of 2)"]
    assert "UAR on test: gain of " in out
    at = tmp_path / "runs" / "study" / "protocols"
    record = read_run(at / "seed-5" / "one")
    assert record is not None
    assert record["seeds"] == {"split": 5, "head": 5}
    assert (at / "seed-5" / "fusion" / "mean" / "scores.json").is_file()
    assert not (at / "gaps.json").exists()
    found = seeds.read_seeds(recipe, tmp_path / "runs")
    assert found is not None
    assert len(found.partitions["test"].pairs["uar"]) == 3
