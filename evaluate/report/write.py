"""Finished runs of a recipe -> a folder of pages that open from disk.

It reads `run.json`, `scores.json`, the predictions and the tables beside the stores, rounds, and
computes no score. The folder is `runs/<recipe>/report/`: `index.html` and the pages it leads to,
`figures/` (SVG, PDF) and `tables/` (CSV, LaTeX). The report on two recipes' runs is such a folder,
too: `report/against-<other>/` below the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evaluate.report import comparison_page
from evaluate.report.book import slug
from evaluate.report.examples import find_audio
from evaluate.report.pages import Study, render
from evaluate.report.paper import read_paper, read_results
from evaluate.scores.pairs import read_statistics
from evaluate.scores.protocols import read_protocols
from evaluate.scores.score import read_all
from evaluate.scores.seeds import read_seeds
from evaluate.scores.speaker_gains import MAIN, read_gains
from evaluate.scores.sweeps import read_sweeps
from features.common.errors import RunError
from features.common.files import write_bytes
from features.common.folders import Folders
from features.common.kept import Kept
from features.recipe.arguments import corpus_root

if TYPE_CHECKING:
    from evaluate.scores.side_by_side import Comparison
    from features.recipe.model import Recipe

FIRST = "index.html"
"""Written last: what it leads to is there."""
WRITTEN = ("*.html", "figures/*.svg", "figures/*.pdf", "tables/*.csv", "tables/*.tex")
"""What a report's folder holds under names that follow the runs."""


def read_study(recipe: Recipe, folders: Folders) -> Study:
    """Read what a report shows, each file once, computing nothing.

    Parameters
    ----------
    recipe : Recipe
    folders : Folders
        Where runs, tables and recordings are; where the latter two are not there the report says
        what it lacks.

    Returns
    -------
    Study

    Raises
    ------
    RunError
        Where no run is finished, or a run's scores are missing or outdated.
    """
    kept = Kept()
    with kept.held():
        return _read_study(recipe, folders, kept)


def _read_study(recipe: Recipe, folders: Folders, kept: Kept) -> Study:
    runs_folder = folders.runs
    scored = read_all(recipe, folders)
    results = read_results(recipe, scored, folders)
    roots = {name: corpus_root(recipe, name, folders.data) for name in recipe.corpora}
    protocols = read_protocols(recipe, runs_folder)
    return Study(
        recipe,
        scored,
        protocols,
        read_sweeps(recipe, runs_folder),
        read_statistics(recipe, scored, runs_folder),
        results.subsets,
        read_seeds(recipe, runs_folder),
        results.tables,
        find_audio(roots, results.tables, report_folder(recipe, runs_folder)),
        read_paper(results, folders),
        read_gains(recipe, {MAIN: scored, **protocols.scored}, runs_folder),
        kept,
    )


def report_folder(recipe: Recipe, runs_folder: Path) -> Path:
    """Where the report on a recipe's runs lies."""
    return runs_folder / recipe.name / "report"


def make_report(recipe: Recipe, folders: Folders) -> tuple[Path, Study]:
    """Read what a recipe's report shows, and write it as `runs/<recipe>/report/`.

    Runs that are not finished are named on the first page. Pages, figures and tables of an earlier
    report that this one lacks are removed.

    Returns
    -------
    page : Path
        The first page.
    study : Study
        What it was made of.

    Raises
    ------
    RunError
        As `read_study`; or a file cannot be written, or a run's predictions cannot be read.
    """
    study = read_study(recipe, folders)
    folder = report_folder(recipe, folders.runs)
    with study.kept.held():
        files = render(study)
    _write(folder, files)
    return folder / FIRST, study


def make_comparison(found: Comparison) -> Path:
    """Write `report/against-<B's name>/` into the folder A of a comparison.

    Returns
    -------
    Path
        Its page.
    """
    folder = found.a / "report" / f"against-{slug(found.b.resolve().name)}"
    _write(folder, comparison_page.render(found))
    return folder / FIRST


def _write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write the files of a report and remove those of an earlier one that it lacks."""
    for name in sorted(files, key=lambda file: (file == FIRST, file)):
        content = files[name]
        whole = content.encode("utf-8") if isinstance(content, str) else content
        write_bytes(folder / name, whole, RunError)
    for pattern in WRITTEN:
        for path in folder.glob(pattern):
            if str(path.relative_to(folder)) not in files:
                path.unlink()
