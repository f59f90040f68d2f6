"""What is looked at before the first fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluate.runs.folders import CURVES, SCORES
from features.common.errors import CorpusError, RecipeError, RunError, StoreError
from features.common.findings import some
from features.common.folders import Folders
from features.common.words import counted
from features.corpora import read_corpus
from features.corpora.oddities import columns_near, oddities
from features.matrix import (
    class_list,
    has_truth,
    load_rows,
    recipe_tables,
    select_rows,
    speaker_groups,
)
from features.recipe.arguments import corpus_root
from features.recipe.extract import model_parts
from features.recipe.head import HeadSpec, speaker_model
from features.recipe.heads import table_of
from features.recipe.known.heads import HEADS
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.shares import read_shares
from features.splits.folds import SplitPlan
from features.stores.seen import source_of
from features.utterances import SILENT_AUDIO, SPELLINGS, differences
from models.folds import Divisions, truths
from models.heads import cells, check_grid
from models.outputs import NEURAL_HEAD, OUTPUTS
from models.speakers import check_speakers


def check_labels(recipe: Recipe, folders: Folders) -> list[str]:
    """Compare the tables beside the stores with the corpora they were read from.

    No audio is read but that of rows whose path has changed, and a corpus that is not there is
    passed over: training needs stores alone.

    Parameters
    ----------
    recipe : Recipe
    folders : Folders
        Stores and data.

    Returns
    -------
    list of str
        Corpora that are there but cannot be read.

    Raises
    ------
    CorpusError
        A table is missing; or a corpus gives another one now, naming the rows.
    """
    stores = folders.need_stores()
    notes, faults = [], []
    tables = recipe_tables(recipe, stores)
    for name, spec in recipe.corpora.items():
        root = corpus_root(recipe, name, folders.data)
        if not root.is_dir():
            continue
        try:
            new = read_corpus(name, root, reader=spec.reader, options=recipe.reader_options(name))
        except CorpusError as error:
            notes.append(f"{name}: the labels in {root} were not compared: {error}")
            continue
        faults += [f"{name}: {line}" for line in differences(tables[name], new)]
        from features.survey import pointed_elsewhere  # libsndfile: only where there is audio

        moved = pointed_elsewhere(tables[name], new, root)
        if moved:
            rows = counted(len(moved), "row names", "rows name")
            faults.append(f"{name}: {rows} another recording: {some(moved)}")
    if faults:
        refresh = "; ".join(
            f"`python -m features table {name} --recipe {recipe.path}`" for name in recipe.corpora
        )
        raise CorpusError(
            "\n  ".join(
                [
                    f"the corpora on disk give other tables than {stores} has:",
                    *faults,
                    f"to train on the new ones: {refresh} (where only labels changed), or make "
                    f"extract (where there are new utterances or recordings)",
                ]
            )
        )
    return notes


def odd_rows(recipe: Recipe, stores: Path) -> list[str]:
    """What is odd in the rows that a recipe trains on, from the tables beside the stores alone.

    Names that the recipe maps to one label, or leaves out, are not odd to it. Of spellings that
    became one, and of silent rows, the table knows.

    Parameters
    ----------
    recipe : Recipe
    stores : Path

    Returns
    -------
    list of str
        A line each, with the corpus.

    Raises
    ------
    CorpusError
        A table is missing, or lacks the recipe's target.
    """
    tables = recipe_tables(recipe, stores)
    labels = class_list(recipe, tables)
    wanted = [recipe.target] if recipe.target else list(recipe.targets)
    lines = []
    for corpus, table in tables.items():
        rows, _ = select_rows(recipe, table, labels)
        looked_at = [recipe.target] if recipe.target else []
        found = [
            *(finding for finding in table.findings if finding.kind in (SPELLINGS, SILENT_AUDIO)),
            *columns_near((*table.labels, *table.targets), wanted),
            *oddities(rows, looked_at, table.corpus.get("reader", "")),
        ]
        lines += [f"{corpus}: {finding.text}" for finding in found]
    return lines


def check_stores(recipe: Recipe, work: Sequence[Member], stores: Path) -> None:
    """Look for every store, layer and statistic of the work before any of it is begun.

    Parameters
    ----------
    recipe : Recipe
    work : sequence of Member
        As `models.layers.work_of` gives it.
    stores : Path

    Raises
    ------
    StoreError
        Naming all that is missing.
    """
    faults: dict[str, None] = {}
    for member in work:
        kind = recipe.head_of(member.head).in_time
        for corpus in recipe.corpora:
            for part in model_parts(member.model):
                try:
                    source_of(stores, corpus, part, kind).columns_of(member.layer)
                except StoreError as error:
                    faults[str(error)] = None
            if model := speaker_model(recipe.head_of(member.head)):
                try:
                    source_of(stores, corpus, model)
                except StoreError as error:
                    faults[f"{error} ([{table_of(member.head)}] speaker needs it)"] = None
    if faults:
        raise StoreError("\n  ".join(faults))


def check_heads(recipe: Recipe, divisions: Divisions, stores: Path) -> None:
    """Refuse what the estimators of several heads do not take before the first of them is fitted.

    That of one head is refused where it is fitted.

    Parameters
    ----------
    recipe : Recipe
    divisions : Divisions
    stores : Path

    Raises
    ------
    RecipeError
        Naming every fault of a head.
    RunError
        Votes that a head is to be fitted to are none.
    """
    if recipe.heads:
        rows, truth, labels = load_rows(recipe, stores)
        plan = divisions.of(rows, truths(truth), labels).plan
        for name, head in recipe.heads.items():
            check_grid(head, labels, table_of(name))
            if head.shares:
                read_shares(rows, labels, head.shares, table_of(name))
            check_sizes(head, plan, table_of(name))
            check_speakers(head, speaker_groups(rows), plan, has_truth(truth), table_of(name))


def check_outputs(folder: Path) -> None:
    """Refuse folders where a run is to write its files: the fits would be lost.

    Raises
    ------
    RunError
        Naming all of them.
    """
    paths = [folder / name for name in (*OUTPUTS, NEURAL_HEAD, CURVES, SCORES, "run.json")]
    faults = [f"{path}: is a folder: remove it" for path in paths if path.is_dir()]
    if faults:
        raise RunError("\n  ".join(faults))


def check_sizes(head: HeadSpec, plan: SplitPlan, table: str = "head") -> None:
    """Refuse a head that asks for more rows than a training side has, before the first fit.

    Parameters
    ----------
    head : HeadSpec
    plan : SplitPlan
        Its folds have rows with a truth alone to fit on, the inner ones, too.
    table : str
        What the head's table is called.

    Raises
    ------
    RecipeError
        With the key, the smallest training side, and the largest value that works.
    """
    key = HEADS[head.kind].asks_rows
    asked = sorted({{**head.fixed, **cell.params}[key] for cell in cells(head)}) if key else []
    if not asked:
        return
    sides = [(len(fold.train), f"outer fold {fold.name}") for fold in plan.folds]
    for fold, inside in zip(plan.folds, plan.inner, strict=True):
        sides += [
            (len(part.train), f"outer fold {fold.name}, inner fold {part.name}") for part in inside
        ]
    sides += [(len(part.train), f"all rows, inner fold {part.name}") for part in plan.final]
    n_rows, where = min(sides, key=lambda side: side[0])
    if asked[-1] <= n_rows:
        return
    part = "fixed" if key in head.fixed else "grid"
    whose = "" if key in head.fixed or head.grid else f", by default of {head.kind}"
    fit = [value for value in asked if value <= n_rows]
    raise RecipeError(
        f"[{table}.{part}] {key}: got {asked[-1]}{whose}, with {counted(n_rows, 'row')} to fit on "
        f"({where}): the largest that works is {n_rows}"
        + (f"; as in [{table}.grid] {key} = {fit}" if fit and part == "grid" else "")
    )
