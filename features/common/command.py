"""What the five commands share: arguments, progress, one-line errors, signals, exit codes.

Exit codes
----------
0 done; 1 something is the user's to mend (one line on stderr says what); 2 the command line is
wrong; 129, 130, 143 stopped by SIGHUP, Ctrl-C, SIGTERM (`features.common.ending`). After these the
same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.common.ending import Ending, Terminated, ending
from features.common.errors import UserError
from features.common.files import full_disk, reason_of
from features.common.memory import out_of_memory
from features.common.terminal import shown_streams
from features.common.text import clean

DEFAULT_RECIPE = "recipes/emotion-share.toml"
TELL_AFTER_S = 10.0
"""When the first plain line about something that takes long may come."""


def names_of(text: str) -> list[str]:
    """Split `a, b` at the commas."""
    return [clean(name) for name in text.split(",") if clean(name)]


def _processes(text: str) -> int:
    if not re.fullmatch(r"-1|0*[1-9]\d*", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a count of processes, or -1 for all cores"
        )
    return int(text)


def count(text: str) -> int:
    """Read a count of the command line."""
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a count, 0 or more")
    return int(text)


_ARGUMENTS: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "recipe": (
        ("recipe",),
        {"nargs": "?", "default": DEFAULT_RECIPE, "help": "TOML file (default: %(default)s)"},
    ),
    "set": (
        ("--set",),
        {
            "action": "append",
            "metavar": "KEY=VALUE",
            "dest": "settings",
            "help": "set keys of the recipe: head.layer=best models.x.path=/weights/x",
        },
    ),
    "data": (
        ("--data",),
        {"type": Path, "default": Path("data"), "help": "folder of the corpora (%(default)s)"},
    ),
    "stores": (
        ("--stores",),
        {"type": Path, "default": Path("stores"), "help": "folder of the stores (%(default)s)"},
    ),
    "runs": (
        ("--runs",),
        {"type": Path, "default": Path("runs"), "help": "folder of the runs (%(default)s)"},
    ),
    "model": (
        ("--model",),
        {"type": names_of, "metavar": "A,B", "help": "only these models of the recipe"},
    ),
    "head": (
        ("--head",),
        {"type": names_of, "metavar": "A,B", "help": "only these heads of the recipe"},
    ),
    "corpus": (
        ("--corpus",),
        {"type": names_of, "metavar": "A,B", "help": "only these corpora of the recipe"},
    ),
    "jobs": (
        ("--jobs",),
        {"type": _processes, "default": -1, "help": "processes; -1 is all cores (%(default)s)"},
    ),
    "cluster": (
        ("--cluster",),
        {
            "metavar": "WHERE",
            "help": "compute on Dask workers: local:N (processes here, one a GPU), "
            "tcp://host:port (a scheduler), slurm or slurm:FILE (its [cluster])",
        },
    ),
    "device": (
        ("--device",),
        {"default": "auto", "help": "where networks are trained: auto, cpu, cuda, cuda:1"},
    ),
    "precision": (
        ("--precision",),
        {"default": "float32", "help": "of networks: float32, on CUDA also bfloat16 (%(default)s)"},
    ),
    "force": (("--force",), {"action": "store_true", "help": "run even where nothing changed"}),
    "allow-failures": (
        ("--allow-failures",),
        {
            "type": count,
            "default": 0,
            "metavar": "N",
            "help": "accept N utterances without features",
        },
    ),
}


def add_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add shared arguments to a parser; `--set` goes with a recipe.

    Parameters
    ----------
    parser : ArgumentParser
    names : str
        Of `_ARGUMENTS`.
    """
    for name in names:
        flags, settings = _ARGUMENTS[name]
        parser.add_argument(*flags, **settings)  # type: ignore[arg-type]
        if name == "recipe":
            add_arguments(parser, "set")


@dataclass(frozen=True)
class Subcommand:
    """One of the things that a room's command does.

    Attributes
    ----------
    name : str
    main : callable
        As of `run_command`.
    about : str
        What the help says of it.
    shared : tuple of str
        Names of the shared arguments that it takes.
    add : callable, optional
        Adds its own to its parser.
    description : str
        What its own help says of it, where that is more.
    """

    name: str
    main: Callable[[argparse.Namespace], int | None]
    about: str
    shared: tuple[str, ...] = ()
    add: Callable[[argparse.ArgumentParser], object] | None = None
    description: str = ""


