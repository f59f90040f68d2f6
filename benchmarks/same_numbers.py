"""Whether every number of the result files of one runs folder stands in those of another.

    python -m benchmarks.same_numbers OLD NEW

OLD is read as plain JSON, of any version of the format; NEW as records. What moved between versions
(`evaluate/scores/FORMAT.md`) is followed: a number is looked for at its own place, and must be the
same float64. The first of every file that is missing or another is named, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluate.scores.kinds import KINDS
from features.common.command import run_command
from features.common.words import counted

AROUND = ("inputs", "digest", "format", "version")
MOVED = ("metrics", "value", "difference", "mean")
"""Members that versions have in some places and not in others: no part of a number's place."""
RENAMED = {"by_seed": "values", "by_system": "values"}

Place = tuple[str, ...]


def numbers(content: Any, place: Place = ()) -> Iterator[tuple[Place, float]]:
    """Every number with its place.

    Examples
    --------
    >>> list(numbers({"uar": {"value": 0.5, "low": None}, "systems": ["a"], "n": [3, True]}))
    [(('uar',), 0.5), (('n', '0'), 3)]
    """
    if isinstance(content, dict):
        for name, inside in content.items():
            part = RENAMED.get(str(name), str(name))
            yield from numbers(inside, place if part in MOVED else (*place, part))
    elif isinstance(content, (list, tuple)):
        for i, inside in enumerate(content):
            yield from numbers(inside, (*place, str(i)))
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield place, content


def compare(old: Path, new: Path) -> tuple[int, str]:
    """How many numbers of a file are found again, and the first that is not; empty if all are."""
    content = json.loads(old.read_text(encoding="utf-8"))
    inside = {name: value for name, value in content.items() if name not in AROUND}
    stored = KINDS[old.name].at(new)
    if stored is None:
        return 0, f"{new} is not there"
    there: defaultdict[Place, Counter[float]] = defaultdict(Counter)
    for place, number in numbers(dataclasses.asdict(stored.record)):
        there[place][number] += 1
    n_found = 0
    for place, number in numbers(inside):
        if not there[place][number]:
            at = ", ".join(map(repr, there[place])) or "nothing"
            return n_found, f"{'.'.join(place)}: {number!r}, and in {new} {at}"
        there[place][number] -= 1
        n_found += 1
    return n_found, ""


def main(args: argparse.Namespace) -> int:
    """Compare every result file of a folder and those below it."""
    totals: Counter[str] = Counter()
    files: Counter[str] = Counter()
    differ = 0
    for path in sorted(args.old.rglob("*.json")):
        if path.name not in KINDS:
            continue
        found, missing = compare(path, args.new / path.relative_to(args.old))
        files[path.name] += 1
        totals[path.name] += found
        if missing:
            differ += 1
            print(f"{path}: {missing}")
    for name in files:
        print(f"{name}: {counted(files[name], 'file')}, {totals[name]:,} numbers found again")
    print(f"{counted(differ, 'file differs', 'files differ')}")
    return 1 if differ or not files else 0


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.same_numbers", description=__doc__)
    found.add_argument("old", type=Path, help="folder of runs as it was")
    found.add_argument("new", type=Path, help="the same runs, scored anew")
    return found


if __name__ == "__main__":
    sys.exit(run_command(main, parser()))
