"""The command line of `python -m extract`.

`extract`, `plan` and `fetch` are commands of their own. Without one, and with `--plan` or `--fetch`
in their place, the line means what it always did.
"""

from __future__ import annotations

import argparse

from features.common.command import names_of
from features.common.errors import UserError
from features.common.text import clean
from features.recipe.known.precisions import PRECISIONS
from features.recipe.member import Member

COMMANDS = {
    "extract": "audio -> stores, all layers of each model",
    "plan": "say what an extraction would take; a few batches are timed",
    "fetch": "fetch the weights and record their hashes",
}
SHARED = ("recipe", "data", "stores", "corpus", "jobs", "cluster", "force", "allow-failures")


def add_options(name: str, command: argparse.ArgumentParser) -> None:
    """Add all that is not shared with other rooms to the parser of the command of this name."""
    _add_models(command)
    _add_former(name, command)
    _add_machine(command)


def models_of(args: argparse.Namespace) -> list[str]:
    """The models that a line names, with `--audio` also by their runs; empty for all.

    Parameters
    ----------
    args : Namespace

    Returns
    -------
    list of str

    Raises
    ------
    UserError
        A name is of no run.

    Examples
    --------
    >>> given = {"model": ["mfcc@0", "xlsr-1b"], "members": None, "member": None}
    >>> models_of(argparse.Namespace(audio=["a.wav"], **given))
    ['mfcc', 'xlsr-1b']
    """
    names: list[str] = [args.member] if args.member else args.model or args.members or []
    try:
        return [Member.parse(name).model for name in names] if args.audio else names
    except ValueError as error:
        raise UserError(f"--model: {error}") from None


def _add_models(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        type=names_of,
        metavar="A,B",
        help="these models, of the recipe or registered (default: all of the recipe); with "
        "--audio also a run, by its folder's name: xlsr-1b@12",
    )
    # As `--model A,B --listed` and, of new audio, `--model NAME` were called.
    which.add_argument("--members", type=names_of, help=argparse.SUPPRESS)
    which.add_argument("--member", type=clean, help=argparse.SUPPRESS)
    which.add_argument(
        "--fusion",
        type=clean,
        metavar="NAME",
        help="with --audio: the models of this [fusion.NAME] (default: of the recipe's first)",
    )
    command.add_argument(
        "--listed", action="store_true", help="refuse models that the recipe does not list"
    )
    command.add_argument("--precision", choices=PRECISIONS)
    command.add_argument(
        "--audio",
        nargs="+",
        metavar="PATH",
        help="files and folders in the place of the corpora, for `python -m models predict`; "
        "what cannot be read is left out",
    )


def _add_former(name: str, command: argparse.ArgumentParser) -> None:
    """The flags that stood for commands, where there is no other."""
    command.set_defaults(plan=name == "plan", fetch=name == "fetch")
    if name == "extract":
        former = command.add_mutually_exclusive_group()
        former.add_argument("--plan", action="store_true", help="as the command `plan`")
        former.add_argument("--fetch", action="store_true", help="as the command `fetch`")


def _add_machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    command.add_argument(
        "--verify",
        action="store_true",
        help="compare the stores with their checksums first; damaged rows are computed again",
    )
    command.add_argument(
        "--wait", action="store_true", help="wait where another process holds a store"
    )
    command.add_argument(
        "--break-lock",
        action="store_true",
        help="take a store from whoever holds it: only where that process is gone",
    )
