"""Keys of a recipe that the command line sets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from features.common.errors import RecipeError
from features.recipe.load import load_recipe
from models.heads import cells

TOP = Path(__file__).resolve().parents[2]
RECIPE = """
corpora = ["emodb"]
models = ["mfcc", "egemaps"]
target = "emotion"

[split]
outer = "leave-one-speaker-out"
inner_folds = 3

[head]
kind = "svc"
select = "uar"
grid = {C = [0.1, 1.0]}

[fusion.mean]
method = "mean"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("given", "where", "value"),
    [
        ("head.layer=mean", ("head", "layer"), "mean"),
        ("head.layer='6+12'", ("head", "layer"), "6+12"),
        ("head.layer=6+12", ("head", "layer"), "6+12"),
        ("head.layer=3", ("head", "layer"), 3),
        ("head.layer=[last, 3]", ("head", "layer"), ["last", 3]),
        ("split.seeds=[1, 2]", ("split", "seeds"), [1, 2]),
        ("evaluate.confidence=0.9", ("evaluate", "confidence"), 0.9),
        ("fusion.mean.calibrate=true", ("fusion", "mean", "calibrate"), True),
        ("fusion.sum.method=logit-sum", ("fusion", "sum", "method"), "logit-sum"),
        ("head.grid={kernel = ['rbf']}", ("head", "grid"), {"kernel": ["rbf"]}),
        ("head.grid.C=[2.0]", ("head", "grid"), {"C": [2.0]}),
        ("models.mine.path=/weights/it's", ("models", "mine", "path"), "/weights/it's"),
        ("corpora.emodb.root='a b/c'", ("corpora", "emodb", "root"), "a b/c"),
        ('models."wav2vec2.0".path=/w', ("models", "wav2vec2.0", "path"), "/w"),
        ("labels=[anger, sadness]", ("labels",), ["anger", "sadness"]),
    ],
)
def test_a_key_is_set(recipe: Path, given: str, where: tuple[str, ...], value: Any) -> None:
    text = RECIPE.replace('outer = "leave-one-speaker-out"', 'outer = "speaker-k-fold"')
    recipe.write_text(text, encoding="utf-8")
    found = load_recipe(recipe, settings=[given]).resolved()
    for key in where:
        found = found[key]
    assert found == value


def test_what_is_set_is_as_if_it_stood_in_the_file(recipe: Path, tmp_path: Path) -> None:
    text = RECIPE.replace('kind = "svc"', 'kind = "logistic"').replace("inner_folds = 3", "")
    text = text.replace("C = [0.1, 1.0]", "C = [2.0]")
    other = tmp_path / "other" / "small.toml"
    other.parent.mkdir()
    other.write_text(text.replace('"egemaps"', '"compare"'), encoding="utf-8")
    settings = [
        "head.kind=logistic split.inner_folds=5",
        "models=[mfcc, compare] head.grid.C=[2.0]",
    ]
    found, wanted = load_recipe(recipe, settings=settings), load_recipe(other)
    assert found.name == "small"
    assert {**found.resolved(), "path": ""} == {**wanted.resolved(), "path": ""}


def test_setting_what_is_so_already_changes_nothing(recipe: Path) -> None:
    same = ["head.layer=last split.outer=leave-one-speaker-out", "models=[mfcc, egemaps]"]
    assert load_recipe(recipe, settings=same) == load_recipe(recipe)


def test_the_members_of_a_list_stay_and_keep_their_order(recipe: Path) -> None:
    found = load_recipe(recipe, settings=["models.egemaps.path=/x models.new.hub=a/b"])
    assert list(found.models) == ["mfcc", "egemaps", "new"]
    assert found.models["egemaps"].path == "/x"


def test_a_kind_that_is_set_takes_its_own_grid_and_says_so(recipe: Path) -> None:
    found = load_recipe(recipe, settings=["head.kind=knn"])
    assert found.head.grid == {}
    assert [dict(cell.params) for cell in cells(found.head)][-1] == {"n_neighbors": 25}
    (note,) = found.notes
    assert note.startswith("[head] kind is set to knn: the recipe's grid, of svc, is left out")
    assert "notes" not in found.resolved()


@pytest.mark.parametrize(
    "given",
    [
        "head.kind=logistic head.grid.C=[2.0]",
        "head.grid={C=[2.0]} head.kind=logistic",
        "head={kind='logistic',select='uar',grid={C=[2.0]}} head.kind=logistic",
    ],
)
def test_a_grid_that_is_set_beside_a_kind_stays(recipe: Path, given: str) -> None:
    found = load_recipe(recipe, settings=[given])
    assert (found.head.kind, found.head.grid, found.notes) == ("logistic", {"C": [2.0]}, [])


