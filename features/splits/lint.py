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
from features.splits.plan import Fold, Plan, Positions, make_plan
from features.splits.recordings import Recordings

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
MOST_NAMES = 5
"""Shared names that a part holds; it counts all."""


@dataclass(frozen=True)
class Part:
    """One held-out set and what it shares with the rows that are fitted for it.

    Attributes
    ----------
    fold, part : str
    fitted, held_out : int
        Rows.
    classes : dict
        Class -> [fitted, held out]; empty for regression.
    shared : dict
        Kind -> the first `MOST_NAMES` names on both sides; a kind that the rows do not know is
        absent.
    of : dict
        Kind -> number of names in the held-out rows.
    both : int
        Rows that are on both sides.
    n_shared : dict
        Kind -> number of names on both sides.
    """

    fold: str
    part: str
    fitted: int
    held_out: int
    classes: dict[str, list[int]]
    shared: dict[str, list[str]]
    of: dict[str, int]
    both: int
    n_shared: dict[str, int]

    @property
    def unfitted(self) -> list[str]:
        """Classes without a row to fit on: they are never predicted."""
        return [name for name, (fitted, _) in self.classes.items() if not fitted]

    @property
    def absent(self) -> list[str]:
        """Classes without a held-out row."""
        return [name for name, (_, held_out) in self.classes.items() if not held_out]

    @property
    def missing(self) -> list[str]:
        """Classes without a row on one of the sides."""
        lines = []
        for name, two in self.classes.items():
            sides = [side for side, n in zip(("fitted", "held out"), two, strict=True) if not n]
            if sides:
                lines.append(f"{name} ({' and '.join(sides)})")
        return lines


@dataclass
class Lint:
    """What was found in the folds of one protocol.

    Attributes
    ----------
    split : SplitSpec
    parts : list of Part
        Of the outer folds.
    inner : list of Part
        Of the inner folds.
    faults, notes : list of str
        What stops a run, and what has to be known.
    declared : list of str
        Of the notes, overlap that would be a fault without the recipe's word for it.
    absent : list of str
        Of the notes, classes that a partition lacks.
    """

    split: SplitSpec
    parts: list[Part]
    inner: list[Part]
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
        """The parts as lines of text; `2 of 10` names are shared, `-` where none is known."""
        rows = [HEADER]
        for one in self.parts[:MOST_ROWS]:
            shared = [
                f"{one.n_shared[kind]} of {one.of[kind]}" if kind in one.shared else "-"
                for kind in OVERLAP_KINDS
            ]
            counts = [str(one.fitted), str(one.held_out)]
            lacking = f"{'! ' if one.unfitted else ''}{', '.join(one.missing)}"
            rows.append([one.fold or "-", one.part, *counts, *shared, lacking])
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
        found = [f"! {one}" for one in self.faults] + [f"  {one}" for one in self.notes]
        return "\n".join([text, *lines, *found])

    def record(self) -> dict[str, Any]:
        """What a run keeps: JSON-able."""
        return {
            "outer": self.split.outer,
            "inner": self.split.inner,
            "seed": self.split.seed,
            "expect_overlap": list(self.split.expect_overlap),
            "parts": [_record(one) for one in self.parts],
            "inner_parts": [
                {key: value for key, value in _record(one).items() if key != "classes"}
                for one in self.inner
            ],
            "notes": self.notes,
        }


HEADER = ["fold", "part", "fitted", "held out", *OVERLAP_KINDS, "classes missing"]


