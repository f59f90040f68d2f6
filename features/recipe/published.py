"""`[[published]]` of a recipe: tables of a paper, and which figure of ours stands beside each.

Conventions
-----------
- A table has the paper's rows and columns. Figures have the paper's digits, per cent as a fraction
  (96.88 % is 0.9688); "-" is none.
- Where ours comes from is said in parts, by the table, its columns and its rows; what a row says
  goes before its column, and that before the table. A cell of which none names a `run`, a
  `statistic` or a `k` has the published figure alone.
- `needs` are settings that ours must have to stand there: dotted keys of the resolved recipe
  (`head.select`) with their values. Of lists the order does not matter, of tables a list has the
  names, and `false` is also what is not set. What a table or a column needs decides on its figures,
  what a row needs on ours alone. A column may name a `recipe` beside this one whose finished runs
  stand there instead, where this one's settings are not those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from features.common.errors import RecipeError, nearest
from features.common.sections import Among, Section, check_section, names_folder
from features.common.walk import existing
from features.recipe.evaluate import SHOWABLE
from features.recipe.reading import read_recipe

Stem = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]
Figure = Annotated[float, Field(allow_inf_nan=False)] | Literal["-"]
Value = bool | int | float | str
Needs = dict[str, Value | list[Value]]
KINDS = ("run", "statistic", "k")
_FURTHER = ("partition", "metric", "target", "corpus")


class Place(Section):
    """Where a figure of ours is read.

    One of `run` (a model, `model@layer`, or `fusion/NAME`), `statistic` (over the members that
    `[fusion.subsets]` chooses from) and `k` (the best subset of this size, or of any); then the
    partition, metric, target and corpus that it is of.
    """

    run: str | None = None
    statistic: Literal["mean", "deviation", "largest", "least"] | None = None
    k: Annotated[int, Field(ge=1)] | Literal["any"] | None = None
    partition: Literal["devel", "test"] | None = None
    metric: Annotated[str, Among(SHOWABLE)] | None = None
    target: str | None = None
    corpus: str | None = None

    @property
    def kinds(self) -> dict[str, Any]:
        """Those of `run`, `statistic` and `k` that are given."""
        found = {key: getattr(self, key) for key in KINDS}
        return {key: value for key, value in found.items() if value is not None}


class PublishedColumn(Place):
    """A column; without `ours` it has published figures alone."""

    name: str
    ours: bool = True
    needs: Needs = {}
    recipe: Stem | None = None


class PublishedRow(Place):
    """A row, with a figure a column; `rule` puts a line above it."""

    name: str
    rule: bool = False
    figures: list[Figure]
    needs: Needs = {}


class PublishedTable(Place):
    """A table of a paper; `name` is the stem of its files, `heading` that of its first column.

    `differs` says in a line what our procedure does otherwise.
    """

    name: Stem
    title: str
    source: str
    heading: str
    differs: str = ""
    needs: Needs = {}
    columns: Annotated[list[PublishedColumn], Field(min_length=1)]
    rows: Annotated[list[PublishedRow], Field(min_length=1)]

    def place(self, column: PublishedColumn, row: PublishedRow) -> Place | None:
        """Where our figure of a cell is read; None where the published one stands alone.

        Parameters
        ----------
        column : PublishedColumn
        row : PublishedRow

        Returns
        -------
        Place or None
            A setting of the row wins over the column's, and that over the table's.
        """
        levels = (row, column, self)
        kinds = next((level.kinds for level in levels if level.kinds), None)
        if kinds is None or not column.ours:
            return None
        given = {
            key: next(
                (value for level in levels if (value := getattr(level, key)) is not None), None
            )
            for key in _FURTHER
        }
        return Place(partition=given.pop("partition") or "test", **kinds, **given)

    def places(self) -> Iterator[tuple[PublishedColumn, PublishedRow, Place]]:
        """All cells that a figure of ours belongs to."""
        for row in self.rows:
            for column in self.columns:
                place = self.place(column, row)
                if place is not None:
                    yield column, row, place


@dataclass(frozen=True)
class Known:
    """What the tables of a recipe may name.

    Attributes
    ----------
    runs, targets, corpora, metrics : collection of str
    sizes : collection of int or None
        Those of `[fusion.subsets]`; None without it.
    alone : bool
        Whether subsets are searched on each corpus alone, or there is one corpus.
    settings : mapping or None
        The recipe by its tables; None where one of them is faulty.
    """

    runs: Collection[str]
    targets: Collection[str]
    corpora: Collection[str]
    metrics: Collection[str]
    sizes: Collection[int] | None
    alone: bool
    settings: Mapping[str, Any] | None


def tables_of(given: Any, path: Path, faults: list[str]) -> Any:
    """The tables of the paper: the recipe's own, or those of the recipe beside it that it names.

    Parameters
    ----------
    given : any
        What the recipe says of `published`.
    path : Path
        The recipe.
    faults : list of str
        Gets what is wrong with the one beside it.

    Returns
    -------
    any
        As TOML gives them: `read_published` checks them. An empty list where there was a fault.
    """
    if not isinstance(given, str):
        return given
    if not names_folder(given):
        faults.append(f"published: {given!r} cannot name a recipe")
        return []
    try:
        beside = read_recipe(existing(path.with_name(f"{given}.toml")), [])
    except RecipeError as error:
        faults.append(f"published: {error}")
        return []
    theirs = beside.get("published", [])
    if not isinstance(theirs, list):
        faults.append(f"published: {given}.toml has none of its own; name the recipe that has them")
        return []
    return theirs


def read_published(given: Any, known: Known, faults: list[str]) -> list[PublishedTable]:
    """Read the `[[published]]` tables; a line is added to `faults` for each fault.

    Parameters
    ----------
    given : any
        As `tables_of` gives it.
    known : Known
        What the rest of the recipe has, for tables to name.
    faults : list of str
        Is added to.

    Returns
    -------
    list of PublishedTable
        A table with faults of its own keys is left out.
    """
    if not isinstance(given, list):
        faults.append(
            f"published: got {given!r}, allowed: [[published]] tables, or a recipe's name"
        )
        return []
    tables: list[PublishedTable] = []
    for i, values in enumerate(given, 1):
        if not isinstance(values, dict):
            faults.append(f"published: got {values!r}, allowed: a table [[published]]")
            continue
        where = f"[[published]] {values.get('name', i)}"
        parts = {
            key: _parts(kind, values.get(key), f"{where}, {key}", faults)
            for key, kind in (("columns", PublishedColumn), ("rows", PublishedRow))
        }
        given_parts = {key: part for key, part in parts.items() if key in values}
        table = check_section(PublishedTable, {**values, **given_parts}, f"{where}: ", faults)
        if table is None:
            continue
        if table.name in [earlier.name for earlier in tables]:
            faults.append(f"{where}: a table of this name is there already")
        tables.append(table)
        faults += dict.fromkeys(f"{where}: {fault}" for fault in _faults(table, known))
    return tables


def _parts(
    kind: type[PublishedColumn] | type[PublishedRow], given: Any, where: str, faults: list[str]
) -> Any:
    """The columns or rows that are right; what is no list is left to the table's own check."""
    if not isinstance(given, list):
        return given
    checked = []
    for i, values in enumerate(given, 1):
        name = values.get("name", i) if isinstance(values, dict) else i
        checked.append(check_section(kind, values, f"{where}, {name}: ", faults))
    right = [table for table in checked if table is not None]
    return right if right or not given else None


