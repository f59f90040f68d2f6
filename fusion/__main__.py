"""`python -m fusion RECIPE`: combine the finished runs of a recipe as its [fusion.NAME] say.

`python -m fusion predict` combines what the heads say of new audio, `python -m fusion reproduce`
makes a combination again and compares.
"""

from __future__ import annotations

import argparse
import sys

from features.common.command import argument_parser, run_command
from features.recipe.arguments import recipe_of
from fusion import predict, reproduce
from fusion.combine import fuse
from fusion.subsets.choose import make_subsets


def main(args: argparse.Namespace) -> None:
    """Make every combination of the recipe; one line each."""
    recipe = recipe_of(args)
    if not recipe.fusion and recipe.subsets is None:
        print(f"{args.recipe}: no [fusion.NAME], nothing to do")
    for one in (recipe, *(recipe.repeats().values() if recipe.fusion else ())):
        if one is not recipe:
            print(f"protocol {one.name}:")
        for name in one.fusion:
            fuse(one, name, stores=args.stores, runs=args.runs, force=args.force)
    if recipe.subsets is not None:
        make_subsets(recipe, stores=args.stores, runs=args.runs, force=args.force)


if __name__ == "__main__":
    for other in (predict, reproduce):
        if sys.argv[1:2] == [other.__name__.rpartition(".")[2]]:
            sys.exit(run_command(other.main, other.parser(), sys.argv[2:]))
    parser = argument_parser(
        "python -m fusion", __doc__, "recipe", "stores", "runs", "corpus", "force"
    )
    sys.exit(run_command(main, parser))
