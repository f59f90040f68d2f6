"""`python -m models reproduce RUN`: make the run of a head again from its `run.json`; compare."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from evaluate.runs.freshness import train_inputs
from evaluate.runs.reproduction import compare, recorded, refuse_other_inputs
from features.common.command import Subcommand
from features.common.folders import Folders
from features.recipe.member import BEST, Member
from models.layers import run_member, stored_layers
from models.train import Training


def main(args: argparse.Namespace) -> int:
    """Fit again in a temporary folder; 1 where a number differs."""
    lines, equal = reproduce(args.run, stores=args.stores, jobs=args.jobs)
    print("\n".join(lines))
    print(f"{args.run}: {'the same again' if equal else 'NOT the same'}")
    return 0 if equal else 1


def reproduce(folder: Path, *, stores: Path, jobs: int = -1) -> tuple[list[str], bool]:
    """Make the run of a head again, as its `run.json` says, from the same stores.

    Parameters
    ----------
    folder : Path
        Of the run.
    stores : Path
    jobs : int
        Processes; -1 is all cores.

    Returns
    -------
    lines, equal
        As `evaluate.runs.reproduction.compare` gives them.

    Raises
    ------
    RunError
        There is no such run, or its stores and tables are others now.
    StoreError, CorpusError
        A store or table is missing.
    """
    record, recipe = recorded(folder, "train")
    member = Member(record["model"], record["layer"])
    inputs = train_inputs(recipe, member, stores)
    refuse_other_inputs(folder, record["inputs"], inputs)
    layers = []
    if member.layer == BEST:
        layers = stored_layers(recipe, member.model, stores, recipe.head_of())
    with tempfile.TemporaryDirectory(prefix="serfuse-") as place:
        training = Training(
            recipe, Folders(stores=stores, runs=Path(place)), jobs, allow_failures=record["lacking"]
        )
        for needed in layers:
            training.train(replace(member, layer=needed))
        return compare(folder, run_member(training, member))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="its folder: runs/<recipe>/<member>")


COMMAND = Subcommand(
    "reproduce",
    main,
    "make the run of a head again, as its run.json says, and compare the numbers",
    ("stores", "jobs"),
    _arguments,
)
