"""Scores as tables: `scores.json`, `run.json` and utterance tables, laid out for the report.

Conventions
-----------
- Nothing is computed but counts of rows and per cent of a row: scores and bounds are read.
- `pages` maps a run's folder to the page it is shown on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluate.report.examples import Audio
from evaluate.report.pair_sheets import best, best_meaning, best_notes
from evaluate.report.tables import NONE, Cell, Sheet, count, difference, entry, plain, point, text
from evaluate.report.words import both_scores, caption, column_notes, gap_size, gap_text, size_text
from evaluate.runs import record as runs
from evaluate.runs.files import fingerprint
from evaluate.scores.names import FEW_SPEAKERS, GRID, NAMES, PARTITIONS, number
from evaluate.scores.protocols import Protocols
from evaluate.scores.records import (
    Gap,
    PartitionScores,
    PartitionSeeds,
    RowScores,
    Seeds,
    Statistics,
    TargetScore,
    turned,
)
from evaluate.scores.score import Scored
from evaluate.scores.sweeps import Sweep
from features.common.words import counted
from features.recipe.split import OVERLAP_KINDS
from features.utterances import Table

if TYPE_CHECKING:
    from features.recipe.model import Recipe

Pages = Mapping[Path, str]
Row = Sequence[Cell]
HIGHEST = "highest, optimistic"
"""The mark of a layer that is highest on the rows that it is scored on."""
MANY = 12
"""Above so many values of a column, their number stands instead of a row each."""


STALE = "stale: made with another recipe than this one; run make train (or make fuse)"
"""What a run is that is marked so."""


def partitions_of(scored: Sequence[Scored]) -> list[str]:
    """The partitions of the overview that any run has."""
    return [p for p in PARTITIONS if any(p in run.scores.partitions for run in scored)]


def title_cell(run: Scored, pages: Pages) -> Cell:
    """A run's name, leading to its page."""
    return Cell(run.title, marks=run.marks, href=pages.get(run.folder, ""))


def blocks(scored: Sequence[Scored], row: Callable[[Scored], Row]) -> list[list[Row]]:
    """Rows of models, then of fusions; a kind without any is left out."""
    kinds = [[row(run) for run in scored if run.kind == kind] for kind in ("model", "fusion")]
    return [rows for rows in kinds if rows]


def overview(
    recipe: Recipe,
    scored: Sequence[Scored],
    pages: Pages,
    statistics: Statistics | None = None,
) -> Sheet:
    """Every run of a protocol by the metrics of the overview.

    The best, and what `statistics` cannot tell from it, is in bold; `pages` may be empty.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
    pages : mapping
        Folder of a run -> its page.
    statistics : Statistics, optional

    Returns
    -------
    Sheet
    """
    partitions, shown = partitions_of(scored), recipe.shown
    most = {p: max(part.n if (part := run.scores.partitions.get(p)) else 0 for run in scored)
             for p in partitions}  # fmt: skip

    def row(run: Scored) -> Row:
        cells = [title_cell(run, pages)]
        for partition in partitions:
            found = run.scores.partitions.get(partition)
            for metric in shown:
                strong = run.name in best(statistics, partition, metric)
                cell = _overview_cell(found, metric, most[partition])
                cells.append(replace(cell, strong=strong))
        return cells

    protocol = recipe.name.rpartition("/protocols/")[2] if "/" in recipe.name else ""
    return Sheet(
        f"Scores of every run{f', {protocol}' if protocol else ''}",
        caption(recipe, scored),
        [
            "run",
            *(
                f"{partition_name}, {NAMES[metric]}"
                for partition_name in partitions
                for metric in shown
            ),
        ],
        blocks(scored, row),
        f"scores-{protocol}" if protocol else "scores",
        best_meaning(statistics),
        [
            *column_notes(recipe, scored, partitions),
            *best_notes(statistics, partitions),
            *([STALE] if any(run.stale for run in scored) else []),
        ],
    )


def _overview_cell(found: PartitionScores | None, metric: str, most: int = 0) -> Cell:
    """A score; its rows are counted where another run has more of them, `most`."""
    if found is None:
        return Cell(NONE)
    if not found.metrics:
        return Cell("masked")
    notes = [f"n = {found.n}"] * (found.n < most) + _few(found)
    detail = ""
    if folds := found.folds:
        mean, std = (number(of[metric]) for of in (folds.mean, folds.std))
        detail = f"folds: {mean} ± {std} ({folds.n})"
    return replace(entry(found.metrics[metric], "; ".join(notes)), detail=detail)


