"""What a head gains over another, speaker by speaker -> `runs/<recipe>/gains.json`.

Conventions
-----------
- The pairs are those of `[evaluate] gains`, for every model and every protocol that has both runs.
- A gain is the score of the head less that of its base on the rows of one speaker in `test` that
  both predict. UAR is over the classes that the speaker has. A speaker whose score is undefined
  with either, such as a rank correlation of too few rows, is left out of that metric, and counted.
- `mean` is the mean over speakers, each counting the same; `losing` the share whose score is lower
  than with the base. The intervals resample speakers; heads are not fitted anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluate.metrics import metrics
from evaluate.runs.arrays import has_truth, plain_scores, speakers
from evaluate.runs.files import file_hash
from evaluate.runs.folders import PREDICTIONS, gains_path
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from evaluate.scores.records import (
    GainOfSpeaker,
    HeadGain,
    MetricGain,
    SpeakerGains,
    estimate,
    number_or_none,
)
from evaluate.scores.score import Scored
from evaluate.scores.stored import FileKind
from evaluate.scores.version_0 import same
from evaluate.statistics import resampling as intervals
from features.recipe.member import Member

if TYPE_CHECKING:
    from features.recipe.evaluate import EvaluateSpec
    from features.recipe.model import Recipe

GAINS_NUMERICS = 1
"""Raised with every change that can move a number of `gains.json`."""
FILE = FileKind("speaker-gains", SpeakerGains, same)
MAIN = ""
"""The name of the main protocol."""
KEY = ["corpus", "utterance", "fold"]

ByProtocol = Mapping[str, Sequence[Scored]]
Pairs = list[tuple[str, Scored, Scored]]
"""Protocol, base, head."""


def make_gains(
    recipe: Recipe, found: ByProtocol, runs_folder: Path, *, force: bool = False
) -> SpeakerGains | None:
    """Compare the pairs of heads speaker by speaker, unless that was done for these predictions.

    Parameters
    ----------
    recipe : Recipe
    found : mapping
        Protocol -> its finished runs; the main one is `MAIN`.
    runs_folder : Path
    force : bool
        Compare anew in any case.

    Returns
    -------
    SpeakerGains or None
        None where no pair has both runs.
    """
    pairs = _pairs(recipe, found)
    if not pairs:
        return None
    path = gains_path(runs_folder, recipe.name)
    return FILE.made(path, _inputs(recipe, pairs), lambda: _gains(recipe, pairs), force=force)


def read_gains(recipe: Recipe, found: ByProtocol, runs_folder: Path) -> SpeakerGains | None:
    """As `make_gains`, but computing nothing.

    Raises
    ------
    RunError
        The file is missing, or older than a run's predictions or the recipe's `[evaluate]`.
    """
    pairs = _pairs(recipe, found)
    if not pairs:
        return None
    return FILE.current(gains_path(runs_folder, recipe.name), _inputs(recipe, pairs), recipe)


def _pairs(recipe: Recipe, found: ByProtocol) -> Pairs:
    """Both runs of every pair that has them, of the same model at the same layer."""
    pairs = []
    for protocol, scored in found.items():
        by_member = {Member.parse(run.member): run for run in scored if run.kind == "model"}
        for base, head in recipe.evaluate.gains:
            for member, run in by_member.items():
                other = Member(member.model, member.layer, head, member.seed)
                if member.head == base and other in by_member:
                    pairs.append((protocol, run, by_member[other]))
    return pairs


def _inputs(recipe: Recipe, pairs: Pairs) -> dict[str, Any]:
    return {
        "numerics": GAINS_NUMERICS,
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "pairs": [
            {
                "protocol": protocol,
                "runs": {
                    run.member: [file_hash(run.folder / PREDICTIONS), *run.marks]
                    for run in (base, head)
                },
            }
            for protocol, base, head in pairs
        ],
    }


def _gains(recipe: Recipe, pairs: Pairs) -> SpeakerGains:
    found = []
    for protocol, base, head in pairs:
        tables = [read_predictions(run.folder / PREDICTIONS) for run in (base, head)]
        marks = [*base.marks, *head.marks]
        n, scores = speaker_scores(*tables)
        found.append(
            HeadGain(
                protocol,
                base.member,
                head.member,
                n,
                {
                    metric: metric_gain(scores, metric, recipe.evaluate, marks)
                    for metric in recipe.shown
                },
            )
        )
    return SpeakerGains(tuple(found))


Scores = dict[str, tuple[dict[str, float], dict[str, float]]]
"""Speaker -> every metric with the base, and with the head."""


def speaker_scores(base: pd.DataFrame, head: pd.DataFrame) -> tuple[int, Scores]:
    """The scores of every speaker in `test` with two heads, on the rows that both predict.

    Parameters
    ----------
    base, head : DataFrame
        Predictions.

    Returns
    -------
    n : int
        Rows with a truth and a known speaker.
    dict
        `corpus/speaker` -> every metric with the base, and with the head.
    """
    names = predicted_labels(base) or predicted_targets(base)
    sides = []
    for rows in (base, head):
        known = (rows["partition"] == "test") & has_truth(rows, names) & (speakers(rows) != "")
        sides.append(rows[known].set_index(KEY, drop=False).sort_index())
    both = sides[0].index.intersection(sides[1].index)
    first, second = (rows.loc[both] for rows in sides)
    of_row = speakers(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.ScoreWarning)  # a speaker lacks a class
        return len(both), {
            str(speaker): (
                plain_scores(first[of_row == speaker], names),
                plain_scores(second[of_row == speaker], names),
            )
            for speaker in sorted(set(of_row))
        }


def metric_gain(
    scores: Scores, metric: str, settings: EvaluateSpec, marks: Sequence[str] = ()
) -> MetricGain:
    """What the head gains by one metric: over speakers, and each.

    Parameters
    ----------
    scores : dict
        As `speaker_scores` gives them.
    metric : str
    settings : EvaluateSpec
        Of the resamples.
    marks : sequence of str
        Of the estimates.

    Returns
    -------
    MetricGain
    """
    pairs = {name: (base[metric], head[metric]) for name, (base, head) in scores.items()}
    of_speaker = {
        name: GainOfSpeaker(number_or_none(base), number_or_none(head))
        for name, (base, head) in pairs.items()
    }
    gains = np.array([head - base for base, head in pairs.values()])
    gains = gains[~np.isnan(gains)]
    n = len(gains)
    if not n:
        nothing = estimate(np.nan, np.full(1, np.nan), settings.confidence, marks)
        return MetricGain(0, nothing, nothing, of_speaker)
    counts = intervals.draw([""] * n, settings.bootstrap, settings.seed).counts / n
    losing = (gains < 0).astype(np.float64)
    return MetricGain(
        n,
        estimate(float(gains.mean()), gains @ counts, settings.confidence, marks),
        estimate(float(losing.mean()), losing @ counts, settings.confidence, marks),
        of_speaker,
    )
