"""The protocols beside the main one, and how they compare with it -> `gaps.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evaluate.runs.files import file_hash, read_run
from evaluate.runs.folders import PREDICTIONS, gaps_path, run_folder, run_folders
from evaluate.runs.predictions import read_predictions
from evaluate.scores.gaps import no_gap, paired_gap
from evaluate.scores.records import (
    Gap,
    ProtocolGaps,
)
from evaluate.scores.score import SCORES_NUMERICS, Scored, read_all, score_all
from evaluate.scores.stored import FileKind
from evaluate.scores.version_0 import same
from features.common.folders import Folders

if TYPE_CHECKING:
    from features.recipe.model import Recipe
    from features.recipe.split import SplitSpec

GAPS_FILE = FileKind("gaps", ProtocolGaps, same)
K = TypeVar("K")


@dataclass(frozen=True)
class Protocols:
    """The runs of a recipe by its protocols, and how these compare.

    Attributes
    ----------
    scored : dict
        Protocol of `[split] also` -> its finished runs; empty where none is finished.
    gaps : dict
        Protocol -> member -> what `paired_gap` gives for the protocol minus the main one, on the
        rows that both hold out in `test`.
    """

    scored: dict[str, list[Scored]]
    gaps: dict[str, dict[str, Gap]]


def score_protocols(recipe: Recipe, folders: Folders, *, force: bool = False) -> Protocols:
    """Score the runs of `[split] also`, and compare them with those of the main protocol.

    Parameters
    ----------
    recipe : Recipe
    folders : Folders
    force : bool
        Score and compare anew in any case.

    Returns
    -------
    Protocols
        Empty where no run of another protocol is finished.
    """
    scored = by_protocol(
        recipe.beside(),
        folders.runs,
        lambda protocol: score_all(protocol, folders, force=force),
    )
    if not scored:
        return Protocols({}, {})
    found = GAPS_FILE.made(
        gaps_path(folders.runs, recipe.name),
        _gap_inputs(recipe, folders.runs),
        lambda: ProtocolGaps(
            {
                name: {
                    run.member: _gap_to_main(run, recipe, recipe.also[name], folders.runs)
                    for run in runs
                    if read_run(run_folder(folders.runs, recipe.name, run.member)) is not None
                }
                for name, runs in scored.items()
            }
        ),
        force=force,
    )
    return Protocols(scored, found.gaps)


def _gap_to_main(run: Scored, recipe: Recipe, split: SplitSpec, runs_folder: Path) -> Gap:
    """The difference of a run of another protocol to that of the main one."""
    if "speaker-sentence-grid" in (recipe.split.outer, split.outer):
        return no_gap("fitted on fewer rows: compare within its grid")
    main = run_folder(runs_folder, recipe.name, run.member)
    pair = [read_predictions(at / PREDICTIONS) for at in (run.folder, main)]
    first, second = (rows[rows["partition"] == "test"] for rows in pair)
    return paired_gap(first, second, recipe)


def read_protocols(recipe: Recipe, runs_folder: Path) -> Protocols:
    """As `score_protocols`, but computing nothing: what is missing or outdated is a RunError.

    Parameters
    ----------
    recipe : Recipe
    runs_folder : Path

    Returns
    -------
    Protocols
    """
    scored = by_protocol(
        recipe.beside(), runs_folder, lambda protocol: read_all(protocol, Folders(runs=runs_folder))
    )
    if not scored:
        return Protocols({}, {})
    path = gaps_path(runs_folder, recipe.name)
    return Protocols(scored, GAPS_FILE.current(path, _gap_inputs(recipe, runs_folder), recipe).gaps)


def by_protocol(
    protocols: Mapping[K, Recipe], runs_folder: Path, scored: Callable[[Recipe], list[Scored]]
) -> dict[K, list[Scored]]:
    """The finished runs of each protocol that has any, as `scored` gives them.

    Parameters
    ----------
    protocols : mapping
        Name -> its recipe.
    runs_folder : Path
    scored : callable
        Recipe -> its scored runs; called where one is finished.

    Returns
    -------
    dict
        Name -> its scored runs.
    """
    found = {}
    for name, protocol in protocols.items():
        folders = run_folders(protocol, runs_folder)
        if any(read_run(folder) is not None for _, _, folder in folders):
            found[name] = scored(protocol)
    return found


def _gap_inputs(recipe: Recipe, runs_folder: Path) -> dict[str, Any]:
    """What the comparison of protocols depends on."""
    predictions: dict[str, str | None] = {}
    for protocol in (recipe, *recipe.beside().values()):
        for kind, member, folder in run_folders(protocol, runs_folder):
            path = folder / PREDICTIONS
            if kind == "model" and read_run(folder) is not None:
                predictions[f"{protocol.name}/{member}"] = file_hash(path)
    return {
        "numerics": SCORES_NUMERICS,
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "predictions": predictions,
    }
