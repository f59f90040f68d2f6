"""Recipes: what a good one resolves to, and that every fault of a bad one is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import RecipeError
from features.recipe import load_recipe

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))

GOOD = """
corpora = ["emodb"]
models = ["mfcc", "log-mel"]
target = "emotion"
[split]
outer = "leave-one-speaker-out"
[head]
kind = "svc"
select = "uar"
[fusion.mean]
method = "mean"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_load(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.models
    assert all(one.members for one in recipe.fusion.values())


def test_the_paper_s_ten_cells_nine_models_nine_targets() -> None:
    recipe = load_recipe(SHIPPED[0].parent / "emotion-share.toml")
    assert len(recipe.head.scalers) * len(recipe.head.grid["C"]) == 10
    assert len(recipe.models) == len(recipe.targets) == 9
    assert (recipe.split.outer, recipe.split.inner) == ("predefined", "devel")
    assert recipe.fusion["mean"].members == list(recipe.models)
    other = load_recipe(SHIPPED[0].parent / "emotion-share-nmae.toml")
    assert (recipe.head.select, other.head.select) == ("nmse", "nmae")


def test_defaults_and_resolved_form(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.task == "classification"
    assert recipe.extract.max_seconds == 60
    assert recipe.head.layers == ["last"]
    assert recipe.fusion["mean"].members == ["mfcc", "log-mel"]
    resolved = recipe.resolved()
    assert resolved["split"]["seed"] == 0
    assert resolved["evaluate"]["bootstrap"] == 1000


def test_the_command_line_restricts_and_wins(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(path, models=["mfcc"], overrides={"extract": {"precision": "bfloat16"}})
    assert list(recipe.models) == ["mfcc"]
    assert recipe.extract.precision == "bfloat16"
    assert recipe.fusion["mean"].members == ["mfcc", "log-mel"]  # a fusion is of all models
    with pytest.raises(RecipeError, match=r"MODEL=mfc: not in .*did you mean 'mfcc'\?"):
        load_recipe(path, models=["mfc"])
    with pytest.raises(RecipeError, match="CORPUS=iemocap: not in the recipe's list"):
        load_recipe(path, corpora=["iemocap"])


def test_default_members_are_at_the_recipe_s_layer(tmp_path: Path) -> None:
    def members(layer: str) -> list[str]:
        text = GOOD.replace("[head]", f"[head]\nlayer = {layer}")
        return load_recipe(write(tmp_path, text)).fusion["mean"].members

    assert members("6") == ["mfcc@6", "log-mel@6"]
    assert members('[3, 6, "last"]') == ["mfcc", "log-mel"]
    with pytest.raises(RecipeError, match=r"name them, as in \[\"mfcc@3\", ...\]"):
        members("[3, 6]")


def test_models_and_corpora_as_tables_and_inline_tables(tmp_path: Path) -> None:
    text = GOOD.replace('["mfcc", "log-mel"]', '["mfcc", {name = "mine", path = "/w"}]')
    assert load_recipe(write(tmp_path, text)).models["mine"].path == "/w"
    text = (
        'target = "emotion"\n[models.mfcc]\n[models.mine]\nhub = "org/repo"\nrevision = "abc"\n'
        '[corpora.own]\nreader = "manifest"\nroot = "/x"\nfile = "list.csv"\n'
        '[head]\nkind = "svc"\nselect = "wa"\n'
    )
    recipe = load_recipe(write(tmp_path, text))
    assert list(recipe.models) == ["mfcc", "mine"]
    assert recipe.models["mine"].hub == "org/repo"
    assert recipe.corpora["own"].options == {"file": "list.csv"}


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    text = """
    corpora = ["emodbb"]
    models = ["mfcc", "mfcc"]
    target = "emotion"
    targets = ["recognised"]
    colour = 1
    [split]
    outer = "leave-one-speaker"
    seed = "0"
    [head]
    kind = "svcc"
    select = "uar"
    scaler = ["standard"]
    [fusion.mean]
    method = "mean"
    members = ["mfcc", "mfccs"]
    """
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{path}: {len(lines) - 1} faults"
    for expected in (
        "colour: no such key",
        "corpora: 'emodbb' is no known corpus",
        "did you mean 'emodb'",
        "models: mfcc is named twice",
        "target, targets: give one of the two",
        "[split] outer: got 'leave-one-speaker', allowed: 'predefined'",
        "did you mean 'leave-one-speaker-out'",
        "[split] seed: got '0', allowed: integer",
        "[head] kind: got 'svcc'",
        "[head] scaler: no such key; did you mean 'scalers'?",
        "[fusion.mean] members: 'mfccs' is no model of the recipe; did you mean 'mfcc'?",
    ):
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("svc", "linear-svr"), "[head] kind: got 'linear-svr', for classification: linear-svc"),
        (("uar", "nmse"), "[head] select: got 'nmse', for classification: uar, wa"),
        (('"emotion"', '"emotions"'), "target: emodb has no label set 'emotions'"),
        (
            ('[split]', '[split]\ninner = "devel"'),
            "[split] inner: 'devel' goes with outer = 'predefined'",
        ),
        (('[head]', '[head]\nlayer = -1'), "[head] layer: got -1"),
        (('[head]', '[head]\nlayer = [3, 3]'), "a layer is named twice"),
        (('[head]', '[extract]\nlayers = [1]\n[head]\nlayer = 2'), "[2] not among [extract]"),
        (('[head]', '[head]\nper_target = true'), "per_target: goes with targets"),
        (('[head]', '[head]\ngrid = {C = [1.0]}\nfixed = {C = 1.0}'), "C: in grid and in fixed"),
        (('"mean"\n', '"mode"\n'), "[fusion.mean] method: got 'mode'"),
        (('[split]', 'labels = ["angry", "sadness"]\n[split]'), "labels: 'angry' is no emotion"),
        (('kind = "svc"\n', ''), "[head] kind: missing; allowed: linear-svr"),
        (('["mfcc", "log-mel"]', '["a/b", "log-mel"]'), "'a/b' cannot name a folder"),
        (('["mfcc", "log-mel"]', '["mfcc"]'), "a fusion needs two models"),
        (('models = ["mfcc", "log-mel"]', ''), "models: missing; give a list"),
        (('[split]', 'split = 3\n[extract]'), "[split] got 3, expected a table"),
    ],
)  # fmt: skip
def test_single_faults(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD.replace(*change, 1)))
    assert expected in str(caught.value)