def lint_recipe(recipe: Recipe, stores: Path) -> Lint:
    """Check the folds of a recipe from its tables alone.

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
    plan: Plan,
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
    plan : Plan
    split : SplitSpec
    """
    sides = _Sides(rows, y, labels)
    known = has_truth(y)
    parts: list[Part] = []
    faults = _Found()
    undeclared = {*OVERLAP_KINDS} - {*split.expect_overlap}
    progress = Progress("lint", len(plan.folds) + plan.n_searched, "folds", FIRST_S)
    for fold in plan.folds:
        accepted = {*split.expect_overlap, *fold.allows}
        if "speaker" in accepted:
            accepted.add("session")  # speakers have theirs
        for name, train, test in _held_out(fold, known):
            one = sides.compare(fold.name, name, train, test)
            parts.append(one)
            faults.add(one, {*fold.promises}, undeclared - accepted)
        progress.add(1)
    inner = []
    inner_faults = _Found()
    promised = {*INNER_PROMISES.get(split.inner, ())}
    names = (fold.name for fold in plan.folds)
    for name, folds in itertools.chain(zip(names, plan.inner, strict=True), [("all", plan.final)]):
        if split.inner == "devel":
            break  # it is a held-out part
        for fold in folds:
            one = sides.compare(name, f"inner {fold.name}", fold.train, fold.test)
            inner.append(one)
            inner_faults.add(one, promised, undeclared & {"audio"})
            progress.add(1)
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


def _held_out(fold: Fold, known: NDArray[np.bool_]) -> Iterable[tuple[str, Positions, Positions]]:
    """(part, fitted, held out) of an outer fold."""
    if len(fold.devel):
        yield "devel", fold.train, fold.devel
    if len(fold.test):
        both = np.concatenate([fold.train, fold.devel[known[fold.devel]]])
        yield fold.partition, both, fold.test


class _Sides:
    """Codes of speakers, sessions, sentences and classes of all rows, and their recordings."""

    def __init__(self, rows: pd.DataFrame, y: NDArray[Any], labels: Sequence[str]) -> None:
        self.labels, self.n = list(labels), len(rows)
        self.codes: dict[str, NDArray[np.int64]] = {}
        self.names: dict[str, NDArray[Any]] = {}
        self.recordings = Recordings(rows)
        for kind in OVERLAP_KINDS:
            if kind == "audio":
                continue
            values = rows[kind].to_numpy(object)
            full = rows["corpus"].to_numpy(object) + "/" + values
            names, codes = np.unique(full.astype(str), return_inverse=True)
            self.codes[kind] = np.where(values == "", -1, codes).astype(np.int64)
            self.names[kind] = names
        keys = rows["corpus"] + "/" + rows["utterance"]
        self.keys = keys.to_numpy(object)
        self.classes: NDArray[np.int64] | None = None
        if self.labels:
            self.classes = pd.Index(self.labels).get_indexer(pd.Index(y)).astype(np.int64)

    def compare(self, fold: str, part: str, train: Positions, test: Positions) -> Part:
        shared, n_shared, of = {}, {}, {}
        for kind, codes in self.codes.items():
            # Unknown is -1: the last entry.
            fitted, held_out = np.zeros((2, len(self.names[kind]) + 1), dtype=bool)
            fitted[codes[train]] = held_out[codes[test]] = True
            held = np.flatnonzero(held_out[:-1])
            if not len(held) or not fitted[:-1].any():
                continue
            of[kind] = len(held)
            names = self.names[kind][held[fitted[held]]]
            n_shared[kind] = len(names)
            shared[kind] = [str(name) for name in names[:MOST_NAMES]]
        heard = self.recordings
        hit = heard.shared(train, test)
        if hit.any() or (heard.known[train].any() and heard.known[test].any()):
            rows_of = np.bincount(heard.codes[test[heard.known[test] | hit]])
            of["audio"] = int(np.count_nonzero(rows_of))
            # A hash says nothing to people: the utterances that are held out are named.
            _, first = np.unique(heard.codes[test[hit]], return_index=True)
            n_shared["audio"] = len(first)
            shared["audio"] = [str(name) for name in self.keys[test[hit][first[:MOST_NAMES]]]]
        counts = {}
        if self.classes is not None:
            two = [np.bincount(self.classes[side][self.classes[side] >= 0],
                               minlength=len(self.labels)) for side in (train, test)]  # fmt: skip
            counts = {name: [int(side[i]) for side in two] for i, name in enumerate(self.labels)}
        fitted = np.zeros(self.n, dtype=bool)
        fitted[train] = True
        both = int(fitted[test].sum())
        return Part(fold, part, len(train), len(test), counts, shared, of, both, n_shared)

    def unknown(self) -> list[str]:
        """Say which kinds could not be compared for how many rows."""
        lines = []
        known = {f"the {kind}": codes >= 0 for kind, codes in self.codes.items()}
        for what, there in {**known, "the content of the audio": self.recordings.known}.items():
            n = int((~there).sum())
            if n:
                lines.append(f"{what} of {n} of {self.n} rows is unknown: not compared")
        n = int((self.recordings.known & ~self.recordings.complete).sum())
        if n:
            lines.append(
                f"the table of {n} of {self.n} rows was written before it had file_hash and "
                "samples_hash: segments of one recording under two names, and its copies in other "
                "containers, are not compared; make extract or python -m features table adds them"
            )
        return lines