def _faults(table: PublishedTable, known: Known) -> Iterator[str]:
    """Faults of a table whose parts are right by themselves."""
    for row in table.rows:
        if len(row.figures) != len(table.columns):
            yield f"{row.name}: {len(row.figures)} figures for {len(table.columns)} columns"
    parts: list[tuple[str, Place]] = [
        ("", table),
        *((column.name, column) for column in table.columns),
        *((row.name, row) for row in table.rows),
    ]
    for name, part in parts:
        if len(part.kinds) > 1:
            yield f"{name or 'the table'}: {' and '.join(part.kinds)}: give one of them"
    for _, row, place in table.places():
        for fault in _place_faults(place, known):
            yield f"{row.name}: {fault}"
    needs = [table.needs, *(part.needs for part in table.columns), *(r.needs for r in table.rows)]
    for key in dict.fromkeys(key for need in needs for key in need):
        if known.settings is not None:
            try:
                setting(known.settings, key)
            except KeyError as error:
                yield f"needs: {error.args[0]}"


def _place_faults(place: Place, known: Known) -> Iterator[str]:
    for key, names, what in (
        ("run", known.runs, "no run of the recipe"),
        ("target", known.targets, "no target of the recipe"),
        ("corpus", known.corpora, "no corpus of the recipe"),
        ("metric", known.metrics, f"no metric of this task ({', '.join(known.metrics)})"),
    ):
        value = getattr(place, key)
        if value is not None and value not in names:
            yield f"{key}: '{value}' is {what}{nearest(value, names)}"
    if place.run is not None:
        return
    if place.target is not None:
        yield "target: goes with a run"
    if known.sizes is None:
        yield f"{', '.join(place.kinds)}: needs [fusion.subsets], whose members it is of"
    elif isinstance(place.k, int) and place.k not in known.sizes:
        yield f"k: got {place.k}, [fusion.subsets] has {', '.join(map(str, known.sizes))}"
    elif place.k is not None and place.corpus is not None and not known.alone:
        yield "k, corpus: needs alone = true in [fusion.subsets]"


