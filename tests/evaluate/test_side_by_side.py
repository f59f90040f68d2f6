"""The runs of two recipes against each other."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from evaluate.__main__ import parser
from evaluate.report.printed import comparison_text
from evaluate.runs import record as runs
from evaluate.runs.files import read_run
from evaluate.runs.folders import ALL, PREDICTIONS, SCORES
from evaluate.runs.predictions import write_predictions
from evaluate.scores import gaps, score, side_by_side
from evaluate.statistics import permutations as comparisons
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from tests.evaluate import made


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Recipe, Recipe, Path]:
    """Recipes `a` and `b`, which differ in their scaler, and the folder of their runs."""
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 100\n")
    head = recipe.head.model_copy(update={"scalers": ["minmax"]})
    a = recipe.model_copy(update={"name": "a"})
    return a, recipe.model_copy(update={"name": "b", "head": head}), tmp_path / "runs"


def chosen(*scores: float) -> dict[str, object]:
    """What `run.json` says of the choices of folds, and of the one over all rows."""
    folds = {str(i): [{"score": one}] for i, one in enumerate(scores)}
    return {"chosen": {**folds, ALL: [{"score": 0.99}]}}


def test_runs_of_one_name_on_the_rows_of_both(folders: tuple[Recipe, Recipe, Path]) -> None:
    a, b, folder = folders
    first, second = made.classification(60, seed=1), made.classification(60, seed=1)
    rng = np.random.default_rng(2)
    second["pred"] = np.where(rng.random(60) < 0.4, rng.choice(made.LABELS, 60), second["pred"])
    second = second.iloc[::-1].iloc[:40].assign(fold="another")
    for recipe, frame in ((a, first), (b, second)):
        made.finish(recipe, folder, "one", frame)
        made.finish(recipe, folder, "mean", frame)
    made.finish(a, folder, "two", first)
    found = side_by_side.compare(folder / "a", folder / "b")
    pairs = [(one.name, other.name) for one, other in found.matched]
    assert (pairs, found.best) == ([("one", "one"), ("fusion/mean", "fusion/mean")], False)
    rows = {(row.a, row.metric): row for row in found.table}
    ours, theirs = (one.set_index("utterance").loc[sorted(second["utterance"])]
                    for one in (first, second))  # fmt: skip
    for metric, oracle in (("uar", balanced_accuracy_score), ("wa", accuracy_score)):
        row = rows["one", metric]
        assert (row.n, row.n_speakers, row.why) == (40, 5, "")
        assert row.score_a == pytest.approx(oracle(ours["true"], ours["pred"]))
        assert row.score_b == pytest.approx(oracle(theirs["true"], theirs["pred"]))
        assert row.difference.value == pytest.approx(row.score_a - row.score_b)
        gap = gaps.paired_gap(first, second, a).metrics[metric]
        assert (row.difference.low, row.difference.high) == (gap.low, gap.high)
        assert row.p == pytest.approx(swapped(ours, theirs, oracle))
        assert row.smallest_p == 1 / 16
        assert row.p_holm == pytest.approx(min(1, 2 * row.p))
    (setting,) = found.settings
    assert setting.text == 'head.scalers: ["standard"] | ["minmax"]'
    assert found.alone == (["two"], [])
    text = comparison_text(found, 200)
    assert "so few speakers cannot show a difference: p is 0.062 at least" in text
    row = rows["one", "uar"]
    assert (
        f"{row.difference.value:+.3f} [{row.difference.low:.3f}, {row.difference.high:.3f}]" in text
    )


def swapped(ours: pd.DataFrame, theirs: pd.DataFrame, oracle: object) -> float:
    """The p value by all 2^5 swaps of speakers, one after the other."""
    assert callable(oracle)
    truth, speakers = ours["true"].to_numpy(), ours["speaker"].to_numpy()
    a, b = ours["pred"].to_numpy(), theirs["pred"].to_numpy()
    seen = abs(oracle(truth, a) - oracle(truth, b))
    count = 0
    for number in range(32):
        chosen = [name for i, name in enumerate(sorted(set(speakers))) if number >> i & 1]
        swap = np.isin(speakers, chosen)
        one, other = np.where(swap, b, a), np.where(swap, a, b)
        count += abs(oracle(truth, one) - oracle(truth, other)) >= seen - 1e-12
    return count / 32


def test_regressions_by_the_tests_of_statistics(tmp_path: Path) -> None:
    a = made.recipe(tmp_path, more="[evaluate]\nbootstrap = 100\n")
    b = a.model_copy(update={"name": "b"})
    truth = made.regression()
    other = truth.assign(Anger_pred=made.regression(seed=3)["Anger_pred"])
    made.finish(a, tmp_path, "one", truth)
    made.finish(b, tmp_path, "one", other)
    found = side_by_side.compare(tmp_path / "study", tmp_path / "b")
    assert [(row.partition, row.metric) for row in found.table] == [
        ("devel", "spearman"), ("test", "spearman"),
    ]  # fmt: skip
    pair = [one[one["partition"] == "test"] for one in (truth, other)]
    values = [one[[f"{t}_pred" for t in made.TARGETS]].to_numpy() for one in pair]
    known = pair[0][[f"{t}_true" for t in made.TARGETS]].to_numpy()
    swaps = comparisons.draw_swaps([f"mine/{one}" for one in pair[0]["speaker"]], 10_000, 0)
    expected = comparisons.regression_p(known, np.stack(values), "spearman", swaps)[0, 1]
    assert found.table[1].p == found.table[1].p_holm == pytest.approx(expected)
    assert "no setting differs" in comparison_text(found, 200)


def test_the_best_of_each_by_its_own_selection_score(folders: tuple[Recipe, Recipe, Path]) -> None:
    a, b, folder = folders
    frame = made.classification()
    made.finish(a, folder, "one", frame, chosen(0.5, 0.7))
    made.finish(a, folder, "two", frame, chosen(0.5, 0.6))
    made.finish(b, folder, "two", frame, chosen(0.1))
    found = side_by_side.compare(folder / "a", folder / "b")
    assert [(one.name, other.name) for one, other in found.matched] == [
        ("two", "two"), ("one", "two"),
    ]  # fmt: skip
    assert found.best
    assert found.alone == ([], [])
    text = comparison_text(found, 200)
    assert "one, two: the highest selection score of each" in text
    row = found.table[-1]
    assert (row.difference.value, row.p, row.p_holm) == (0, 1, 1)


def test_what_cannot_be_compared_is_said(folders: tuple[Recipe, Recipe, Path]) -> None:
    a, b, folder = folders
    frame = made.classification()
    other = frame.assign(true=np.roll(frame["true"], 1))
    for recipe in (a, b):
        made.finish(recipe, folder, "one", frame)
        made.finish(recipe, folder, "mean", frame, {"optimistic": recipe is b})
    made.finish(a, folder, "two", frame)
    made.finish(b, folder, "two", other)
    text = comparison_text(side_by_side.compare(folder / "a", folder / "b"), 200)
    assert "not compared: two, two test: the truths differ" in text
    assert "in A alone" not in text
    assert "fusion/mean test: chosen on the rows that it is scored on" in text


def test_nothing_to_compare(folders: tuple[Recipe, Recipe, Path], tmp_path: Path) -> None:
    a, b, folder = folders
    frame = made.classification()
    made.finish(a, folder, "one", frame)
    with pytest.raises(RunError, match="b: no finished run there"):
        side_by_side.compare(folder / "a", folder / "b")
    made.finish(b, folder, "two", frame)
    with pytest.raises(RunError, match=r"no run has the same name in both \(one; two\)"):
        side_by_side.compare(folder / "a", folder / "b")
    made.finish(b, folder, "one", frame.assign(partition="devel"))
    with pytest.raises(RunError, match="nothing to compare\n  one, one: no partition is in both"):
        side_by_side.compare(folder / "a", folder / "b")
    (tmp_path / "r").mkdir()
    shares = made.recipe(tmp_path / "r").model_copy(update={"name": "c"})
    made.finish(shares, folder, "one", made.regression())
    with pytest.raises(RunError, match=r"a is of a classification, .*c of a regression"):
        side_by_side.compare(folder / "a", folder / "c")


def test_classes_and_groups_of_both_as_each_is_scored(
    folders: tuple[Recipe, Recipe, Path],
) -> None:
    a, b, folder = folders
    both = {}
    for seed, recipe in enumerate((a, b)):
        frame = made.classification(60 - 20 * seed, seed=1).assign(corpus="mine")
        frame["pred"] = np.random.default_rng(seed).choice(made.LABELS, len(frame))
        frame.loc[::2, "corpus"] = "other"
        both[recipe.name] = frame
        made.finish(recipe, folder, "one", frame)
        score.score_all(recipe, Folders(runs=folder))
    found = side_by_side.compare(folder / "a", folder / "b")
    rows, lacking = side_by_side.details(found)
    assert lacking == []
    assert {row.kind for row in rows} == {"class", "corpus"}
    oracle = {
        name: dict(zip(made.LABELS, recall_score(one["true"], one["pred"], average=None,
                                                 labels=made.LABELS), strict=True))
        for name, one in both.items()
    }  # fmt: skip
    for row in (one for one in rows if one.kind == "class"):
        ours, theirs = (oracle[name][row.name] for name in ("a", "b"))
        assert row.score_a.value == pytest.approx(ours)
        assert row.difference.value == pytest.approx(ours - theirs)
        assert row.n_b == (both["b"]["true"] == row.name).sum()
    for row in (one for one in rows if one.kind == "corpus"):
        part = both["b"][both["b"]["corpus"] == row.name]
        expected = balanced_accuracy_score(part["true"], part["pred"])
        assert row.score_b.value == pytest.approx(expected)


def test_scores_of_other_predictions_are_not_at_hand(
    folders: tuple[Recipe, Recipe, Path],
) -> None:
    a, b, folder = folders
    for recipe in (a, b):
        made.finish(recipe, folder, "one", made.classification())
        score.score_all(recipe, Folders(runs=folder))
    changed = folder / "b" / "one"
    write_predictions(changed / PREDICTIONS, made.classification(seed=1))
    (folder / "a" / "one" / PREDICTIONS).write_bytes((changed / PREDICTIONS).read_bytes())
    score.score_all(a, Folders(runs=folder))
    found = side_by_side.compare(folder / "a", folder / "b")
    assert side_by_side.details(found) == ([], [str(changed)])
    (changed / SCORES).unlink()
    assert side_by_side.details(found) == ([], [str(changed)])


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.toml")), ids=lambda one: one.stem)
def test_recipes_are_read_back_from_a_run(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    runs.write_run(tmp_path, {"inputs": {}, "recipe": recipe.resolved()})
    record = read_run(tmp_path)
    assert record is not None
    read = side_by_side.recipe_of(side_by_side.ComparedRun("one", tmp_path, record))
    assert read == recipe.model_copy(update={"published": []})  # the paper's are not in it


def test_a_recipe_of_another_version(folders: tuple[Recipe, Recipe, Path]) -> None:
    a, b, folder = folders
    for recipe in (a, b):
        resolved = {**recipe.resolved(), "unknown": 1}
        made.finish(recipe, folder, "one", made.classification(), {"recipe": resolved})
    with pytest.raises(RunError, match="one/run.json: the recipe in it is of another version"):
        side_by_side.compare(folder / "a", folder / "b")


def test_the_command_writes_the_table(
    folders: tuple[Recipe, Recipe, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, folder = folders
    for seed, recipe in enumerate((a, b)):
        made.finish(recipe, folder, "one", made.classification().assign(
            pred=np.random.default_rng(seed).choice(made.LABELS, 60)))  # fmt: skip
    to = folder / "table.csv"
    given = ["compare", str(folder / "a"), str(folder / "b"), "--to", str(to)]
    args: argparse.Namespace = parser().parse_args(given)
    args.main(args)
    assert "UAR of A and B, test" in capsys.readouterr().out
    table = pd.read_csv(to)
    assert list(table.columns) == list(side_by_side.COLUMNS)
    expected = [
        row.difference.value for row in side_by_side.compare(folder / "a", folder / "b").table
    ]
    assert table["difference"].tolist() == expected
