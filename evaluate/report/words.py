"""Scores, counts and differences in words, as tables, captions and notes have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evaluate.scores.names import FEW_SPEAKERS, NAMES, PARTITIONS, SMALL_P, number
from evaluate.scores.partition import absent_classes, lacking_notes
from evaluate.scores.records import (
    Estimate,
    Gap,
    PartitionStatistics,
    PermutationTest,
    RowScores,
)
from evaluate.scores.score import Scored, optimism
from features.common.words import counted

if TYPE_CHECKING:
    from evaluate.runs.curves import LearningCurve
    from features.recipe.model import Recipe


def marked_partition(partition: str, scored: Sequence[Scored]) -> str:
    """The name of a partition, marked where the scores are optimistic."""
    return f"{partition} (optimistic)" if optimism(partition, scored) else partition


def column_notes(recipe: Recipe, scored: Sequence[Scored], partitions: Sequence[str]) -> list[str]:
    """Where a column is optimistic, and what those of UAR and their intervals go without.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
    partitions : sequence of str
        Those that are shown.

    Returns
    -------
    list of str
        A line each.
    """
    found = [
        line
        for name in partitions
        for run in scored
        if (part := run.scores.partitions.get(name))
        for line in (
            *([f"{name}: {part.optimistic}"] if part.optimistic else []),
            *absent_classes(name, part.per_class),
            *lacking_notes(name, part.metrics, recipe),
        )
    ]
    return list(dict.fromkeys(found))


def units(found: PartitionStatistics) -> str:
    """What the test of a partition swaps: a count of speakers, or of utterances."""
    return counted(found.n_units, "speaker" if found.n_speakers else "utterance")


def least_p_of_best(found: PartitionStatistics) -> str:
    """The least corrected p value of a comparison with the best; empty where it is small."""
    return least_p(units(found), found.test, len(found.systems) - 1, "comparison", " with the best")


def least_p(units: str, test: PermutationTest, n: int, what: str, end: str = "") -> str:
    """The least p value that there can be, corrected over `n` comparisons; empty where it is small.

    Examples
    --------
    >>> test = PermutationTest(0.05, 45, 512, True, 1 / 512, False, True)
    >>> least_p("10 speakers", test, 13, "comparison", " with the best")
    '10 speakers, 13 comparisons with the best: a corrected p is 0.025 at least'
    >>> least_p("10 speakers", test, 45, "pair")
    '10 speakers, 45 pairs: a corrected p is 0.088 at least: too few to show any difference'
    >>> least_p("10 speakers", test, 5, "pair")
    ''
    """
    least = min(1.0, test.smallest_p * n)
    if least <= SMALL_P:
        return ""
    few = ": too few to show any difference" if least > test.level else ""
    return f"{units}, {counted(n, what)}{end}: a corrected p is {least:.2g} at least{few}"


def gap_text(gap: Gap, metric: str) -> str:
    """A difference with its sign and interval; why there is none."""
    return difference_text(gap.metrics[metric]) if gap.metrics else f"no gap: {gap.why}"


def difference_text(found: Estimate) -> str:
    """A difference with its sign and interval.

    Examples
    --------
    >>> difference_text(Estimate(0.05, -0.01, 0.11))
    '+0.050 [-0.010, +0.110]'
    """
    value, low, high = ("undefined" if number is None else f"{number:+.3f}"
                        for number in (found.value, found.low, found.high))  # fmt: skip
    return f"{value} [{low}, {high}]"


def both_scores(gap: Gap, metric: str) -> str:
    """The scores on the rows that both hold out: of what is compared with, then of the first.

    Examples
    --------
    >>> both_scores(Gap(9, 2, {}, {"uar": (0.692, 0.594)}), "uar")
    '0.594 -> 0.692'
    """
    first, second = gap.scores[metric]
    return f"{number(second)} -> {number(first)}"


def gap_size(n: int, n_speakers: int | None, lacking: str = "") -> str:
    """On how much a difference stands.

    Examples
    --------
    >>> gap_size(107, 10), gap_size(107, None)
    ('n = 107, 10 speakers', 'n = 107')
    """
    few = counted(n_speakers, "speaker") if n_speakers and n_speakers < FEW_SPEAKERS else ""
    return ", ".join(filter(None, [f"n = {n}", few, lacking]))


def curve_text(curve: LearningCurve, score: str) -> str:
    """A learning curve for those who do not see it.

    Parameters
    ----------
    curve : LearningCurve
    score : str
        What the score is called.

    Returns
    -------
    str
    """
    ends = [[number(float(mean[i])) for i in (0, -1)] for mean in (curve.loss[0], curve.score[0])]
    (loss, last_loss), (first, last) = ends
    kept = f"; kept after {curve.unit} {curve.median_kept:g}" if curve.kept else ""
    return (
        f"from {curve.unit} {curve.at[0]:g} to {curve.at[-1]:g} the mean training loss goes "
        f"from {loss} to {last_loss}, {score} on the inner rows from {first} to {last}{kept}"
    )


def curve_caption(curve: LearningCurve, score: str, record: Mapping[str, Any]) -> str:
    """What the picture of a learning curve is of.

    Parameters
    ----------
    curve : LearningCurve
    score : str
        What the score is called.
    record : mapping
        `run.json`.

    Returns
    -------
    str
    """
    fits = "the inner fit"
    if curve.n_fits > 1:
        fits = f"mean of {curve.n_fits} inner fits with one deviation"
    of = f"{fits}, of the chosen settings"
    if "chosen_layers" in record:
        of += f" at layer {record['layers'][0]}, which the head for new audio is of"
    kept = ""
    if curve.kept:
        each = "; a mark is that of one choice" if len(set(curve.kept)) > 1 else ""
        kept = f" Dashed: the {curve.unit} that was kept, {curve.median_kept:g}{each}."
    return (
        f"Training loss, and {score} on the inner rows: {of}.{kept} "
        "All fits: curves.csv of the run."
    )


def caption(recipe: Recipe, scored: Sequence[Scored]) -> str:
    """Say what the numbers of the overview are and on how much they stand.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored

    Returns
    -------
    str
    """
    names = " and ".join(NAMES[m] for m in recipe.shown)
    if recipe.task == "regression" and len(recipe.targets) > 1:
        names += f", mean of {len(recipe.targets)} targets"
    sizes = []
    for partition in PARTITIONS:
        found = [s.scores.partitions[partition] for s in scored if partition in s.scores.partitions]
        sizes += [f"{partition} {size}" for size in dict.fromkeys(map(size_text, found))]
    by = "speakers" if any(s.scores.n_speakers for s in scored) else "utterances"
    return (
        f"{recipe.name}: {names}, with {recipe.evaluate.confidence:.0%} bootstrap intervals over "
        f"{by}; {'; '.join(sizes)}"
    )


def size_text(found: RowScores) -> str:
    """Utterances and speakers of scored rows, in words."""
    text = counted(found.n, "utterance")
    return f"{text} of {counted(found.n_speakers, 'speaker')}" if found.n_speakers else text
