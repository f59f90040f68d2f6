"""Stores + tables + a choice of layer -> X, y, groups.

Conventions
-----------
- Rows are the table's rows of all corpora of the recipe, sorted by (corpus, utterance).
- Speakers are unique over corpora: `corpus/speaker`.
- A row without a truth (a masked test label) stays, with NaN or an empty label.

In a notebook:

    from features.matrix import load
    X, y, groups = load("recipes/emodb.toml", model="compare")
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from features.common.errors import CorpusError, RunError, StoreError, nearest
from features.common.text import clean
from features.common.words import counted
from features.corpora import get_corpus, origin
from features.recipe.extract import model_parts
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from features.stores.frames import FrameStore
from features.stores.key import parts_path, store_path
from features.stores.read import Store
from features.utterances import Table, key_order, read_table, table_hash


@dataclass(frozen=True)
class Matrix:
    """What a head is fitted on.

    Attributes
    ----------
    X : float32, shape (n_utterances, n_columns)
    y : regression: float64, shape (n_utterances, n_targets), NaN where masked;
        classification: object (str), shape (n_utterances,), empty where masked
    groups : object (str), shape (n_utterances,)
        `corpus/speaker`, empty where unknown.
    rows : DataFrame
        The table's rows, index 0..n-1.
    labels : tuple of str
        Ordered class list; empty for regression.
    identity : dict
        Store and table hashes a corpus: what a run depends on.
    title : str
        The model's name as it is shown.
    layers : list of int or str
        Whose columns stand side by side.
    findings : list of str
        What was found when the corpora were read.
    notes : list of str
        What was left out here, label lists that differ between corpora, and stores that another
        version of the numerics made.
    n_lacking : int
        Rows of the tables that the stores lack.
    weights : float64, shape (n_columns,), or None
        What each column is to be multiplied by behind the scaler; None is by nothing.
    """

    X: NDArray[np.float32]
    y: NDArray[Any]
    groups: NDArray[np.object_]
    rows: pd.DataFrame
    labels: tuple[str, ...]
    identity: dict[str, Any]
    title: str
    layers: list[int | str]
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_lacking: int = 0
    weights: NDArray[np.float64] | None = None


def load(
    recipe: str | Path | Recipe,
    *,
    model: str,
    layer: int | str = "last",
    head: str = "",
    stores: str | Path = "stores",
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.object_]]:
    """X, y, groups of one model, rows without a truth left out.

    Weights of `a+b` are not applied: their place is behind the scaler.

    Parameters
    ----------
    recipe : path or Recipe
    model : str
        Key of a speech model whose stores exist.
    layer : int, "last" or "mean"
    head : str
        Of a recipe with several, the one whose `statistics` and `standardise` are meant.
    stores : path

    Returns
    -------
    X : float32, shape (n_utterances, n_columns)
    y : float64, shape (n_utterances, n_targets), or str, shape (n_utterances,)
    groups : str, shape (n_utterances,)
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    matrix = load_matrix(recipe.of_head(head), Path(stores), clean(model), layer)
    known = has_truth(matrix.y)
    return matrix.X[known], matrix.y[known], matrix.groups[known]


