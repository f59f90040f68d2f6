"""Test predictions as the ComParE challenge takes them, and predictions as its scripts write them.

Conventions
-----------
- A submission is a CSV of the form of `lab/test.csv`: the file name, then the targets in the order
  of the label file. With a template its header, names and order of rows are taken, and it must name
  the very files that are predicted; without one, names are those of the audio files, sorted.
- The challenge's scripts (and those of the paper) write `predictions.devel.csv` and
  `predictions.test.csv`: `filename`, `<target>_true` of all targets, `<target>_pred` of all
  targets, sorted by file name; a masked truth is empty.
- Numbers are written in full precision.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from evaluate.runs.folders import PREDICTIONS, fusion_folder, run_folder
from evaluate.runs.freshness import finished_run
from evaluate.runs.predictions import read_predictions
from features.common.errors import RunError
from features.common.files import write_text
from features.common.findings import finding
from features.common.folders import Folders
from features.common.words import counted
from features.corpora.base import match_audio, read_rows
from features.new_audio import System
from features.recipe.model import Recipe
from features.utterances import read_table

TEST = "test"
FILE_NAME = "filename"
AUTHORS = "predictions.{}.csv"


@dataclass(frozen=True)
class Predicted:
    """What a run predicts of one corpus.

    Attributes
    ----------
    predictions : DataFrame
        As `predictions.csv`, with `path` and, below the folder that all audio shares, `filename`.
    targets : tuple of str
        In the order of the label file.
    """

    predictions: pd.DataFrame
    targets: tuple[str, ...]

    def part(self, partition: str) -> pd.DataFrame:
        """The rows of a partition, sorted by file name."""
        rows = self.predictions[self.predictions["partition"] == partition]
        return rows.sort_values(FILE_NAME, kind="stable", ignore_index=True)


def read_predicted(recipe: Recipe, system: System, folders: Folders) -> Predicted:
    """Read a finished run for a submission.

    Parameters
    ----------
    system : System
        The combination, or the run of a model.
    folders : Folders

    Returns
    -------
    Predicted
        The run's rows with the names of their files, and the targets of the table in its order.

    Raises
    ------
    RunError
        The run is missing or stale, is of classes, of several corpora or of some targets only, has
        no test rows, or predicts rows that the table does not have.
    """
    finished_run(recipe, system.kind, system.name, folders.runs)
    at = run_folder if system.kind == "model" else fusion_folder
    path = at(folders.runs, recipe.name, system.name) / PREDICTIONS
    rows = read_predictions(path)
    if recipe.target is not None or len(recipe.corpora) > 1:
        raise RunError(
            f"{recipe.path}: a submission has numbers of one corpus; this recipe predicts "
            f"{recipe.target or 'numbers'} of {', '.join(recipe.corpora)}"
        )
    (corpus,) = recipe.corpora
    table = read_table(folders.need_stores() / corpus)
    lacking = [target for target in table.targets if target not in recipe.targets]
    if lacking:
        raise RunError(
            f"{recipe.path}: a submission has all targets of {corpus}; the recipe lacks "
            f"{', '.join(lacking)}"
        )
    tested = rows.loc[rows["partition"] == TEST, "utterance"]
    if tested.empty or tested.duplicated().any():
        what = "no row" if tested.empty else "rows of several folds for one utterance"
        raise RunError(f"{path}: {what} in the partition '{TEST}'; nothing to submit")
    paths = table.rows.set_index("utterance")["path"]
    unknown = rows.loc[~rows["utterance"].isin(paths.index), "utterance"]
    if len(unknown):
        raise RunError(
            f"{path}: {counted(len(unknown), 'utterance is', 'utterances are')} not in the "
            f"table of {corpus} (first {unknown.iloc[0]}); train anew"
        )
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    own = rows["utterance"].map(paths)
    names = [PurePosixPath(path).relative_to(shared).as_posix() for path in own]
    return Predicted(rows.assign(path=own, **{FILE_NAME: names}), table.targets)


def submission(predicted: Predicted, template: Path | None = None) -> pd.DataFrame:
    """The test predictions in the challenge's form.

    Parameters
    ----------
    template : Path, optional
        A CSV whose first column names the files, with a column a target: `lab/test.csv`.

    Returns
    -------
    DataFrame
        The file name, then the targets.

    Raises
    ------
    CorpusError
        The template cannot be read.
    RunError
        It has other targets, names a file twice, or names other files than are predicted.
    """
    rows = predicted.part(TEST)
    header, names = [FILE_NAME, *predicted.targets], rows[FILE_NAME].tolist()
    order = list(range(len(rows)))
    if template is not None:
        header, given = read_rows(template)
        names = [row[0] for row in given]
        order = _places(template, header, names, rows, predicted.targets)
    folded = {target.lower(): target for target in predicted.targets}
    values = rows.iloc[order]
    columns = {column: values[f"{folded[column.lower()]}_pred"].to_numpy() for column in header[1:]}
    return pd.DataFrame({header[0]: names, **columns})


def _places(
    template: Path,
    header: Sequence[str],
    names: Sequence[str],
    rows: pd.DataFrame,
    targets: Sequence[str],
) -> list[int]:
    """The row of each name of a template; every name has one, and every row is named."""
    if sorted(column.lower() for column in header[1:]) != sorted(
        target.lower() for target in targets
    ):
        raise RunError(
            f"{template}: its columns are {', '.join(header)}; expected a file name and "
            f"{', '.join(targets)}"
        )
    files = rows[FILE_NAME].tolist()
    found, spare = match_audio(names, files)
    place = {path: i for i, path in enumerate(files)}
    pairs = list(zip(names, found, strict=True))
    lost = [name for name, path in pairs if path is None]
    counts = Counter(found)
    again = [name for name, path in pairs if path is not None and counts[path] > 1]
    faults = [
        *finding("", again, "names of the template are of files that it names twice"),
        *finding(
            "",
            lost,
            "files of the template have no prediction",
            "file of the template has no prediction",
        ),
        *finding(
            "",
            spare,
            "predicted files are not in the template",
            "predicted file is not in the template",
        ),
    ]
    if faults:
        lines = [fault.text for fault in faults]
        raise RunError(
            f"{template}: not the test files of this run: {'; '.join(lines)}; give the test label "
            "file of the same package, and extract and train on all of it"
        )
    return [place[path] for path in found if path is not None]


def as_authors(predicted: Predicted, partition: str) -> pd.DataFrame:
    """The predictions of a partition as the challenge's scripts write them.

    Returns
    -------
    DataFrame
        `filename`, the truths, the predictions.
    """
    columns = [f"{target}_{side}" for side in ("true", "pred") for target in predicted.targets]
    return predicted.part(partition)[[FILE_NAME, *columns]]


def write_authors(predicted: Predicted, folder: Path) -> list[Path]:
    """Write `predictions.devel.csv` and `predictions.test.csv`, those that there are rows of.

    Parameters
    ----------
    predicted : Predicted
    folder : Path
        It is made where it is missing.

    Returns
    -------
    list of Path
        The files.
    """
    written = []
    for partition in ("devel", TEST):
        rows = as_authors(predicted, partition)
        if len(rows):
            written.append(folder / AUTHORS.format(partition))
            write_csv(written[-1], rows)
    return written


def write_csv(path: Path, rows: pd.DataFrame) -> None:
    """Write rows as they are, whole or not at all."""
    write_text(path, rows.to_csv(index=False, lineterminator="\n"), RunError)
