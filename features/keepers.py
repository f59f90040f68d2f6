"""Who names a store: the recipes of a folder, and the runs that were made from it.

Conventions
-----------
- Recipes are the `*.toml` files beside the recipes that are given, and those in `recipes/` of the
  working directory. A TOML file that has neither `corpora` nor `models` is no recipe.
- A run is a `run.json` below the folder of the runs; links to folders are not followed.
- What cannot be read might name anything, and is said.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.errors import RecipeError
from features.files import parse_json, read_bytes, read_text
from features.recipe import Recipe, load_recipe, model_parts

FOLDER = Path("recipes")
"""Of the working directory."""


@dataclass
class Keepers:
    """What names which store.

    Attributes
    ----------
    named : dict
        (corpus, model) -> a clause a recipe or run.
    unread : list of str
        Recipes and runs that might name any store, with what is wrong.
    """

    named: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, corpus: str, model: str, text: str) -> None:
        """Note that something needs a store."""
        found = self.named.setdefault((corpus, model), [])
        if text not in found:
            found.append(text)

    def why(self, corpus: str, model: str) -> str:
        """Who keeps a store, as a clause; empty where nobody does."""
        found = self.named.get((corpus, model), [])
        more = f" (and {len(found) - 1} more name it)" if len(found) > 1 else ""
        return f"{found[0]}{more}" if found else ""


def find_keepers(given: Sequence[Recipe], runs: Path) -> Keepers:
    """Look through the recipes beside the given ones, and through finished runs."""
    keepers = Keepers()
    for path in _recipes(given):
        try:
            text = read_bytes(path)
            raw = tomllib.loads(text.decode("utf-8-sig"))
            if not {"corpora", "models"} & raw.keys():
                continue  # pyproject.toml and its like
        except (OSError, ValueError, RecursionError):
            pass  # the recipe's own reader says what is wrong
        try:
            recipe = load_recipe(path)
        except RecipeError as error:
            keepers.unread.append(str(error))
            continue
        for corpus in recipe.corpora:
            for model in recipe.single_models:
                keepers.add(corpus, model, f"{path} names it")
    for path in _run_files(runs):
        try:
            for corpus, model in _stores_of(path):
                keepers.add(corpus, model, f"the run {path.parent} was made from it")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            keepers.unread.append(f"{path}: no run's record ({error!r})")
    return keepers


def _recipes(given: Sequence[Recipe]) -> list[Path]:
    """The recipes beside the given ones, without these."""
    folders = dict.fromkeys([*(Path(one.path).parent for one in given), FOLDER])
    known = {Path(one.path).resolve() for one in given}
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            if path.resolve() not in known and (path.is_file() or path.is_symlink()):
                known.add(path.resolve())
                found.append(path)
    return found


def _run_files(runs: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(runs):
        names.sort()
        path = Path(folder) / "run.json"
        if path.name in files and path.is_file():
            yield path


def _stores_of(path: Path) -> Iterator[tuple[str, str]]:
    """(corpus, model) of the stores that a run was made from; none of a fusion."""
    record = parse_json(read_text(path))
    if "model" in record:
        for corpus in record["inputs"]["corpora"]:
            for model in model_parts(record["model"]):
                yield corpus, model
    elif record.get("stage") == "predict":
        corpus, member = path.parts[-3:-1]
        for model in model_parts(member.partition("@")[0]):
            yield corpus, model
