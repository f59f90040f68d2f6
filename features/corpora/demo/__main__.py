"""`python -m features.corpora.demo ROOT` makes the demo corpus, unless it is there."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from features.common.ending import Terminated, ending
from features.common.errors import UserError
from features.corpora.demo import is_complete, synthesise


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 1 with one line on standard error.

    Parameters
    ----------
    arguments : list of str, optional
        Those of the process by default.

    Returns
    -------
    int
        The exit code; after a signal the one that it asks for.
    """
    parser = argparse.ArgumentParser(
        prog="python -m features.corpora.demo",
        description="Synthesise the demo corpus with espeak-ng, in the ComParE layout.",
    )
    parser.add_argument("root", type=Path, help="folder to make, e.g. data/demo")
    root = parser.parse_args(arguments).root
    with ending(parser.prog) as command:
        try:
            if is_complete(root):
                print(f"{root}: the demo corpus is there")
                return 0
            print(f"{root}: synthesising the demo corpus", end=" ... ", flush=True)
            start = time.monotonic()
            synthesise(root)
            print(f"made in {time.monotonic() - start:.0f} s")
        except UserError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except (KeyboardInterrupt, Terminated):
            command.settle()
            print("\nstopped; the same command starts the demo corpus anew", file=sys.stderr)
            return command.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