def has_truth(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have a truth: no target NaN, or a label that is not empty."""
    if y.ndim == 2:
        return ~np.isnan(y).any(axis=1)
    return np.asarray(y != "", dtype=bool)


def recipe_tables(recipe: Recipe, stores: Path) -> dict[str, Table]:
    """The tables of all corpora of a recipe.

    Parameters
    ----------
    recipe : Recipe
    stores : Path
        Folder of the tables and stores.

    Returns
    -------
    dict
        Corpus -> its table, in the order of the recipe.

    Raises
    ------
    CorpusError
        Naming every table that is missing, with where its corpus comes from, or damaged.
    """
    tables, faults = {}, []
    for name, spec in recipe.corpora.items():
        try:
            tables[name] = read_table(stores / name)
        except CorpusError as error:
            text = str(error)
            if not (stores / name).is_dir():
                record = get_corpus(spec.reader or name)
                root = spec.root or f"DATA/{name}"
                text += f", which need the corpus {name} ({record.title}). {origin(record, root)}"
            faults.append(text)
    if faults:
        raise CorpusError("\n  ".join(faults))
    return tables


def load_rows(recipe: Recipe, stores: Path) -> tuple[pd.DataFrame, NDArray[Any], tuple[str, ...]]:
    """The rows, truths and class list that `load_matrix` gives, from the tables alone.

    Raises
    ------
    CorpusError
        A table is missing, or lacks the recipe's target.
    """
    tables = recipe_tables(recipe, stores)
    labels = class_list(recipe, tables)
    selected = [select_rows(recipe, table, labels)[0] for table in tables.values()]
    rows = pd.concat(selected, ignore_index=True)
    rows = rows.iloc[key_order(rows)].reset_index(drop=True)
    return rows, truth_of(recipe, rows), labels


def truth_of(recipe: Recipe, rows: pd.DataFrame) -> NDArray[Any]:
    """The truths of rows: a column a target, or labels."""
    if recipe.target is None:
        return rows[list(recipe.targets)].to_numpy(dtype=np.float64)
    return rows[recipe.target].to_numpy(dtype=object)


def load_matrix(
    recipe: Recipe,
    stores: Path,
    model: str,
    layer: int | str = "last",
    *,
    allow_failures: int = 0,
) -> Matrix:
    """Read one layer of a model's stores for all corpora of a recipe; of `a+b` side by side.

    Parameters
    ----------
    recipe : Recipe
        Of one head (`Recipe.of_head`).
    stores : Path
        Folder of the tables and stores.
    model : str
        A speech model, or `a+b`.
    layer : int or str
        As of a recipe; of "weighted" and "best" all stored layers side by side.

    Returns
    -------
    Matrix
        Rows sorted by (corpus, utterance); of `a+b` those that all parts have.

    Raises
    ------
    StoreError
        A store is missing, unfinished, or lacks rows of the table (more than `allow_failures` of
        them); a value is not finite (the utterance is named); the stores of several corpora differ
        in their columns.
    CorpusError
        The table is missing, or lacks the recipe's target.
    RunError
        Rows without a speaker are to be standardised by speaker.
    """
    tables = recipe_tables(recipe, stores)
    labels = class_list(recipe, tables)
    singles = [
        _load_single(recipe, tables, labels, stores, part, layer, allow_failures)
        for part in model_parts(model)
    ]
    matrix = singles[0] if len(singles) == 1 else _side_by_side(model, singles)
    weights = recipe.weights_of(model)
    if weights is not None:
        matrix = _weighted(matrix, weights, singles)
    if by := recipe.head_of().standardise:
        X, said = standardised(matrix.X, matrix.rows, by)
        title = f"{matrix.title}, standardised by {by}"
        matrix = replace(matrix, X=X, title=title, notes=[*matrix.notes, said])
    return matrix


@dataclass(frozen=True)
class Features:
    """What a finished head is applied to.

    Attributes
    ----------
    X : float32, shape (n_utterances, n_columns)
    rows : DataFrame
        The table's rows that all parts of the model have features of, index 0..n-1.
    lacking : list of str
        The utterances of the others.
    """

    X: NDArray[np.float32]
    rows: pd.DataFrame
    lacking: list[str]


def load_features(
    stores: Path, corpus: str, model: str, layer: int | str, statistics: list[str] | None
) -> Features:
    """Read one layer of a model's stores for a corpus that needs no truths.

    Parameters
    ----------
    stores : Path
        Folder of the tables and stores.
    corpus : str
    model, layer
        As of `load_matrix`.
    statistics : list of str or None
        Of the recipe's head; None is the store's default.

    Returns
    -------
    Features
        Rows in the order of the table.

    Raises
    ------
    StoreError
        As `load_matrix`, but for rows that the store lacks.
    CorpusError
        The table is missing or damaged.
    """
    table = read_table(stores / corpus).rows
    blocks, found = [], np.ones(len(table), dtype=bool)
    for part in model_parts(model):
        path = store_path(stores, corpus, part)
        refuse_unfinished(path, corpus, part)
        with Store(path) as store:
            block, there = _rows(store, store.columns_of(layer), statistics, table)
        blocks.append((block, there))
        found &= there
    X = np.concatenate([block[found[there]] for block, there in blocks], axis=1)
    rows = table[found].reset_index(drop=True)
    return Features(X, rows, table.loc[~found, "utterance"].tolist())


def _side_by_side(model: str, singles: Sequence[Matrix]) -> Matrix:
    """The columns of several models on the rows that all of them have."""
    first = singles[0]
    keys = [pd.MultiIndex.from_frame(single.rows[["corpus", "utterance"]]) for single in singles]
    shared = functools.reduce(lambda common, further: common[common.isin(further)], keys)
    at = [index.get_indexer(shared) for index in keys]
    named = dict(zip(model_parts(model), singles, strict=True))
    identity = {
        corpus: {
            "store": {part: single.identity[corpus]["store"] for part, single in named.items()},
            "key": {part: single.identity[corpus]["key"] for part, single in named.items()},
            "table": first.identity[corpus]["table"],
        }
        for corpus in first.identity
    }
    return replace(
        first,
        X=np.concatenate(
            [single.X[rows] for single, rows in zip(singles, at, strict=True)], axis=1
        ),
        y=first.y[at[0]],
        groups=first.groups[at[0]],
        rows=first.rows.iloc[at[0]].reset_index(drop=True),
        identity=identity,
        title=" + ".join(single.title for single in singles),
        layers=[layer for single in singles for layer in single.layers],
        notes=list(dict.fromkeys(note for single in singles for note in single.notes)),
        n_lacking=first.n_lacking + len(first.rows) - len(shared),
    )


def _weighted(matrix: Matrix, weights: list[float] | str, singles: Sequence[Matrix]) -> Matrix:
    """The columns of `singles` side by side with their weights, which the title and a note say."""
    widths = [single.X.shape[1] for single in singles]
    if isinstance(weights, str):
        share = sum(widths) / len(widths)
        how, weights = f"by {weights}", [math.sqrt(share / width) for width in widths]
    else:
        how = " : ".join(f"{weight:g}" for weight in weights)
    parts = [
        f"{width} of {single.title} by {weight:.4g}"
        for single, width, weight in zip(singles, widths, weights, strict=True)
    ]
    return replace(
        matrix,
        weights=np.repeat(np.array(weights, dtype=np.float64), widths),
        title=f"{matrix.title}, weighted {how}",
        notes=[*matrix.notes, f"behind the scaler columns are multiplied: {', '.join(parts)}"],
    )


@dataclass(frozen=True)
class _Block:
    """What the store of one corpus gives for the rows that a recipe selects.

    Attributes
    ----------
    rows : DataFrame
        The selected rows that the store has.
    X : float32, shape (n_rows, n_columns)
    layers : list of int or str
        Whose columns stand side by side.
    names : list of (list of str or None)
        Names of the columns of each statistic, where they have any.
    lacking : list of str
        Selected utterances that the store does not have.
    """

    rows: pd.DataFrame
    X: NDArray[np.float32]
    layers: list[int | str]
    names: list[list[str] | None]
    lacking: list[str]
    title: str
    identity: dict[str, Any]
    notes: list[str]


def _load_single(
    recipe: Recipe,
    tables: dict[str, Table],
    labels: tuple[str, ...],
    stores: Path,
    model: str,
    layer: int | str,
    allow_failures: int,
) -> Matrix:
    """The matrix of one model: the blocks of all corpora, below one another, sorted by key."""
    blocks: dict[str, _Block] = {}
    notes, findings = differing_lists(recipe, tables), []
    n_lacking = 0
    for corpus, table in tables.items():
        rows, dropped = select_rows(recipe, table, labels)
        findings += [f"{corpus}: {finding.text}" for finding in table.findings]
        if dropped:
            notes.append(f"{corpus}: {dropped}")
        path = store_path(stores, corpus, model)
        refuse_unfinished(path, corpus, model)
        block = _read_block(path, table, rows, layer, recipe.head_of().statistics)
        notes += block.notes
        n_lacking += len(block.lacking)
        if block.lacking:
            notes.append(lacking_note(path, block.lacking, len(rows), n_lacking, allow_failures))
        blocks[corpus] = block
    _refuse_other_columns(model, blocks)
    rows = pd.concat([block.rows for block in blocks.values()], ignore_index=True)
    X = _stacked([block.X for block in blocks.values()])
    order = key_order(rows)
    rows = rows.iloc[order].reset_index(drop=True)
    if (order != np.arange(len(order))).any():
        X = X[order]
    *_, last = blocks.values()
    identity = {corpus: block.identity for corpus, block in blocks.items()}
    return Matrix(
        X, truth_of(recipe, rows), speaker_groups(rows), rows, labels, identity, last.title,
        last.layers, findings, notes, n_lacking,
    )  # fmt: skip


def _read_block(
    path: Path,
    table: Table,
    rows: pd.DataFrame,
    layer: int | str,
    statistics: list[str] | None,
) -> _Block:
    """Open the store of a corpus, once, and read the columns of a layer for rows of its table."""
    with Store(path) as store:
        notes = [f"{path}: {store.other_numerics}"] if store.other_numerics else []
        layers = store.columns_of(layer)
        X, found = _rows(store, layers, statistics, rows)
        names = [
            own and [clean(name) for name in own]
            for own in map(store.names.get, statistics or store.default)
        ]
        identity = {"store": store.identity, "key": store.key, "table": table_hash(table)}
        title = store.title
    lacking = rows.loc[~found, "utterance"].tolist()
    return _Block(
        rows[found] if lacking else rows, X, layers, names, lacking, title, identity, notes
    )


def lacking_note(
    path: Path, lacking: Sequence[str], n_rows: int, n_lacking: int, allow_failures: int
) -> str:
    """Say what a store lacks, or raise a StoreError where all stores together lack too much.

    Parameters
    ----------
    path : Path
        Of the store.
    lacking : sequence of str
        Its utterances, one at least.
    n_rows : int
        Rows of the table.
    n_lacking : int
        What all stores lack.
    allow_failures : int
        How many may lack.

    Returns
    -------
    str
    """
    named = ", ".join(lacking[:3]) + (" ..." if len(lacking) > 3 else "")
    text = (
        f"{path}: lacks {len(lacking)} of the table's {n_rows} utterances ({named}); "
        f"see {path.with_suffix('.failures.csv').name} beside it"
    )
    if n_lacking > allow_failures:
        raise StoreError(f"{text}; run make extract again, or pass ALLOW_FAILURES={n_lacking}")
    return text


def _stacked(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Blocks of rows below one another; one alone is not copied."""
    return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]


