"""`python -m models RECIPE`: fit the heads of a recipe from the stores alone."""

from __future__ import annotations

import argparse
import sys

from features import cluster
from features.command import argument_parser, recipe_of, run_command
from models.cluster import train_on
from models.train import check_labels, check_stores, is_done, train_model


def main(args: argparse.Namespace) -> None:
    """Train every model of the recipe at every layer it names; one line each."""
    where = cluster.parse(args.cluster) if args.cluster else None
    recipe = recipe_of(args)
    for note in check_labels(recipe, args.stores, args.data):
        print(note)
    work = [(model, layer) for model in recipe.models for layer in recipe.head.layers]
    check_stores(recipe, work, args.stores)
    folders = {
        "stores": args.stores,
        "runs": args.runs,
        "allow_failures": args.allow_failures,
    }
    here, there = work, []
    if where:
        there = [one for one in work if args.force or not is_done(recipe, *one, **folders)]
        here = [one for one in work if one not in there]
    for model, layer in here:
        train_model(recipe, model, layer, jobs=args.jobs, force=args.force, **folders)
    if where and there:
        with cluster.connect(where) as workers:
            train_on(workers, recipe, there, jobs=args.jobs, force=args.force, **folders)


if __name__ == "__main__":
    names = ("recipe", "data", "stores", "runs", "model", "corpus", "jobs", "cluster")
    parser = argument_parser("python -m models", __doc__, *names, "force", "allow-failures")
    sys.exit(run_command(main, parser))