def test_vote_of_regressions_is_impossible(tmp_path: Path) -> None:
    text = GOOD.replace('target = "emotion"', 'targets = ["natural"]').replace("svc", "svr")
    text = text.replace('"uar"', '"nmse"').replace('method = "mean"', 'method = "vote"')
    with pytest.raises(RecipeError, match="'vote' needs classes"):
        load_recipe(write(tmp_path, text))


def test_stratified_splits_need_classes(tmp_path: Path) -> None:
    text = GOOD.replace('target = "emotion"', 'targets = ["natural"]').replace("svc", "svr")
    text = text.replace('"uar"', '"nmse"').replace("leave-one-speaker-out", "stratified-holdout")
    with pytest.raises(RecipeError, match="outer: 'stratified-holdout' needs classes"):
        load_recipe(write(tmp_path, text))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(RecipeError, match=r"toi.toml: no such recipe; did you mean 'toy.toml'\?"):
        load_recipe(tmp_path / "toi.toml")
    with pytest.raises(RecipeError, match="not valid TOML: Invalid value"):
        load_recipe(write(tmp_path, "corpora = ["))
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5_000 + "]" * 5_000,
        "x = " + "{a = " * 5_000 + "1" + "}" * 5_000,
        ".".join(["x"] * 100_000) + " = 1",
        "x = {" + ".".join(["x"] * 100_000) + " = 1}",
    ],
    ids=["arrays", "tables", "key", "inline key"],
)
def test_nesting_without_end(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"toy.toml: not valid TOML: nested too deeply"):
        load_recipe(write(tmp_path, text))


def test_a_number_beyond_all_measure(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not valid TOML: Exceeds the limit"):
        load_recipe(write(tmp_path, GOOD.replace("[split]", f"x = {'9' * 5_000}\n[split]")))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert list(load_recipe(write(tmp_path, "\ufeff" + GOOD)).models) == ["mfcc", "log-mel"]


def test_a_recipe_below_a_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(RecipeError, match="cannot be read: Not a directory"):
        load_recipe(tmp_path / "toy.toml" / "x.toml")
