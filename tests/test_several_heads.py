"""Several heads in one recipe: linear SVM, LDA and nearest neighbours side by side on one store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.report import sheets
from evaluate.report.pages import render
from evaluate.report.write import read_study
from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions
from evaluate.scores.pairs import make_statistics
from evaluate.scores.score import score_all
from evaluate.scores.side_by_side import compare
from evaluate.scores.sweeps import score_sweeps
from features.common.errors import RecipeError, RunError
from features.common.folders import Folders
from features.matrix import load, load_matrix
from features.recipe.load import load_recipe
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.utterances import read_table, write_table
from fusion import reproduce as fused_again
from fusion.combine import fuse
from fusion.subsets.choose import make_subsets
from models.__main__ import main, parser
from models.layers import run_member, work_of
from models.reproduce import reproduce
from models.train import Training
from tests.evaluate import made
from tests.models import synthetic

HEADS = """
target = "emotion"
[split]
outer = "stratified-holdout"
inner = "stratified-k-fold"
inner_folds = 2
expect_overlap = ["speaker", "session"]
[head]
select = "uar"
[heads.svm]
kind = "linear-svc"
grid = { C = [0.001, 0.1] }
[heads.lda]
kind = "lda"
grid = { shrinkage = ["auto", 0.1] }
[heads.near]
kind = "knn"
grid = { n_neighbors = [1, 9] }
[fusion.mean]
method = "mean"
[fusion.two]
method = "vote"
members = ["one@svm", "two@near"]
[fusion.subsets]
k = [2]
random = 10
[evaluate]
bootstrap = 100
"""
SVM = """
target = "emotion"
[split]
outer = "stratified-holdout"
inner = "stratified-k-fold"
inner_folds = 2
expect_overlap = ["speaker", "session"]
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [0.001, 0.1]
"""
MEMBERS = [f"{model}@{head}" for model in ("one", "two") for head in ("svm", "lda", "near")]


def command(folder: Path, recipe: Recipe, *more: str) -> None:
    """`python -m models RECIPE`."""
    where = ["--stores", str(folder), "--runs", str(folder / "runs"), "--data", str(folder)]
    main(parser().parse_args([recipe.path, *where, "--jobs", "1", *more]))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Folders]:
    """Every run of the recipe, combined and scored."""
    folder = tmp_path_factory.mktemp("heads")
    synthetic.classes(folder)
    table = read_table(folder / "made")
    about = {**table.corpus, "title": "made-up features", "licence": "", "citation": ""}
    write_table(folder / "made", replace(table, corpus=about))
    recipe = synthetic.recipe(folder, HEADS)
    folders = Folders(stores=folder, runs=folder / "runs")
    command(folder, recipe)
    for name in recipe.fusion:
        fuse(recipe, name, folders)
    make_subsets(recipe, folders)
    return recipe, folders


def test_every_head_of_every_model_is_a_run(study: tuple[Recipe, Folders]) -> None:
    recipe, folders = study
    there = {path.parent.name for path in (folders.runs / "study").glob("*/run.json")}
    assert there == {*MEMBERS}
    for member in map(Member.parse, MEMBERS):
        record = read_run(folders.runs / "study" / str(member))
        assert (record["model"], record["head"]) == (member.model, member.head)
        assert record["title"] == str(member)
        # Of its own head alone: another one may change without it.
        assert record["recipe"]["head"] == recipe.heads[member.head].model_dump(mode="json")
        assert "heads" not in record["recipe"]


def test_a_head_among_others_is_the_head_alone(
    study: tuple[Recipe, Folders], tmp_path: Path
) -> None:
    recipe, folders = study
    alone = synthetic.recipe(tmp_path, SVM)
    folder = synthetic.train(alone, "one", folders=Folders(stores=folders.stores, runs=tmp_path),
                             jobs=1)  # fmt: skip
    among = folders.runs / "study" / "one@svm"
    assert folder.name == "one"
    for name in ("predictions.csv", "inner.csv", "search.csv"):
        assert (folder / name).read_bytes() == (among / name).read_bytes()
    first, second = read_run(folder), read_run(among)
    assert first["inputs"] == second["inputs"]
    assert "head" not in first
    assert recipe.of_head("svm").head == alone.head


def test_a_change_of_one_head_leaves_the_others_fresh(
    study: tuple[Recipe, Folders], tmp_path: Path
) -> None:
    recipe, folders = study
    other = load_recipe(recipe.path, settings=["heads.near.grid.n_neighbors=[3,5]"])
    training = Training(other, folders)
    done = {str(member): training.is_done(member) for member in other.members()}
    assert done == {name: not name.endswith("@near") for name in MEMBERS}
    stale = {run.name for run in score_all(other, folders) if run.stale}
    assert stale == {"one@near", "two@near", "fusion/mean", "fusion/two"}
    with pytest.raises(RunError, match=r"stale: .*; run make train RECIPE=\S+ MODEL=one HEAD=near"):
        fuse(other, "mean", folders)


def test_all_heads_are_combined_unless_members_are_named(study: tuple[Recipe, Folders]) -> None:
    recipe, folders = study
    assert recipe.fusion["mean"].members == recipe.subsets.members == MEMBERS
    record = read_run(folders.runs / "study/fusion/two")
    assert record["members"] == ["one@svm", "two@near"]
    rows = read_predictions(folders.runs / "study/fusion/two/predictions.csv")
    assert len(rows) == 32


def test_tables_name_the_head(study: tuple[Recipe, Folders]) -> None:
    recipe, folders = study
    scored = score_all(recipe, folders)
    statistics = make_statistics(recipe, scored, folders.runs)
    overview = made.table(recipe, scored, statistics)
    for name in MEMBERS:
        assert name in overview
    systems = statistics.partitions["test"].complementarity.models
    assert list(systems) == MEMBERS


@pytest.mark.slow
def test_pages_name_the_head(study: tuple[Recipe, Folders]) -> None:
    recipe, folders = study
    make_statistics(recipe, score_all(recipe, folders), folders.runs)
    pages = render(read_study(recipe, folders))
    for name in MEMBERS:
        assert f"model-{name}.html" in pages
    index = pages["index.html"]
    assert "svm: linear-svc, chosen by uar; lda: lda, chosen by uar; near: knn" in str(index)
    assert "one@lda" in str(pages["fusion.html"])


@pytest.mark.slow
def test_runs_of_a_head_are_made_again(study: tuple[Recipe, Folders]) -> None:
    recipe, folders = study
    for name in ("one@near", "two@svm"):
        lines, equal = reproduce(folders.runs / "study" / name, stores=folders.stores, jobs=1)
        assert equal, lines
    for name in ("mean", "subsets"):
        again = fused_again.reproduce(folders.runs / "study/fusion" / name, stores=folders.stores)
        assert again[1], again[0]


def test_only_the_heads_that_are_named(
    study: tuple[Recipe, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folders = study
    where = ["--stores", str(folders.stores), "--runs", str(tmp_path), "--data", str(tmp_path)]
    words = [recipe.path, *where, "--jobs", "1", "--model", "two", "--head", "lda"]
    main(parser().parse_args(words))
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["two@lda"]
    with pytest.raises(RecipeError, match=r"HEAD=lada: not in the recipe's list .*'lda'"):
        main(parser().parse_args([*words, "--head", "lada"]))


def test_recipes_side_by_side(study: tuple[Recipe, Folders], tmp_path: Path) -> None:
    recipe, folders = study
    score_all(recipe, folders)
    found = compare(folders.runs / "study", folders.runs / "study")
    assert {f"{name}" for name in MEMBERS} <= {ours.name for ours, _ in found.matched}


@pytest.mark.slow
def test_layers_of_each_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.models.test_layers import deep

    deep(tmp_path)
    text = HEADS.partition("[fusion.mean]")[0].replace(
        'select = "uar"', 'select = "uar"\nlayer = "best"'
    )
    text = text.replace('kind = "knn"', 'kind = "knn"\nlayer = "last"').replace(
        "[0.001, 0.1]", "[0.1]"
    )
    recipe = synthetic.recipe(tmp_path, text, models=["one"])
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    training = Training(recipe, folders, jobs=1)
    work = work_of(recipe, tmp_path)
    layers = [0, 1, 2, 3, "best"]
    assert [str(member) for member in work] == [
        *(f"one@{layer}@svm" for layer in layers), *(f"one@{layer}@lda" for layer in layers),
        "one@near",
    ]  # fmt: skip
    for member in work:
        folder = run_member(training, member)
    best = read_run(folder.parent / "one@best@lda")
    assert (best["title"], best["head"], best["layer"]) == ("one@best@lda", "lda", "best")
    assert training.is_done(Member("one", "best", "lda"))
    assert recipe.members() == [
        Member("one", "best", "svm"), Member("one", "best", "lda"), Member("one", head="near"),
    ]  # fmt: skip
    sweeps = score_sweeps(recipe, folders)
    assert [sweep.name for sweep in sweeps] == ["one@svm", "one@lda"]
    assert [list(sweep.layers) for sweep in sweeps] == [[0, 1, 2, 3]] * 2
    assert sheets.layers(recipe, sweeps[1], "", {}).title == "Layers of one@lda"
    lines, equal = reproduce(folder.parent / "one@best@svm", stores=tmp_path, jobs=1)
    assert equal, lines


def test_a_matrix_needs_the_name_of_a_head(study: tuple[Recipe, Folders]) -> None:
    recipe, folders = study
    with pytest.raises(RecipeError, match=r"several heads, and none is named; it has: svm, lda"):
        load_matrix(recipe, folders.stores, "one")
    X, y, _ = load(recipe, model="one", head="lda", stores=folders.stores)
    assert len(X) == len(y) == 160
    with pytest.raises(RecipeError, match=r"no head 'lad'; it has: svm, lda, near; .*'lda'"):
        load(recipe, model="one", head="lad", stores=folders.stores)


def test_parameters_of_all_heads_are_looked_at_before_the_first_fit(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, HEADS.replace("n_neighbors", "n_neighbours"))
    with pytest.raises(RecipeError, match=r"\[heads.near.grid\] n_neighbours: knn has no such"):
        command(tmp_path, recipe)
    recipe = synthetic.recipe(tmp_path, HEADS.replace("[1, 9]", "[1, 99]"))
    with pytest.raises(RecipeError, match=r"\[heads.near.grid\] n_neighbors: got 99, with"):
        command(tmp_path, recipe)
    assert not (tmp_path / "runs").exists()
