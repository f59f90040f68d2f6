"""`python -m fusion reproduce RUN`: make a combination again from its `run.json`, and compare.

So are the choices of `subsets`: searched again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from evaluate.runs.folders import run_folder
from evaluate.runs.freshness import fusion_settings, subsets_settings
from evaluate.runs.reproduction import compare, compare_subsets, recorded, refuse_other_inputs
from evaluate.scores.stored import simplified
from evaluate.scores.subsets import FILE
from features.common.command import Subcommand
from features.common.folders import Folders
from features.recipe.fusion import SUBSETS, FusionSpec
from fusion.combine import fuse
from fusion.subsets.choose import make_subsets


def main(args: argparse.Namespace) -> int:
    """Combine again in a temporary folder; 1 where a number differs."""
    lines, equal = reproduce(args.run, stores=args.stores)
    print("\n".join(lines))
    print(f"{args.run}: {'the same again' if equal else 'NOT the same'}")
    return 0 if equal else 1


def reproduce(folder: Path, *, stores: Path) -> tuple[list[str], bool]:
    """Make a combination or a search of subsets again, as its `run.json` says.

    Its members are the runs beside it: of `x/fusion/mean` those in `x`, whatever the folders are
    called.

    Parameters
    ----------
    folder : Path
        Of the run.
    stores : Path

    Returns
    -------
    lines, equal
        As `evaluate.runs.reproduction.compare` gives them.

    Raises
    ------
    RunError
        There is no such run, or its members' predictions, or their stores, are others now.
    """
    record, recipe = recorded(folder, "fuse", SUBSETS)
    folder = Path(os.path.abspath(folder))
    beside = folder.parent.parent
    recipe = recipe.model_copy(update={"name": beside.name})
    name = folder.name
    if record["stage"] == "fuse":
        spec = FusionSpec.model_validate_json(json.dumps(record["inputs"]["fusion"]))
        recipe = recipe.model_copy(update={"fusion": {name: spec}})
        inputs = fusion_settings(recipe, name, beside.parent)
    else:
        inputs = subsets_settings(recipe, beside.parent)
    refuse_other_inputs(folder, record["inputs"], inputs)
    with tempfile.TemporaryDirectory(prefix="serfuse-") as place:
        there = Path(place)
        folders = Folders(stores=stores, runs=there)
        for member in record["members"]:
            source = run_folder(beside.parent, recipe.name, member)
            shutil.copytree(source, run_folder(there, recipe.name, member))
        if record["stage"] == "fuse":
            return compare(folder, fuse(recipe, name, folders))
        again = make_subsets(recipe, folders)
        return compare_subsets(folder, again, _content)


def _content(path: Path) -> Any:
    """What a file of subsets holds, whichever version it is of."""
    found = FILE.at(path)
    return simplified(found.record) if found else None


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="its folder: runs/<recipe>/fusion/<name>")


COMMAND = Subcommand(
    "reproduce",
    main,
    "make a combination again, as its run.json says, and compare the numbers",
    ("stores",),
    _arguments,
)
