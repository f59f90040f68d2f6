"""The choice of subsets, as `subsets.json` has it: read and laid out, nothing computed.

Conventions
-----------
- A score that was chosen on the rows it is taken on is marked as optimistic, and stands beside the
  honest one, each with its own members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluate.runs import folders
from evaluate.runs.files import fingerprint, read_json, read_run
from evaluate.runs.folders import fusion_folder
from evaluate.runs.freshness import subsets_settings
from evaluate.scores.records import Estimate
from evaluate.scores.score import NAMES, aligned, difference_text, number
from features.recipe.fusion import SUBSETS
from features.recipe.model import Recipe

FEW_ROWS = 12
"""Where there are more, the table has only the choices over all sizes."""
ANY = "any"
RANDOM = "random of the best's size, 5 % to 95 %"


def read_subsets(recipe: Recipe, runs_folder: Path) -> dict[str, Any] | None:
    """Read `subsets.json`, with `stale` beside its content; None where no search is finished.

    Raises
    ------
    RunError
        Where the file is damaged.
    """
    if recipe.subsets is None:
        return None
    folder = fusion_folder(runs_folder, recipe.name, SUBSETS)
    record, found = read_run(folder), read_json(folder / folders.SUBSETS)
    if record is None or found is None:
        return None
    now = fingerprint(subsets_settings(recipe, runs_folder))
    return {**found, "stale": record["fingerprint"] != now}


def by_corpus(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The choices on all rows, then those on the rows of each corpus that was searched alone."""
    alone = found.get("alone", {})
    where = found["partition"]
    parts = [{**one, "partition": f"{where}, {corpus} alone"} for corpus, one in alone.items()]
    return [dict(found), *({**found, **part} for part in parts)]


def honest_members(honest: Mapping[str, Any]) -> tuple[Sequence[str], str]:
    """Members that were chosen without the scored rows, and in how many folds, if in several.

    Where every fold has a choice of its own, it is the most frequent one, of equals the first.

    Examples
    --------
    >>> honest_members({"choices": {"": {"members": ["a", "b"]}}})
    (('a', 'b'), '')
    >>> folds = {"1": ["a"], "2": ["a", "b"], "3": ["a", "b"]}
    >>> honest_members({"choices": {fold: {"members": one} for fold, one in folds.items()}})
    (('a', 'b'), '2 of 3 folds')
    """
    folds = honest["choices"]
    ((members, n),) = Counter(tuple(one["members"]) for one in folds.values()).most_common(1)
    return members, f"{n} of {len(folds)} folds" if len(folds) > 1 else ""


def subsets_text(recipe: Recipe, runs_folder: Path) -> str:
    """The tables of the terminal; empty where no search is finished."""
    found = read_subsets(recipe, runs_folder)
    return "\n".join(map(_table, by_corpus(found))) if found else ""


def _table(found: Mapping[str, Any]) -> str:
    on = f"chosen on {found['chosen_on']}" if found["chosen_on"] else found["why"]
    stale = " (stale)" if found["stale"] else ""
    head = (
        f"\nsubsets of {len(found['members'])} models, {found['partition']}{stale}: the best is "
        "optimistic, chosen on the rows that it is scored on"
    )
    random = {(one["method"], one["metric"], one["k"]): one for one in found["random"]}
    shown = [row for row in found["choices"] if row["best"] is not None]
    if len(shown) > FEW_ROWS:
        shown = [row for row in shown if row["k"] == ANY]
    rows = [
        ["", "size", "best (optimistic)", on, "optimism", RANDOM, "best members", "chosen members"]
    ]
    for row in shown:
        best = row["best"]
        k = len(best["members"])
        others = f" and {best['n_best'] - 1} as good" if best["n_best"] > 1 else ""
        drawn = random[row["method"], row["metric"], k]["quantiles"]
        rows.append(
            [
                f"{NAMES[row['metric']]}, {row['method']}, {row['search']}",
                str(row["k"]),
                number(best["value"]),
                _interval(row["honest"]),
                "-"
                if row["optimism"] is None
                else difference_text(
                    Estimate(*(row["optimism"][key] for key in ("value", "low", "high")))
                ),
                f"{number(drawn['0.05'])} to {number(drawn['0.95'])}",
                _members(best["members"]) + others,
                _chosen_members(row["honest"]),
            ]
        )
    notes = [f"UAR: {found['lacking']}"] if found.get("lacking") else []
    return "\n".join([head, *aligned(rows), *notes])


def _members(members: Sequence[str]) -> str:
    return f"{len(members)}: {' + '.join(members)}"


def _chosen_members(honest: Mapping[str, Any] | None) -> str:
    if honest is None:
        return "-"
    members, folds = honest_members(honest)
    return f"{_members(members)} ({folds})" if folds else _members(members)


def _interval(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    text = number(entry["value"])
    known = entry["low"] is not None
    return f"{text} [{number(entry['low'])}, {number(entry['high'])}]" if known else text