def speaker_groups(rows: pd.DataFrame) -> NDArray[np.object_]:
    """`corpus/speaker` of each row, empty where it is unknown."""
    speakers = rows["speaker"].to_numpy(object)
    groups = np.where(speakers == "", "", rows["corpus"].to_numpy(object) + "/" + speakers)
    return groups.astype(object)


def standardised(
    X: NDArray[np.float32], rows: pd.DataFrame, by: str
) -> tuple[NDArray[np.float32], str]:
    """Centre and scale the columns of each speaker, or each corpus, by its own rows alone.

    Held-out rows are among them: where a head is tested on such a group, its unlabelled features
    were used. A column that is constant in a group becomes 0, as all of a group of one row.

    Parameters
    ----------
    X : float32, shape (n, n_columns)
    rows : DataFrame
        `corpus` and `speaker`, one row each of `X`.
    by : "speaker" or "corpus"

    Returns
    -------
    X : float32, shape (n, n_columns)
    str
        What was done, for the notes of a run.

    Raises
    ------
    RunError
        The speaker of a row is unknown.
    """
    groups = rows["corpus"]
    if by == "speaker":
        unknown = rows[rows["speaker"] == ""]
        if len(unknown):
            first = unknown.iloc[0]
            raise RunError(
                f"[head] standardise = 'speaker': the speaker of {len(unknown)} of {len(rows)} "
                f"rows is unknown (first {first['corpus']}/{first['utterance']}); "
                "standardise by corpus, or not at all"
            )
        groups = groups + "/" + rows["speaker"]
    codes, names = pd.factorize(groups)
    result = np.empty_like(X)
    for code in range(len(names)):
        part = codes == code
        result[part] = StandardScaler().fit_transform(X[part].astype(np.float64))
    lone = int((np.bincount(codes) == 1).sum())
    more = f"; {lone} of a single row became 0" if lone else ""
    plural = "speakers" if by == "speaker" else "corpora"
    return result, (
        f"standardised by {by}: the columns of {len(names)} {plural} are centred and scaled by all "
        f"their rows, held-out ones too: this uses unlabelled test data{more}; a saved head "
        "expects such rows"
    )


