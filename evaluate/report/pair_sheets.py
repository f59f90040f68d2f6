"""Statistics as tables and pictures: comparisons, complementarity, groups, subsets, calibration.

Conventions
-----------
- `statistics` is the content of `statistics.json`, which has the names of systems (`mfcc`,
  `fusion/mean`); `titles` maps them to the titles of the runs.
- Nothing is computed: differences, p values and shares are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluate.metrics.metrics import OVER_CLASSES
from evaluate.report import plots
from evaluate.report.tables import (
    NONE,
    Cell,
    Sheet,
    count,
    difference,
    entry,
    p_value,
    plain,
    point,
    text,
)
from evaluate.report.words import least_p, least_p_of_best, units
from evaluate.scores.names import NAMES, number
from evaluate.scores.records import (
    Calibration,
    Complementarity,
    GroupGap,
    Grouping,
    GroupScores,
    HonestChoice,
    PartitionStatistics,
    Statistics,
    Subsets,
)
from evaluate.scores.score import Scored
from evaluate.scores.subsets import ANY, honest_members
from features.common.words import counted

MATRICES = {
    "correlation": "Correlation of errors",
    "disagreement": "Disagreement",
    "q": "Q statistic",
    "double_fault": "Double fault",
}


CALIBRATED = {"plain": "as it is", "tempered": "with temperatures"}
"""Parts of a calibration, and what tables and pictures call them."""


_MEANINGS = {
    "disagreement": "the share of rows that one of two models has right and the other has not.",
    "q": "1 where two models have the same rows right, 0 where one being right says nothing of "
    "the other, -1 where never both are right or both wrong (Yule's Q of the counts).",
    "double_fault": "the share of rows that both models have wrong.",
}
_CORRELATIONS = {
    "classification": "Pearson's r of being right, row by row: 1 where two models have the same "
    "rows right, 0 where one says nothing of the other.",
    "regression": "Pearson's r of prediction minus truth, row by row, the mean over targets: 1 "
    "where two models err alike, 0 where the errors of one say nothing of the other's.",
}


def meanings(found: Complementarity, task: str) -> list[tuple[str, str]]:
    """What is shown of how alike the models err, and what it is, in a sentence each."""
    of = {"correlation": _CORRELATIONS[task], **_MEANINGS}
    return [(MATRICES[key], of[key]) for key in MATRICES if getattr(found, key) is not None]


def best(statistics: Statistics | None, partition: str, metric: str) -> Sequence[str]:
    """The best system, and all that may be as good; empty where none were compared."""
    found = statistics.partitions.get(partition) if statistics else None
    return found.metrics[metric].not_worse if found else ()


def best_meaning(statistics: Statistics | None) -> str:
    """What bold print in the overview means; empty where nothing was compared.

    Parameters
    ----------
    statistics : Statistics, optional

    Returns
    -------
    str
    """
    for found in statistics.partitions.values() if statistics else ():
        return (
            "the best, and all whose difference to it could be chance "
            f"({found.test.level:.0%} level; swaps of speakers, else of utterances; corrected "
            "over comparisons with the best)"
        )
    return ""


def best_notes(statistics: Statistics | None, partitions: Sequence[str]) -> list[str]:
    """Where bold print in the overview can mean little."""
    compared = statistics.partitions if statistics else {}
    least = {name: least_p_of_best(compared[name]) for name in partitions if name in compared}
    return [f"{name}: {why}" for name, why in least.items() if why]


def comparisons(
    found: PartitionStatistics, partition: str, metric: str, titles: Mapping[str, str]
) -> Sheet:
    """Every two systems: difference, p values, and what could have been seen.

    Parameters
    ----------
    found : PartitionStatistics
    partition, metric : str
    titles : mapping
        System -> how it is shown.

    Returns
    -------
    Sheet
    """
    compared = found.metrics[metric]
    rows = [
        [
            text(titles.get(pair.a, pair.a)),
            text(titles.get(pair.b, pair.b)),
            difference(pair.difference),
            p_value(pair.p),
            p_value(pair.p_holm, found.test.level),
            plain(pair.detectable, found.marks),
        ]
        for pair in compared.pairs
    ]
    test = found.test
    kind = "all" if test.exact else "drawn"
    lacking = f"; {compared.lacking}" if compared.lacking else ""
    least = least_p(units(found), test, test.n_pairs, "pair")
    few = f"; {least}" if least else ""
    return Sheet(
        f"Differences in {NAMES[metric]}, {partition}",
        f"{NAMES[metric]} of the first minus that of the second, {partition}, on the "
        f"{counted(found.n, 'row')} that all have; permutation test over "
        f"{counted(test.n_swaps, 'swap')} ({kind}) of {units(found)}, corrected over "
        f"{counted(test.n_pairs, 'pair')} (Holm); detectable: the smallest true "
        f"difference that would be found four times in five{lacking}{few}",
        ["first", "second", "difference", "p", "p, Holm", "detectable"],
        [rows],
        f"differences-{partition}-{metric}",
    )


def mcnemar(found: PartitionStatistics, partition: str, titles: Mapping[str, str]) -> Sheet | None:
    """McNemar's test of accuracy.

    Parameters
    ----------
    found : PartitionStatistics
    partition : str
    titles : mapping
        System -> how it is shown.

    Returns
    -------
    Sheet or None
        None of a regression.
    """
    if not found.mcnemar:
        return None
    rows = [
        [
            text(titles.get(pair.a, pair.a)),
            text(titles.get(pair.b, pair.b)),
            count(pair.only_a),
            count(pair.only_b),
            p_value(pair.p),
            p_value(pair.p_holm, found.test.level),
        ]
        for pair in found.mcnemar
    ]
    return Sheet(
        f"McNemar's test, {partition}",
        f"McNemar's exact test of accuracy, {partition}: rows that one has right and the other has "
        "not. It takes the rows of a speaker for independent",
        ["first", "second", "first alone right", "second alone right", "p", "p, Holm"],
        [rows],
        f"mcnemar-{partition}",
        marks=found.marks,
    )


def matrices(whole: PartitionStatistics, partition: str, titles: Mapping[str, str]) -> list[Sheet]:
    """How alike the models err, a table each.

    Parameters
    ----------
    whole : PartitionStatistics
    partition : str
    titles : mapping
        System -> how it is shown.

    Returns
    -------
    list of Sheet
        Empty with fewer than two models.
    """
    found = whole.complementarity
    if found is None:
        return []
    names = [titles.get(name, name) for name in found.models]
    return [
        Sheet(
            f"{title}, {partition}",
            f"{title} of every two models, {partition}",
            ["model", *names],
            [[[text(name), *map(plain, row)]
              for name, row in zip(names, matrix, strict=True)]],
            f"{key.replace('_', '-')}-{partition}",
            marks=whole.marks,
        )
        for key, title in MATRICES.items()
        if (matrix := getattr(found, key)) is not None
    ]  # fmt: skip


def contributions(
    whole: PartitionStatistics, partition: str, metric: str, titles: Mapping[str, str]
) -> Sheet | None:
    """What each model adds to the mean of all.

    Parameters
    ----------
    whole : PartitionStatistics
    partition : str
    metric : str
    titles : mapping
        System -> how it is shown.

    Returns
    -------
    Sheet or None
        None with fewer than two models.
    """
    found = whole.complementarity
    if found is None:
        return None
    shares = found.contributions[metric]
    rows = [
        [
            text(titles.get(name, name)),
            plain(each.alone),
            plain(each.left_out),
            Cell(plain(each.shapley).text, each.shapley,
                 note="" if each.error is None else f"± {each.error:.3f}"),
        ]
        for name, each in shares.models.items()
    ]  # fmt: skip
    ends = [
        [text("all together"), plain(shares.whole), Cell(NONE), Cell(NONE)],
        [text("oracle: the best model of every row"), plain(found.oracle[metric]),
         Cell(NONE), Cell(NONE)],
    ]  # fmt: skip
    sampled = "" if found.exact else f", sampled over {found.n_subsets} subsets"
    return Sheet(
        f"What each model adds, {NAMES[metric]}, {partition}",
        f"{NAMES[metric]} of each model alone, what the mean of all loses without it, and its "
        f"Shapley value: the mean of what it adds to every subset{sampled}; the empty set counts "
        f"{number(found.empty[metric])}, what guessing gives; "
        f"{partition}",
        ["model", "alone", "lost without it", "Shapley value"],
        [rows, ends],
        f"contributions-{partition}-{metric}",
        marks=whole.marks,
    )


def gains(
    found: Complementarity, partition: str, metric: str, titles: Mapping[str, str]
) -> plots.Picture:
    """Gain of fusing two models against the correlation of their errors.

    Parameters
    ----------
    found : Complementarity
        Of the partition.
    partition : str
    metric : str
    titles : mapping
        System -> how it is shown.

    Returns
    -------
    Picture
        A point a pair of models.
    """
    pairs = [
        (
            pair.correlation,
            pair.gain,
            f"{titles.get(pair.a, pair.a)}, {titles.get(pair.b, pair.b)}",
        )
        for pair in found.pairs[metric]
        if pair.correlation is not None and pair.gain is not None
    ]
    return plots.scatter(
        pairs,
        "correlation of errors",
        f"gain in {NAMES[metric]} over the better",
        f"{NAMES[metric]} that two models gain by their mean, against the correlation of their "
        f"errors, {partition}",
    )


def pair_gains(
    whole: PartitionStatistics, partition: str, metric: str, titles: Mapping[str, str]
) -> Sheet | None:
    """The numbers of `gains`.

    Parameters
    ----------
    whole : PartitionStatistics
    partition : str
    metric : str
    titles : mapping
        System -> how it is shown.

    Returns
    -------
    Sheet or None
        None with fewer than two models.
    """
    found = whole.complementarity
    if found is None:
        return None
    rows = [
        [
            text(titles.get(pair.a, pair.a)),
            text(titles.get(pair.b, pair.b)),
            *map(plain, (pair.correlation, pair.score_a, pair.score_b, pair.fused, pair.gain)),
        ]
        for pair in found.pairs[metric]
    ]
    return Sheet(
        f"Pairs of models, {NAMES[metric]}, {partition}",
        f"{NAMES[metric]} of two models and of their mean, {partition}; the gain is over the "
        "better of them",
        ["first", "second", "correlation of errors", "first alone", "second alone", "mean", "gain"],
        [rows],
        f"pairs-{partition}-{metric}",
        marks=whole.marks,
    )


def groups(run: Scored, partition: str, stem: str) -> list[Sheet]:
    """Scores by gender, language, corpus, session and speaker, where they are known."""
    found = run.scores.groups.get(partition, {})
    return [_group(kind, each, partition, stem) for kind, each in found.items()]


def _group(kind: str, found: Grouping, partition: str, stem: str) -> Sheet:
    metrics = found.metrics
    gaps = "".join(f"; {_gap_text(metric, gap)}" for metric, gap in metrics.items())

    def cell(name: str, metric: str) -> Cell:
        gap, each = metrics[metric], found.groups[name]
        ends = [end for end in ("best", "worst") if getattr(gap, end) == name]
        cell = entry(each.metrics[metric], _lacking(metric, each))
        return replace(cell, marks=[*cell.marks, *ends])

    rows = [
        [
            text(name),
            count(each.n),
            *([] if kind == "speaker" else [_count_or_none(each.n_speakers)]),
            *(cell(name, metric) for metric in metrics),
        ]
        for name, each in found.groups.items()
    ]
    return Sheet(
        f"Scores by {kind}, {partition}",
        f"Scores by {kind}, {partition}; {found.resampled} resampled{_left_out(found)}{gaps}",
        [kind, "n", *([] if kind == "speaker" else ["speakers"]), *(NAMES[m] for m in metrics)],
        [rows],
        f"{kind}-{stem}",
    )


def _gap_text(metric: str, found: GroupGap) -> str:
    if found.gap is None:
        return f"{NAMES[metric]}: no best and worst: {found.why}"
    gap = difference(found.gap)
    ends = f"{NAMES[metric]} of {found.best} minus that of {found.worst}"
    return f"{ends}: {gap.text} {gap.bounds}".strip()


def _lacking(metric: str, group: GroupScores) -> str:
    """Of how many classes or targets a group's score is the mean, where it lacks some."""
    if group.targets:
        return f"{group.targets.has} of {group.targets.of} targets"
    if group.classes and metric in OVER_CLASSES:
        return f"{group.classes.has} of {group.classes.of} classes"
    return ""


