"""What the two sides of every fold share, before anything is fitted.

Conventions
-----------
- A *part* is one held-out set and the rows that the head which predicts it is fitted on: rows
  without a truth are not fitted. Every outer fold has a part `devel` and one `test` (or what its
  partition is called) where they have rows; inner folds are counted together.
- Kinds of overlap: `speaker`, `session` and `sentence` of one corpus, as the table names them, and
  `audio`: segments that intersect, the same bytes or the same samples, in whatever corpus and
  container (`recordings`). What the table does not know is not compared, and said so.
- A run is stopped by rows that are on both sides; by what a split promises not to share; and by
  whatever a held-out part shares that the recipe does not declare in `[split] expect_overlap`,
  unless the split is there to share it; who declares speakers declares their sessions. What inner
  folds share where they do not promise otherwise is reported, but for audio: it biases a choice and
  no score.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import RunError
from features.common.progress import Progress
from features.common.words import counted
from features.matrix import has_truth, load_rows
from features.recipe.model import Recipe
from features.recipe.split import OVERLAP_KINDS, SplitSpec
from features.splits import truths
from features.splits.folds import FIRST_S
from features.splits.parts import Sides, SplitPart
from features.splits.plan import Fold, Positions, SplitPlan, make_plan

WAYS_OUT: Mapping[str, str] = {
    "speaker": "choose a speaker-disjoint outer",
    "session": "choose a session-disjoint outer",
    "sentence": "choose outer = 'sentence-disjoint'",
    "audio": "remove the copies from the corpora, or keep all segments of a recording on one side",
}
"""What to do about rows that share something, if it is not to be declared."""
INNER_PROMISES: Mapping[str, tuple[str, ...]] = {"speaker-k-fold": ("speaker",)}
MOST_ROWS = 60
"""Parts that are printed; a run records all."""


@dataclass
class Lint:
    """What was found in the folds of one protocol.

    Attributes
    ----------
    split : SplitSpec
    parts : list of SplitPart
        Of the outer folds.
    inner : list of SplitPart
        Of the inner folds.
    faults, notes : list of str
        What stops a run, and what has to be known.
    declared : list of str
        Of the notes, overlap that would be a fault without the recipe's word for it.
    absent : list of str
        Of the notes, classes that a partition lacks.
    """

    split: SplitSpec
    parts: list[SplitPart]
    inner: list[SplitPart]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def refuse(self, where: str) -> None:
        """Raise a RunError that names all faults, where there are any."""
        if self.faults:
            raise RunError("\n  ".join([f"{where}: [split] outer = '{self.split.outer}':",
                                        *self.faults]))  # fmt: skip

    def table(self) -> str:
        """The parts as lines of text; `2 of 10` names are shared, `-` where none is known.

        Returns
        -------
        str
            Header, a line a part (at most `MOST_ROWS`), faults and notes.
        """
        rows = [HEADER]
        for part in self.parts[:MOST_ROWS]:
            shared = [
                f"{part.n_shared[kind]} of {part.of[kind]}" if kind in part.shared else "-"
                for kind in OVERLAP_KINDS
            ]
            counts = [str(part.fitted), str(part.held_out)]
            lacking = f"{'! ' if part.unfitted else ''}{', '.join(part.missing)}"
            rows.append([part.fold or "-", part.part, *counts, *shared, lacking])
        if self.inner:
            rows.append(_inner_row(self.inner))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if len(self.parts) > MOST_ROWS:
            lines.insert(MOST_ROWS + 1, f"... and {len(self.parts) - MOST_ROWS} more parts")
        text = f"split {self.split.outer}, inner {self.split.inner}, seed {self.split.seed}"
        found = [f"! {fault}" for fault in self.faults] + [f"  {note}" for note in self.notes]
        return "\n".join([text, *lines, *found])

    def record(self) -> dict[str, Any]:
        """What a run keeps: JSON-able.

        Returns
        -------
        dict
        """
        return {
            "outer": self.split.outer,
            "inner": self.split.inner,
            "seed": self.split.seed,
            "expect_overlap": list(self.split.expect_overlap),
            "parts": [_record(part) for part in self.parts],
            "inner_parts": [
                {key: value for key, value in _record(part).items() if key != "classes"}
                for part in self.inner
            ],
            "notes": self.notes,
        }


HEADER = ["fold", "part", "fitted", "held out", *OVERLAP_KINDS, "classes missing"]


def lint_recipe(recipe: Recipe, stores: Path) -> Lint:
    """Check the folds of a recipe from its tables alone.

    Parameters
    ----------
    recipe : Recipe
        Of one protocol (`Recipe.protocols`).
    stores : Path
        Folder of the tables; no store is opened.

    Returns
    -------
    Lint
        With notes on truths, too.

    Raises
    ------
    CorpusError
        A table is missing.
    RunError
        The split cannot be made; the recipe's file is named.
    """
    rows, y, labels = load_rows(recipe, stores)
    try:
        plan = make_plan(rows, y, has_truth(y), recipe.split)
    except RunError as error:
        raise RunError(f"{recipe.path}: {error}") from None
    found = lint(rows, y, labels, plan, recipe.split)
    found.notes += truths.notes(y, labels or recipe.targets, rows, has_truth(y), plan.folds)
    return found


def lint(
    rows: pd.DataFrame,
    y: NDArray[Any],
    labels: Sequence[str],
    plan: SplitPlan,
    split: SplitSpec,
) -> Lint:
    """Compare the sides of all folds.

    Parameters
    ----------
    rows : DataFrame
        Utterance table.
    y : str, shape (n,), or float64, shape (n, n_targets)
    labels : sequence of str
        The class list; empty for regression.
    plan : SplitPlan
    split : SplitSpec

    Returns
    -------
    Lint
        Faults are in it, none is raised: `Lint.refuse` does.
    """
    sides = Sides(rows, y, labels)
    progress = Progress("lint", len(plan.folds) + plan.n_searched, "folds", FIRST_S)
    parts, faults = _outer(sides, plan, split, has_truth(y), progress)
    inner, inner_faults = _inner(sides, plan, split, progress)
    progress.close()
    result = Lint(split, parts, inner)
    result.faults = [
        *faults.lines(f"outer = '{split.outer}'", len(parts)),
        *inner_faults.lines(f"inner = '{split.inner}'", len(inner)),
    ]
    overlap = _overlap(parts, faults.kinds)
    result.declared = [overlap[kind] for kind in split.expect_overlap if kind in overlap]
    result.absent = _absent(parts)
    result.notes = [
        *(*plan.notes, *sides.unknown(), *overlap.values()),
        *(*_inner_speakers(split, parts, inner), *_lacking(parts), *result.absent),
    ]
    result.notes += [
        f"{kind} overlap is declared and does not occur"
        for kind in split.expect_overlap
        if not any(part.shared.get(kind) for part in [*parts, *inner])
    ]
    return result


def _outer(
    sides: Sides, plan: SplitPlan, split: SplitSpec, known: NDArray[np.bool_], progress: Progress
) -> tuple[list[SplitPart], _Faults]:
    """The parts of the outer folds, and what they share that they must not."""
    parts, faults = [], _Faults()
    undeclared = {*OVERLAP_KINDS} - {*split.expect_overlap}
    for fold in plan.folds:
        accepted = {*split.expect_overlap, *fold.allows}
        if "speaker" in accepted:
            accepted.add("session")  # speakers have theirs
        for name, train, test in _held_out(fold, known):
            part = sides.compare(fold.name, name, train, test)
            parts.append(part)
            faults.add(part, {*fold.promises}, undeclared - accepted)
        progress.add(1)
    return parts, faults


def _inner(
    sides: Sides, plan: SplitPlan, split: SplitSpec, progress: Progress
) -> tuple[list[SplitPart], _Faults]:
    """The inner folds as parts, and what they share that they must not.

    An inner split `devel` has none: its rows are a held-out part of the outer fold.
    """
    parts: list[SplitPart] = []
    faults = _Faults()
    if split.inner == "devel":
        return parts, faults
    promised = {*INNER_PROMISES.get(split.inner, ())}
    undeclared = {"audio"} - {*split.expect_overlap}
    names = (fold.name for fold in plan.folds)
    for name, folds in itertools.chain(zip(names, plan.inner, strict=True), [("all", plan.final)]):
        for fold in folds:
            part = sides.compare(name, f"inner {fold.name}", fold.train, fold.test)
            parts.append(part)
            faults.add(part, promised, undeclared)
            progress.add(1)
    return parts, faults


def _held_out(fold: Fold, known: NDArray[np.bool_]) -> Iterable[tuple[str, Positions, Positions]]:
    """(part, fitted, held out) of an outer fold."""
    if len(fold.devel):
        yield "devel", fold.train, fold.devel
    if len(fold.test):
        both = np.concatenate([fold.train, fold.devel[known[fold.devel]]])
        yield fold.partition, both, fold.test


class _Faults:
    """Faults of parts, gathered a kind."""

    def __init__(self) -> None:
        self.promised: dict[str, list[SplitPart]] = {}
        self.undeclared: dict[str, list[SplitPart]] = {}
        self.both: list[SplitPart] = []

    @property
    def kinds(self) -> set[str]:
        """Kinds that are a fault."""
        return {*self.promised, *self.undeclared}

    def add(self, part: SplitPart, promised: set[str], undeclared: set[str]) -> None:
        if part.both:
            self.both.append(part)
        for kind, names in part.shared.items():
            if names and kind in promised:
                self.promised.setdefault(kind, []).append(part)
            elif names and kind in undeclared:
                self.undeclared.setdefault(kind, []).append(part)

    def lines(self, where: str, n_parts: int) -> list[str]:
        lines = []
        if self.both:
            n, first = max(part.both for part in self.both), self.both[0]
            lines.append(
                f"{where}: up to {counted(n, 'row is', 'rows are')} fitted and held out in "
                f"{len(self.both)} of {n_parts} parts (first {_name(first)})"
            )
        for kind, parts in self.promised.items():
            lines.append(f"{_shared(kind, parts, n_parts)}, which {where} promises not to have")
        for kind, parts in self.undeclared.items():
            new = "audio" if kind == "audio" else f"{kind}s"
            lines.append(
                f"{_shared(kind, parts, n_parts)}: such scores are optimistic for new {new}; "
                f'{WAYS_OUT[kind]}, or declare it: [split] expect_overlap = ["{kind}"]'
            )
        return lines


def _name(part: SplitPart) -> str:
    return " ".join(name for name in (part.fold, part.part) if name)


def _shared(kind: str, parts: Sequence[SplitPart], n_parts: int) -> str:
    first = parts[0]
    n, names = first.n_shared[kind], ", ".join(first.shared[kind][:3])
    more = f" and {n - 3} more" if n > 3 else ""
    plural = "recordings" if kind == "audio" else f"{kind}s"
    of = f"{n} of {first.of[kind]} {plural} held out"
    return (
        f"{kind} overlap in {len(parts)} of {n_parts} parts (first {_name(first)}: {of} are also "
        f"fitted on: {names}{more})"
    )


def _overlap(parts: Sequence[SplitPart], faulty: set[str]) -> dict[str, str]:
    """Overlap that stops nothing, a line a kind."""
    lines = {}
    for kind in OVERLAP_KINDS:
        found = [part for part in parts if part.shared.get(kind)]
        if found and kind not in faulty:
            lines[kind] = _shared(kind, found, len(parts))
    return lines


def _inner_speakers(
    split: SplitSpec, parts: Sequence[SplitPart], inner: Sequence[SplitPart]
) -> list[str]:
    """Say where speakers are new in the outer folds alone."""
    shared = [part for part in inner if part.shared.get("speaker")]
    if not shared or any(part.shared.get("speaker") for part in parts):
        return []
    return [
        f"speaker overlap in {len(shared)} of {len(inner)} inner folds (inner = '{split.inner}'): "
        "hyperparameters are chosen by speakers that are fitted on, scores are not"
    ]


def _lacking(parts: Sequence[SplitPart]) -> list[str]:
    """Say how many parts lack classes on either side."""
    sides = (
        ("unfitted", "(!) have no row to fit on of a class, which is never predicted there"),
        ("absent", "have no held-out row of a class"),
    )
    lines = []
    for side, text in sides:
        lacking = [part for part in parts if getattr(part, side)]
        if lacking:
            first, classes = _name(lacking[0]), ", ".join(getattr(lacking[0], side))
            lines.append(f"{len(lacking)} of {len(parts)} parts {text} (first {first}: {classes})")
    return lines


def _absent(parts: Sequence[SplitPart]) -> list[str]:
    """Say which classes no held-out row of a partition is of, over all folds."""
    counts: dict[str, Counter[str]] = {}
    for part in parts:
        of_part = counts.setdefault(part.part, Counter())
        of_part.update({name: held_out for name, (_, held_out) in part.classes.items()})
    lines = []
    for name, of_part in counts.items():
        absent = [label for label, n in of_part.items() if not n]
        if absent and of_part.total():
            lines.append(
                f"{name}: no row is of {', '.join(absent)}; UAR is the mean over the classes that "
                "occur"
            )
    return lines


def _inner_row(inner: Sequence[SplitPart]) -> list[str]:
    """All inner folds in one row: the range of sizes, the most that any shares."""

    def span(values: Sequence[int]) -> str:
        return f"{min(values)}-{max(values)}" if min(values) < max(values) else str(values[0])

    shared = []
    for kind in OVERLAP_KINDS:
        known = [part for part in inner if kind in part.shared]
        worst = max(known, key=lambda part: part.n_shared[kind], default=None)
        shared.append(f"{worst.n_shared[kind]} of {worst.of[kind]}" if worst else "-")
    lacking = sum(bool(part.missing) for part in inner)
    mark = "! " if any(part.unfitted for part in inner) else ""
    return [
        "inner",
        counted(len(inner), "fold"),
        span([part.fitted for part in inner]),
        span([part.held_out for part in inner]),
        *shared,
        f"{mark}in {lacking} of {len(inner)}" if lacking else "",
    ]


def _record(part: SplitPart) -> dict[str, Any]:
    return {
        "fold": part.fold,
        "part": part.part,
        "fitted": part.fitted,
        "held_out": part.held_out,
        "classes": part.classes,
        "shared": {kind: {"n": part.n_shared[kind], "of": part.of[kind]} for kind in part.shared},
        "missing": part.missing,
    }
