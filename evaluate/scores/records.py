"""What is found of runs, as records: estimates, and what they are gathered in.

Conventions
-----------
- Records are frozen. `evaluate.scores.stored` writes them as JSON and reads them back; `FORMAT.md`
  beside this file says what a file holds. A member with a default may be left out there.
- A `Number` is None where it is undefined; a count of speakers is None where none is known.
- A mark says in a word or two what a reader must know of an estimate, such as `optimistic`. It is
  a member of the estimate, so that whatever shows it can show the mark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from numpy.typing import NDArray
from pydantic import ConfigDict, Strict

from evaluate.statistics import resampling as intervals

Number = Annotated[float, Strict()] | None
Count = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
T = TypeVar("T")

OPTIMISTIC = "optimistic"
"""The mark of what was chosen on the rows that it is scored on."""


class Record:
    """What all records share: a member that is not of the record is refused on reading."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Estimate(Record):
    """A score, or a difference of scores, with its interval.

    Attributes
    ----------
    value : float or None
    low, high : float or None
        Bounds of the interval; None where there are none.
    undefined : int
        Resamples that were left out of the interval: the score was undefined in them.
    marks : tuple of str
    """

    value: Number
    low: Number = None
    high: Number = None
    undefined: Count = 0
    marks: tuple[str, ...] = ()


def number_or_none(value: float | None) -> float | None:
    """A plain float; None for what is undefined.

    Examples
    --------
    >>> number_or_none(0.5), number_or_none(float("nan"))
    (0.5, None)
    """
    return None if value is None or not math.isfinite(value) else float(value)


def estimate(
    value: float, resampled: NDArray[Any], confidence: float, marks: Iterable[str] = ()
) -> Estimate:
    """A score with the interval of its resamples.

    Parameters
    ----------
    value : float
        NaN where it is undefined.
    resampled : float64, shape (n_resamples,)
        NaN where it is undefined in a resample.
    confidence : float
        Of the interval, such as 0.95.
    marks : iterable of str

    Returns
    -------
    Estimate
    """
    bounds = intervals.interval(resampled, confidence)
    return Estimate(
        number_or_none(value),
        number_or_none(bounds.low),
        number_or_none(bounds.high),
        bounds.undefined,
        tuple(marks),
    )


def turned(found: Estimate) -> Estimate:
    """A difference the other way round.

    Examples
    --------
    >>> turned(Estimate(0.25, 0.125, 0.5))
    Estimate(value=-0.25, low=-0.5, high=-0.125, undefined=0, marks=())
    """
    value, low, high = (None if of is None else -of for of in (found.value, found.high, found.low))
    return dataclasses.replace(found, value=value, low=low, high=high)


def marked(value: T, marks: Iterable[str]) -> T:
    """Add marks to every estimate of a record, tuple or mapping; those that it has stay once.

    Examples
    --------
    >>> marked({"uar": Estimate(0.5)}, [OPTIMISTIC])["uar"].marks
    ('optimistic',)
    """
    return _marked(value, tuple(marks))


def _marked(value: Any, marks: tuple[str, ...]) -> Any:
    if not marks:
        return value
    if isinstance(value, dict):
        return {key: _marked(inside, marks) for key, inside in value.items()}
    if isinstance(value, tuple):
        return tuple(_marked(inside, marks) for inside in value)
    if not isinstance(value, Record) or not dataclasses.is_dataclass(value):
        return value
    changed = {
        each.name: _marked(getattr(value, each.name), marks) for each in dataclasses.fields(value)
    }
    if isinstance(value, Estimate):
        changed["marks"] = tuple(dict.fromkeys([*value.marks, *marks]))
    return dataclasses.replace(value, **changed)


@dataclass(frozen=True)
class ClassScore(Record):
    """How a class is recognised; `support` counts its rows."""

    precision: Number
    recall: Number
    f1: Number
    support: Count