def _left_out(found: Grouping) -> str:
    """How many resamples are left out of the interval of a group at most."""
    gaps = [each.gap for each in found.metrics.values() if each.gap]
    scores = [score for group in found.groups.values() for score in group.metrics.values()]
    most = max(each.undefined for each in (*gaps, *scores))
    if not most:
        return ""
    what = "lacks a class" if OVER_CLASSES[0] in found.metrics else "has no score"
    return (
        f"; resamples in which a group {what} are left out (up to {most:,} of "
        f"{found.n_resamples:,})"
    )


def _count_or_none(value: int | None) -> Cell:
    return Cell(NONE) if value is None else count(value)


def subsets(found: Subsets, name: str = "subsets", *, stale: bool = False) -> Sheet:
    """Every choice of models, beside what it is worth where it was not chosen.

    Parameters
    ----------
    found : Subsets
        One of `evaluate.scores.subsets.by_corpus`.
    name : str
        Stem of the table's files.
    stale : bool
        Chosen with another recipe than today's.

    Returns
    -------
    Sheet
    """
    drawn = {(draw.method, draw.metric, draw.k): draw for draw in found.random}
    lacking = f"; UAR: {found.lacking}" if found.lacking else ""
    rows = []
    for choice in found.choices:
        best = choice.best
        if best is None:
            continue
        size = len(best.members)
        random = drawn[choice.method, choice.metric, size].quantiles
        others = f"and {best.n_best - 1} as good" if best.n_best > 1 else ""
        rows.append(
            [
                text(NAMES[choice.metric]),
                text(choice.method),
                text(choice.search),
                text(ANY) if choice.k == ANY else count(size),
                point(best),
                _members(best.members, others),
                *_chosen(choice.honest),
                Cell(NONE) if choice.optimism is None else difference(choice.optimism),
                plain(random["0.05"]),
                plain(random["0.95"]),
            ]
        )
    on = f"chosen on {found.chosen_on}" if found.chosen_on else "chosen elsewhere"
    return Sheet(
        f"Subsets of models, {found.partition}",
        f"Subsets of {len(found.members)} models, {found.partition}{' (stale)' * stale}: the best, "
        "chosen on the rows that it is scored on; one chosen without them; their difference; "
        f"random ones as large as the best{lacking}",
        [
            "score",
            "method",
            "search",
            "size",
            "best",
            "best members",
            on,
            "chosen members",
            "optimism",
            "random, 5 %",
            "random, 95 %",
        ],
        [rows],
        name,
        notes=[] if found.chosen_on or not found.why else [found.why],
    )