class _Found:
    """Faults of parts, gathered a kind."""

    def __init__(self) -> None:
        self.promised: dict[str, list[Part]] = {}
        self.undeclared: dict[str, list[Part]] = {}
        self.both: list[Part] = []

    @property
    def kinds(self) -> set[str]:
        """Kinds that are a fault."""
        return {*self.promised, *self.undeclared}

    def add(self, part: Part, promised: set[str], undeclared: set[str]) -> None:
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


def _name(part: Part) -> str:
    return " ".join(one for one in (part.fold, part.part) if one)


def _shared(kind: str, parts: Sequence[Part], n_parts: int) -> str:
    first = parts[0]
    n, names = first.n_shared[kind], ", ".join(first.shared[kind][:3])
    more = f" and {n - 3} more" if n > 3 else ""
    plural = "recordings" if kind == "audio" else f"{kind}s"
    of = f"{n} of {first.of[kind]} {plural} held out"
    return (
        f"{kind} overlap in {len(parts)} of {n_parts} parts (first {_name(first)}: {of} are also "
        f"fitted on: {names}{more})"
    )


def _overlap(parts: Sequence[Part], faulty: set[str]) -> dict[str, str]:
    """Overlap that stops nothing, a line a kind."""
    lines = {}
    for kind in OVERLAP_KINDS:
        found = [part for part in parts if part.shared.get(kind)]
        if found and kind not in faulty:
            lines[kind] = _shared(kind, found, len(parts))
    return lines


def _inner_speakers(split: SplitSpec, parts: Sequence[Part], inner: Sequence[Part]) -> list[str]:
    """Say where speakers are new in the outer folds alone."""
    shared = [one for one in inner if one.shared.get("speaker")]
    if not shared or any(one.shared.get("speaker") for one in parts):
        return []
    return [
        f"speaker overlap in {len(shared)} of {len(inner)} inner folds (inner = '{split.inner}'): "
        "hyperparameters are chosen by speakers that are fitted on, scores are not"
    ]


def _lacking(parts: Sequence[Part]) -> list[str]:
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


def _absent(parts: Sequence[Part]) -> list[str]:
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


def _inner_row(inner: Sequence[Part]) -> list[str]:
    """All inner folds in one row: the range of sizes, the most that any shares."""

    def span(values: Sequence[int]) -> str:
        return f"{min(values)}-{max(values)}" if min(values) < max(values) else str(values[0])

    shared = []
    for kind in OVERLAP_KINDS:
        known = [one for one in inner if kind in one.shared]
        worst = max(known, key=lambda one: one.n_shared[kind], default=None)
        shared.append(f"{worst.n_shared[kind]} of {worst.of[kind]}" if worst else "-")
    lacking = sum(bool(one.missing) for one in inner)
    mark = "! " if any(one.unfitted for one in inner) else ""
    return [
        "inner",
        counted(len(inner), "fold"),
        span([one.fitted for one in inner]),
        span([one.held_out for one in inner]),
        *shared,
        f"{mark}in {lacking} of {len(inner)}" if lacking else "",
    ]


def _record(part: Part) -> dict[str, Any]:
    return {
        "fold": part.fold,
        "part": part.part,
        "fitted": part.fitted,
        "held_out": part.held_out,
        "classes": part.classes,
        "shared": {kind: {"n": part.n_shared[kind], "of": part.of[kind]} for kind in part.shared},
        "missing": part.missing,
    }
