"""`python -m models RECIPE`: fit the heads of a recipe from the stores alone."""

from __future__ import annotations

import argparse
import sys

from features.command import argument_parser, recipe_of, run_command
from features.lint import lint_recipe
from models.train import check_labels, check_stores, train_model


def main(args: argparse.Namespace) -> None:
    """Train every model at every layer of the recipe, by each of its protocols; one line each."""
    recipe = recipe_of(args)
    for note in check_labels(recipe, args.stores, args.data):
        print(note)
    protocols = recipe.protocols()
    for one in protocols:
        lint_recipe(one, args.stores).refuse(recipe.path)
    work = [(model, layer) for model in recipe.models for layer in recipe.head.layers]
    check_stores(recipe, work, args.stores)
    for one in protocols:
        if one is not recipe:
            print(f"protocol {one.name}:")
        for model, layer in work:
            train_model(
                one,
                model,
                layer,
                stores=args.stores,
                runs=args.runs,
                jobs=args.jobs,
                force=args.force,
                allow_failures=args.allow_failures,
            )


if __name__ == "__main__":
    names = ("recipe", "data", "stores", "runs", "model", "corpus", "jobs")
    parser = argument_parser("python -m models", __doc__, *names, "force", "allow-failures")
    sys.exit(run_command(main, parser))
