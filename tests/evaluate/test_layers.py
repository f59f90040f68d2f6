"""Sweeps: what belongs to one, the selection score, and the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.__main__ import layers, parser
from evaluate.report.printed import layers_text
from evaluate.scores.score import read_scores
from evaluate.scores.sweeps import read_sweeps, score_sweeps
from features.common.errors import RunError
from features.common.folders import Folders
from tests.evaluate import made
from tests.models import synthetic


def chosen(*scores: float | None) -> dict:
    """The choices of two outer folds and of all rows."""
    return {fold: [{"score": one}] for fold, one in zip(("a", "b", "all"), scores, strict=True)}


def sweep(folder: Path):
    """Three layers of `one`, the middle one the best to choose by, the last the best by luck."""
    recipe = made.recipe(folder, "classification")
    for member, right, record in (
        ("one@0", 0.3, {"chosen": chosen(0.1, 0.3, 0.9)}),
        ("one@2", 0.9, {"chosen": chosen(0.5, 0.6, 0.1)}),
        ("one@10", 0.99, {"chosen": chosen(0.5, None, 0.1)}),
        ("one@best", 0.9, {"chosen": chosen(0.5, 0.6, 0.1), "chosen_layers": {"a": 2, "all": 2}}),
        ("two@3", 0.5, {"chosen": chosen(0.1, 0.1, 0.1)}),
    ):
        made.finish(recipe, folder, member, made.classification(right=right), record)
    return recipe


def test_runs_of_a_model_at_its_layers_are_a_sweep(tmp_path: Path) -> None:
    recipe = sweep(tmp_path)
    (one,) = score_sweeps(recipe, Folders(runs=tmp_path))
    assert one.model == "one"
    assert list(one.layers) == [0, 2, 10]
    assert list(one.others) == ["best"]
    assert one.selection == {0: pytest.approx(0.2), 2: pytest.approx(0.55), 10: None}
    assert one.chosen == {"a": 2, "all": 2}
    values = {
        layer: read_scores(tmp_path / "study" / f"one@{layer}", recipe).partitions["test"]
        for layer in one.layers
    }
    highest = max(values, key=lambda layer: values[layer].metrics["uar"].value)
    assert one.highest("test", "uar") == highest == 10
    assert one.highest("devel", "uar") is None


def test_the_table_says_what_is_chosen_on_what(tmp_path: Path) -> None:
    recipe = sweep(tmp_path)
    text = layers_text(recipe, score_sweeps(recipe, Folders(runs=tmp_path)), 100).splitlines()
    assert text[0].startswith("UAR of one by layer; below the rule, runs of other kinds.")
    at = next(i for i, line in enumerate(text) if line.split("  ")[0] == "layer")
    assert "uar, to choose by" in text[at]
    rows = {line.split()[0]: line for line in text[at + 1 :] if line[0] != "-"}
    assert list(rows) == ["0", "2", "10", "best", "best:"]
    assert rows["10"].split()[1] == "undefined"
    assert rows["2"].split()[1] == "0.5500"
    assert rows["10"].endswith("highest, optimistic)")
    assert rows["best:"] == "best: layer 2; over all rows layer 2"


def test_reading_computes_nothing(tmp_path: Path) -> None:
    recipe = sweep(tmp_path)
    with pytest.raises(
        RunError, match=r"scores\.json: missing or outdated; run make score RECIPE="
    ):
        read_sweeps(recipe, tmp_path)
    score_sweeps(recipe, Folders(runs=tmp_path))
    assert [one.model for one in read_sweeps(recipe, tmp_path)] == ["one"]


def test_a_run_of_another_recipe_is_stale(tmp_path: Path) -> None:
    sweep(tmp_path)
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 200")
    recipe = recipe.model_copy(update={"labels": ("anger", "sadness")})
    assert "(stale)" in layers_text(recipe, score_sweeps(recipe, Folders(runs=tmp_path)), 100)


def test_nothing_swept_is_nothing_said(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    made.finish(recipe, tmp_path, "one", made.classification(), {"chosen": chosen(1, 1, 1)})
    assert score_sweeps(recipe, Folders(runs=tmp_path)) == []
    assert layers_text(recipe, [], 100) == ""


def test_a_model_of_one_layer_has_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.rows(4, speaker=["0", "0", "1", "1"])
    synthetic.write(tmp_path, frame.assign(corpus="mine"),
                    {"one": np.zeros((4, 2)), "two": np.zeros((3, 4, 2))})  # fmt: skip
    recipe = made.recipe(tmp_path, "classification")
    made.finish(
        recipe, tmp_path / "runs", "one", made.classification(), {"chosen": chosen(1, 1, 1)}
    )
    where = ["--stores", str(tmp_path), "--runs", str(tmp_path / "runs")]
    layers(parser().parse_args(["layers", recipe.path, *where]))
    assert capsys.readouterr().out == "one has one layer in its store; nothing to compare\n"