def class_list(recipe: Recipe, tables: dict[str, Table]) -> tuple[str, ...]:
    """The ordered class list of a recipe over its corpora: its own, else the corpora's united.

    Parameters
    ----------
    recipe : Recipe
    tables : dict
        Corpus -> its table.

    Returns
    -------
    tuple of str
        Empty for regression.

    Raises
    ------
    CorpusError
        A table lacks the recipe's target or targets.
    """
    for corpus, table in tables.items():
        wanted = [recipe.target] if recipe.target else list(recipe.targets)
        known = list(table.labels) if recipe.target else list(table.targets)
        lacking = [name for name in wanted if name not in known]
        other = set(lacking) & set(table.targets if recipe.target else table.labels)
        if other:
            kind = ("numbers", "labels") if recipe.target else ("labels", "numbers")
            raise CorpusError(
                f"{corpus}: {', '.join(sorted(other))} was read as {kind[0]}, the recipe asks for "
                f"{kind[1]}; run make extract with this recipe, or "
                f"`python -m features table {corpus} --recipe {recipe.path}`"
            )
        if lacking:
            raise CorpusError(
                f"{corpus}: its table has no {', '.join(map(repr, lacking))}; it has "
                f"{', '.join(known) or 'none'}; write the table again with "
                f"`python -m features table {corpus}` if the corpus has changed"
            )
    if recipe.target is None:
        return ()
    if recipe.labels:
        return recipe.labels
    united: dict[str, None] = {}
    for table in tables.values():
        united.update(dict.fromkeys(table.labels[recipe.target]))
    return tuple(united)


