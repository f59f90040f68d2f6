"""`python -m models RECIPE`: fit the heads of a recipe from the stores alone."""

from __future__ import annotations

import argparse
import sys

from features import cluster
from features.command import argument_parser, recipe_of, run_command
from features.lint import lint_recipe
from models.cluster import train_on
from models.train import check_labels, check_stores, is_done, train_model


def main(args: argparse.Namespace) -> None:
    """Train every model at every layer of the recipe, by each of its protocols; one line each."""
    where = cluster.parse(args.cluster) if args.cluster else None
    recipe = recipe_of(args)
    for note in check_labels(recipe, args.stores, args.data):
        print(note)
    protocols = recipe.protocols()
    for one in protocols:
        lint_recipe(one, args.stores).refuse(recipe.path)
    work = [(model, layer) for model in recipe.models for layer in recipe.head.layers]
    check_stores(recipe, work, args.stores)
    folders = {
        "stores": args.stores,
        "runs": args.runs,
        "allow_failures": args.allow_failures,
    }
    there = []
    for one in protocols:
        if one is not recipe:
            print(f"protocol {one.name}:")
        left = [
            run
            for run in (work if where else [])
            if args.force or not is_done(one, *run, **folders)
        ]
        there += [(one, left)] if left else []
        for model, layer in work:
            if (model, layer) not in left:
                train_model(one, model, layer, jobs=args.jobs, force=args.force, **folders)
    if where and there:
        with cluster.connect(where) as workers:
            for one, left in there:
                train_on(workers, one, left, jobs=args.jobs, force=args.force, **folders)


if __name__ == "__main__":
    names = ("recipe", "data", "stores", "runs", "model", "corpus", "jobs", "cluster")
    parser = argument_parser("python -m models", __doc__, *names, "force", "allow-failures")
    sys.exit(run_command(main, parser))
