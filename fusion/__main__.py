"""`python -m fusion fuse|predict|reproduce`: what finished runs say, as one."""

from __future__ import annotations

import argparse
import sys

from features.common.command import Subcommand, room_parser, run_chosen, run_command
from features.common.telling import aloud
from features.recipe.arguments import folders_of, recipe_of
from fusion import predict, reproduce
from fusion.combine import fuse
from fusion.subsets.choose import make_subsets


def main(args: argparse.Namespace) -> None:
    """Make every combination of the recipe; one line each.

    Parameters
    ----------
    args : Namespace
    """
    recipe = recipe_of(args)
    for note in recipe.notes:
        print(note)
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


COMMANDS = (
    Subcommand(
        "fuse",
        main,
        "combine the finished runs of a recipe as its [fusion.NAME] say",
        ("recipe", "stores", "runs", "corpus", "force"),
    ),
    predict.COMMAND,
    reproduce.COMMAND,
)


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    return room_parser("python -m fusion", "Combine finished runs.", COMMANDS, bare="fuse")


if __name__ == "__main__":
    sys.exit(run_command(run_chosen, parser()))
