"""`python -m models reproduce RUN`: make the run of a head again from its `run.json`; compare."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluate.runs.files import read_run
from evaluate.runs.freshness import train_inputs
from evaluate.runs.reproduction import compare, compare_scores, recorded, refuse_other_inputs
from features.common.command import Subcommand
from features.common.folders import Folders
from features.recipe.known.heads import HEADS
from features.recipe.member import BEST, Member
from features.recipe.model import Recipe
from models.layers import run_member, stored_layers
from models.train import Training

ON_CPU = ("cpu", "float32")
"""Where numbers are the same each time."""


def main(args: argparse.Namespace) -> int:
    """Fit again in a temporary folder; 1 where a number differs."""
    lines, equal = reproduce(args.run, stores=args.stores, jobs=args.jobs, device=args.device)
    print("\n".join(lines))
    print(f"{args.run}: {'the same again' if equal else 'NOT the same'}")
    return 0 if equal else 1


def reproduce(
    folder: Path, *, stores: Path, jobs: int = -1, device: str = "auto"
) -> tuple[list[str], bool]:
    """Make the run of a head again, as its `run.json` says, from the same stores.

    Of networks that are trained on another kind of device than they were, or on CUDA, scores alone
    are compared.

    Parameters
    ----------
    folder : Path
        Of the run.
    stores : Path
    jobs : int
        Processes; -1 is all cores.
    device : str
        As of `Training`.

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
            recipe,
            Folders(stores=stores, runs=Path(place)),
            jobs,
            allow_failures=record["lacking"],
            **_as_trained(record, recipe, device),
        )
        for needed in layers:
            training.train(replace(member, layer=needed))
        again = run_member(training, member)
        places = [_place_of(found) for found in (record, read_run(again) or {})]
        if places == [ON_CPU, ON_CPU]:
            return compare(folder, again)
        then, now = (f"{precision} on {kind}" for kind, precision in places)
        return compare_scores(folder, again, f"networks trained in {then} then, in {now} now")


def _place_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Kind of device and precision that a run was fitted in."""
    place = record.get("device", {})
    return place.get("kind", ON_CPU[0]), place.get("precision", ON_CPU[1])


def _as_trained(record: Mapping[str, Any], recipe: Recipe, device: str) -> dict[str, Any]:
    """Device and precision of a network: as it was trained, as far as that is there."""
    if not HEADS[recipe.head_of().kind].neural:
        return {}
    from models.neural.place import find_place

    kind, precision = _place_of(record)
    found = find_place(kind if device == "auto" and kind == ON_CPU[0] else device, ON_CPU[1])
    return {
        "device": found.device,
        "precision": precision if found.kind != ON_CPU[0] else ON_CPU[1],
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="its folder: runs/<recipe>/<member>")


COMMAND = Subcommand(
    "reproduce",
    main,
    "make the run of a head again, as its run.json says, and compare the numbers",
    ("stores", "jobs", "device"),
    _arguments,
)
