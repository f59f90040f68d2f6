"""`[heads.NAME]`: several heads of one recipe, what they take from `[head]`, and their faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluate.runs.folders import run_folders
from features.common.errors import RecipeError
from features.new_audio import system_of
from features.recipe.load import load_recipe
from features.recipe.model import Recipe

THREE = """
corpora = ["emodb"]
models = ["mfcc", "log-mel"]
target = "emotion"
[split]
outer = "leave-one-speaker-out"
[head]
select = "uar"
layer = "mean"
[heads.svm]
kind = "linear-svc"
[heads.near]
kind = "knn"
layer = "last"
[fusion.mean]
method = "mean"
"""
ALL = ["mfcc@mean@svm", "mfcc@near", "log-mel@mean@svm", "log-mel@near"]


def read(folder: Path, text: str = THREE, **more: object) -> Recipe:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, **more)  # type: ignore[arg-type]


def test_heads_take_from_head_what_they_do_not_say(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    found = {name: (head.kind, head.select, head.layer) for name, head in recipe.heads.items()}
    assert found == {"svm": ("linear-svc", "uar", "mean"), "near": ("knn", "uar", "last")}
    assert recipe.head is None
    assert [str(member) for member in recipe.members()] == ALL
    assert recipe.fusion["mean"].members == ALL
    folders = [folder.as_posix() for _, _, folder in run_folders(recipe, Path("runs"))]
    assert folders == [*(f"runs/toy/{name}" for name in ALL), "runs/toy/fusion/mean"]


def test_a_grid_is_of_its_kind(tmp_path: Path) -> None:
    text = THREE.replace("[heads.svm]\nkind", 'kind = "svc"\ngrid = {C = [1.0]}\n[heads.svm]\nkind')
    recipe = read(tmp_path, text.replace("[fusion.mean]", "[heads.plain]\n[fusion.mean]"))
    assert recipe.heads["svm"].grid == recipe.heads["near"].grid == {}
    assert (recipe.heads["plain"].kind, recipe.heads["plain"].grid) == ("svc", {"C": [1.0]})


def test_one_head_by_its_name_and_by_itself(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    alone = recipe.of_head("svm")
    assert (alone.head, alone.heads) == (recipe.heads["svm"], {})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert "heads" not in alone.resolved()
    one = read(tmp_path, THREE.partition("[heads.svm]")[0].replace("layer", 'kind = "svc"\nlayer'))
    assert one.heads == {}
    assert one.of_head("").resolved() == one.resolved()
    assert [str(member) for member in one.members()] == ["mfcc@mean", "log-mel@mean"]
    with pytest.raises(RecipeError, match=r"no head 'svm'; it has: \[head\] alone"):
        one.head_of("svm")


def test_settings_of_all_heads_and_of_one(tmp_path: Path) -> None:
    recipe = read(tmp_path, settings=["head.layer=best heads.near.layer=3"])
    assert [head.layer for head in recipe.heads.values()] == ["best", 3]
    text = THREE.replace('kind = "linear-svc"', 'kind = "linear-svc"\ngrid = {C = [1.0]}')
    other = read(tmp_path, text, settings=["heads.svm.kind=lda"])
    assert (other.heads["svm"].kind, other.heads["svm"].grid) == ("lda", {})
    assert "[heads.svm] kind is set to lda: the recipe's grid, of linear-svc" in other.notes[0]
    kept = read(tmp_path, text, settings=["heads.svm.kind=svc heads.svm.grid.C=[2.0]"])
    assert kept.heads["svm"].grid == {"C": [2.0]}
    seeded = read(tmp_path, THREE.replace("[head]", "seeds = [1, 2]\n[head]"))
    repeat = seeded.repeats()[2]
    assert [head.random_state for head in repeat.heads.values()] == [2, 2]


def test_heads_that_the_command_line_names(tmp_path: Path) -> None:
    recipe = read(tmp_path, heads=["near"])
    assert [str(member) for member in recipe.members()] == ["mfcc@near", "log-mel@near"]
    assert recipe.fusion["mean"].members == ALL
    with pytest.raises(
        RecipeError, match=r"HEAD=nera: not in the recipe's list \(svm, near\).*'near"
    ):
        read(tmp_path, heads=["nera"])
    with pytest.raises(RecipeError, match=r"HEAD=svm: the recipe has one head, \[head\]"):
        load_recipe("recipes/demo.toml", heads=["svm"])


def test_what_predicts_is_a_run_of_the_recipe(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    assert system_of(recipe, member="mfcc@7@svm").models == ["mfcc"]
    for name in ("mfcc", "mfcc@svn", "mfcc@svm@s1", "mfcc@svm@7"):
        with pytest.raises(RecipeError, match=f"{name} is no run of its models"):
            system_of(recipe, member=name)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("heads.svm", "heads.best", "[heads.best]: the name is a layer; choose another"),
        ("heads.svm", "heads.s3", "[heads.s3]: the name is how seeds are named"),
        ("heads.svm", "heads.test", "[heads.test]: the name is kept for runs that are chosen on"),
        ("heads.svm", "heads.mfcc", "[heads.mfcc]: the name is a model; choose another"),
        ("heads.svm", 'heads."a+b"', "[heads.a+b]: the name cannot name a folder; no / \\ @ +"),
        ("linear-svc", "linear-svr", "[heads.svm] kind: got 'linear-svr', for classification"),
        ('kind = "knn"', "", "[heads.near] kind: missing; allowed: linear-svc, svc"),
        ('select = "uar"\n', "", "[heads.svm] select: missing; allowed: uar, wa"),
        ('select = "uar"', 'selekt = "uar"', "[head] selekt: no such key; did you mean 'select'?"),
        ('"knn"', '"knn"\nlayers = 3', "[heads.near] layers: no such key; did you mean 'layer'"),
        ('select = "uar"', 'select = "uar"\ngrid = {C = [1]}', "[head] grid: of a kind, which"),
        ('kind = "knn"', "grid = {C = [1]}\nfixed = {C = 1}\nkind = 'svc'", "[heads.near] C: in"),
        ('"mean"\n[heads', '["mean", 3]\n[heads', "[heads.svm] layer is ['mean', 3] without"),
        ('method = "mean"', 'method = "mean"\nmembers = ["mfcc", "mfcc@near"]', "'mfcc' is no"),
        ('method = "mean"', 'method = "mean"\nmembers = ["mfcc@near", "mfcc@last@near"]', "twice"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in THREE
    text = THREE.replace(old, new)
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text)
    assert fault in str(caught.value)
    of_each_head = "select: missing" in fault
    assert ("2 faults" if of_each_head else "1 fault\n") in str(caught.value)


@pytest.mark.parametrize("heads", ["heads = 3", "heads = {}", "[[heads]]\nkind = 'svc'"])
def test_heads_that_are_no_tables(tmp_path: Path, heads: str) -> None:
    text = THREE.partition("[heads.svm]")[0]
    top, _, rest = text.partition("[split]")
    whole = f"{top}{heads}\n[split]{rest}" if "[[" not in heads else f"{text}{heads}"
    with pytest.raises(RecipeError, match=r"1 fault\n  heads: got .*, allowed: \[heads.NAME\]"):
        read(tmp_path, whole)