def _few(found: RowScores) -> list[str]:
    speakers = found.n_speakers
    return [counted(speakers, "speaker")] if speakers and speakers < FEW_SPEAKERS else []


def targets(recipe: Recipe, scored: Sequence[Scored], pages: Pages) -> Sheet | None:
    """The first metric of every target and run, on the last partition that has any truth.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
    pages : mapping
        Folder of a run -> its page.

    Returns
    -------
    Sheet or None
        None where no target has a truth.
    """
    metric = recipe.shown[0]
    for partition in reversed(partitions_of(scored)):
        found = {
            run.folder: part.per_target if (part := run.scores.partitions.get(partition)) else {}
            for run in scored
        }
        if not any(found.values()):
            continue

        def row(run: Scored, found: Mapping[Path, Mapping[str, TargetScore]] = found) -> Row:
            own = found[run.folder]
            return [
                title_cell(run, pages),
                *(point(own[t].metrics[metric]) if t in own else Cell(NONE)
                  for t in recipe.targets),
            ]  # fmt: skip

        return Sheet(
            "Every target of every run",
            f"{NAMES[metric]} per target on {partition}; intervals are on the pages of the runs",
            ["run", *recipe.targets],
            blocks(scored, row),
            "targets",
        )
    return None


def gaps(recipe: Recipe, scored: Sequence[Scored], others: Protocols, pages: Pages) -> Sheet | None:
    """The first metric on `test` by protocol, with paired differences to the main one.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
        Of the main protocol.
    others : Protocols
        Those beside it.
    pages : mapping
        Folder of a run -> its page.

    Returns
    -------
    Sheet or None
        None where there is nothing to show.
    """
    if not others.scored:
        return None
    metric = recipe.shown[0]
    by_name = {name: {run.member: run for run in more} for name, more in others.scored.items()}
    main = {run.member: run for run in scored if run.kind == "model"}

    def cell(run: Scored | None) -> Cell:
        found = run.scores.partitions.get("test") if run else None
        if run is None or not found or not found.metrics:
            return Cell("masked" if found else NONE)
        shown = entry(found.metrics[metric], "; ".join(_few(found)))
        marks = [*shown.marks, *(["stale"] if run.stale else [])]
        return replace(shown, marks=marks, href=pages.get(run.folder, ""))

    rows = []
    for member in dict.fromkeys([*main, *(name for more in by_name.values() for name in more)]):
        known = [of[member] for of in (main, *by_name.values()) if member in of]
        row = [title_cell(known[0], pages), cell(main.get(member))]
        for name, members in by_name.items():
            gap = others.gaps[name].get(member)
            row.append(cell(members.get(member)))
            row.append(_gap_cell(gap, metric) if gap else Cell(NONE))
        rows.append(row)
    columns = [part for name in by_name for part in (name, f"{name}, difference")]
    return Sheet(
        "Protocols",
        f"{NAMES[metric]} on test by protocol; differences to {recipe.split.outer} are paired, on "
        "the rows that both hold out, with the scores of both there",
        ["run", recipe.split.outer, *columns],
        [rows],
        "protocols",
    )


def seeds(recipe: Recipe, found: Seeds | None, titles: Mapping[str, str]) -> list[Sheet]:
    """The first metric over seeds, and the gains of the best over others: tables a partition.

    Parameters
    ----------
    recipe : Recipe
    found : Seeds or None
    titles : mapping
        System -> title of its run.

    Returns
    -------
    list of Sheet
        None where nothing was repeated.
    """
    metric = recipe.shown[0]
    result: list[Sheet] = []
    if not found:
        return result
    for partition, part in found.partitions.items():
        rows = []
        for system, scores in part.systems.items():
            spread = scores[metric]
            numbers = [
                plain(of) for of in (spread.mean, spread.deviation, spread.least, spread.largest)
            ]
            rows.append([text(titles.get(system, system)), *numbers, count(len(spread.by_seed))])
        caption = f"{NAMES[metric]} on {partition} over seeds {', '.join(map(str, found.seeds))}"
        header = ["run", "mean", "deviation", "least", "largest", "seeds"]
        name = f"seeds-{partition}"
        notes = [f"left out: {system}: {why}" for system, why in found.left_out.items()]
        title = f"Other seeds, {partition}"
        result.append(Sheet(title, caption, header, [rows], name, notes=notes))
        result += _seed_gains(recipe, part, partition, metric, titles)
    return result


