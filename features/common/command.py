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
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from features.common.ending import Ending, Terminated, ending
from features.common.errors import UserError
from features.common.files import full_disk, reason_of
from features.common.memory import out_of_memory
from features.common.terminal import shown_streams
from features.common.text import clean
from features.common.walk import existing
from features.recipe.load import Recipe, load_recipe

DEFAULT_RECIPE = "recipes/emotion-share.toml"
PLAIN_EVERY_S = 30.0
REDRAW_EVERY_S = 0.2
TELL_AFTER_S = 10.0
"""When the first plain line about something that takes long may come."""


def names_of(text: str) -> list[str]:
    """Split `a, b` at the commas."""
    return [clean(one) for one in text.split(",") if clean(one)]


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


def argument_parser(prog: str, description: str, *names: str) -> argparse.ArgumentParser:
    """A parser with the shared arguments of the given names.

    Parameters
    ----------
    names : str
        Of `recipe data stores runs model corpus jobs cluster force allow-failures`.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add_arguments(parser, *names)
    return parser


def add_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the shared arguments of the given names to a parser."""
    for name in names:
        flags, settings = _ARGUMENTS[name]
        parser.add_argument(*flags, **settings)  # type: ignore[arg-type]


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Load the recipe that the arguments name, restricted as they say."""
    return load_recipe(
        args.recipe,
        models=getattr(args, "model", None),
        corpora=getattr(args, "corpus", None),
    )


def corpus_root(recipe: Recipe, name: str, data: Path) -> Path:
    """Where a corpus of the recipe lies: its own `root`, else `DATA/<name>`."""
    root = recipe.corpora[name].root
    return existing(Path(root).expanduser() if root else data / name)


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
    """
    args = parser.parse_args(argv)
    with ending(parser.prog) as command:
        try:
            code: int | None = None
            with contextlib.suppress(KeyboardInterrupt, Terminated):  # told a second time
                code = _code_of(main, args, parser.prog, command)
            while code is None:
                with contextlib.suppress(KeyboardInterrupt, Terminated):
                    # Out here nothing holds what the traceback held: generators close their pools.
                    command.settle()
                    _say(
                        f"\n{parser.prog}: stopped; what is finished is kept. The same command "
                        f"goes on from here."
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


def duration(seconds: float) -> str:
    """Seconds for people.

    Examples
    --------
    >>> duration(4.2), duration(75), duration(7322)
    ('4 s', '1:15', '2:02:02')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of ten.

    Examples
    --------
    >>> size(999), size(1_640_000_000)
    ('999 B', '1.6 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


class Progress:
    """Done of total, rate and time left: redrawn on a terminal, else a plain line every 30 s.

    Parameters
    ----------
    label : str
        What is being done.
    total : float
        In `unit`.
    unit : str
        Such as `"s of audio"` or `"fits"`.
    first_s : float, optional
        When the first plain line comes, in seconds from the start.
    """

    def __init__(self, label: str, total: float, unit: str, first_s: float | None = None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        plain = PLAIN_EVERY_S if first_s is None else first_s
        self._next = self._start + (REDRAW_EVERY_S if self._terminal else plain)
        self._width = 0
        self._now: Callable[[], str] | None = None

    def add(self, amount: float) -> None:
        """Count `amount` more as done, and show it when it is time."""
        self.done += amount
        now = time.monotonic()
        if now >= self._next:
            self._next = now + (REDRAW_EVERY_S if self._terminal else PLAIN_EVERY_S)
            self._show(self.line(now - self._start))

    @contextlib.contextmanager
    def tell(self, now: Callable[[], str]) -> Iterator[None]:
        """Say what is under way, in a body where little may be done for long.

        Parameters
        ----------
        now : callable
            What is under way, or an empty text; called from another thread.
        """
        over = threading.Event()

        def tick() -> None:
            pause = REDRAW_EVERY_S if self._terminal else TELL_AFTER_S
            while not over.wait(pause):
                if now():
                    self._show(self.line(time.monotonic() - self._start))
                    pause = REDRAW_EVERY_S if self._terminal else PLAIN_EVERY_S

        ticking = threading.Thread(target=tick, daemon=True)
        self._now = now
        ticking.start()
        try:
            yield
        finally:
            self._now = None
            over.set()
            ticking.join()

    def line(self, elapsed_s: float) -> str:
        """The text of the line after `elapsed_s` seconds."""
        rate = self.done / elapsed_s if elapsed_s > 0 else 0.0
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 else ""
        now = self._now() if self._now else ""
        return (
            f"{self.label}: {self.done:,.0f} of {self.total:,.0f} {self.unit}"
            f", {rate:.1f} a second{left}{'; ' + now if now else ''}"
        )

    def close(self) -> float:
        """Clear the line and return the seconds since the start."""
        if self._terminal and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
        return time.monotonic() - self._start

    def _show(self, text: str) -> None:
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]  # a second line would stay
            sys.stderr.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
