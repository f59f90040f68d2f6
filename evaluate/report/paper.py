"""Tables of papers (`[[published]]` of a recipe) with our figures beside the published ones.

Conventions
-----------
- Published figures stand where every corpus of the recipe has the published counts, so that they
  are never beside the demo, and where the recipe has the settings that the table needs. A table for
  which no run is finished is not there; `left_out` says why, in a line a reason.
- A run that is stale has no figure. What was chosen on the rows that it is scored on is marked as
  optimistic; beside the best subset stands the one that was chosen without them.
- Nothing is computed: figures are read from `scores.json`, `subsets.json` and `spread.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from statistics import multimode
from typing import TYPE_CHECKING, Any

from evaluate.report.tables import NONE, Cell, Sheet, entry, point, text
from evaluate.scores.groups import read_tables
from evaluate.scores.names import FEW_SPEAKERS
from evaluate.scores.records import RowScores, Spread, SpreadOfRows
from evaluate.scores.score import Scored, read_all
from evaluate.scores.spread import read_spread
from evaluate.scores.subsets import FoundSubsets, read_subsets
from features.common.errors import RecipeError, RunError
from features.common.folders import Folders
from features.recipe.known.metrics import METRICS
from features.recipe.load import load_recipe
from features.recipe.published import Place, PublishedColumn, PublishedTable, unlike
from features.utterances import Table

if TYPE_CHECKING:
    from features.recipe.model import Recipe

STALE, MASKED = Cell("stale"), Cell("masked")
COLUMNS = (
    ("published",),
    ("published", "ours"),
    ("published", "ours (the best)", "ours, honest choice"),
)
"""Of a column of the paper: of it alone, with ours, and with ours that were chosen."""


@dataclass(frozen=True)
class Paper:
    """The tables of a recipe's paper, and why others are not there."""

    sheets: Sequence[Sheet]
    left_out: Sequence[str]


@dataclass(frozen=True)
class Results:
    """The finished runs of a recipe.

    Attributes
    ----------
    subsets : FoundSubsets or None
    spread : Spread or None
    tables : dict
        Corpus -> its table, where there is one.
    """

    recipe: Recipe
    scored: Sequence[Scored]
    subsets: FoundSubsets | None
    spread: Spread | None
    tables: Mapping[str, Table]

    def why_not(self, needs: Mapping[str, Any]) -> str:
        """Why published figures cannot stand beside these; empty where they can.

        Parameters
        ----------
        needs : mapping
            Settings of the recipe that the figures were got with.

        Returns
        -------
        str
        """
        for corpus in self.recipe.corpora:
            table = self.tables.get(corpus)
            if table is None:
                return f"no table of {corpus} beside the stores says what it holds"
            if not table.corpus.get("published"):
                return f"no figure is published for {corpus} as it is here"
            if any(finding.kind == "counts" for finding in table.findings):
                return f"the counts of {corpus} differ from the published ones"
        return "; ".join(unlike(self.recipe, needs))

    def cell(self, place: Place) -> tuple[Cell, Cell]:
        """Our figure, and what is honest to expect where it was chosen on its own rows."""
        if place.run is not None:
            return self._run(place), Cell(NONE)
        if place.statistic is not None:
            return self._statistic(place), Cell(NONE)
        return self._subset(place)

    def _metric(self, place: Place) -> str:
        return METRICS[place.metric].field if place.metric else self.recipe.shown[0]

    def _alone(self, place: Place) -> str | None:
        """The corpus that a figure is of, where there are others beside it."""
        return place.corpus if len(self.recipe.corpora) > 1 else None

    def _run(self, place: Place) -> Cell:
        run = next((each for each in self.scored if each.name == place.run), None)
        if run is None or run.stale:
            return Cell(NONE) if run is None else STALE
        partition = run.scores.partitions.get(place.partition or "")
        found: RowScores | None = partition
        if partition is not None and (corpus := self._alone(place)) is not None:
            found = partition.corpora.get(corpus)
        if found is None:
            return Cell(NONE)
        scores = found.metrics
        if place.target is not None:
            target = found.per_target.get(place.target)
            scores = target.metrics if target and target.n else {}
        if not scores:
            return MASKED
        cell = entry(scores[self._metric(place)], _few(found.n_speakers))
        return replace(cell, marks=list(dict.fromkeys([*run.marks, *cell.marks])))

    def _statistic(self, place: Place) -> Cell:
        partition = self.spread.partitions.get(place.partition or "") if self.spread else None
        found: SpreadOfRows | None = partition
        if partition is not None and (corpus := self._alone(place)) is not None:
            found = partition.corpora.get(corpus)
        over = found.metrics.get(self._metric(place)) if found else None
        statistic = getattr(over, place.statistic or "") if over else None
        if found is None or statistic is None:
            return Cell(NONE)
        return entry(statistic, _few(found.n_speakers))

    def _subset(self, place: Place) -> tuple[Cell, Cell]:
        nothing = (Cell(NONE), Cell(NONE))
        if self.subsets is None or self.subsets.record.partition != place.partition:
            return nothing
        if self.subsets.stale:
            return STALE, Cell(NONE)
        found, corpus = self.subsets.record, self._alone(place)
        part = found if corpus is None else found.alone.get(corpus)
        wanted = (self._metric(place), place.k)
        choices = part.choices if part else ()
        choice = next((choice for choice in choices if (choice.metric, choice.k) == wanted), None)
        if part is None or choice is None or choice.best is None:
            return nothing
        best, honest = choice.best, choice.honest
        shown = replace(point(best), note=" + ".join(best.members))
        return shown, Cell(NONE) if honest is None else entry(honest, _few(part.n_speakers))