def _seed_gains(
    recipe: Recipe,
    part: PartitionSeeds,
    partition: str,
    metric: str,
    titles: Mapping[str, str],
) -> list[Sheet]:
    """The gains of the system with the highest mean over the others; none without pairs."""
    means = {system: scores[metric].mean for system, scores in part.systems.items()}
    known = {system: mean for system, mean in means.items() if mean is not None}
    highest = max(known, key=known.__getitem__) if known else None
    pairs = [pair for pair in part.pairs.get(metric, ()) if highest in (pair.a, pair.b)]
    if highest is None or not pairs:
        return []
    rows = []
    for pair in pairs:
        other = pair.b if pair.a == highest else pair.a
        gain = pair.mean if pair.a == highest else turned(pair.mean)
        parts = (pair.of_gain, pair.share)
        cells = [difference(gain), plain(pair.deviation), *map(_percent, parts)]
        rows.append([text(titles.get(other, other)), *cells])
    unlike = "the seeds hold out other rows, the chance of which is in theirs"
    lacking = dict.fromkeys(pair.lacking for pair in pairs if pair.lacking)
    best_title = titles.get(highest, highest)
    confidence = f"{recipe.evaluate.confidence:.0%}"
    return [
        Sheet(
            f"Gains over seeds, {partition}",
            f"{NAMES[metric]} on {partition}: gain of {best_title} over others, with its "
            f"{confidence} interval over speakers; share: what the seeds have of the variance "
            "that they and the speakers give one run",
            ["over", "gain", "deviation over seeds", "to the gain", "share of the variance"],
            [rows],
            f"seeds-gains-{partition}",
            notes=[*([] if part.same_rows else [unlike]), *lacking],
        )
    ]


def _percent(value: float | None) -> Cell:
    return Cell("undefined" if value is None else f"{value:.0%}", value)


def _gap_cell(gap: Gap, metric: str) -> Cell:
    if not gap.metrics:
        return Cell(gap_text(gap, metric))
    size = gap_size(gap.n, gap.n_speakers, gap.lacking)
    note = f"{both_scores(gap, metric)} there, {size}"
    found = gap.metrics[metric]
    return Cell(gap_text(gap, metric), found.value, note=note, marks=found.marks)


def of_targets(result: RowScores, where: str, name: str) -> Sheet:
    """All metrics of every target of a regression, and their means.

    Parameters
    ----------
    result : RowScores
    where : str
        What rows these are, for the caption.
    name : str
        Stem of the table's files.

    Returns
    -------
    Sheet
    """
    rows = [
        [text(target), *(entry(found.metrics[metric]) for metric in result.metrics), count(found.n)]
        for target, found in result.per_target.items()
    ]
    means = [text("mean"), *map(entry, result.metrics.values()), Cell(NONE)]
    return Sheet(
        f"Scores per target, {where}",
        f"Scores per target, {where}: {size_text(result)}",
        ["target", *(NAMES[metric] for metric in result.metrics), "n"],
        [rows, [means]],
        name,
    )


def of_classes(result: RowScores, where: str, name: str, marks: Sequence[str] = ()) -> Sheet:
    """Precision, recall and F1 of every class.

    Parameters
    ----------
    result : RowScores
    where : str
        What rows these are, for the caption.
    name : str
        Stem of the table's files.
    marks : sequence of str
        Of the run, beside those of the scores.

    Returns
    -------
    Sheet
    """
    rows = [
        [
            text(label),
            *(plain(score) for score in (found.precision, found.recall, found.f1)),
            count(found.support),
        ]
        for label, found in result.per_class.items()
    ]
    return Sheet(
        f"Scores per class, {where}",
        f"Scores per class, {where}: {size_text(result)}",
        ["class", "precision", "recall", "F1", "support"],
        [rows],
        name,
        marks=_all_marks(result, marks),
    )


def confusion(
    result: RowScores, labels: Sequence[str], where: str, name: str, marks: Sequence[str] = ()
) -> Sheet:
    """Counts, with per cent of the row behind them on the page.

    Parameters
    ----------
    result : RowScores
    labels : sequence of str
    where : str
        What rows these are, for the caption.
    name : str
        Stem of the table's files.
    marks : sequence of str
        Of the run, beside those of the scores.

    Returns
    -------
    Sheet
    """
    rows = []
    for label, counts in zip(labels, result.confusion, strict=True):
        total = sum(counts)
        shares = [f"{100 * n / total:.1f} %" if total else "" for n in counts]
        cells = [Cell(str(n), n, note=share) for n, share in zip(counts, shares, strict=True)]
        rows.append([text(label), *cells])
    return Sheet(
        f"Confusion matrix, {where}",
        f"Confusion matrix, {where}: counts of utterances; rows are the truth, columns the "
        "prediction",
        ["true \\ predicted", *labels],
        [rows],
        name,
        marks=_all_marks(result, marks),
    )