def differing_lists(recipe: Recipe, tables: dict[str, Table]) -> list[str]:
    """Say where corpora that are pooled name their classes differently.

    Parameters
    ----------
    recipe : Recipe
    tables : dict
        Corpus -> its table.

    Returns
    -------
    list of str
        One line; empty where they do not, or the recipe has a list of its own.
    """
    if recipe.target is None or recipe.labels:
        return []
    lists = {corpus: table.labels[recipe.target] for corpus, table in tables.items()}
    if len({frozenset(labels) for labels in lists.values()}) < 2:
        return []
    text = "; ".join(f"{corpus}: {', '.join(labels)}" for corpus, labels in lists.items())
    return [
        f"the corpora name their classes differently ({text}); labels = [...] keeps some, "
        "[labels] maps them to one list"
    ]


def select_rows(recipe: Recipe, table: Table, labels: tuple[str, ...]) -> tuple[pd.DataFrame, str]:
    """The rows of a table that a recipe uses, and a line that counts those it drops.

    Labels are those of the recipe's map, where it has one. Rows whose label is not in the recipe's
    class list are dropped; unlabelled rows stay.

    Parameters
    ----------
    recipe : Recipe
    table : Table
        Of one corpus.
    labels : tuple of str
        The recipe's class list (`class_list`); empty for regression.

    Returns
    -------
    DataFrame
        The rows with their mapped labels, index 0..n-1.
    str
        Empty where none was dropped.

    Raises
    ------
    CorpusError
        The map names a label that the table does not have.
    """
    rows = table.rows
    if recipe.target is None:
        return rows.reset_index(drop=True), ""
    own = rows[recipe.target]
    label = own
    if recipe.label_maps:
        corpus = str(rows["corpus"].iloc[0])
        given, known = recipe.label_maps[corpus], table.labels[recipe.target]
        lost = [label for label in given if label not in known]
        if lost:
            raise CorpusError(
                f"{corpus}: [labels.map] names {', '.join(lost)}, which is no {recipe.target} of "
                f"its table ({', '.join(known)}){nearest(lost[0], known)}"
            )
        label = own.map(lambda label: given.get(label) if label else "")
        rows = rows.assign(**{recipe.target: label})
    other = ~label.isin([*labels, ""])
    counts = own[other].value_counts().sort_index()
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    dropped = (
        f"{counted(other.sum(), 'row')} dropped, their label is not in the recipe's list: {text}"
    )
    return rows[~other].reset_index(drop=True), dropped if other.any() else ""


