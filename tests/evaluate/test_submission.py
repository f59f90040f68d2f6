"""Submissions: the challenge's form, its files and no others, and the scripts' own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.__main__ import parser
from evaluate.runs.predictions import read_predictions
from evaluate.submission import as_authors, read_predicted, submission
from features.common.command import run_command
from features.common.errors import RunError
from features.common.files import read_csv
from features.common.folders import Folders
from features.new_audio import System, system_of
from features.recipe.model import Recipe
from features.utterances import Table, write_table
from tests.evaluate import made
from tests.models import synthetic

ORDER = ("Anger", "Calmness", "Sadness")
"""Of the label file; the recipe has another."""


def table(folder: Path, frame: pd.DataFrame, targets: tuple[str, ...] = ORDER) -> None:
    rows = synthetic.rows(
        len(frame),
        "mine",
        path=[f"wav/{one}.wav" for one in frame["utterance"]],
        partition=frame["partition"],
        **{one: np.nan for one in targets},
    )
    whole = Table(rows, {}, targets, [], {"key": "mine"})
    write_table(folder / "mine", Table(rows[whole.columns], {}, targets, [], {"key": "mine"}))


@pytest.fixture
def study(tmp_path: Path) -> Recipe:
    recipe = made.recipe(tmp_path)
    frame = made.regression()
    for member in ("one", "two", "mean"):
        made.finish(recipe, tmp_path / "runs", member, frame.iloc[::-1])
    table(tmp_path, frame)
    return recipe


def write(path: Path, names: list[str], header: str = "File,anger,Calmness,Sadness") -> Path:
    path.write_text("\n".join([header, *(f"{one},?,?,?" for one in names)]) + "\n")
    return path


def submitted(study: Recipe, template: Path | None = None) -> pd.DataFrame:
    folder = Path(study.path).parent
    predicted = read_predicted(
        study, system_of(study), Folders(stores=folder, runs=folder / "runs")
    )
    return submission(predicted, template)


def test_the_form_of_the_label_file(study: Recipe, tmp_path: Path) -> None:
    found = submitted(study)
    assert list(found) == ["filename", *ORDER]
    names = [f"u{i:03}.wav" for i in range(30, 60)]
    assert found["filename"].tolist() == names
    frame = made.regression().set_index("utterance")
    for target in ORDER:
        wanted = frame.loc[[one[:-4] for one in names], f"{target}_pred"]
        assert (found[target].to_numpy() == wanted.to_numpy()).all()


def test_a_template_gives_header_names_and_order(study: Recipe, tmp_path: Path) -> None:
    names = [f"u{i:03}.wav" for i in reversed(range(30, 60))]
    names[0] = "u059"  # a name without its suffix is the same file
    found = submitted(study, write(tmp_path / "test.csv", names))
    assert list(found) == ["File", "anger", "Calmness", "Sadness"]
    assert found["File"].tolist() == names
    frame = made.regression().set_index("utterance")
    assert found["anger"][0] == frame.loc["u059", "Anger_pred"]
    assert found["anger"][29] == frame.loc["u030", "Anger_pred"]


def test_files_missing_beyond_or_twice_are_named(study: Recipe, tmp_path: Path) -> None:
    names = [f"u{i:03}.wav" for i in range(30, 60)]
    template = write(tmp_path / "test.csv", [*names[2:], "u029.wav", names[5], "u036"])
    with pytest.raises(RunError) as caught:
        submitted(study, template)
    text = str(caught.value)
    assert "1 file of the template has no prediction: u029.wav" in text
    assert "2 predicted files are not in the template: u030.wav, u031.wav" in text
    assert "names of the template are of files that it names twice: " in text
    assert "u036.wav, u036" in text.replace("u035.wav, u035.wav, ", "").replace("u035.wav, ", "")


def test_a_template_of_other_targets(study: Recipe, tmp_path: Path) -> None:
    template = write(tmp_path / "test.csv", [], "name,Anger,Calmness,Joy")
    with pytest.raises(RunError, match=r"its columns are name, Anger, Calmness, Joy; expected a"):
        submitted(study, template)


def test_the_files_that_the_scripts_write(study: Recipe, tmp_path: Path) -> None:
    predicted = read_predicted(
        study, System("model", "one", ["one"]), Folders(stores=tmp_path, runs=tmp_path / "runs")
    )
    found = as_authors(predicted, "devel")
    assert list(found) == [
        "filename", *(f"{one}_true" for one in ORDER), *(f"{one}_pred" for one in ORDER),
    ]  # fmt: skip
    assert found["filename"].tolist() == [f"u{i:03}.wav" for i in range(30)]
    frame = made.regression()[:30]
    assert (found["Sadness_true"].to_numpy() == frame["Sadness_true"].to_numpy()).all()
    assert np.isnan(found["Calmness_true"][0])


def test_the_command_writes_all(
    study: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = [
        "submission", study.path, "--stores", str(tmp_path), "--runs", str(tmp_path / "runs"),
        "--member", "two", "--to", str(out / "test.csv"), "--predictions", str(out),
    ]  # fmt: skip
    assert run_command(lambda args: args.main(args), parser(), argv) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"{out / 'test.csv'}: 30 files, 3 targets, not compared with a template"
    assert others == [str(out / f"predictions.{one}.csv") for one in ("devel", "test")]
    frame = read_predictions(tmp_path / "runs/study/two/predictions.csv").set_index("utterance")
    written = read_csv(out / "test.csv")
    assert float(written["Anger"][3]) == frame.loc["u033", "Anger_pred"]
    assert read_csv(out / "predictions.devel.csv")["Calmness_true"][0] == ""


def test_what_cannot_be_submitted(study: Recipe, tmp_path: Path) -> None:
    table(tmp_path, made.regression(), (*ORDER, "Tiredness"))
    with pytest.raises(RunError, match="has all targets of mine; the recipe lacks Tiredness"):
        submitted(study)
    table(tmp_path, made.regression()[:40])
    with pytest.raises(RunError, match="20 utterances are not in the table of mine"):
        submitted(study)
    frame = made.regression()
    for member in ("one", "two", "mean"):
        made.finish(study, tmp_path / "runs", member, frame.assign(partition="devel"))
    with pytest.raises(RunError, match="no row in the partition 'test'; nothing to submit"):
        submitted(study)
    twice = pd.concat([frame.assign(fold="a"), frame.assign(fold="b")])
    for member in ("one", "two", "mean"):
        made.finish(study, tmp_path / "runs", member, twice)
    with pytest.raises(RunError, match="rows of several folds for one utterance in the partition"):
        submitted(study)
    made.finish(study, tmp_path / "runs", "one", frame)
    with pytest.raises(RunError, match="the run of mean was made with other settings than"):
        submitted(study)
    classes = made.recipe(tmp_path, "classification")
    made.finish(classes, tmp_path / "runs", "one", made.classification())
    with pytest.raises(RunError, match="a submission has numbers of one corpus; this recipe pred"):
        read_predicted(
            classes,
            System("model", "one", ["one"]),
            Folders(stores=tmp_path, runs=tmp_path / "runs"),
        )


def test_a_head_of_several_is_submitted_by_its_name(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, more='[heads.svr]\n[heads.ridge]\nkind = "ridge"')
    frame = made.regression(seed=4)
    made.finish(recipe, tmp_path / "runs", "one@ridge", frame)
    table(tmp_path, frame)
    system = system_of(recipe, member="one@ridge")
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    found = submission(read_predicted(recipe, system, folders))
    wanted = frame[frame["partition"] == "test"]["Anger_pred"]
    assert found["Anger"].tolist() == wanted.tolist()
    with pytest.raises(RunError, match=r"one@svr: no finished run of one@svr; run make train"):
        read_predicted(recipe, system_of(recipe, member="one@svr"), folders)