def best_subsets(found: Subsets, *, stale: bool = False) -> Sheet:
    """The choices over all sizes alone, for the page of scores."""
    whole = subsets(found, stale=stale)
    rows = [row for row in whole.rows if row[whole.header.index("size")].text == ANY]
    return replace(whole, blocks=[rows], name="")


def _members(members: Sequence[str], *notes: str, marks: Sequence[str] = ()) -> Cell:
    note = ", ".join(filter(None, [counted(len(members), "model"), *notes]))
    return Cell(" + ".join(members), note=note, marks=marks)


def _chosen(honest: HonestChoice | None) -> list[Cell]:
    """The score of what was chosen without the scored rows, and its members."""
    if honest is None:
        return [Cell(NONE), Cell(NONE)]
    members, folds = honest_members(honest)
    return [entry(honest), _members(members, marks=[folds] if folds else [])]


def chosen_by_folds(found: Subsets) -> bool:
    """Whether every fold of a cross-validation has made a choice of its own."""
    return any(
        choice.honest is not None and len(choice.honest.choices) > 1 for choice in found.choices
    )


def subset_curves(
    found: Subsets, metric: str, chance: float | None = None
) -> list[tuple[str, plots.Picture]]:
    """The score against the size of a subset, a picture for each method and search.

    Parameters
    ----------
    found : Subsets
    metric : str
    chance : float, optional
        A score that guessing has.

    Returns
    -------
    list of (str, Picture)
        What the picture is of, and the picture.
    """
    pictures = []
    kinds = dict.fromkeys((choice.method, choice.search) for choice in found.choices)
    for method, search in kinds:
        chosen = {
            choice.k: (choice.best, choice.honest)
            for choice in found.choices
            if (choice.method, choice.search, choice.metric) == (method, search, metric)
            and isinstance(choice.k, int)
            and choice.best is not None
        }
        drawn = {
            draw.k: (draw.quantiles["0.05"], draw.mean, draw.quantiles["0.95"])
            for draw in found.random
            if (draw.method, draw.metric) == (method, metric) and draw.mean is not None
        }
        if len(chosen) > 1:
            picture = plots.by_size(
                {k: best.value for k, (best, _) in chosen.items()},
                {k: honest for k, (_, honest) in chosen.items() if honest},
                drawn,
                NAMES[metric],
                f"{NAMES[metric]} of subsets by size, {method}, {search}, {found.partition}",
                chance=chance,
            )
            pictures.append((f"{method}, {search}", picture))
    return pictures


