"""The choice of subsets, as `subsets.json` has it: read and laid out, nothing computed.

Conventions
-----------
- A score that was chosen on the rows it is taken on is marked as optimistic, and stands beside the
  honest one, each with its own members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluate.runs import folders
from evaluate.runs.files import fingerprint, read_run
from evaluate.runs.folders import fusion_folder
from evaluate.runs.freshness import subsets_settings
from evaluate.scores import version_0
from evaluate.scores.marks import subset_marks
from evaluate.scores.records import Estimate, HonestChoice, Subsets
from evaluate.scores.score import NAMES, aligned, difference_text, number
from evaluate.scores.stored import Kind
from features.recipe.fusion import SUBSETS
from features.recipe.model import Recipe

FILE = Kind("subsets", Subsets, version_0.subsets, subset_marks, again="make fuse")
FEW_ROWS = 12
"""Where there are more, the table has only the choices over all sizes."""
ANY = "any"
RANDOM = "random of the best's size, 5 % to 95 %"


@dataclass(frozen=True)
class FoundSubsets:
    """A finished search, and whether it was made with another recipe than today's."""

    record: Subsets
    stale: bool


def read_subsets(recipe: Recipe, runs_folder: Path) -> FoundSubsets | None:
    """Read `subsets.json`; None where no search is finished.

    Raises
    ------
    RunError
        Where the file is damaged.
    """
    if recipe.subsets is None:
        return None
    folder = fusion_folder(runs_folder, recipe.name, SUBSETS)
    run, found = read_run(folder), FILE.open(folder / folders.SUBSETS)
    if run is None or found is None:
        return None
    now = fingerprint(subsets_settings(recipe, runs_folder))
    return FoundSubsets(found.record, run["fingerprint"] != now)


def by_corpus(found: Subsets) -> list[Subsets]:
    """The choices on all rows, then those on the rows of each corpus that was searched alone."""
    alone = [
        replace(found, **vars(part), partition=f"{found.partition}, {corpus} alone", alone={})
        for corpus, part in found.alone.items()
    ]
    return [found, *alone]


def honest_members(honest: HonestChoice) -> tuple[Sequence[str], str]:
    """Members that were chosen without the scored rows, and in how many folds, if in several.

    Where every fold has a choice of its own, it is the most frequent one, of equals the first.

    Examples
    --------
    >>> def chosen(**folds):
    ...     every = {f: ChosenSubset(0.5, members=of, n_best=1) for f, of in folds.items()}
    ...     return honest_members(HonestChoice(0.5, choices=every))
    >>> chosen(only=("a", "b"))
    (('a', 'b'), '')
    >>> chosen(first=("a",), second=("a", "b"), third=("a", "b"))
    (('a', 'b'), '2 of 3 folds')
    """
    folds = honest.choices
    ((members, n),) = Counter(choice.members for choice in folds.values()).most_common(1)
    return members, f"{n} of {len(folds)} folds" if len(folds) > 1 else ""


def subsets_text(recipe: Recipe, runs_folder: Path) -> str:
    """The tables of the terminal; empty where no search is finished."""
    found = read_subsets(recipe, runs_folder)
    if found is None:
        return ""
    return "\n".join(_table(part, found.stale) for part in by_corpus(found.record))


def _table(found: Subsets, stale: bool) -> str:
    on = f"chosen on {found.chosen_on}" if found.chosen_on else str(found.why)
    head = (
        f"\nsubsets of {len(found.members)} models, {found.partition}{' (stale)' * stale}: the "
        "best is optimistic, chosen on the rows that it is scored on"
    )
    random = {(one.method, one.metric, one.k): one for one in found.random}
    shown = [row for row in found.choices if row.best is not None]
    if len(shown) > FEW_ROWS:
        shown = [row for row in shown if row.k == ANY]
    rows = [
        ["", "size", "best (optimistic)", on, "optimism", RANDOM, "best members", "chosen members"]
    ]
    for row in shown:
        if (best := row.best) is None:
            continue
        others = f" and {best.n_best - 1} as good" if best.n_best > 1 else ""
        drawn = random[row.method, row.metric, len(best.members)].quantiles
        rows.append(
            [
                f"{NAMES[row.metric]}, {row.method}, {row.search}",
                str(row.k),
                number(best.value),
                _interval(row.honest),
                "-" if row.optimism is None else difference_text(row.optimism),
                f"{number(drawn['0.05'])} to {number(drawn['0.95'])}",
                _members(best.members) + others,
                _chosen_members(row.honest),
            ]
        )
    notes = [f"UAR: {found.lacking}"] if found.lacking else []
    return "\n".join([head, *aligned(rows), *notes])


def _members(members: Sequence[str]) -> str:
    return f"{len(members)}: {' + '.join(members)}"


def _chosen_members(honest: HonestChoice | None) -> str:
    if honest is None:
        return "-"
    members, folds = honest_members(honest)
    return f"{_members(members)} ({folds})" if folds else _members(members)


def _interval(found: Estimate | None) -> str:
    if found is None:
        return "-"
    text = number(found.value)
    return text if found.low is None else f"{text} [{number(found.low)}, {number(found.high)}]"
