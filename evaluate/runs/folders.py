"""Where a run lies, and how its files are called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.recipe.model import Recipe


PREDICTIONS, INNER, SEARCH, SCORES = "predictions.csv", "inner.csv", "search.csv", "scores.json"

ALL = "all"
"""The fold of the choice made over all rows, in `search.csv` and `run.json`."""

SUBSETS = "subsets.json"


def layer_tag(model: str, layer: int | str) -> str:
    """Name the folder of a model at a layer: the default layer, `last`, goes unsaid.

    Examples
    --------
    >>> layer_tag("xlsr-1b", "last"), layer_tag("xlsr-1b", 12)
    ('xlsr-1b', 'xlsr-1b@12')
    """
    return model if layer == "last" else f"{model}@{layer}"


def split_member(member: str) -> tuple[str, int | str]:
    """Read a member as (model, layer), the inverse of `layer_tag`.

    Examples
    --------
    >>> split_member("xlsr-1b@12"), split_member("mfcc")
    (('xlsr-1b', 12), ('mfcc', 'last'))
    """
    model, _, layer = member.partition("@")
    return model, int(layer) if layer.isdigit() else layer or "last"


def run_folder(runs: Path, recipe_name: str, member: str) -> Path:
    """Folder of a head's run."""
    return Path(runs) / recipe_name / layer_tag(*split_member(member))


def fusion_folder(runs: Path, recipe_name: str, name: str) -> Path:
    """Folder of a combination's run; that of the choice of subsets is named `subsets`."""
    return Path(runs) / recipe_name / "fusion" / name


def new_folder(runs: Path, recipe_name: str, corpus: str, member: str) -> Path:
    """Folder of what a run says of new audio (`features.new_audio`)."""
    return Path(runs) / recipe_name / "predict" / corpus / layer_tag(*split_member(member))


def gaps_path(runs: Path, recipe_name: str) -> Path:
    """File that compares the protocols of a recipe."""
    return Path(runs) / recipe_name / "protocols" / "gaps.json"


def seeds_path(runs: Path, recipe_name: str) -> Path:
    """File that sums up the repeats of a recipe with other seeds."""
    return Path(runs) / recipe_name / "protocols" / "seeds.json"


def statistics_path(runs: Path, recipe_name: str) -> Path:
    """File that compares the runs of a recipe."""
    return Path(runs) / recipe_name / "statistics.json"


def spread_path(runs: Path, recipe_name: str) -> Path:
    """File that sums up the systems that subsets are chosen from."""
    return Path(runs) / recipe_name / "spread.json"


def run_folders(recipe: Recipe, runs: Path) -> Iterator[tuple[str, str, Path]]:
    """All runs that a recipe can have: (kind, member, folder), kind "model" or "fusion"."""
    for model in recipe.models:
        for layer in recipe.head.layers:
            member = layer_tag(model, layer)
            yield "model", member, run_folder(runs, recipe.name, member)
    for name in recipe.fusion:
        yield "fusion", name, fusion_folder(runs, recipe.name, name)
