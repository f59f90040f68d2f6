"""What lies in the folders of runs: predictions, run.json, scores.json, and their fusion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate.runs.folders import PREDICTIONS, SCORES, run_folder
from evaluate.runs.predictions import read_predictions
from evaluate.scores.score import read_all, score_all
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.model import Recipe
from tests.evaluate import made
from tests.fusion.combining import combine
from tests.fuzz.tools import ODD_TEXT, damaged, misfit, read_or_refused

TASKS = ("regression", "classification")
FRAMES = {"regression": made.regression(12), "classification": made.classification(12)}
FILES = {task: FRAMES[task].to_csv(index=False).encode() for task in TASKS}


@pytest.fixture(scope="module")
def recipes(folder: Path) -> dict[str, Recipe]:
    """A recipe of each task with two finished and scored runs, and one of their mean."""
    found = {}
    for task in TASKS:
        (folder / task).mkdir()
        found[task] = made.recipe(folder / task, task, "[evaluate]\nbootstrap = 100")
        for member in ("one", "two", "mean"):
            made.finish(found[task], folder / task, member, FRAMES[task])
        score_all(found[task], Folders(runs=folder / task))
    return found


def look(recipe: Recipe, folder: Path) -> None:
    """Do with the runs of a recipe all that the commands do without training."""
    with read_or_refused(RunError):
        scored = score_all(recipe, Folders(runs=folder))
        made.table(recipe, scored).encode("utf-8", "backslashreplace")
    with read_or_refused(RunError):
        made.table(recipe, read_all(recipe, Folders(runs=folder)))


@given(data=damaged(*FILES.values()), task=st.sampled_from(TASKS))
def test_damaged_predictions(
    folder: Path, recipes: dict[str, Recipe], data: bytes, task: str
) -> None:
    path = run_folder(folder / task, recipes[task].name, "one") / PREDICTIONS
    kept = path.read_bytes()
    try:
        path.write_bytes(data)
        with read_or_refused(RunError):
            frame = read_predictions(path)
            combine({"one": frame, "two": FRAMES[task]}, recipes[task].fusion["mean"])
        look(recipes[task], folder / task)
    finally:
        path.write_bytes(kept)


CELLS = st.one_of(ODD_TEXT, st.sampled_from(["anger", "sadness", "test", "mine", "0.5", "nan"]))


@given(
    changes=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), CELLS), max_size=5),
    task=st.sampled_from(TASKS),
)
def test_cells_of_predictions(
    folder: Path, recipes: dict[str, Recipe], changes: list[tuple[int, int, str]], task: str
) -> None:
    rows = [list(FRAMES[task].columns), *FRAMES[task].astype(object).to_numpy().tolist()]
    for row, column, cell in changes:
        rows[row % len(rows)][column % len(rows[0])] = cell
    path = folder / "cells.csv"
    write_rows(path, rows)
    with read_or_refused(RunError):
        frame = read_predictions(path)
        spec = recipes[task].fusion["mean"]
        combine({"one": frame, "two": frame}, spec)
        combine({"one": frame, "two": FRAMES[task]}, spec.model_copy(update={"missing": "drop"}))


def write_rows(path: Path, rows: list[list[Any]]) -> None:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize("name", ["run.json", SCORES])
@pytest.mark.parametrize("task", TASKS)
def test_json_of_a_run(folder: Path, recipes: dict[str, Recipe], name: str, task: str) -> None:
    where = run_folder(folder / task, recipes[task].name, "one")
    whole = {one: (where / one).read_bytes() for one in ("run.json", SCORES)}
    tree = json.loads(whole[name])

    @given(data=damaged(whole[name]) | misfit(tree).map(lambda one: json.dumps(one).encode()))
    def check(data: bytes) -> None:
        try:
            (where / name).write_bytes(data)
            look(recipes[task], folder / task)
        finally:
            for one, content in whole.items():
                (where / one).write_bytes(content)

    check()


@pytest.mark.parametrize("depth", [100, 900, 5_000, 200_000])
@pytest.mark.parametrize("name", ["run.json", SCORES])
def test_deep_json(folder: Path, recipes: dict[str, Recipe], name: str, depth: int) -> None:
    where = run_folder(folder / "regression", recipes["regression"].name, "one")
    kept = (where / name).read_bytes()
    try:
        (where / name).write_text("[" * depth + "]" * depth)
        look(recipes["regression"], folder / "regression")
    finally:
        (where / name).write_bytes(kept)