def calibration(run: Scored, partition: str) -> Calibration | None:
    """Confidence and accuracy of a run, where its scores have them."""
    return run.scores.calibration.get(partition)


def calibration_errors(run: Scored, partition: str, stem: str) -> Sheet | None:
    """The expected calibration error with and without temperatures.

    Parameters
    ----------
    run : Scored
    partition : str
    stem : str
        Of the table's files.

    Returns
    -------
    Sheet or None
        None where its scores have no calibration.
    """
    found = calibration(run, partition)
    if found is None:
        return None
    scores = run.scores.partitions.get(partition)
    rows = [[text(name), plain(getattr(found, key).error)] for key, name in CALIBRATED.items()]
    return Sheet(
        f"Expected calibration error, {partition}",
        f"Expected calibration error, {partition}",
        ["class scores", "error"],
        [rows],
        f"calibration-{stem}",
        marks=list(dict.fromkeys([*(scores.marks if scores else ()), *run.marks])),
    )


def calibration_note(found: Calibration) -> str:
    """What confidence, its bins and the error are, and where temperatures come from.

    Parameters
    ----------
    found : Calibration

    Returns
    -------
    str
    """
    values = [value for value in found.temperatures.values() if value is not None]
    plainly, tempered = found.plain.error or 0.0, found.tempered.error or 0.0
    larger = "; here they make the error larger" if tempered > plainly else ""
    return (
        "Confidence is the probability of the predicted class, the softmax of the class scores. "
        f"Rows lie in {len(found.plain.counts)} bins of confidence of one width, and the "
        "area of a marker is its bin's share of them. The expected calibration error is the "
        "distance of accuracy and confidence in a bin, averaged over all rows. Temperatures, by "
        "which scores are divided, are fitted on the inner rows of each fold: "
        f"{number(min(values))} to {number(max(values))}{larger}."
    )


def reliability(found: Calibration, title: str) -> plots.Picture:
    """Accuracy against confidence, with and without temperatures.

    Parameters
    ----------
    found : Calibration
    title : str
        What the picture shows, for those who do not see it.

    Returns
    -------
    Picture
    """
    return plots.reliability(
        {
            name: [
                (confidence, accuracy, n)
                for confidence, accuracy, n in zip(
                    bins.confidence, bins.accuracy, bins.counts, strict=True
                )
                if confidence is not None and accuracy is not None
            ]
            for bins, name in zip((found.plain, found.tempered), CALIBRATED.values(), strict=True)
        },
        title,
    )