def _few(speakers: int | None) -> str:
    return f"{speakers} speakers" if speakers and speakers < FEW_SPEAKERS else ""


def read_paper(own: Results, folders: Folders) -> Paper:
    """Put our figures into the tables of a recipe.

    Parameters
    ----------
    own : Results
        Of the recipe.
    folders : Folders
        Where the runs and tables of recipes beside it are, too.

    Returns
    -------
    Paper
        Without sheets where no figure is ours.
    """
    beside: dict[str, Results | None] = {}

    def results_of(table: PublishedTable, column: PublishedColumn) -> Results | None:
        """Whose figures stand in a column."""
        needs = {**table.needs, **column.needs}
        if not own.why_not(needs):
            return own
        name = column.recipe
        if name is None or name == own.recipe.name:
            return None
        if name not in beside:
            beside[name] = _read_beside(own.recipe, name, folders)
        other = beside[name]
        return None if other is None or other.why_not(needs) else other

    sheets: list[Sheet] = []
    left_out: dict[str, list[str]] = {}
    any_ours = False
    for table in own.recipe.published:
        found = [results_of(table, column) for column in table.columns]
        sheet, has_ours = _sheet(table, found, own)
        whys = [own.why_not({**table.needs, **column.needs}) for column in table.columns]
        fits, wants = "" in whys, any(table.places())
        if has_ours or (fits and not wants):
            sheets.append(sheet)
            any_ours |= has_ours
        else:
            why = "no finished run of today's recipe" if fits else whys[0]
            left_out.setdefault(why, []).append(table.title)
    return Paper(
        sheets if any_ours else [],
        [
            f"published figures are not shown ({why}): {'; '.join(titles)}"
            for why, titles in left_out.items()
        ],
    )


def _read_beside(recipe: Recipe, name: str, folders: Folders) -> Results | None:
    """The runs of a recipe beside another one; None where they cannot be read."""
    try:
        other = load_recipe(Path(recipe.path).with_name(f"{name}.toml"))
        return read_results(other, read_all(other, Folders(runs=folders.runs)), folders)
    except (RecipeError, RunError):
        return None


def read_results(recipe: Recipe, scored: Sequence[Scored], folders: Folders) -> Results:
    """All of a recipe's runs that a table can be filled from.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
        Its finished runs.
    folders : Folders

    Returns
    -------
    Results

    Raises
    ------
    RunError
        A file of theirs is missing, outdated or damaged.
    """
    return Results(
        recipe,
        scored,
        read_subsets(recipe, folders.runs),
        read_spread(recipe, scored, folders.runs),
        read_tables(recipe, folders.need_stores()),
    )


def _sheet(
    table: PublishedTable, found: Sequence[Results | None], own: Results
) -> tuple[Sheet, bool]:
    """The table in the paper's shape, ours right of the published figures; whether it has any."""
    columns = []
    header = [table.heading]
    for column, results in zip(table.columns, found, strict=True):
        places = [table.place(column, row) for row in table.rows]
        asked = [place for place in places if place is not None]
        extra = 0 if results is None or not asked else 1 + any(place.k for place in asked)
        header += [f"{column.name}, {heading}" for heading in COLUMNS[extra]]
        columns.append((results, places, extra))
    published = [_published([row.figures[i] for row in table.rows]) for i in range(len(columns))]
    blocks: list[list[list[Cell]]] = []
    has_ours = False
    for i, row in enumerate(table.rows):
        if row.rule or not blocks:
            blocks.append([])
        line = [text(row.name)]
        for (results, places, extra), figures in zip(columns, published, strict=True):
            ours, place = (Cell(NONE), Cell(NONE)), places[i]
            if results and place and not unlike(results.recipe, row.needs):
                ours = results.cell(place)
            has_ours |= ours[0].value is not None or ours[0] == MASKED
            line += [figures[i], *ours[:extra]]
        blocks[-1].append(line)
    name = f"paper-{table.name}"
    shown = [results for results, _, extra in columns if results is not None and extra]
    caption = _caption(table, shown, own)
    sheet = Sheet(
        table.title, caption, header, blocks, name, notes=[table.differs] if table.differs else []
    )
    return sheet, has_ours


def _published(figures: Sequence[float | str]) -> list[Cell]:
    """The figures of a column, with as many decimals as most of them have, or more.

    Examples
    --------
    >>> [cell.text for cell in _published([0.727, 0.7301, 0.739, 0.7164, 0.99995, "-", 1])]
    ['0.7270', '0.7301', '0.7390', '0.7164', '0.99995', '–', '1.0000']
    """
    decimals = {
        figure: len(f"{Decimal(repr(figure)):f}".partition(".")[2])
        for figure in figures
        if not isinstance(figure, str)
    }
    known = [decimals[figure] for figure in figures if not isinstance(figure, str)]
    usual = max(multimode(known), default=0)
    return [
        Cell(NONE) if isinstance(figure, str)
        else Cell(f"{figure:.{max(2, usual, decimals[figure])}f}", float(figure))
        for figure in figures
    ]  # fmt: skip


def _caption(table: PublishedTable, shown: Sequence[Results], own: Results) -> str:
    caption = f"{table.title}. Published: {table.source}"
    if not shown:
        return caption
    names = ", ".join(dict.fromkeys(results.recipe.name for results in shown))
    by = "speakers" if any(run.scores.n_speakers for run in own.scored) else "utterances"
    level = own.recipe.evaluate.confidence
    return f"{caption}; ours: {names}, with {level:.0%} bootstrap intervals over {by}"