def _all_marks(result: RowScores, marks: Sequence[str]) -> list[str]:
    """The marks of scores and of their run, each once."""
    return list(dict.fromkeys([*result.marks, *marks]))


def summary(result: RowScores, where: str) -> Sheet:
    """All metrics with their intervals, and what single folds say.

    Parameters
    ----------
    result : RowScores
    where : str
        What rows these are, for the caption.

    Returns
    -------
    Sheet
    """
    # Of a corpus alone there are none.
    found = result.folds if isinstance(result, PartitionScores) else None
    rows = [
        [
            text(NAMES[metric]),
            entry(pooled),
            *((plain(of[metric], pooled.marks) for of in (found.mean, found.std)) if found else ()),
        ]
        for metric, pooled in result.metrics.items()
    ]
    beside = [f"mean of {counted(found.n, 'fold')}", "deviation of folds"] if found else []
    return Sheet(
        f"Scores, {where}",
        f"Scores, {where}: {size_text(result)}",
        ["score", "value", *beside],
        [rows],
    )


def transfer(run: Scored, metric: str, name: str) -> Sheet | None:
    """A metric of a cross-corpus run, a row what was trained on.

    Parameters
    ----------
    run : Scored
    metric : str
    name : str
        Stem of the table's files.

    Returns
    -------
    Sheet or None
        None of a run within corpora.
    """
    found = run.scores.transfer
    if found is None:
        return None
    rows = [
        [
            text(train),
            *(Cell(NONE) if cell is None else entry(cell.metrics[metric], "; ".join(_few(cell)))
              for cell in cells),
        ]
        for train, cells in zip(found.train, found.cells, strict=True)
    ]  # fmt: skip
    return Sheet(
        f"Pairs of corpora, {run.title}",
        f"{run.marked_title}: {NAMES[metric]}, trained on (rows), tested on (columns)",
        ["trained on", *found.test],
        [rows],
        name,
    )


def grid(run: Scored, metric: str, name: str) -> Sheet | None:
    """A metric of a run over the grid of speakers and sentences.

    Parameters
    ----------
    run : Scored
    metric : str
    name : str
        Stem of the table's files.

    Returns
    -------
    Sheet or None
        None of a run without such a grid.
    """
    if (gaps := run.scores.gaps) is None:
        return None

    def cell(partition: str) -> Cell:
        found = run.scores.partitions.get(partition)
        if found is None:
            return Cell(NONE)
        gap = gaps.get(partition)
        return entry(found.metrics[metric], gap_text(gap, metric) if gap else "")

    return Sheet(
        f"Speakers and sentences, {run.title}",
        f"{run.marked_title}: {NAMES[metric]} of the same rows, by what was trained on; "
        "behind it the difference to new speakers and new sentences",
        ["trained on", *(title for title, _ in GRID[0][1])],
        [[[text(title), *(cell(partition) for _, partition in cells)] for title, cells in GRID]],
        name,
    )


def hardest(
    run: Scored,
    predictions: Sequence[tuple[str, pd.DataFrame]],
    worst: pd.Series,
    audio: Audio,
    where: str,
) -> Sheet:
    """The utterances that a run has furthest off, with what the models make of them.

    Parameters
    ----------
    audio : Audio
    where : str
        The partition, for the caption.
    run : Scored
    predictions : sequence of (title, DataFrame)
        Predictions with a column `difficulty`, indexed by `examples.ROW`; the run's own first.
    worst : Series
        `examples.hardest` of the run.

    Returns
    -------
    Sheet
    """
    classes = run.scores.task == "classification"
    several = len({key[0] for key in worst.index}) > 1
    # A row that a run has not predicted is all NaN.
    found = [of_run.reindex(worst.index).to_dict("records") for _, of_run in predictions]
    rows = []
    for key, own, *others in zip(worst.index, *found, strict=True):
        corpus, utterance = key[:2]
        name = f"{corpus}/{utterance}" if several else utterance
        link = audio.links.get((corpus, utterance), "")
        row = [text(name), Cell("" if link else NONE, audio=link)]
        row += [text(own["true"])] if classes else []
        row += [_prediction(each, classes) for each in (own, *others)]
        rows.append(row)
    by = "margin" if classes else "distance"
    return Sheet(
        f"Hardest utterances, {where}",
        f"The {len(rows)} utterances with the worst {by} of this run, {where}",
        [
            "utterance",
            "recording",
            *(["true"] if classes else []),
            *(title for title, _ in predictions),
        ],
        [rows],
    )


