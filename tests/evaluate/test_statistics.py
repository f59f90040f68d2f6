"""Comparisons of a recipe's runs: against single pairs, the fusion stage, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.metrics import metrics
from evaluate.runs.arrays import speakers
from evaluate.runs.folders import fusion_folder, run_folder, statistics_path
from evaluate.scores import gaps, names, score
from evaluate.scores import pairs as statistics
from evaluate.scores.records import Statistics
from evaluate.statistics import permutations as comparisons
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.fusion import FusionSpec
from features.recipe.model import Recipe
from tests.evaluate import made
from tests.fusion.combining import combine

MORE = "[evaluate]\nbootstrap = 200"


def worse(frame: pd.DataFrame, noise: float, seed: int = 1) -> pd.DataFrame:
    """The same truths with predictions further off."""
    rng = np.random.default_rng(seed)
    frame = frame.copy()
    for target in made.TARGETS:
        frame[f"{target}_pred"] += noise * rng.normal(size=len(frame))
    return frame


def worse_classes(frame: pd.DataFrame, share: float, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns = [f"score_{label}" for label in made.LABELS]
    values = frame[columns].to_numpy(copy=True)
    rows = rng.random(len(frame)) < share
    values[rows] = rng.random((rows.sum(), 3))
    said = np.array(made.LABELS, dtype=object)[values.argmax(axis=1)]
    return frame.assign(pred=said, **dict(zip(columns, values.T, strict=True)))


def fused(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return combine(frames, FusionSpec(method="mean", members=list(frames)))[0]


def finished(tmp_path: Path, task: str, more: str = MORE) -> tuple[Recipe, dict]:
    """Two models and their mean."""
    recipe = made.recipe(tmp_path, task, more)
    if task == "regression":
        first = made.regression(n=120, speakers=8, noise=0.2)
        frames = {"one": first, "two": worse(first, 0.6)}
    else:
        first = made.classification(n=120)
        frames = {"one": first, "two": worse_classes(first, 0.6)}
    for member, frame in frames.items():
        made.finish(recipe, tmp_path / "runs", member, frame)
    frames["fusion/mean"] = fused(frames)
    made.finish(recipe, tmp_path / "runs", "mean", frames["fusion/mean"])
    return recipe, frames


def made_statistics(recipe: Recipe, tmp_path: Path) -> tuple[list[score.Scored], Statistics]:
    scored = score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    return scored, statistics.make_statistics(recipe, scored, tmp_path / "runs")


@pytest.mark.parametrize(
    ("task", "shown"),
    [("classification", ["macro-f1", "uar"]), ("regression", ["ccc", "spearman", "pearson"])],
)
def test_what_is_shown_is_compared(tmp_path: Path, task: str, shown: list[str]) -> None:
    recipe, frames = finished(tmp_path, task, f"{MORE}\nshow = {shown}")
    scored, found = made_statistics(recipe, tmp_path)
    fields = tuple(key.replace("-", "_") for key in shown)
    for partition, part in found.partitions.items():
        assert tuple(part.metrics) == fields
        assert part.complementarity is not None
        for metric in fields:
            of_run = {one.name: one.scores.partitions[partition].metrics[metric] for one in scored}
            compared = part.metrics[metric]
            for name, value in compared.scores.items():
                assert value == pytest.approx(of_run[name].value)
            assert compared.best == max(
                compared.scores, key=lambda name: compared.scores[name] or 0
            )
            adds = part.complementarity.contributions[metric]
            assert adds.whole == pytest.approx(of_run["fusion/mean"].value)
            assert adds.models["one"].alone == pytest.approx(of_run["one"].value)
    titles = [names.NAMES[metric] for metric in fields]
    text = made.table(recipe, scored, found)
    assert [text.index(name) for name in titles] == sorted(text.index(name) for name in titles)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_every_pair_is_that_of_the_two_runs(tmp_path: Path, task: str) -> None:
    recipe, frames = finished(tmp_path, task)
    scored, found = made_statistics(recipe, tmp_path)
    scores = {one.name: one.scores for one in scored}
    assert list(found.partitions) == list(scored[0].scores.partitions)
    for partition, part in found.partitions.items():
        assert part.systems == ("one", "two", "fusion/mean")
        assert part.n_dropped == 0
        for metric in recipe.shown:
            one = part.metrics[metric]
            assert len(one.pairs) == 3
            holm = comparisons.holm([pair.p for pair in one.pairs])
            assert [pair.p_holm for pair in one.pairs] == pytest.approx(holm)
            for name, value in one.scores.items():
                entry = scores[name].partitions[partition].metrics[metric]
                assert value == pytest.approx(entry.value, abs=1e-12)
            for pair in one.pairs:
                rows = [f[f["partition"] == partition] for f in (frames[pair.a], frames[pair.b])]
                gap = gaps.paired_gap(*rows, recipe).metrics[metric]
                assert [
                    pair.difference.value,
                    pair.difference.low,
                    pair.difference.high,
                ] == pytest.approx([gap.value, gap.low, gap.high], abs=1e-12)


def test_classes_are_also_compared_by_mcnemar(tmp_path: Path) -> None:
    recipe, frames = finished(tmp_path, "classification")
    _, found = made_statistics(recipe, tmp_path)
    part = found.partitions["test"]
    right = {name: frame["pred"] == frame["true"] for name, frame in frames.items()}
    for pair in part.mcnemar:
        a, b = right[pair.a], right[pair.b]
        assert (pair.only_a, pair.only_b) == ((a & ~b).sum(), (b & ~a).sum())
    agreement = part.complementarity
    assert agreement.disagreement[0][1] == pytest.approx((right["one"] ^ right["two"]).mean())
    oracle = (right["one"] | right["two"]).mean()
    assert agreement.oracle["wa"] == pytest.approx(oracle)
    first = frames["one"]
    swaps = comparisons.draw_swaps(speakers(first), statistics.N_SWAPS, 0)
    p = comparisons.classification_p(
        first["true"], [first["pred"], frames["two"]["pred"]], made.LABELS, swaps
    )
    assert part.metrics["uar"].pairs[0].p == p["uar"][0, 1]
    assert part.test.n_swaps == 16
    assert not part.test.can_tell  # the least p value of five speakers is 1/16
    assert not part.test.can_mark


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_all_models_are_worth_what_their_mean_scores(tmp_path: Path, task: str) -> None:
    recipe, _ = finished(tmp_path, task)
    _, found = made_statistics(recipe, tmp_path)
    for part in found.partitions.values():
        shared = part.complementarity
        assert shared.models == ("one", "two")
        assert shared.exact
        for metric, adds in shared.contributions.items():
            scores = part.metrics[metric].scores
            assert adds.whole == pytest.approx(scores["fusion/mean"], abs=1e-12)
            models = adds.models
            for name in ("one", "two"):
                assert models[name].alone == pytest.approx(scores[name], abs=1e-12)
            assert models["one"].left_out == pytest.approx(adds.whole - scores["two"])
            total = sum(one.shapley for one in models.values())
            assert total == pytest.approx(adds.whole - shared.empty[metric])
            (pair,) = shared.pairs[metric]
            assert pair.fused == adds.whole
            assert pair.gain == pytest.approx(adds.whole - max(scores["one"], scores["two"]))
    assert set(shared.empty.values()) == ({0.0} if task == "regression" else {1 / 3})


def test_subsets_are_scored_as_the_fusion_stage_would(rng: np.random.Generator) -> None:
    frames = {"a": made.classification(60)}
    frames["a"].loc[:11, f"score_{made.LABELS[0]}"] = np.nan  # a class that a fold has not seen
    frames |= {name: worse_classes(frames["a"], 0.7, seed) for name, seed in (("b", 3), ("c", 4))}
    for frame in frames.values():
        frame.loc[:11, f"score_{made.LABELS[0]}"] = np.nan
    columns = [f"score_{label}" for label in made.LABELS]
    codes = np.array([made.LABELS.index(one) for one in frames["a"]["true"]])
    stack = np.stack([frame[columns].to_numpy() for frame in frames.values()])
    subsets = np.array([[True, True, False], [True, False, True], [True, True, True]])
    found = statistics.value_of_classes(codes, stack, ("uar", "wa", "macro_f1"), subsets)
    for subset, values in zip(subsets, found, strict=True):
        chosen = {name: frames[name] for name, on in zip("abc", subset, strict=True) if on}
        said = fused(chosen)["pred"].to_numpy()
        truth = frames["a"]["true"].to_numpy()
        expected = [
            f(truth, said, made.LABELS) for f in (metrics.uar, metrics.wa, metrics.macro_f1)
        ]
        assert values.tolist() == pytest.approx(expected)


def test_what_cannot_be_compared_is_left_out_by_name(tmp_path: Path, monkeypatch) -> None:
    recipe, frames = finished(tmp_path, "classification")
    first = frames["one"]
    found = statistics.align(
        {
            "a": first,
            "b": first[30:],
            "c": first.assign(true=first["true"].to_numpy()[::-1]),
            "d": first.drop(columns=f"score_{made.LABELS[0]}"),
            "e": first.assign(corpus="other"),
        },
        {},
    )
    assert found is not None
    assert list(found.predictions) == ["a", "b"]
    assert (len(found.predictions["a"]), found.n_dropped) == (90, 30)
    assert found.left_out == {
        "c": "has other truths than a",
        "d": "predicts something else than a",
        "e": "has no row that those before it have",
    }
    assert statistics.align({"a": first, "c": first.assign(true="")}, {}) is None

    made.finish(recipe, tmp_path / "runs", "mean", frames["fusion/mean"], {"optimistic": True})
    _, chosen = made_statistics(recipe, tmp_path)
    assert chosen.partitions["test"].systems == ("one", "two")
    why = chosen.partitions["test"].left_out
    assert why == {"fusion/mean": "chosen on the rows that it is scored on"}

    monkeypatch.setattr(statistics, "MOST_SYSTEMS", 2)
    made.finish(recipe, tmp_path / "runs", "mean", frames["fusion/mean"])
    _, few = made_statistics(recipe, tmp_path)
    assert few.partitions["test"].left_out == {"fusion/mean": "only 2 runs are compared"}


def test_statistics_are_made_anew_only_when_something_changed(tmp_path: Path) -> None:
    recipe, frames = finished(tmp_path, "regression")
    folder = tmp_path / "runs"
    scored = score.score_all(recipe, Folders(runs=folder))
    with pytest.raises(
        RunError, match=r"statistics\.json: missing or outdated; run make score RECIPE="
    ):
        statistics.read_statistics(recipe, scored, folder)
    first = statistics.make_statistics(recipe, scored, folder)
    path = statistics_path(folder, recipe.name)
    stamp = path.stat().st_mtime_ns
    assert statistics.make_statistics(recipe, scored, folder) == first
    assert statistics.read_statistics(recipe, scored, folder) == first
    assert path.stat().st_mtime_ns == stamp
    statistics.make_statistics(recipe, scored, folder, force=True)
    assert path.stat().st_mtime_ns > stamp
    made.finish(recipe, folder, "two", worse(frames["two"], 1.0))
    with pytest.raises(RunError, match="outdated"):
        statistics.read_statistics(recipe, scored, folder)
    assert statistics.make_statistics(recipe, scored, folder) != first


def test_the_table_marks_the_best_and_those_not_worse(tmp_path: Path) -> None:
    recipe, frames = finished(tmp_path, "regression")
    made.finish(recipe, tmp_path / "runs", "two", worse(frames["one"], 9.0))
    made.finish(recipe, tmp_path / "runs", "mean", worse(frames["one"], 0.001))
    scored, found = made_statistics(recipe, tmp_path)
    best = found.partitions["test"].metrics["spearman"]
    assert best.best in ("one", "fusion/mean")
    assert best.not_worse == ("one", "fusion/mean")
    lines = made.table(recipe, scored, found).splitlines()
    marked = {line.split("  ")[0]: line.count("] *") for line in lines[2:7]}
    assert marked["one"] == marked["fused: mean"] == 2
    assert marked["two"] == 0
    assert lines[7].startswith("* the best, and all whose difference to it could be chance")
    least = "8 speakers, 2 comparisons with the best: a corrected p is 0.016 at least"
    assert lines[8:] == [f"devel: {least}", f"test: {least}"]  # something can be told
    assert "*" not in made.table(recipe, scored)


def test_few_speakers_are_said_to_tell_little(tmp_path: Path) -> None:
    recipe, _ = finished(tmp_path, "classification")
    scored, found = made_statistics(recipe, tmp_path)
    text = made.table(recipe, scored, found)
    line = "test: 5 speakers, 2 comparisons with the best: a corrected p is 0.12 at least: too few"
    assert f"{line} to show any difference" in text.splitlines()


def test_undefined_scores_and_lone_runs(tmp_path: Path) -> None:
    recipe, frames = finished(tmp_path, "regression")
    made.finish(recipe, tmp_path / "runs", "two", frames["two"].assign(Anger_pred=0.25))
    _, found = made_statistics(recipe, tmp_path)
    one = found.partitions["test"].metrics["spearman"]
    assert one.scores["two"] is None
    assert "two" not in one.not_worse
    assert [pair.p is None for pair in one.pairs] == [True, False, True]
    assert found.partitions["test"].complementarity.correlation[0][1] is not None

    for member in ("two", "mean"):
        kind = fusion_folder if member == "mean" else run_folder
        (kind(tmp_path / "runs", recipe.name, member) / "run.json").unlink()
    scored, found = made_statistics(recipe, tmp_path)
    assert found.partitions == {}
    assert "*" not in made.table(recipe, scored, found)


def test_masked_rows_and_targets_are_no_part_of_it(tmp_path: Path) -> None:
    recipe, frames = finished(tmp_path, "regression")
    for member in ("one", "two"):
        frame = frames[member].assign(Sadness_true=np.nan)
        frame.loc[frame["partition"] == "test", [f"{t}_true" for t in made.TARGETS]] = np.nan
        made.finish(recipe, tmp_path / "runs", member, frame)
    (fusion_folder(tmp_path / "runs", recipe.name, "mean") / "run.json").unlink()
    scored, found = made_statistics(recipe, tmp_path)
    assert list(found.partitions) == ["devel"]
    shown = found.partitions["devel"].metrics["spearman"].scores["one"]
    mean = scored[0].scores.partitions["devel"].metrics["spearman"].value
    assert shown == pytest.approx(mean)