def test_the_kind_that_is_there_keeps_its_grid(recipe: Path) -> None:
    found = load_recipe(recipe, settings=["head.kind=svc"])
    assert found == load_recipe(recipe)
    assert found.head.grid == {"C": [0.1, 1.0]}


def test_a_model_of_nearly_the_name_of_another_is_added_where_the_list_has_it(
    recipe: Path,
) -> None:
    found = load_recipe(recipe, settings=["models=[mfcc, egemaps, egemap] models.egemap.path=/x"])
    assert found.models["egemap"].path == "/x"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (
            "models.egemap.path=/x",
            "'egemap' is not among models (mfcc, egemaps); did you mean 'egemaps'? To add it, name "
            'it first: "models=[mfcc, egemaps, egemap] models.egemap...="',
        ),
        ("corpora.emdob.root=/x", "'emdob' is not among corpora (emodb); did you mean 'emodb'?"),
        ("evaluate.show=[f1]", "got 'f1', allowed: uar, wa, macro-f1; did you mean 'macro-f1'?"),
        ("evaluate.show=[uar, wb]", "got 'wb', allowed: uar, wa, macro-f1"),
        ("head.laye=3", "[head] laye: no such key; did you mean 'layer'"),
        ("heda.layer=3", "SET=heda.layer=3: 'heda' is no key of a recipe; did you mean 'head'"),
        ("head.select=uat", "[head] select: got 'uat', allowed: "),
        ("split.inner_folds=1", "[split] inner_folds: got 1, allowed: "),
        ("head.kind.x=3", "SET=head.kind.x=3: head.kind is 'svc', no table"),
        ("head.layer", "SET=head.layer: expected key=value"),
        ("head.layer=", "SET=head.layer=: expected key=value"),
        ("=3", "SET==3: expected key=value"),
        ("head..layer=3", "SET=head..layer=3: expected key=value"),
        ("head.grid={C=", "SET=head.grid={C=: not a value of TOML"),
        ("fusion.mean.members=[mfcc, egemap]", "'egemap' is no run of the recipe; did you mean"),
        ("split.seed=2020-01-01", "[split] seed: got '2020-01-01', allowed: integer"),
    ],
)
def test_what_cannot_be_set_is_a_fault_of_the_recipe(recipe: Path, given: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(fault)):
        load_recipe(recipe, settings=[given])


@pytest.mark.parametrize("room", ["extract", "features", "models", "fusion", "evaluate"])
def test_every_command_takes_settings(room: str, recipe: Path) -> None:
    command = {"features": ["status"], "evaluate": ["score"]}.get(room, [])
    found = subprocess.run(
        [sys.executable, "-m", room, *command, str(recipe), "--set", "head.select=uat"],
        cwd=TOP, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert "[head] select: got 'uat'" in found.stderr


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user would, and compute nothing."""
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run(
        ["make", "-f", str(TOP / "Makefile"), *arguments, f"PYTHON={sys.executable}"],
        env={**path, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")


@needs_make
@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("JOB=4", "no variable JOB; did you mean JOBS."),
        ("jobs=4", "no variable jobs; did you mean JOBS."),
        ("ZZ=4", "no variable ZZ."),
    ],
)
def test_a_variable_that_make_does_not_know_is_refused(given: str, fault: str) -> None:
    found = make("help", given)
    assert found.returncode == 2
    assert fault in found.stderr
    assert not found.stdout


@needs_make
def test_variables_of_the_environment_are_not_refused() -> None:
    found = make("-j2", "help", "JOBS=4", JOB="4", SHELL="/bin/sh")
    assert found.returncode == 0, found.stderr


@needs_make
def test_make_hands_on_what_is_set() -> None:
    text = """labels=["a b", 'c'] head.layer=6+12"""
    script = "import json, sys; json.dump(sys.argv, open('/dev/stdout', 'w'))"
    found = make("-n", "status", f"SET={text}")
    line = found.stdout.strip().replace(f'"{sys.executable}" -m features', "python")
    shown = subprocess.run(
        ["sh", "-c", line.replace("exec python", f"exec '{sys.executable}' -c \"{script}\"")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    arguments = json.loads(shown.stdout)
    assert arguments[arguments.index("--set") + 1] == text