@dataclass(frozen=True)
class TargetScore(Record):
    """The scores of one target of a regression, on its `n` rows with a truth."""

    n: Count
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class RowScores(Record):
    """The scores of a set of rows.

    Attributes
    ----------
    n : int
        Rows with a truth.
    n_speakers : int or None
    metrics : dict
        Metric -> estimate; empty where no row has a truth.
    per_target, per_class : dict
        Of a regression, or of a classification.
    confusion : tuple of tuple of int
        Rows are the truth, in the order of the run's labels.
    """

    n: Count
    n_speakers: Count | None
    metrics: dict[str, Estimate]
    per_target: dict[str, TargetScore] = field(default_factory=dict)
    per_class: dict[str, ClassScore] = field(default_factory=dict)
    confusion: tuple[tuple[Count, ...], ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """What all its estimates are marked with, for its numbers that are none."""
        first, *others = [estimate.marks for estimate in self.metrics.values()] or [()]
        return tuple(mark for mark in first if all(mark in marks for marks in others))


@dataclass(frozen=True)
class Folds(Record):
    """Mean and sample deviation over the scores of `n` single folds, a metric each."""

    mean: dict[str, Number]
    std: dict[str, Number]
    n: Count


@dataclass(frozen=True)
class PartitionScores(RowScores):
    """The scores of a partition.

    Attributes
    ----------
    n_masked : int
        Rows without a truth.
    folds : Folds or None
        None where there is one fold.
    corpora : dict
        Corpus -> the scores of its rows; empty where there is one corpus.
    optimistic : str
        Why the scores are optimistic; empty where they are not.
    """

    n_masked: Count = 0
    folds: Folds | None = None
    corpora: dict[str, RowScores] = field(default_factory=dict)
    optimistic: str = ""


@dataclass(frozen=True)
class Share(Record):
    """How many of how many."""

    has: Count
    of: Count


@dataclass(frozen=True)
class GroupScores(Record):
    """The scores of a group of rows.

    Attributes
    ----------
    n : int
    n_speakers : int or None
    metrics : dict
        Metric -> estimate; without bounds where there are too many groups.
    classes, targets : Share or None
        How many of the partition's the group has, where it has fewer.
    """

    n: Count
    n_speakers: Count | None
    metrics: dict[str, Estimate]
    classes: Share | None = None
    targets: Share | None = None


@dataclass(frozen=True)
class GroupGap(Record):
    """The best and the worst group and their difference, or `why` there are none."""

    best: str = ""
    worst: str = ""
    gap: Estimate | None = None
    why: str = ""


@dataclass(frozen=True)
class Grouping(Record):
    """The scores of a partition by one kind of groups, such as gender.

    Attributes
    ----------
    resampled : "speakers" or "utterances"
    n_resamples : int
    metrics : dict
        Metric -> its best and worst group.
    groups : dict
        Name -> scores.
    """

    resampled: str
    n_resamples: Count
    metrics: dict[str, GroupGap]
    groups: dict[str, GroupScores]


@dataclass(frozen=True)
class Bins(Record):
    """Confidence and accuracy in bins of confidence, None in an empty one.

    Attributes
    ----------
    confidence, accuracy : tuple of (float or None)
        Means over the rows of a bin.
    counts : tuple of int
    error : float or None
        Expected calibration error.
    """

    confidence: tuple[Number, ...]
    accuracy: tuple[Number, ...]
    counts: tuple[Count, ...]
    error: Number


@dataclass(frozen=True)
class Calibration(Record):
    """Calibration as it is and with a temperature a fold."""

    plain: Bins
    tempered: Bins
    temperatures: dict[str, Number]


@dataclass(frozen=True)
class Transfer(Record):
    """Scores of every training corpus (rows of `cells`) on every tested one; None without rows."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    cells: tuple[tuple[RowScores | None, ...], ...]


@dataclass(frozen=True)
class Gap(Record):
    """The difference of two sets of predictions on the rows that both hold out.

    Attributes
    ----------
    n : int
        The rows; 0 where there is no difference.
    n_speakers : int or None
    metrics : dict
        Metric -> the score of the first minus that of the second; empty where there is none.
    scores : dict
        Metric -> the scores of the first and of the second on these rows.
    lacking : str
        What became of the resamples that lack a class; empty where none does.
    why : str
        Why there is no difference; empty where there is one.
    """

    n: Count
    n_speakers: Count | None
    metrics: dict[str, Estimate]
    scores: dict[str, tuple[Number, Number]]
    lacking: str = ""
    why: str = ""


@dataclass(frozen=True)
class RunScores(Record):
    """The scores of a run: `scores.json`.

    Attributes
    ----------
    task : "classification" or "regression"
    optimistic : bool
        Whether the run was chosen on the rows that it is scored on.
    n_speakers : int or None
    partitions : dict
        Partition -> scores, in the order of showing.
    groups : dict
        Partition -> kind of groups -> scores.
    labels, targets : tuple of str
        Of a classification, or of a regression.
    calibration : dict
        Partition -> calibration, of a classification whose class scores are probabilities.
    no_calibration : str
        Why there is none; empty where there is.
    transfer : Transfer or None
        Of a cross-corpus run.
    gaps : dict or None
        Of the grid of speakers and sentences: partition -> difference to `test`.
    warnings : tuple of str
        What there is to say of the scores.
    """

    task: str
    optimistic: Flag
    n_speakers: Count | None
    partitions: dict[str, PartitionScores]
    groups: dict[str, dict[str, Grouping]]
    labels: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    calibration: dict[str, Calibration] = field(default_factory=dict)
    no_calibration: str = ""
    transfer: Transfer | None = None
    gaps: dict[str, Gap] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProtocolGaps(Record):
    """How protocols compare: `gaps.json`. Protocol -> member -> difference to the main protocol."""

    gaps: dict[str, dict[str, Gap]]


@dataclass(frozen=True)
class GainOfSpeaker(Record):
    """The score of one speaker with the base and with the head; None where it is undefined."""

    base: Number
    head: Number

    @property
    def gain(self) -> float | None:
        """The head's less the base's."""
        return None if self.base is None or self.head is None else self.head - self.base


@dataclass(frozen=True)
class MetricGain(Record):
    """What a head gains over its base by one metric.

    Attributes
    ----------
    n : int
        Speakers whose score is defined with both.
    mean : Estimate
        Over these speakers.
    losing : Estimate
        Share of them whose score is lower.
    speakers : dict
        `corpus/speaker` -> both scores.
    """

    n: Count
    mean: Estimate
    losing: Estimate
    speakers: dict[str, GainOfSpeaker]


@dataclass(frozen=True)
class HeadGain(Record):
    """A head against its base; `protocol` is empty for the main one, `n` counts shared rows."""

    protocol: str
    base: str
    head: str
    n: Count
    metrics: dict[str, MetricGain]


@dataclass(frozen=True)
class SpeakerGains(Record):
    """What heads gain speaker by speaker: `gains.json`."""

    gains: tuple[HeadGain, ...]


@dataclass(frozen=True)
class PermutationTest(Record):
    """The test of a partition.

    Attributes
    ----------
    level : float
        Of the whole table.
    n_pairs, n_swaps : int
    exact : bool
        Whether the swaps are all that there are.
    smallest_p : float
        The least p value that there can be.
    can_tell, can_mark : bool
        Whether it can be below the level when corrected over all pairs, or over those with the
        best.
    """

    level: Annotated[float, Strict()]
    n_pairs: Count
    n_swaps: Count
    exact: Flag
    smallest_p: Annotated[float, Strict()]
    can_tell: Flag
    can_mark: Flag


@dataclass(frozen=True)
class Difference(Record):
    """The score of system `a` minus that of system `b`.

    Attributes
    ----------
    a, b : str
    difference : Estimate
    p, p_holm : float or None
        As it is, and corrected over all pairs of the partition and metric.
    detectable : float or None
        The least true difference that would be found four times in five.
    """

    a: str
    b: str
    difference: Estimate
    p: Number
    p_holm: Number
    detectable: Number


@dataclass(frozen=True)
class MetricComparison(Record):
    """All systems of a partition by one metric.

    Attributes
    ----------
    scores : dict
        System -> score on the rows that all have.
    best : str or None
    not_worse : tuple of str
        The best, and all that do not differ from it at the level.
    detectable : float or None
        Median over the pairs.
    pairs : tuple of Difference
    lacking : str
        What became of the resamples that lack a class; empty where none does.
    """

    scores: dict[str, Number]
    best: str | None
    not_worse: tuple[str, ...]
    detectable: Number
    pairs: tuple[Difference, ...]
    lacking: str = ""


@dataclass(frozen=True)
class McNemar(Record):
    """McNemar's test of two systems: rows that one has right and the other has not."""

    a: str
    b: str
    only_a: Count
    only_b: Count
    p: Number
    p_holm: Number


@dataclass(frozen=True)
class Contribution(Record):
    """What a model is worth alone, what the mean of all loses without it, its Shapley value.

    `error` is the standard error of the latter, None where it is exact.
    """

    alone: Number
    left_out: Number
    shapley: Number
    error: Number = None


@dataclass(frozen=True)
class MetricContributions(Record):
    """The score of the mean of all models, and what each one adds."""

    whole: Number
    models: dict[str, Contribution]


@dataclass(frozen=True)
class FusedPair(Record):
    """Two models and their mean; `gain` is over the better of them."""

    a: str
    b: str
    correlation: Number
    score_a: Number
    score_b: Number
    fused: Number
    gain: Number


Matrix = tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class Complementarity(Record):
    """How the models of a partition complement each other.

    Attributes
    ----------
    models : tuple of str
    correlation : matrix
        Of being right, or of residuals.
    oracle : dict
        Metric -> the score of the best model of every row.
    empty : dict
        Metric -> the worth of no model: what guessing gives.
    n_subsets : int
        Over so many a Shapley value is the mean; `exact` where they are all.
    contributions : dict
        Metric -> what each model adds.
    pairs : dict
        Metric -> every two models.
    disagreement, q, double_fault : matrix or None
        Of a classification.
    """

    models: tuple[str, ...]
    correlation: Matrix
    oracle: dict[str, Number]
    empty: dict[str, Number]
    n_subsets: Count
    exact: Flag
    contributions: dict[str, MetricContributions]
    pairs: dict[str, tuple[FusedPair, ...]]
    disagreement: Matrix | None = None
    q: Matrix | None = None
    double_fault: Matrix | None = None


@dataclass(frozen=True)
class PartitionStatistics(Record):
    """The systems of a partition against one another.

    Attributes
    ----------
    systems : tuple of str
    left_out : dict
        System -> why it is not among them.
    n, n_dropped : int
        Rows that all have; those that only some have.
    n_speakers : int or None
    n_units : int
        Speakers, or utterances, that the test swaps.
    test : PermutationTest
    metrics : dict
        Metric -> comparison.
    mcnemar : tuple of McNemar, or None
        None of a regression.
    complementarity : Complementarity or None
        None with fewer than two models.
    optimistic : str
        Why scores on it are optimistic; empty where those of no run are.
    """

    systems: tuple[str, ...]
    left_out: dict[str, str]
    n: Count
    n_dropped: Count
    n_speakers: Count | None
    n_units: Count
    test: PermutationTest
    metrics: dict[str, MetricComparison]
    mcnemar: tuple[McNemar, ...] | None = None
    complementarity: Complementarity | None = None
    optimistic: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """What its numbers are marked with, those that are no estimates, too."""
        return (OPTIMISTIC,) if self.optimistic else ()


@dataclass(frozen=True)
class Statistics(Record):
    """All finished runs of a recipe against one another, by partition: `statistics.json`."""

    partitions: dict[str, PartitionStatistics]


@dataclass(frozen=True)
class SeedScores(Record):
    """The scores of a system over seeds."""

    by_seed: dict[int, Number]
    mean: Number
    deviation: Number
    least: Number
    largest: Number


@dataclass(frozen=True)
class SeedDifference(Record):
    """The difference of two systems over seeds, beside what the speakers leave open.

    Attributes
    ----------
    a, b : str
    mean : Estimate
        Of the differences over seeds, with its interval over speakers.
    by_seed : dict
        Seed -> a less b.
    deviation, least, largest : float or None
        Over seeds.
    error : float or None
        Deviation of the mean over resamples.
    of_gain : float or None
        The deviation over seeds as a part of the mean.
    share : float or None
        What the seeds have of the variance of a single run's difference.
    lacking : str
        What became of the resamples that lack a class; empty where none does.
    """

    a: str
    b: str
    mean: Estimate
    by_seed: dict[int, Number]
    deviation: Number
    least: Number
    largest: Number
    error: Number
    of_gain: Number
    share: Number
    lacking: str = ""


@dataclass(frozen=True)
class PartitionSeeds(Record):
    """A partition over seeds.

    Attributes
    ----------
    same_rows : bool
        Whether all seeds hold out the same rows.
    systems : dict
        System -> metric -> scores.
    pairs : dict
        Metric -> differences.
    """

    same_rows: Flag
    systems: dict[str, dict[str, SeedScores]]
    pairs: dict[str, tuple[SeedDifference, ...]]


@dataclass(frozen=True)
class Seeds(Record):
    """The repeats of a recipe with other seeds: `seeds.json`.

    Attributes
    ----------
    seeds : tuple of int
    left_out : dict
        System, or system and seed -> why it is not summed up.
    partitions : dict
    """

    seeds: tuple[Count, ...]
    left_out: dict[str, str]
    partitions: dict[str, PartitionSeeds]


@dataclass(frozen=True, kw_only=True)
class ChosenSubset(Estimate):
    """A subset of models and its score on the rows that it was chosen on.

    Attributes
    ----------
    members : tuple of str
    n_best : int
        How many of its size are as good.
    ties : tuple of tuple of str
        The first others of them.
    """

    members: tuple[str, ...]
    n_best: Count
    ties: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class HonestChoice(Estimate):
    """The score of what was chosen without the scored rows: fold -> choice."""

    choices: dict[str, ChosenSubset]


@dataclass(frozen=True)
class SubsetChoice(Record):
    """What a search chose by a method and metric.

    Attributes
    ----------
    method, metric, search : str
    k : int or "any"
        The size; `any` is the choice over all sizes.
    n_subsets : int or None
        That were searched; None of a greedy path.
    best : ChosenSubset or None
        Chosen on the rows that it is scored on.
    honest : HonestChoice or None
        None where there are no rows to choose on.
    optimism : Estimate or None
        The score of the best minus that of the honest choice.
    """

    method: str
    metric: str
    search: str
    k: Count | str
    n_subsets: Count | None
    best: ChosenSubset | None
    honest: HonestChoice | None
    optimism: Estimate | None


@dataclass(frozen=True)
class RandomSubsets(Record):
    """The scores of `n` random subsets of a size, or of all there are (`all`).

    `quantiles` maps a share, such as "0.05", to a score; `undefined` counts subsets without one.
    """

    method: str
    metric: str
    k: Count
    n: Count
    all: Flag
    undefined: Count
    mean: Number
    quantiles: dict[str, Number]


@dataclass(frozen=True, kw_only=True)
class SubsetsOfRows(Record):
    """The choices on some rows.

    Attributes
    ----------
    n : int
    n_speakers : int or None
    chosen_on : str or None
        What the honest choices were made on.
    why : str or None
        Why there are none.
    choices : tuple of SubsetChoice
    random : tuple of RandomSubsets
    lacking : str
        What became of the resamples that lack a class; empty where none does.
    """

    n: Count
    n_speakers: Count | None
    chosen_on: str | None
    why: str | None
    choices: tuple[SubsetChoice, ...]
    random: tuple[RandomSubsets, ...]
    lacking: str = ""


@dataclass(frozen=True, kw_only=True)
class Subsets(SubsetsOfRows):
    """The choice of subsets of a recipe's models: `subsets.json`.

    Attributes
    ----------
    task : str
    members : tuple of str
    partition : str
        Of the scored rows.
    alone : dict
        Corpus -> the choices on its rows; empty where nobody asks.
    """

    task: str
    members: tuple[str, ...]
    partition: str
    alone: dict[str, SubsetsOfRows] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricSpread(Record):
    """A metric over systems; `largest` and `least` are None where all scores are undefined."""

    by_system: dict[str, Number]
    deviation: Estimate
    mean: Estimate
    largest: Estimate | None = None
    least: Estimate | None = None


@dataclass(frozen=True)
class SpreadOfRows(Record):
    """Scores over systems on some rows: metric -> values and statistics."""

    n: Count
    n_speakers: Count | None
    metrics: dict[str, MetricSpread]


@dataclass(frozen=True)
class PartitionSpread(SpreadOfRows):
    """Scores over systems on a partition, and on the rows of each of several corpora."""

    corpora: dict[str, SpreadOfRows] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread(Record):
    """Scores over the systems that subsets are chosen from: `spread.json`."""

    systems: tuple[str, ...]
    partitions: dict[str, PartitionSpread]
