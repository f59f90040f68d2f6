"""Scores of a run by gender, language, corpus, session and speaker -> `groups` of `scores.json`.

Conventions
-----------
- Gender, language and session are those of the tables beside the stores; without a table (or where
  it says nothing) they are unknown, and rows without a group are in none. A kind with fewer than
  two groups in a partition is left out.
- Sessions and speakers are named `corpus/session`, `corpus/speaker`.
- Metrics are those of the overview. A class, or a target, that a group has no truth for is left
  out of its score; the group says how many of the partition's it has.
- What is resampled is what groups are made of: speakers where a group holds several, else the
  utterances of each group. One draw serves all groups, so that gaps have intervals of their own.
- `best` and `worst` are the groups with the highest and lowest defined score among those of at
  least `LEAST` rows; `gap` is their difference. They are chosen by these very scores: with many
  groups a gap is large by chance alone. Its interval is that of the two groups, chosen once.
- A mean over classes or targets is compared among groups that have all of the partition's: over
  fewer it is another score. Accuracy is compared among all groups.
- Resamples in which a group lacks a class that it has are left out of its interval
  (`evaluate.statistics.resampling`), and counted as `undefined`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evaluate.metrics import metrics
from evaluate.runs.arrays import count_speakers, plain_scores, resampled_scores, speakers
from evaluate.scores.records import (
    Estimate,
    GroupGap,
    Grouping,
    GroupScores,
    Share,
    estimate,
    number_or_none,
)
from evaluate.statistics import resampling as intervals
from features.common.errors import CorpusError
from features.utterances import Table, read_table

if TYPE_CHECKING:
    from features.recipe.model import EvaluateSpec, Recipe

KINDS = ("gender", "language", "corpus", "session", "speaker")
LEAST = 10
"""Rows that a group needs to be the best or the worst."""


def read_tables(recipe: Recipe, stores: Path) -> dict[str, Table]:
    """The recipe's tables; a corpus whose table is not there is left out.

    Parameters
    ----------
    recipe : Recipe
    stores : Path

    Returns
    -------
    dict
        Corpus -> its table.
    """
    tables = {}
    for corpus in recipe.corpora:
        try:
            tables[corpus] = read_table(stores / corpus)
        except CorpusError:
            continue  # runs can be looked at where the stores are not
    return tables


def group_names(predictions: pd.DataFrame, tables: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """The group of each row by kind; "" where it is unknown.

    Parameters
    ----------
    predictions : DataFrame
        Predictions.
    tables : mapping
        Corpus -> its table; a corpus may be missing.

    Returns
    -------
    dict
        `{kind: object, shape (n,)}`.
    """
    keys = predictions[["corpus", "utterance"]]
    known = [table.rows for table in tables.values()]
    found = {kind: np.full(len(predictions), "", dtype=object) for kind in KINDS}
    if known:
        columns = ["corpus", "utterance", "gender", "language", "session"]
        rows = keys.merge(
            pd.concat([table[columns] for table in known]), on=["corpus", "utterance"], how="left"
        ).fillna("")
        found |= {kind: rows[kind].to_numpy(dtype=object) for kind in columns[2:]}
    found["corpus"] = predictions["corpus"].to_numpy(dtype=object)
    found["speaker"] = speakers(predictions)
    session = found["session"]
    found["session"] = np.where(session == "", "", found["corpus"] + "/" + session)
    return found


def score_groups(
    rows: pd.DataFrame,
    names: Sequence[str],
    groups: Mapping[str, np.ndarray],
    shown: Sequence[str],
    settings: EvaluateSpec,
) -> dict[str, Grouping]:
    """Score every kind of groups of a partition.

    Parameters
    ----------
    rows : DataFrame
        Predictions of rows that have a truth.
    names : sequence of str
        Labels or targets.
    groups : mapping
        Kind -> group of each row, "" for none.
    shown : sequence of str
        The metrics; higher is better.
    settings : EvaluateSpec
        Of the resamples.

    Returns
    -------
    dict
        Kind -> scores; a kind with fewer than two groups is left out.
    """
    with warnings.catch_warnings():
        # What a group lacks is no news: the whole partition has been warned of.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        return {
            kind: _score_kind(rows, names, of_row, shown, settings, kind == "speaker")
            for kind, of_row in groups.items()
            if len(set(of_row) - {""}) > 1
        }


def _score_kind(
    predictions: pd.DataFrame,
    names: Sequence[str],
    of_row: np.ndarray,
    shown: Sequence[str],
    settings: EvaluateSpec,
    many: bool,
) -> Grouping:
    order = sorted(set(of_row) - {""})
    rows = {group: predictions[of_row == group] for group in order}
    values = {group: plain_scores(part, names) for group, part in rows.items()}
    parts = _Parts(predictions, names)
    compared = {metric: _compared(rows, parts, metric) for metric in shown}
    extremes = {
        metric: _extremes({group: values[group][metric] for group in groups})
        for metric, groups in compared.items()
    }
    units = _units(predictions, rows)
    drawn = intervals.draw(units, settings.bootstrap, settings.seed)
    wanted = {group for pair in extremes.values() if pair for group in pair} if many else set(order)
    resampled = _resampled({group: rows[group] for group in wanted}, names, of_row, drawn)

    def gap(metric: str, best: str, worst: str) -> Estimate:
        apart = resampled[best][metric] - resampled[worst][metric]
        difference = values[best][metric] - values[worst][metric]
        return estimate(difference, apart, settings.confidence)

    def score(name: str, metric: str) -> Estimate:
        value = values[name][metric]
        if many:
            return Estimate(number_or_none(value))
        return estimate(value, resampled[name][metric], settings.confidence)

    gaps = {
        metric: GroupGap(*pair, gap(metric, *pair))
        if pair
        else GroupGap(why=_no_two_groups(parts, metric))
        for metric, pair in extremes.items()
    }
    found = {
        name: GroupScores(
            len(part),
            count_speakers(part),
            {metric: score(name, metric) for metric in shown},
            **parts.lacking(part),
        )
        for name, part in rows.items()
    }
    units_are = "speakers" if any(units) else "utterances"
    return Grouping(units_are, settings.bootstrap, gaps, found)


@dataclass(frozen=True)
class _Parts:
    """What the scores of a partition are means over: its classes, or its targets."""

    predictions: pd.DataFrame
    names: Sequence[str]

    @property
    def what(self) -> str:
        """Their name."""
        return "classes" if "true" in self.predictions.columns else "targets"

    @functools.cached_property
    def n(self) -> int:
        """How many the partition has a truth for."""
        return self.count(self.predictions)

    def count(self, rows: pd.DataFrame) -> int:
        """How many some rows have a truth for."""
        if self.what == "classes":
            return int(rows["true"].nunique())
        return int(rows[[f"{target}_true" for target in self.names]].notna().any().sum())

    def enter(self, metric: str) -> bool:
        """Whether a metric is a mean over them."""
        return self.what == "targets" or metric in metrics.OVER_CLASSES

    def lacking(self, rows: pd.DataFrame) -> dict[str, Share]:
        """How many some rows have, where they are fewer than the partition's."""
        has = self.count(rows)
        return {self.what: Share(has, self.n)} if has < self.n else {}