def _prediction(row: Mapping[str, Any], classes: bool) -> Cell:
    hard = row["difficulty"]
    if pd.isna(hard):
        return Cell(NONE)
    if classes:
        return Cell(row["pred"], -hard, note=f"{-hard:+.2f}")
    off = {
        name.removesuffix("_true"): abs(row[f"{name.removesuffix('_true')}_pred"] - truth)
        for name, truth in row.items()
        if name.endswith("_true") and not pd.isna(truth)
    }
    worst = max(off, key=lambda target: off[target])
    note = f"{worst}: {row[f'{worst}_true']:.2f} predicted {row[f'{worst}_pred']:.2f}"
    return Cell(number(hard), hard, note=note)


def chosen(run: Scored) -> Sheet | None:
    """The hyperparameters that each fold chose.

    Parameters
    ----------
    run : Scored

    Returns
    -------
    Sheet or None
        None of a run that chose nothing.
    """
    if "chosen" not in run.record:
        return None
    rows = [
        [
            text(fold or NONE),
            text(cell.get("target", "all")),
            text(cell["scaler"]),
            text(", ".join(f"{key} = {value}" for key, value in cell["params"].items())),
            plain(cell["score"]),
        ]
        for fold, cells in run.record["chosen"].items()
        for cell in cells
    ]
    select = run.record.get("recipe", {}).get("head", {}).get("select", "the selection score")
    header = ["fold", "target", "scaler", "parameters", "score"]
    return Sheet("Chosen hyperparameters", f"Chosen by {select}", header, [rows])


def learned(run: Scored) -> list[Sheet]:
    """The weights and temperatures of a fusion's members that each fold learned.

    Parameters
    ----------
    run : Scored

    Returns
    -------
    list of Sheet
        Empty of a run that learned none.
    """
    members = run.record.get("members", [])
    targets = run.scores.targets
    found = []
    for key in ("weights", "temperatures"):
        rows: list[Row] = []
        for fold, rule in run.record.get("learned", {}).items():
            # A member's values: one, or one a target.
            values = [each if isinstance(each, list) else [each] for each in rule.get(key, [])]
            several = len(values) > 0 and len(values[0]) > 1
            for i in range(len(values[0]) if values else 0):
                of = targets[i] if several else "all"
                rows.append([text(fold or NONE), text(of), *(plain(each[i]) for each in values)])
        if rows:
            header = ["fold", "target", *members]
            found.append(Sheet(key.capitalize(), f"{key.capitalize()} learned", header, [rows]))
    return found


def layer_weights(run: Scored) -> list[Sheet]:
    """What each layer weighs in a network that learned it, a row a fold; empty of other runs."""
    found = run.record.get("layer_weights", {})
    if not found:
        return []
    rows = [
        [text(fold or NONE), *(plain(weight) for weight in weights)]
        for fold, weights in found.items()
    ]
    header = ["fold", *(str(layer) for layer in run.record["layers"])]
    note = "They sum to 1; a layer whose states are large needs less weight for the same effect."
    return [Sheet("Layer weights", "Layer weights learned", header, [rows], notes=[note])]


def layers(recipe: Recipe, sweep: Sweep, name: str, pages: Pages) -> Sheet:
    """The scores of a model by its layer, beside what each would be chosen by.

    Parameters
    ----------
    recipe : Recipe
    sweep : Sweep
    name : str
        Stem of the table's files.
    pages : mapping
        Folder of a run -> its page.

    Returns
    -------
    Sheet
    """
    partitions, metric = partitions_of(sweep.runs), recipe.shown[0]
    highest = {partition: sweep.highest(partition, metric) for partition in partitions}

    def row(layer: int | str, run: Scored) -> Row:
        value = float(layer) if isinstance(layer, int) else None
        chosen_by = Cell(NONE)
        if isinstance(layer, int):
            selection = sweep.selection[layer]
            known = "undefined" if selection is None else f"{selection:.4f}"
            chosen_by = Cell(known, selection)
        cells = [_overview_cell(run.scores.partitions.get(p), metric) for p in partitions]
        cells = [
            replace(cell, marks=[*cell.marks, HIGHEST]) if layer == highest[p] else cell
            for p, cell in zip(partitions, cells, strict=True)
        ]
        link = pages.get(run.folder, "")
        return [Cell(str(layer), value, marks=run.marks, href=link), chosen_by, *cells]

    parts = [[row(*each) for each in part.items()] for part in (sweep.layers, sweep.others)]
    return Sheet(
        f"Layers of {sweep.name}",
        f"{NAMES[metric]} of {sweep.name} by layer; below the rule, runs of other kinds. Marked "
        "is the layer that is highest on the rows that it is scored on",
        ["layer", f"{recipe.head_of(sweep.head).select}, to choose by",
         *(f"{p}, {NAMES[metric]}" for p in partitions)],
        [part for part in parts if part],
        name,
        notes=[f"best: {runs.chosen_text(sweep.chosen)}"] if sweep.chosen else [],
    )  # fmt: skip


