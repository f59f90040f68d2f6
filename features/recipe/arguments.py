"""What every command is told: a recipe, and where its corpora lie."""

from __future__ import annotations

import argparse
from pathlib import Path

from features.common.folders import Folders
from features.common.walk import existing
from features.recipe.load import load_recipe
from features.recipe.model import Recipe


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Load the recipe that the arguments name, restricted as they say."""
    return load_recipe(
        args.recipe,
        models=getattr(args, "model", None),
        heads=getattr(args, "head", None),
        corpora=getattr(args, "corpus", None),
        settings=getattr(args, "settings", None),
    )


def folders_of(args: argparse.Namespace) -> Folders:
    """The folders that the arguments name; one that a command does not ask for is as by default."""
    given = vars(args)
    return Folders(**{name: given[name] for name in ("stores", "runs", "data") if name in given})


def corpus_root(recipe: Recipe, name: str, data: Path) -> Path:
    """Where a corpus of the recipe lies: its own `root`, else `DATA/<name>`."""
    root = recipe.corpora[name].root
    return existing(Path(root).expanduser() if root else data / name)
