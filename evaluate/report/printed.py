"""What commands print of finished runs: the tables of the pages, in the room of a terminal.

Conventions
-----------
- Every function gives the lines as one text; nothing is printed here.
- What has no room stands on the pages and in their tables, and a line says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluate.report import comparison_page, gain_sheets, sheets
from evaluate.report.pair_sheets import best_subsets, subsets
from evaluate.report.tables import Sheet
from evaluate.report.writers.terminal import to_terminal
from evaluate.scores.names import NAMES
from evaluate.scores.side_by_side import Comparison, best_note, cannot_tell
from evaluate.scores.subsets import FoundSubsets, by_corpus
from features.common.terminal import folded

if TYPE_CHECKING:
    from evaluate.scores.protocols import Protocols
    from evaluate.scores.records import Seeds, SpeakerGains, Statistics
    from evaluate.scores.score import Scored
    from evaluate.scores.sweeps import Sweep
    from features.recipe.model import Recipe


def scores_text(
    recipe: Recipe,
    scored: Sequence[Scored],
    statistics: Statistics,
    protocols: Protocols,
    repeats: Seeds | None,
    chosen: FoundSubsets | None,
    gains: SpeakerGains | None,
    width: int,
) -> str:
    """The scores of a recipe's runs, by protocols and seeds, and the best subsets.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
        Its finished runs.
    statistics : Statistics
    protocols : Protocols
    repeats : Seeds or None
    chosen : FoundSubsets or None
    gains : SpeakerGains or None
    width : int
        Columns of the terminal.

    Returns
    -------
    str
    """
    titles = {run.name: run.title for run in scored}
    gaps = sheets.gaps(recipe, scored, protocols, {})
    beside = [run for more in protocols.scored.values() for run in more]
    found = [
        _overview(recipe, scored, statistics),
        *(sheets.transfer(run, recipe.shown[0], "") for run in scored),
        *(sheets.grid(run, recipe.shown[0], "") for run in scored),
        gaps,
        *(sheets.grid(run, recipe.shown[0], "") for run in beside),
        *sheets.seeds(recipe, _of_last_partition(repeats), titles),
        gain_sheets.gains(recipe, gains, titles),
        *(_best_subsets(chosen) if chosen else ()),
    ]
    return _text(found, width)


def _overview(recipe: Recipe, scored: Sequence[Scored], statistics: Statistics) -> Sheet:
    """The table of all runs; a metric that is the only one is named in its caption alone."""
    whole = sheets.overview(recipe, scored, {}, statistics)
    if len(recipe.shown) > 1:
        return whole
    metric = NAMES[recipe.shown[0]]
    return replace(whole, header=[name.replace(f", {metric}", "") for name in whole.header])


def _of_last_partition(found: Seeds | None) -> Seeds | None:
    """The seeds of test alone, else those of devel."""
    return found and replace(found, partitions=dict([*found.partitions.items()][-1:]))


def _best_subsets(chosen: FoundSubsets) -> list[Sheet]:
    """The choices over all sizes, where there are such, and where the whole table is."""
    tables = []
    where = "every size, and random subsets: `make report`, tables/subsets.csv, fusion.html"
    for found in by_corpus(chosen.record):
        best, whole = (table(found, stale=chosen.stale) for table in (best_subsets, subsets))
        if best.rows and len(best.rows) < len(whole.rows):
            blocks = [[row[:-2] for row in block] for block in best.blocks]  # not the random ones
            notes = [*best.notes, where]
            best = replace(best, header=best.header[:-2], blocks=blocks, notes=notes)
            tables.append(best)
        else:
            tables.append(whole)
    return tables


def layers_text(recipe: Recipe, sweeps: Sequence[Sweep], width: int) -> str:
    """The scores of models by layer; empty where nothing was swept."""
    return _text([sheets.layers(recipe, sweep, "", {}) for sweep in sweeps], width)


def comparison_text(found: Comparison, width: int) -> str:
    """Two folders of runs side by side: what differs in their settings, and in their scores.

    Parameters
    ----------
    found : Comparison
    width : int
        Columns of the terminal.

    Returns
    -------
    str
    """
    tables = []
    for (partition, metric), rows in found.by_metric().items():
        notes = filter(None, [found.optimism(partition), cannot_tell(rows)])
        marked = comparison_page.differences(found, found.marked(partition), metric, rows)
        tables.append(replace(marked, notes=[*marked.notes, *notes]))
    differing = comparison_page.settings(found)
    lines = [f"A {found.a}", f"B {found.b}", *([] if differing else ["no setting differs"])]
    ends = [best_note(found), *(f"not compared: {line}" for line in found.not_compared())]
    last = "\n".join(line for end in ends if end for line in folded(end, width, "  "))
    text = _text([differing, *tables], width)
    return "\n\n".join(part for part in ("\n".join(lines), text, last) if part)


def _text(found: Iterable[Sheet | None], width: int) -> str:
    return "\n\n".join(to_terminal(sheet, width) for sheet in found if sheet is not None)