def counts(corpus: str, table: Table) -> Sheet:
    """How many utterances, speakers and what else a table has.

    Parameters
    ----------
    corpus : str
    table : Table

    Returns
    -------
    Sheet
    """
    utterances = table.rows
    speakers = utterances.loc[utterances["speaker"] != "", "speaker"].nunique()
    rows = [[text("utterances"), count(len(utterances))]]
    if speakers:
        rows.append([text("speakers"), count(speakers)])
    for column in ("partition", "gender", "language", "session"):
        known = utterances.loc[utterances[column] != "", column].value_counts(sort=False)
        if len(known) <= MANY:
            rows += [[text(f"{column} {name}"), count(int(n))] for name, n in known.items()]
        else:
            rows.append([text(f"{column}s"), count(len(known))])
    return Sheet(f"Counts of {corpus}", f"Counts of {corpus}", ["what", "n"], [rows])


def truths(recipe: Recipe, corpus: str, table: Table) -> Sheet | None:
    """Utterances of every class, or with a truth for every target, by partition.

    Parameters
    ----------
    recipe : Recipe
    corpus : str
    table : Table

    Returns
    -------
    Sheet or None
        None where there is nothing to show.
    """
    utterances = table.rows
    partitions = [name for name in dict.fromkeys(utterances["partition"]) if name]
    if recipe.target in table.labels:
        names = [*table.labels[recipe.target]]
        has = {name: utterances[recipe.target] == name for name in names}
        what = "class"
    elif recipe.targets and set(recipe.targets) <= set(table.targets):
        names = [*recipe.targets]
        has = {name: utterances[name].notna() for name in names}
        what = "target"
    else:
        return None
    rows = [
        [
            text(name),
            *(count(int((has[name] & (utterances["partition"] == p)).sum())) for p in partitions),
            count(int(has[name].sum())),
        ]
        for name in names
    ]
    title = f"Utterances {'of every class' if what == 'class' else 'with a truth'}, {corpus}"
    return Sheet(title, title, [what, *partitions, "all"], [rows], "")


def splits(scored: Sequence[Scored]) -> list[tuple[Sheet, list[str]]]:
    """The folds of the runs, each split once, with its notes."""
    found: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for run in scored:
        if "split" in run.record:
            split = run.record["split"]
            found.setdefault(fingerprint(split), ([], split))[0].append(run.title)
    return [(_split(", ".join(titles), split), split["notes"]) for titles, split in found.values()]


def _split(titles: str, split: Mapping[str, Any]) -> Sheet:
    overlap = ", ".join(split["expect_overlap"])
    declared = f"; declared overlap: {overlap}" if overlap else ""
    rows = []
    for part in split["parts"]:
        shared = part["shared"]
        rows.append(
            [
                text(part["fold"] or NONE),
                text(part["part"]),
                count(part["fitted"]),
                count(part["held_out"]),
                *(Cell(f"{shared[k]['n']} of {shared[k]['of']}", shared[k]["n"]) if k in shared
                  else Cell(NONE) for k in OVERLAP_KINDS),
                text(", ".join(part["missing"])),
            ]
        )  # fmt: skip
    return Sheet(
        f"Folds of {titles}",
        f"{split['outer']}, inner {split['inner']}, seed {split['seed']}{declared}: {titles}; "
        "shared of held out",
        ["fold", "part", "fitted", "held out", *OVERLAP_KINDS, "classes missing"],
        [rows],
    )


def pairs(values: Mapping[str, Any], title: str, header: Sequence[str]) -> Sheet:
    """Names and values, as versions are."""
    return Sheet(title, title, header, [[[text(k), text(v)] for k, v in values.items()]])
