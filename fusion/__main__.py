"""`python -m fusion RECIPE`: combine the finished runs of a recipe as its [fusion.NAME] say.

`python -m fusion predict` combines what the heads say of new audio, `python -m fusion reproduce`
makes a combination again and compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from features.common.command import Subcommand, argument_parser, run_subcommand
from features.common.telling import aloud
from features.recipe.arguments import folders_of, recipe_of
from fusion import predict, reproduce
from fusion.combine import fuse
from fusion.subsets.choose import make_subsets

PROG = "python -m fusion"


def main(args: argparse.Namespace) -> None:
    """Make every combination of the recipe; one line each.

    Parameters
    ----------
    args : Namespace
    """
    recipe = recipe_of(args)
    if not recipe.fusion and recipe.subsets is None:
        print(f"{args.recipe}: no [fusion.NAME], nothing to do")
    folders = folders_of(args)
    for protocol in (recipe, *(recipe.repeats().values() if recipe.fusion else ())):
        if protocol is not recipe:
            print(f"protocol {protocol.name}:")
        for name in protocol.fusion:
            fuse(protocol, name, folders, force=args.force, tell=aloud)
    if recipe.subsets is not None:
        make_subsets(recipe, folders, force=args.force, tell=aloud)


def parser() -> argparse.ArgumentParser:
    """Of the command line without a subcommand."""
    return argument_parser(PROG, __doc__, "recipe", "stores", "runs", "corpus", "force")


def commands() -> list[Subcommand]:
    """The subcommands; the first is meant where none is named."""
    return [
        Subcommand("fuse", main, parser(), "combine the finished runs of a recipe"),
        Subcommand("predict", predict.main, predict.parser(), "combine what is said of new audio"),
        Subcommand("reproduce", reproduce.main, reproduce.parser(), "make it again, compare"),
    ]


def run(argv: Sequence[str]) -> int:
    """Run the command line."""
    return run_subcommand(PROG, commands(), argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
