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
    """
    bounds = intervals.interval(resampled, confidence)
    return Estimate(
        number_or_none(value),
        number_or_none(bounds.low),
        number_or_none(bounds.high),
        bounds.undefined,
        tuple(marks),
    )


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


# -- the scores of a run ---------------------------------------------------------------------


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