def _compared(rows: Mapping[str, pd.DataFrame], parts: _Parts, metric: str) -> list[str]:
    """The groups that can be the best or the worst by a metric."""
    large = [group for group, part in rows.items() if len(part) >= LEAST]
    if not parts.enter(metric):
        return large
    return [group for group in large if parts.count(rows[group]) == parts.n]


def _resampled(
    rows: Mapping[str, pd.DataFrame],
    names: Sequence[str],
    of_row: np.ndarray,
    drawn: intervals.Resamples,
) -> dict[str, dict[str, np.ndarray]]:
    """Every metric of some groups in every resample."""
    return {
        group: resampled_scores(
            part, names, intervals.Resamples(drawn.unit[of_row == group], drawn.counts)
        )
        for group, part in rows.items()
    }


def _units(predictions: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """What is resampled: the speaker of each row, "" for the row itself where a group has one."""
    if any(count_speakers(part) == 1 for part in rows.values()):
        return np.full(len(predictions), "", dtype=object)
    return speakers(predictions)


def _no_two_groups(parts: _Parts, metric: str) -> str:
    all_of_them = f", all {parts.n} {parts.what}" if parts.enter(metric) else ""
    return f"fewer than two groups have {LEAST} rows or more{all_of_them} and a defined score"


def _extremes(known: Mapping[str, float]) -> tuple[str, str] | None:
    """The best and the worst of some groups; None with fewer than two whose score is defined."""
    known = {group: value for group, value in known.items() if not np.isnan(value)}
    if len(known) < 2:
        return None
    return max(known, key=known.__getitem__), min(known, key=known.__getitem__)
