"""Recipes: TOML with values of other types, and text that is hardly TOML."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate.runs.files import fingerprint
from evaluate.runs.folders import run_folders
from evaluate.runs.freshness import head_settings
from features.common.errors import RecipeError
from features.recipe.load import load_recipe
from features.recipe.member import Member
from tests.fuzz.tools import ODD_TEXT, damaged, misfit, odd_values, read_or_refused, toml, toml_file

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))
TREES = [tomllib.loads(path.read_text("utf-8")) for path in SHIPPED] + [
    tomllib.loads(
        """
        models = ["mfcc", {name = "mine", path = "x"}]
        targets = ["arousal", "valence"]
        corpora.own = {reader = "manifest", labels = {mood = ["a", "b"]}, targets = ["arousal"]}
        extract = {layers = [0, 3], precision = "float16", max_seconds = 30, batch_seconds = 2.5}
        split = {outer = "speaker-k-fold", outer_folds = 3}
        fusion.mean = {method = "mean", members = ["mfcc@3", "mine@0"], missing = "drop"}
        evaluate = {bootstrap = 100, confidence = 0.9, seed = 1}
        [head]
        kind = "ridge"
        select = "spearman"
        layer = [0, 3]
        fixed = {solver = "svd"}
        [head.grid]
        alpha = [1, 2.5]
        """
    ),
    tomllib.loads(
        """
        models = ["mfcc", "log-mel"]
        target = "emotion"
        corpora = ["emodb"]
        split = {outer = "leave-one-speaker-out"}
        fusion.mean = {method = "mean", members = ["mfcc@svm", "mfcc@3@lda"]}
        head = {select = "uar", scalers = ["minmax"]}
        heads.svm = {kind = "svc", grid = {C = [1.0]}, fixed = {kernel = "rbf"}}
        heads.lda = {kind = "lda", layer = [0, 3, "last"]}
        """
    ),
]


def load(path: Path) -> None:
    """Load; what is taken must be usable as every stage uses it."""
    with read_or_refused(RecipeError):
        recipe = load_recipe(path)
        text = json.dumps(recipe.resolved(), allow_nan=False)
        assert json.loads(text) == recipe.resolved()
        for kind, name, folder in run_folders(recipe, Path("runs")):
            assert folder.resolve().is_relative_to(Path("runs").resolve()), folder
            assert kind in ("model", "fusion")
            assert "\0" not in name
        for member in recipe.members():
            assert Member.parse(str(member)) == member
            fingerprint(head_settings(recipe, member))
        for corpus in recipe.corpora:
            recipe.reader_options(corpus)


@given(tree=st.sampled_from(TREES).flatmap(misfit))
def test_a_misfit(folder: Path, tree: Any) -> None:
    path = folder / "misfit.toml"
    tree = tree if isinstance(tree, dict) else {"head": tree}
    path.write_bytes(toml_file(tree).encode())
    load(path)


NAMED = st.sampled_from(["models", "corpora", "heads", "fusion"])


@given(name=ODD_TEXT, kind=NAMED, more=odd_values())
def test_any_name(folder: Path, name: str, kind: str, more: Any) -> None:
    tree: dict[str, Any] = json.loads(json.dumps(TREES[-1 if kind == "heads" else -2]))
    values = {
        "models": {},
        "corpora": {"reader": "manifest", "x": more},
        "heads": {"kind": "knn"},
        "fusion": {"method": "mean"},
    }
    tree[kind] = {
        **(tree[kind] if isinstance(tree[kind], dict) else {"mfcc": {}}),
        name: values[kind],
    }
    (folder / "name.toml").write_bytes(toml_file(tree).encode())
    load(folder / "name.toml")


@given(data=damaged(*(path.read_bytes() for path in SHIPPED)))
def test_a_damaged_file(folder: Path, data: bytes) -> None:
    (folder / "damaged.toml").write_bytes(data)
    load(folder / "damaged.toml")


@given(text=st.text() | st.binary().map(lambda data: data.decode("latin-1")), bom=st.booleans())
def test_any_text(folder: Path, text: str, bom: bool) -> None:
    (folder / "text.toml").write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())
    load(folder / "text.toml")


@pytest.mark.parametrize("depth", [50, 240, 260, 400, 470, 480, 490, 990, 100_000])
@pytest.mark.parametrize("key", ["x", "corpora", "models", "head", "heads"])
def test_deep_nesting(folder: Path, depth: int, key: str) -> None:
    deep = {"head": "{grid = ", "corpora": "{own = {reader = 'manifest', x = "}.get(key, "")
    value = deep + "[" * depth + "]" * depth + "}" * deep.count("{")
    (folder / "deep.toml").write_text(f"{key} = {value}\n")
    load(folder / "deep.toml")
    (folder / "deep.toml").write_text(".".join([key] * depth) + " = 1\n")
    load(folder / "deep.toml")


@given(value=odd_values())
def test_the_writer_of_these_tests(value: Any) -> None:
    assert repr(tomllib.loads(f"x = {toml(value)}")["x"]) == repr(value)
