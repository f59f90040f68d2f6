"""Who names a store: the recipes of a folder, and the runs that were made from it.

Conventions
-----------
- Recipes are the `*.toml` files (in any case) in the folders of the given recipes, in `recipes/` of
  the working directory and in `recipes/` beside STORES, and in folders below these but hidden ones,
  STORES and the runs. A TOML file that has neither `corpora` nor `models` is no recipe.
- A run is a `run.json` below the folder of the runs, or below `runs/` beside STORES.
- Links to folders are followed, each real folder is looked through once. Runs and recipes lie at
  most `DEPTH` folders deep; a folder of more than `MOST_FOLDERS` is not looked through.
- What cannot be read or listed, is no file, or is not there might name anything, and is said.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.common.errors import RecipeError
from features.common.files import IrregularFileError, parse_json, read_bytes, read_text
from features.common.findings import some
from features.common.folders import Folders
from features.common.walk import Identity, identity_of
from features.recipe.extract import model_parts
from features.recipe.known.personalisation import SPEAKERS_OF
from features.recipe.load import load_recipe
from features.recipe.member import Member
from features.recipe.model import Recipe

FOLDER = Path("recipes")
"""Of the working directory, and beside STORES."""
RUNS = Path("runs")
"""Beside STORES."""
DEPTH = 8
"""A run of a combination by a protocol, the deepest, lies 5 folders deep."""
MOST_FOLDERS = 50_000
"""Most real folders that are looked through below one: a link may lead to a whole disk."""


@dataclass
class Keepers:
    """What names which store.

    Attributes
    ----------
    named : dict
        (corpus, model) -> a clause a recipe or run.
    unread : list of str
        Recipes and runs that might name any store, with what is wrong.
    searched : str
        The folders that were looked through, as a clause.
    """

    named: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    searched: str = ""

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


def find_keepers(given: Sequence[Recipe], folders: Folders) -> Keepers:
    """Look through the recipes beside the given ones, and through finished runs.

    Parameters
    ----------
    given : sequence of Recipe
    folders : Folders
        That runs are not there is said: nobody knows which there are. Beside stores that are named
        `recipes/` and `runs/` are looked through, too, where they are there.

    Returns
    -------
    Keepers
    """
    keepers = Keepers()
    stores, runs = folders.stores, folders.runs
    beside = [] if stores is None else _beside(stores)
    if not os.path.isdir(runs):
        keepers.unread.append(
            f"{runs}: {'is no folder' if os.path.lexists(runs) else 'not there'}: no finished run "
            "was looked for; name the folder with --runs"
        )
    more_runs = [folder / RUNS for folder in beside]
    of_runs = _different([runs, *more_runs])
    more_recipes = [FOLDER, *(folder / FOLDER for folder in beside)]
    of_recipes = _different([*(Path(recipe.path).parent for recipe in given), *more_recipes])
    lost = [str(path) for path in dict.fromkeys([*more_runs, *more_recipes]) if path != runs]
    keepers.unread += _dangling([path for path in lost if _leads_nowhere(path)])
    passed = {*of_runs, *([] if stores is None else _different([stores]))} - set(of_recipes)
    for path in _recipes(given, list(of_recipes.values()), passed, keepers.unread):
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
    for path in _run_files(list(of_runs.values()), keepers.unread):
        try:
            for corpus, model in _stores_of(path):
                keepers.add(corpus, model, f"the run {path.parent} was made from it")
        except IrregularFileError as error:
            keepers.unread.append(str(error))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            keepers.unread.append(f"{path}: no run's record ({error!r})")
    keepers.searched = (
        f"recipes in {', '.join(map(str, of_recipes.values())) or 'no folder'}, "
        f"runs in {', '.join(map(str, of_runs.values())) or 'no folder'}, {DEPTH} folders deep"
    )
    return keepers


def _beside(stores: Path) -> list[Path]:
    """The folders that STORES lies in: by its name and, where it is a link, by its end."""
    return [Path(os.path.normpath(stores / os.pardir)), Path(os.path.realpath(stores)).parent]


def _different(folders: Iterable[Path]) -> dict[Identity, Path]:
    """The folders that are there, each real one once, under its first name."""
    found: dict[Identity, Path] = {}
    for folder in folders:
        if os.path.isdir(folder):
            found.setdefault(identity_of(folder), folder)
    return found


def _below(
    folders: Sequence[Path], seen: set[Identity], faults: list[str], *, thorough: bool
) -> Iterator[os.DirEntry[str]]:
    """What is in folders and below them, by names.

    Parameters
    ----------
    folders : sequence of Path
    seen : set of Identity
        Folders that are passed over; what is listed is added.
    faults : list of str
        What cannot be listed is added.
    thorough : bool
        Look through hidden folders, too, and say which lie too deep: among recipes there may be
        whole programs.
    """
    for top in folders:
        level, n_folders = [str(top)], 0
        for _ in range(DEPTH + 1):
            waiting: list[str] = []
            for place in level:
                try:
                    identity = identity_of(place)
                    if identity in seen:
                        continue
                    seen.add(identity)
                    n_folders += 1
                    with os.scandir(place) as listing:
                        entries = sorted(listing, key=lambda entry: entry.name)
                except OSError as error:
                    faults.append(f"{place}: cannot be listed: {error.strerror}")
                    continue
                if n_folders > MOST_FOLDERS:
                    faults.append(
                        f"{top}: more than {MOST_FOLDERS:,} folders (now at {place}), not looked "
                        "through to the end: keep recipes and runs in folders of their own"
                    )
                    return
                for entry in entries:
                    if not _is_folder(entry):
                        yield entry
                    elif thorough or not entry.name.startswith("."):
                        yield entry
                        waiting.append(entry.path)
            level = waiting
        deeper = [folder for folder in level if identity_of(folder) not in seen] if thorough else []
        if deeper:
            faults.append(f"{some(deeper, 1)}: deeper than any run lies, not looked through")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered
        return False


def _recipes(
    given: Sequence[Recipe], folders: Sequence[Path], passed: set[Identity], faults: list[str]
) -> list[Path]:
    """The recipes in and below folders, without the given ones."""
    known = {Path(recipe.path).resolve() for recipe in given}
    found, dangling = [], []
    for entry in _below(folders, passed, faults, thorough=False):
        path = Path(entry.path)
        if path.suffix.lower() != ".toml":
            if not path.suffix and _leads_nowhere(path):
                dangling.append(entry.path)  # it may have been a folder of recipes
            continue
        if _is_folder(entry):
            faults.append(f"{path}: is a folder named as a recipe: rename it")
            continue
        real = Path(os.path.realpath(path))
        if real not in known:
            known.add(real)
            found.append(path)
    faults += _dangling(dangling)
    return found


def _run_files(folders: Sequence[Path], faults: list[str]) -> Iterator[Path]:
    dangling = []
    for entry in _below(folders, set(), faults, thorough=True):
        if entry.name == "run.json":
            if _is_folder(entry):
                faults.append(f"{entry.path}: is a folder: remove it or put the file there")
            else:
                yield Path(entry.path)
        elif _leads_nowhere(entry.path):
            dangling.append(entry.path)  # it may have been a folder of runs
    faults += _dangling(dangling)


def _leads_nowhere(path: str | Path) -> bool:
    """Whether it is a link whose end is not there, or cannot be reached."""
    return os.path.islink(path) and not os.path.exists(path)


def _dangling(paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    lead = "lead" if len(paths) > 1 else "leads"
    return [f"{some(paths, 3)}: {lead} to nothing that is there; mount it, or remove the link"]


def _stores_of(path: Path) -> Iterator[tuple[str, str]]:
    """(corpus, model) of the stores that a run was made from; none of a fusion."""
    record = parse_json(read_text(path))
    if "model" in record:
        for corpus, made_of in record["inputs"]["corpora"].items():
            for model in model_parts(record["model"]):
                yield corpus, model
            if "speakers" in made_of:  # the means that a head takes of them
                yield corpus, SPEAKERS_OF
    elif record.get("stage") == "predict":
        corpus, member = path.parts[-3:-1]
        for model in model_parts(Member.parse(member).model):
            yield corpus, model
