"""`python -m evaluate score|layers|report RECIPE`: score finished runs, or make a recipe's page."""

from __future__ import annotations

import argparse
import sys

from features.command import add_arguments, recipe_of, run_command


def score(args: argparse.Namespace) -> None:
    """Score what is new and print the table of the recipe's runs."""
    from evaluate.score import overview, protocols_text, score_all, score_protocols
    from evaluate.selection import subsets_text
    from evaluate.statistics import make_statistics

    recipe = recipe_of(args)
    scored = score_all(recipe, args.runs, stores=args.stores, force=args.force)
    statistics = make_statistics(recipe, scored, args.runs, force=args.force)
    print(f"\n{overview(recipe, scored, statistics)}")
    others = score_protocols(recipe, args.runs, stores=args.stores, force=args.force)
    text = protocols_text(recipe, scored, others)
    for block in (text, subsets_text(recipe, args.runs)):
        if block:
            print(block)


def layers(args: argparse.Namespace) -> None:
    """Score the sweeps over layers and print them."""
    from evaluate.layers import score_sweeps, sweeps_text

    recipe = recipe_of(args)
    sweeps = score_sweeps(recipe, args.runs, stores=args.stores, force=args.force)
    print(sweeps_text(recipe, sweeps) or f"{recipe.path}: no model has runs at several layers")


def report(args: argparse.Namespace) -> None:
    """Write the page and say where it is."""
    from evaluate.report import make_report

    print(make_report(recipe_of(args), args.runs, args.stores).resolve())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluate", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="score|layers|report")
    for function, extra in (
        (score, ("force",)),
        (layers, ("model", "force")),
        (report, ()),
    ):
        text = function.__doc__ or ""
        command = commands.add_parser(function.__name__, help=text, description=text)
        add_arguments(command, "recipe", "stores", "runs", "corpus", *extra)
        command.set_defaults(command=function)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(lambda args: args.command(args), _parser()))