def refuse_unfinished(path: Path, corpus: str, model: str) -> None:
    """Refuse a store whose extraction is under way; StoreError says how it goes on."""
    parts = parts_path(path)
    if parts.is_dir() and any(parts.glob("plan*.json")):
        raise StoreError(
            f"{parts}: the extraction of {model} for {corpus} is not finished; run make extract "
            f"MODEL={model} again, it goes on where it was"
        )


def _rows(
    store: Store, layers: list[int | str], statistics: list[str] | None, table: pd.DataFrame
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The store's rows in the order of the table, and which of the table's rows it has."""
    rows, found = stored_rows(store, table)
    parts = [
        store.read(layer, statistic, check=True)[rows]
        for layer in layers
        for statistic in statistics or store.default
    ]
    return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0], found


def stored_rows(
    store: Store | FrameStore, table: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where a store has the rows of a table.

    Parameters
    ----------
    store : Store or FrameStore
    table : DataFrame
        Columns utterance and audio_hash; an empty hash says nothing.

    Returns
    -------
    rows : int64, shape (n_found,)
        Row numbers of the store, in the order of the table.
    found : bool, shape (n_table,)
        Which of the table's rows it has.

    Raises
    ------
    StoreError
        The audio of a row is another than it was.
    """
    position = pd.Series(np.arange(len(store.index)), index=store.index["utterance"])
    at = position.reindex(table["utterance"]).to_numpy()
    found = ~np.isnan(at)
    rows = at[found].astype(np.int64)
    stored_hash = store.index["audio_hash"].to_numpy(object)[rows]
    table_hash_ = table["audio_hash"].to_numpy(object)[found]
    stale = (table_hash_ != "") & (stored_hash != table_hash_)
    if stale.any():
        named = ", ".join(table["utterance"].to_numpy(object)[found][stale][:3])
        again = "compute its features and import them" if store.imported else "run make extract"
        raise StoreError(
            f"{store.path}: the audio of {counted(stale.sum(), 'utterance')} has changed since "
            f"({named}); {again} again"
        )
    return rows, found


def _refuse_other_columns(model: str, blocks: dict[str, _Block]) -> None:
    """Refuse to pool columns that differ in layers, width or names.

    Imported features can be in any order.
    """
    corpora = ", ".join(blocks)
    first, *others = blocks
    if any(blocks[other].layers != blocks[first].layers for other in others):
        layers = {corpus: block.layers for corpus, block in blocks.items()}
        raise StoreError(f"{model}: the stores of {corpora} have other layers: {layers}")
    widths = {block.X.shape[1] for block in blocks.values()}
    if len(widths) > 1:
        raise StoreError(f"{model}: stores of {corpora} differ in width: {widths}")
    for other in others:
        if blocks[other].names != blocks[first].names:
            raise StoreError(
                f"{model}: the columns of the stores of {first} and {other} have other names, or "
                f"another order; bring them into one order and import again"
            )