class _RoomParser(argparse.ArgumentParser):
    """The parser of a room's command.

    A line without a word shows the help. One that does not begin with a sub-command is of `bare`,
    where the room has one.
    """

    bare: str = ""
    commands: Mapping[str, argparse.ArgumentParser]

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        if not words:
            self.print_help(sys.stderr)
            self.exit(2)
        unnamed = self.bare and words[0] not in (*self.commands, "-h", "--help")
        found, rest = super().parse_known_args([self.bare] * bool(unnamed) + words, namespace)
        if rest:
            chosen = next(sub for sub in self.commands.values() if sub.prog == found.prog)
            chosen.error(f"unrecognized arguments: {' '.join(rest)}")
        if unnamed:
            found.prog = self.prog
        return found, rest


def room_parser(
    prog: str, description: str, commands: Sequence[Subcommand], bare: str = ""
) -> argparse.ArgumentParser:
    """A parser of the sub-commands of a room; `run_chosen` runs the one that a line names.

    Parameters
    ----------
    prog : str
    description : str
    commands : sequence of Subcommand
        In the order of the help.
    bare : str
        The sub-command that is meant where a line begins with none.

    Returns
    -------
    ArgumentParser
    """
    result = _RoomParser(prog=prog, description=description)
    if bare:
        result.bare, result.epilog = bare, f"A line without a COMMAND means `{bare}`."
    listed = result.add_subparsers(
        required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for command in commands:
        sub = listed.add_parser(
            command.name, help=command.about, description=command.description or command.about
        )
        add_arguments(sub, *command.shared)
        if command.add:
            command.add(sub)
        sub.set_defaults(main=command.main, prog=sub.prog)
    result.commands = listed.choices
    return result


def run_chosen(args: argparse.Namespace) -> int | None:
    """Run the sub-command that a line of a `room_parser` names."""
    code: int | None = args.main(args)
    return code


@shown_streams()
def run_command(
    main: Callable[[argparse.Namespace], int | None],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, run, and turn what happens into an exit code.

    `main` gets the parsed arguments and returns an exit code (None is 0). A `UserError` is printed
    as it is; a full disk, and memory that ran out, wherever they show, are one; Ctrl-C, SIGTERM and
    SIGHUP say how to go on, once nothing runs any more; anything else keeps its traceback.

    Parameters
    ----------
    main : callable
        Gets the parsed arguments, gives an exit code; None is 0.
    parser : ArgumentParser
    argv : sequence of str, optional
        The process's own where none are given.

    Returns
    -------
    int
        As the top of this module says.
    """
    args = parser.parse_args(argv)
    prog = getattr(args, "prog", parser.prog)
    with ending(prog) as command:
        try:
            code: int | None = None
            with contextlib.suppress(KeyboardInterrupt, Terminated):  # told a second time
                code = _code_of(main, args, prog, command)
            while code is None:
                with contextlib.suppress(KeyboardInterrupt, Terminated):
                    # Out here nothing holds what the traceback held: generators close their pools.
                    command.settle()
                    _say(
                        f"\n{prog}: stopped; what is finished is kept. The same command goes on "
                        f"from here."
                    )
                    code = command.code
            return code
        finally:
            _empty_output()


def _code_of(
    main: Callable[[argparse.Namespace], int | None],
    args: argparse.Namespace,
    prog: str,
    command: Ending,
) -> int | None:
    """The exit code of what is not stopped; None where it is."""
    try:
        code = main(args) or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        _say(f"{prog}: {error}")
        return 1
    except KeyboardInterrupt:
        command.number = command.number or signal.SIGINT
        return None
    except Terminated:
        return None
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): not a fault, and nobody to tell.
        return 1
    except Exception as error:
        short = out_of_memory(error)
        if short is not None:
            _say(f"{prog}: {short}")
            return 1
        failed = full_disk(error)
        if failed is not None:
            _say(f"{prog}: {reason_of(failed.filename, failed)}")
            return 1
        if command.number:
            return None  # of a pool whose processes were ended
        raise


def _say(text: str) -> None:
    """Print a last line on stderr; where that cannot be written, the exit code has to do."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _empty_output() -> None:
    """Drop what stdout could not take: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
