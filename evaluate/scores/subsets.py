"""The choice of subsets, as `subsets.json` has it: read and laid out, nothing computed.

Conventions
-----------
- A score that was chosen on the rows it is taken on is marked as optimistic, and stands beside the
  honest one, each with its own members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluate.runs import folders
from evaluate.runs.files import fingerprint, read_run
from evaluate.runs.folders import fusion_folder
from evaluate.runs.freshness import subsets_settings
from evaluate.scores import version_0
from evaluate.scores.marks import subset_marks
from evaluate.scores.records import HonestChoice, Subsets
from evaluate.scores.stored import FileKind
from features.recipe.fusion import SUBSETS
from features.recipe.model import Recipe

FILE = FileKind("subsets", Subsets, version_0.subsets, subset_marks, again="make fuse")
ANY = "any"


@dataclass(frozen=True)
class FoundSubsets:
    """A finished search, and whether it was made with another recipe than today's."""

    record: Subsets
    stale: bool


def read_subsets(recipe: Recipe, runs_folder: Path) -> FoundSubsets | None:
    """Read `subsets.json`; None where no search is finished.

    Parameters
    ----------
    recipe : Recipe
    runs_folder : Path

    Returns
    -------
    FoundSubsets or None

    Raises
    ------
    RunError
        Where the file is damaged.
    """
    if recipe.subsets is None:
        return None
    folder = fusion_folder(runs_folder, recipe.name, SUBSETS)
    run, found = read_run(folder), FILE.at(folder / folders.SUBSETS)
    if run is None or found is None:
        return None
    now = fingerprint(subsets_settings(recipe, runs_folder))
    return FoundSubsets(found.record, run["fingerprint"] != now)


def by_corpus(found: Subsets) -> list[Subsets]:
    """The choices on all rows, then those on the rows of each corpus that was searched alone."""
    alone = [
        replace(found, **vars(part), partition=f"{found.partition}, {corpus} alone", alone={})
        for corpus, part in found.alone.items()
    ]
    return [found, *alone]


def honest_members(honest: HonestChoice) -> tuple[Sequence[str], str]:
    """Members that were chosen without the scored rows, and in how many folds, if in several.

    Where every fold has a choice of its own, it is the most frequent one, of equals the first.

    Examples
    --------
    >>> from evaluate.scores.records import ChosenSubset
    >>> def chosen(**folds):
    ...     every = {f: ChosenSubset(0.5, members=of, n_best=1) for f, of in folds.items()}
    ...     return honest_members(HonestChoice(0.5, choices=every))
    >>> chosen(only=("a", "b"))
    (('a', 'b'), '')
    >>> chosen(first=("a",), second=("a", "b"), third=("a", "b"))
    (('a', 'b'), '2 of 3 folds')
    """
    folds = honest.choices
    ((members, n),) = Counter(choice.members for choice in folds.values()).most_common(1)
    return members, f"{n} of {len(folds)} folds" if len(folds) > 1 else ""
