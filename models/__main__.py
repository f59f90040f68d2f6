"""`python -m models RECIPE`: fit the heads of a recipe from the stores alone.

With `--layers` on every stored layer, their mean, a weighting of them, and the layer that each fold
chooses on its training rows. `python -m models predict` applies finished heads to new audio,
`python -m models reproduce` makes a run again and compares.
"""

from __future__ import annotations

import argparse
import sys

from evaluate.runs.folders import layer_tag, run_folder
from features.common import workers as cluster
from features.common.command import argument_parser, run_command
from features.recipe.arguments import recipe_of
from features.splits.lint import lint_recipe
from models import predict, reproduce
from models.checks import (
    check_labels,
    check_outputs,
    check_stores,
    odd_rows,
)
from models.cluster import train_on
from models.layers import BEST, train_layer, work_of
from models.train import is_done


def main(args: argparse.Namespace) -> None:
    """Train every model at every layer of the recipe, by each of its protocols; one line each."""
    where = cluster.parse(args.cluster) if args.cluster else None
    recipe = recipe_of(args)
    for note in check_labels(recipe, args.stores, args.data):
        print(note)
    for line in odd_rows(recipe, args.stores):
        print(f"odd: {line}")
    protocols = [recipe] if args.layers else recipe.protocols()
    for one in protocols:
        lint_recipe(one, args.stores).refuse(recipe.path)
    work = work_of(recipe, args.stores, sweep=args.layers)
    check_stores(recipe, work, args.stores)
    for one in protocols:
        for model, layer in work:
            check_outputs(run_folder(args.runs, one.name, layer_tag(model, layer)))
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
            if run[1] != BEST and (args.force or not is_done(one, *run, **folders))
        ]
        there += [(one, left)] if left else []
        for model, layer in work:
            if (model, layer) not in left and (layer != BEST or not left):
                train_layer(one, model, layer, jobs=args.jobs, force=args.force, **folders)
    if where and there:
        with cluster.connect(where) as workers:
            for one, left in there:
                train_on(workers, one, left, jobs=args.jobs, force=args.force, **folders)
        for one, _ in there:
            for model, layer in work:
                if layer == BEST:  # made of what the workers fitted
                    train_layer(one, model, layer, force=args.force, **folders)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    names = ("recipe", "data", "stores", "runs", "model", "corpus", "jobs", "cluster", "force")
    result = argument_parser("python -m models", __doc__, *names, "allow-failures")
    result.add_argument("--layers", action="store_true", help="sweep all layers of the stores")
    return result


if __name__ == "__main__":
    for other in (predict, reproduce):
        if sys.argv[1:2] == [other.__name__.rpartition(".")[2]]:
            sys.exit(run_command(other.main, other.parser(), sys.argv[2:]))
    sys.exit(run_command(main, parser()))
