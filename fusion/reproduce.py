"""`python -m fusion reproduce RUN`: make a combination again from its `run.json`, and compare."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from evaluate import runs as files
from evaluate.reproduction import compare, recorded, refuse_other_inputs
from features.command import argument_parser
from fusion.combine import fuse


def main(args: argparse.Namespace) -> int:
    """Combine again in a temporary folder; 1 where a number differs."""
    lines, equal = reproduce(args.run, stores=args.stores)
    print("\n".join(lines))
    print(f"{args.run}: {'the same again' if equal else 'NOT the same'}")
    return 0 if equal else 1


def reproduce(folder: Path, *, stores: Path) -> tuple[list[str], bool]:
    """Make a combination again, as its `run.json` says, from its members' runs beside it.

    Returns
    -------
    lines, equal
        As `evaluate.reproduction.compare` gives them.

    Raises
    ------
    RunError
        There is no such run, or its members' predictions, or their stores, are others now.
    """
    record, recipe = recorded(folder, "fuse")
    folder = folder.absolute()
    runs = folder.parents[1 + len(Path(recipe.name).parts)]
    inputs = files.fusion_settings(recipe, folder.name, runs)
    refuse_other_inputs(folder, record["inputs"], inputs)
    with tempfile.TemporaryDirectory(prefix="serfuse-") as place:
        for member in record["members"]:
            there = files.run_folder(Path(place), recipe.name, member)
            shutil.copytree(files.run_folder(runs, recipe.name, member), there)
        return compare(folder, fuse(recipe, folder.name, stores=stores, runs=Path(place)))


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    description = "Make a combination again, as its run.json says, and compare the numbers."
    result = argument_parser("python -m fusion reproduce", description, "stores")
    result.add_argument("run", type=Path, help="its folder: runs/<recipe>/fusion/<name>")
    return result
