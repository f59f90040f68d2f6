"""Tables that read what a run learned, and what other seeds give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluate.report import sheets
from evaluate.scores import score
from evaluate.scores.records import PartitionSeeds, RunScores, Seeds, SeedScores
from evaluate.scores.score import Scored
from features.common.folders import Folders
from tests.evaluate import made


def fusion(learned: dict[str, Any], **scores: Any) -> Scored:
    record = {"members": ["one", "two"], "learned": learned}
    return Scored(
        "fusion",
        "stacked",
        Path(),
        False,
        record,
        RunScores("regression", False, None, {}, {}, **scores),
    )


def shown(sheet) -> list[list[str]]:
    return [list(sheet.header), *([cell.text for cell in row] for row in sheet.rows)]


def test_weights_and_temperatures_have_a_row_a_fold() -> None:
    rules = {
        "a": {"weights": [[0.25], [0.75]], "temperatures": [2.0, 0.5]},
        "b": {"weights": [[0.5], [0.5]], "temperatures": [1.0, 1.0]},
    }
    weights, temperatures = sheets.learned(fusion(rules))
    assert shown(weights) == [
        ["fold", "target", "one", "two"],
        ["a", "all", "0.250", "0.750"],
        ["b", "all", "0.500", "0.500"],
    ]
    assert shown(temperatures)[1:] == [
        ["a", "all", "2.000", "0.500"],
        ["b", "all", "1.000", "1.000"],
    ]


def test_weights_of_targets_have_a_row_each() -> None:
    rules = {"": {"weights": [[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]], "alpha": [1, 2, 3]}}
    (weights,) = sheets.learned(fusion(rules, targets=("calm", "sad", "keen")))
    assert shown(weights)[1:] == [
        ["–", "calm", "0.100", "0.900"],
        ["–", "sad", "0.200", "0.800"],
        ["–", "keen", "0.300", "0.700"],
    ]


def test_what_learned_no_weights_has_no_table() -> None:
    assert sheets.learned(fusion({"": {"alpha": 1.0}})) == []
    assert sheets.learned(fusion({})) == []


def test_rows_are_counted_where_another_run_has_more(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    frame = made.classification()
    made.finish(recipe, tmp_path / "runs", "one", frame)
    made.finish(recipe, tmp_path / "runs", "two", frame.iloc[1:])
    scored = score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    whole, fewer = sheets.overview(recipe, scored, {}, {}).rows
    assert "n = " not in whole[1].note
    assert fewer[1].note.startswith("n = 59; ")
    assert fewer[2].note.startswith("n = 59; ")


def test_seeds_stand_in_a_table_a_partition(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    one = SeedScores({0: 1.0}, mean=0.5, deviation=0.01, least=0.49, largest=0.51)
    found = Seeds(
        (0, 1), {"two": "stale"}, {"test": PartitionSeeds(True, {"one": {"uar": one}}, {})}
    )
    (sheet,) = sheets.seeds(recipe, found, {"one": "One"})
    assert shown(sheet)[1:] == [["One", "0.500", "0.010", "0.490", "0.510", "1"]]
    assert sheet.caption == "UAR on test over seeds 0, 1"
    assert sheet.notes == ["left out: two: stale"]
    assert sheets.seeds(recipe, None, {}) == []
