"""`python -m models`: what it says of odd rows before it fits, and that this changes no run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.common.command import run_chosen, run_command
from features.common.errors import RunError
from features.stores.read import Store
from features.utterances import Table, read_table, table_hash, write_table
from models import folds
from models.__main__ import main, parser
from models.checks import odd_rows
from tests.models import synthetic
from tests.models.test_train import RIDGE

RECIPE = """
target = "emotion"
[split]
outer = "leave-one-speaker-out"
inner = "speaker-k-fold"
inner_folds = 2
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [0.01]
"""


@pytest.fixture
def made(tmp_path: Path, rng: np.random.Generator) -> Table:
    """A table as an older version may have written it, and the store `one`."""
    speakers = ["Zo\u00eb", "Zoe\u0308", "s1", "S1", "s2", "s2"] * 4
    labels = [("anger", "calm")[(n // 6 + n) % 2] for n in range(24)]
    labels[5], labels[7] = "Anger", ""
    genders = ["female" if n % 6 < 4 else ("female", "male")[n % 2] for n in range(24)]
    frame = synthetic.rows(24, speaker=speakers, emotion=labels, gender=genders, mood=["x"] * 24)
    frame["sesion"] = "1"
    table = Table(frame, {"emotion": ("Anger", "anger", "calm"), "sesion": ("1",), "mood": ("x",)},
                  (), [], {"key": "made", "reader": "manifest"})  # fmt: skip
    X = rng.standard_normal((24, 4)).astype(np.float32)
    synthetic.write(tmp_path / "stores", frame, {"one": X}, labels=table.labels)
    write_table(
        tmp_path / "stores/made", Table(frame[table.columns], *list(vars(table).values())[1:])
    )
    return table


def train(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    recipe = synthetic.recipe(folder, RECIPE)
    where = ["--stores", str(folder / "stores"), "--runs", str(folder / "runs")]
    data = ["--data", str(folder / "nowhere"), "--model", "one", "--jobs", "1"]
    capsys.readouterr()
    main(parser().parse_args([recipe.path, *where, *data]))
    return capsys.readouterr().out.splitlines()


def test_training_says_what_is_odd_in_its_rows(
    made: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = train(tmp_path, capsys)
    odd = [line for line in lines if line.startswith("odd: ")]
    assert odd == [
        "odd: made: 1 name stood in several spellings (accents, blanks, invisible characters) and "
        "is one: speaker 'Zoe\\u0308' (4 rows) = 'Zo\\xeb' (4 rows)",
        "odd: made: 1 column became a label set or target and is nearly named as a known one: "
        "sesion (session?)",
        "odd: made: 2 groups of names differ in case, blanks or what cannot be seen alone: "
        "speaker S1 (4 rows) beside s1 (4 rows), emotion Anger (1 row) beside "
        "anger (11 rows)",
        "odd: made: 1 class of emotion has one row: Anger",
        "odd: made: 1 row has no emotion: u007",
        "odd: made: 1 speaker has several genders: s2 (female 4, male 4)",
    ]
    # Said again where nothing is left to fit, and a run does not depend on it.
    run = json.loads((tmp_path / "runs/study/one/run.json").read_text("utf-8"))
    again = train(tmp_path, capsys)
    assert [line for line in again if line.startswith("odd: ")] == odd
    assert json.loads((tmp_path / "runs/study/one/run.json").read_text("utf-8")) == run
    table = read_table(tmp_path / "stores/made")
    before = table_hash(table)
    table.findings.clear()
    assert table_hash(table) == before


def test_what_a_recipe_maps_to_one_label_is_not_odd(made: Table, tmp_path: Path) -> None:
    mapped = '[labels.map.made]\nAnger = "angry"\nanger = "angry"\ncalm = "calm"\n'
    text = RECIPE.replace("[head.grid]", f"{mapped}[head.grid]")
    odd = odd_rows(synthetic.recipe(tmp_path, text), tmp_path / "stores")
    assert not any("Anger" in line for line in odd)
    assert any("speaker S1 (4 rows) beside s1 (4 rows)" in line for line in odd)


def test_a_folder_in_the_place_of_an_output_is_said_before_any_model_is_fitted(
    tmp_path: Path,
) -> None:
    synthetic.regression(tmp_path / "stores")
    recipe = synthetic.recipe(tmp_path, RIDGE)
    assert list(recipe.models) == ["one", "two"]
    (tmp_path / "runs/study/two/inner.csv").mkdir(parents=True)
    where = ["--stores", str(tmp_path / "stores"), "--runs", str(tmp_path / "runs")]
    data = ["--data", str(tmp_path / "nowhere"), "--jobs", "1"]
    with pytest.raises(RunError, match=r"two/inner\.csv: is a folder: remove it"):
        main(parser().parse_args([recipe.path, *where, *data]))
    assert not (tmp_path / "runs/study/one").exists()


def test_a_store_is_looked_at_once_and_read_once_and_folds_are_planned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.regression(tmp_path / "stores")
    recipe = synthetic.recipe(tmp_path, RIDGE)
    calls: Counter[str] = Counter()

    def counted(place: object, name: str, title: str = "") -> None:
        real = getattr(place, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls[title or Path(args[1]).name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(place, name, call)

    counted(Store, "__init__")
    counted(folds, "make_plan", "plan")
    counted(folds, "lint", "lint")
    where = ["--stores", str(tmp_path / "stores"), "--runs", str(tmp_path / "runs")]
    words = [recipe.path, *where, "--data", str(tmp_path / "nowhere"), "--jobs", "1"]
    assert run_command(run_chosen, parser(), words) == 0
    assert calls == {"one.h5": 2, "two.h5": 2, "plan": 1, "lint": 1}
    assert capsys.readouterr().out.count("exact path") == 2
    calls.clear()
    assert run_command(run_chosen, parser(), ["train", *words]) == 0  # nothing is read again
    assert capsys.readouterr().out == "one: nothing to do\ntwo: nothing to do\n"
    assert calls == {"plan": 1, "lint": 1}


def test_other_rows_have_folds_of_their_own(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    y = frame[list(synthetic.TARGETS)].to_numpy()
    divisions = folds.Divisions(recipe)
    first = divisions.of(frame, y, ())
    assert divisions.of(frame.copy(), y.copy(), ()) is first
    masked = y.copy()
    masked[0] = np.nan
    other = divisions.of(frame, masked, ())
    assert len(other.plan.folds[0].train) == len(first.plan.folds[0].train) - 1
    moved = frame.assign(partition=np.roll(frame["partition"], 1))
    assert divisions.of(moved, masked, ()) is not other


@pytest.mark.parametrize("option", ["--model", "--member"])
def test_a_run_is_named_by_model_and_as_it_was(option: str) -> None:
    args = parser().parse_args(["predict", "--audio", "a.wav", option, "mfcc"])
    assert args.member == "mfcc"
