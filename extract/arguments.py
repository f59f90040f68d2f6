"""The command line of `python -m extract`.

`extract`, `plan` and `fetch` are commands of their own. Without one, and with `--plan` or `--fetch`
in their place, the line means what it always did.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from features.common.command import add_arguments, names_of
from features.new_audio import add_system
from features.recipe.known.precisions import PRECISIONS

COMMANDS = {
    "extract": "audio -> stores; what a line without a command does",
    "plan": "say what an extraction would take; a few batches are timed",
    "fetch": "fetch the weights and record their hashes",
}
SHARED = ("recipe", "data", "stores", "corpus", "jobs", "cluster", "force", "allow-failures")


class _Parser(argparse.ArgumentParser):
    """A parser that takes a line without a command for `extract`."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        if not words or words[0] not in (*COMMANDS, "-h", "--help"):
            words.insert(0, "extract")
        found, rest = super().parse_known_args(words, namespace)
        if found.members:
            found.model, found.listed = found.members, True
        return found, rest


def parser() -> argparse.ArgumentParser:
    """Make the command line.

    Returns
    -------
    ArgumentParser
    """
    result = _Parser(
        prog="python -m extract",
        description="Write the features of speech models, all layers, to HDF5 stores. Asking again "
        "computes only what is new or whose audio has changed.",
    )
    commands = result.add_subparsers(
        required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        add_arguments(command, *SHARED)
        _add_models(command)
        _add_audio(command)
        _add_former(command, name)
        _add_machine(command)
    return result


def _add_models(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        type=names_of,
        metavar="A,B",
        help="these models, of the recipe or registered (default: all of the recipe)",
    )
    which.add_argument("--members", type=names_of, metavar="A,B", help=argparse.SUPPRESS)
    command.add_argument(
        "--listed", action="store_true", help="refuse models that the recipe does not list"
    )
    command.add_argument("--precision", choices=PRECISIONS)


def _add_audio(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--audio",
        nargs="+",
        metavar="PATH",
        help="files and folders in the place of the corpora, for `python -m models predict`; "
        "what cannot be read is left out",
    )
    add_system(command, "--member")


def _add_former(command: argparse.ArgumentParser, name: str) -> None:
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