def asks_for_spread(tables: Sequence[PublishedTable]) -> bool:
    """Whether a cell wants a statistic over systems."""
    return any(place.statistic for table in tables for _, _, place in table.places())


def setting(values: Any, key: str) -> Any:
    """A setting of a recipe by its dotted key.

    Parameters
    ----------
    values : Section or mapping
    key : str
        Names with dots between them.

    Returns
    -------
    any

    Raises
    ------
    KeyError
        With the nearest keys.

    Examples
    --------
    >>> setting({"head": {"select": "uar"}}, "head.select")
    'uar'
    """
    here = values
    for part in key.split("."):
        inside = _inside(here)
        if part not in inside:
            raise KeyError(f"'{key}' is no setting of the recipe{nearest(part, inside)}")
        here = inside[part]
    return here


def _inside(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Section):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return value if isinstance(value, Mapping) else {}


def unlike(values: Any, needs: Mapping[str, Any]) -> list[str]:
    """The settings that are not as needed, in words.

    Parameters
    ----------
    values : Section or mapping
        The recipe's settings.
    needs : mapping
        Dotted key -> what it has to be; of a list the order does not matter.

    Returns
    -------
    list of str
        A line each, also of a key that is not there.

    Examples
    --------
    >>> unlike({"head": {"select": "nmae"}}, {"head.select": "nmse"})
    ["head.select is 'nmae', not 'nmse'"]
    >>> unlike({"corpora": {"b": {}, "a": {}}}, {"corpora": ["a", "b"]})
    []
    """
    lines = []
    for key, wanted in needs.items():
        try:
            found = setting(values, key)
        except KeyError:
            lines.append(f"{key} is not there")
            continue
        if isinstance(found, (Mapping, list, tuple)):
            found = list(found)
        if not _same(found, wanted):
            lines.append(f"{key} is {found!r}, not {wanted!r}")
    return lines


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, list) and isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return len(found) == len(wanted) and all(word in wanted for word in found)
    return bool(found == wanted) or (wanted is False and found is None)
