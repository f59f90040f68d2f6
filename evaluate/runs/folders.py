"""Where a run lies, and how its files are called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from features.recipe.member import Member

if TYPE_CHECKING:
    from features.recipe.model import Recipe


PREDICTIONS, INNER, SEARCH, SCORES = "predictions.csv", "inner.csv", "search.csv", "scores.json"

ALL = "all"
"""The fold of the choice made over all rows, in `search.csv` and `run.json`."""

CURVES = "curves.csv"
"""Learning curves of a network's fits."""

SUBSETS = "subsets.json"


def run_folder(runs: Path, recipe_name: str, member: Member | str) -> Path:
    """Folder of a head's run.

    Examples
    --------
    >>> run_folder(Path("runs"), "emodb", "mfcc@last").as_posix()
    'runs/emodb/mfcc'
    """
    return Path(runs) / recipe_name / _folder_name(member)


def fusion_folder(runs: Path, recipe_name: str, name: str) -> Path:
    """Folder of a combination's run; that of the choice of subsets is named `subsets`."""
    return Path(runs) / recipe_name / "fusion" / name


def new_folder(runs: Path, recipe_name: str, corpus: str, member: Member | str) -> Path:
    """Folder of what a run says of new audio (`features.new_audio`)."""
    return Path(runs) / recipe_name / "predict" / corpus / _folder_name(member)


def _folder_name(member: Member | str) -> str:
    return str(Member.parse(member) if isinstance(member, str) else member)


def gaps_path(runs: Path, recipe_name: str) -> Path:
    """File that compares the protocols of a recipe."""
    return Path(runs) / recipe_name / "protocols" / "gaps.json"


def seeds_path(runs: Path, recipe_name: str) -> Path:
    """File that sums up the repeats of a recipe with other seeds."""
    return Path(runs) / recipe_name / "protocols" / "seeds.json"


def gains_path(runs: Path, recipe_name: str) -> Path:
    """File that compares heads of a recipe speaker by speaker."""
    return Path(runs) / recipe_name / "gains.json"


def statistics_path(runs: Path, recipe_name: str) -> Path:
    """File that compares the runs of a recipe."""
    return Path(runs) / recipe_name / "statistics.json"


def spread_path(runs: Path, recipe_name: str) -> Path:
    """File that sums up the systems that subsets are chosen from."""
    return Path(runs) / recipe_name / "spread.json"


def run_folders(recipe: Recipe, runs: Path) -> Iterator[tuple[str, str, Path]]:
    """All runs that a recipe can have: (kind, member, folder), kind "model" or "fusion"."""
    for member in recipe.members():
        yield "model", str(member), run_folder(runs, recipe.name, member)
    for name in recipe.fusion:
        yield "fusion", name, fusion_folder(runs, recipe.name, name)
