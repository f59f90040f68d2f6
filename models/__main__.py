"""`python -m models train|predict|reproduce`: heads from the stores alone, and what they say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from evaluate.runs.folders import run_folder
from features.common import workers as cluster
from features.common.command import Subcommand, room_parser, run_chosen, run_command
from features.common.telling import aloud
from features.recipe.arguments import folders_of, recipe_of
from features.recipe.known.heads import HEADS
from features.recipe.member import BEST, Member
from features.recipe.model import Recipe
from models import predict, reproduce
from models.checks import (
    check_heads,
    check_labels,
    check_outputs,
    check_stores,
    odd_rows,
)
from models.cluster import train_on
from models.layers import run_member, work_of
from models.train import Training


def main(args: argparse.Namespace) -> None:
    """Train every model at every layer of the recipe, by each of its protocols; one line each.

    Parameters
    ----------
    args : Namespace
    """
    where = cluster.parse(args.cluster) if args.cluster else None
    recipe = recipe_of(args)
    for note in [*recipe.notes, *check_labels(recipe, folders_of(args))]:
        print(note)
    for line in odd_rows(recipe, args.stores):
        print(f"odd: {line}")
    trainings = [
        _training(protocol, args) for protocol in ([recipe] if args.layers else recipe.protocols())
    ]
    for training in trainings:
        training.divisions.check(args.stores)
    work = work_of(recipe, args.stores, sweep=args.layers)
    check_stores(recipe, work, args.stores)
    if not where and any(HEADS[recipe.head_of(member.head).kind].neural for member in work):
        trainings[0].check_place()
    for training in trainings:
        check_heads(training.recipe, training.divisions, args.stores)
        for member in work:
            check_outputs(run_folder(args.runs, training.recipe.name, member))
    elsewhere = []
    for training in trainings:
        if training.recipe is not recipe:
            print(f"protocol {training.recipe.name}:")
        left = _left(training, work) if where else []
        elsewhere += [(training, left)] if left else []
        for member in work:
            if member not in left and (member.layer != BEST or not left):
                run_member(training, member)
    if where and elsewhere:
        with cluster.connect(where) as workers:
            for training, left in elsewhere:
                train_on(workers, training, left)
        for training, _ in elsewhere:
            for member in work:
                if member.layer == BEST:  # made of what the workers fitted
                    run_member(training, member)


def _training(recipe: Recipe, args: argparse.Namespace) -> Training:
    """How a protocol is trained by the arguments."""
    return Training(
        recipe,
        folders=folders_of(args),
        jobs=args.jobs,
        force=args.force,
        allow_failures=args.allow_failures,
        device=args.device,
        precision=args.precision,
        tell=aloud,
    )


def _left(training: Training, work: Sequence[Member]) -> list[Member]:
    """What workers have to fit: `best` is made here, of what they have fitted."""
    return [
        member
        for member in work
        if member.layer != BEST and (training.force or not training.is_done(member))
    ]


def _add_layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", action="store_true", help="sweep all layers of the stores")


RUNS = ("recipe", "data", "stores", "runs", "model", "head", "corpus", "jobs", "cluster", "force")
COMMANDS = (
    Subcommand(
        "train",
        main,
        "fit the heads of a recipe from the stores alone",
        (*RUNS, "allow-failures", "device", "precision"),
        _add_layers,
        "Fit the heads of a recipe from the stores alone; with --layers on every stored layer, "
        "their mean, a weighting of them, and the layer that each fold chooses on its training "
        "rows.",
    ),
    predict.COMMAND,
    reproduce.COMMAND,
)


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    return room_parser("python -m models", "Fit heads, and use them.", COMMANDS, bare="train")


if __name__ == "__main__":
    sys.exit(run_command(run_chosen, parser()))
