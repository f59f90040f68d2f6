"""Combinations, made again from what `run.json` says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evaluate.runs.files import read_json, write_json
from evaluate.runs.predictions import read_predictions, write_predictions
from features.common.command import run_chosen, run_command
from features.common.errors import RunError
from features.common.folders import Folders
from fusion.__main__ import parser
from fusion.combine import fuse
from fusion.reproduce import reproduce
from fusion.subsets.choose import make_subsets
from tests.models import synthetic
from tests.models.test_train import SVC

FUSION = """
[fusion.learned]
method = "nnls"
calibrate = true
members = ["one@last", "two"]
[fusion.subsets]
random = 10
"""


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("fused")
    synthetic.classes(top)
    recipe = synthetic.recipe(top, SVC.replace("[0.001, 0.1]", "[0.1]") + FUSION)
    for model in recipe.models:
        synthetic.train(recipe, model, folders=Folders(stores=top, runs=top / "runs"), jobs=1)
    fuse(recipe, "learned", Folders(stores=top, runs=top / "runs"))
    make_subsets(recipe, Folders(stores=top, runs=top / "runs"))
    return top


@pytest.fixture
def folder(fused: Path, tmp_path: Path) -> Path:
    shutil.copytree(fused, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs/study/fusion/learned"


def test_a_combination_is_the_same_again(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "study.toml").unlink()
    monkeypatch.chdir(tmp_path)  # the run is named by a relative path
    argv = ["reproduce", str(folder.relative_to(tmp_path)), "--stores", str(tmp_path)]
    assert run_command(run_chosen, parser(), argv) == 0
    out = capsys.readouterr().out
    assert "predictions.csv: 160 rows, equal" in out
    assert "what was learned: equal" in out
    assert out.endswith("runs/study/fusion/learned: the same again\n")


def test_a_number_that_was_changed_is_found(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = read_predictions(folder / "inner.csv")
    frame.loc[2, "score_calm"] += 0.5
    write_predictions(folder / "inner.csv", frame)
    assert (
        run_command(run_chosen, parser(), ["reproduce", str(folder), "--stores", str(tmp_path)])
        == 1
    )
    out = capsys.readouterr().out
    row = frame.loc[2]
    assert f"inner.csv: made/{row['utterance']}, partition inner, fold {row['fold']}: " in out
    assert f"score_calm {row['score_calm']} then, " in out


def test_members_that_changed_are_refused(folder: Path, tmp_path: Path) -> None:
    path = folder.parents[1] / "two/predictions.csv"
    frame = read_predictions(path)
    frame.loc[0, "score_sad"] += 1
    write_predictions(path, frame)
    with pytest.raises(RunError, match=r"members two predictions.csv: [0-9a-f]{32} then, [0-9a-f]"):
        reproduce(folder, stores=tmp_path)
    with pytest.raises(RunError, match="stage 'train', not 'fuse' or 'subsets'; `python -m models"):
        reproduce(folder.parents[1] / "two", stores=tmp_path)


@pytest.mark.parametrize("at", ["my copy", "study/protocols/seed-1"])
def test_a_copy_is_made_again_from_the_runs_beside_it(
    folder: Path, tmp_path: Path, at: str
) -> None:
    there = tmp_path / "runs" / at
    shutil.copytree(folder.parents[1], there)
    copied = (there / "fusion/learned").rename(there / "fusion/renamed")
    assert reproduce(copied, stores=tmp_path)[1]
    frame = read_predictions(there / "two/inner.csv")
    frame.loc[0, "score_sad"] += 1
    write_predictions(there / "two/inner.csv", frame)
    for name in ("renamed", "subsets"):
        with pytest.raises(RunError, match=r"members two inner.csv: [0-9a-f]{32} then, [0-9a-f]"):
            reproduce(there / "fusion" / name, stores=tmp_path)
    shutil.rmtree(there / "two")
    with pytest.raises(RunError, match=r"members two inner.csv: [0-9a-f]{32} then, nothing now"):
        reproduce(copied, stores=tmp_path)
    assert reproduce(folder, stores=tmp_path)[1]


def test_subsets_are_searched_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subsets = folder.with_name("subsets")
    argv = ["reproduce", str(subsets), "--stores", str(tmp_path)]
    assert run_command(run_chosen, parser(), argv) == 0
    out = capsys.readouterr().out
    assert " values, equal\nversions: equal\n" in out
    assert out.endswith("fusion/subsets: the same again\n")
    result = read_json(subsets / "subsets.json")
    was = result["choices"][0]["best"]["value"]
    result["choices"][0]["best"]["value"] = was + 0.25
    write_json(subsets / "subsets.json", result)
    assert run_command(run_chosen, parser(), argv) == 1
    out = capsys.readouterr().out
    assert f"subsets.json: choices 0 best value: {was + 0.25} then, {was} now (1 value dif" in out
    assert out.endswith("fusion/subsets: NOT the same\n")
