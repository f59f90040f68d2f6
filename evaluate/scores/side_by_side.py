"""The runs of two recipes, or of one at two times, against each other.

Conventions
-----------
- A and B are folders of a recipe's runs, such as `runs/emodb`; a run's name is its folder below
  them: `mfcc`, `fusion/mean`. Runs of one name are matched. Beside them stands the model that has
  the highest selection score in each folder, where its name is not the same in both: that score is
  of the rows that chose the head, and knows no test row.
- Two runs are compared on the rows with a truth that both hold out in a partition, by corpus and
  utterance, whatever the folds. Scores are those of these rows; differences are A minus B.
- Intervals are by one draw of speakers for both (`[evaluate]` of A), p values by swaps of speakers
  (`evaluate.statistics.permutations`), corrected over all pairs of a partition and metric (Holm).
- Beside them stand classes, targets and groups of both runs, as the `scores.json` of each has
  them: on all rows that a run holds out, which need not be those of both.
- What differs in the settings is read from `run.json`, with the versions of packages and hashes of
  the tables and stores; so it is what the runs were made with, not what a recipe says today.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from evaluate.metrics import metrics
from evaluate.runs import record as runs
from evaluate.runs.arrays import speakers, values_of
from evaluate.runs.files import read_run
from evaluate.runs.folders import ALL, PREDICTIONS
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from evaluate.scores.gaps import paired_gap, shared_rows
from evaluate.scores.names import CHOSEN_ON_DEVEL
from evaluate.scores.pairs import LEVEL, N_SWAPS
from evaluate.scores.records import OPTIMISTIC, Estimate, Record, RunScores, marked, number_or_none
from evaluate.scores.score import scores_at_hand
from evaluate.statistics import permutations as comparisons
from features.common.errors import RunError
from features.common.files import write_text
from features.recipe.model import Recipe

COLUMNS = ("partition", "metric", "a", "b", "n", "n_speakers", "score_a", "score_b", "difference",
           "low", "high", "lacking", "p", "p_holm", "smallest_p", "why")  # fmt: skip
"""Of the table as CSV."""


@dataclass(frozen=True)
class PairRow(Record):
    """Two runs by one metric on the rows of a partition that both hold out.

    Attributes
    ----------
    partition, metric, a, b : str
        `metric` is empty where there are no numbers.
    why : str
        Why there are none; empty where there are.
    n : int or None
        The rows.
    n_speakers : int or None
    score_a, score_b : float or None
    difference : Estimate
        A minus B.
    lacking : str
        What became of the resamples that lack a class.
    p, p_holm : float or None
        As it is, and corrected over the pairs of the partition and metric.
    smallest_p : float
        The least p value that there can be.
    """

    partition: str
    metric: str
    a: str
    b: str
    why: str = ""
    n: int | None = None
    n_speakers: int | None = None
    score_a: float | None = None
    score_b: float | None = None
    difference: Estimate = Estimate(None)
    lacking: str = ""
    p: float | None = None
    p_holm: float | None = None
    smallest_p: float = 1.0

    @property
    def runs(self) -> str:
        """How the two are named together."""
        return pair_name(self.a, self.b)


@dataclass(frozen=True)
class DetailRow:
    """A class, target or group of both runs, each as the run's own scores have it.

    Attributes
    ----------
    partition, kind, name, a, b : str
        `kind` is "class" (by recall), "target", or a kind of groups, such as "gender".
    score_a, score_b : Estimate
    n_a, n_b : int
        The rows.
    """

    partition: str
    kind: str
    name: str
    a: str
    b: str
    score_a: Estimate
    score_b: Estimate
    n_a: int
    n_b: int

    @property
    def runs(self) -> str:
        """How the two runs are named together."""
        return pair_name(self.a, self.b)

    @property
    def difference(self) -> Estimate:
        """A minus B, not paired and hence without an interval."""
        a, b = self.score_a, self.score_b
        value = None if a.value is None or b.value is None else a.value - b.value
        return Estimate(value, marks=tuple(dict.fromkeys([*a.marks, *b.marks])))


@dataclass(frozen=True)
class ComparedRun:
    """A finished run."""

    name: str
    folder: Path
    record: dict[str, Any]

    @property
    def selection(self) -> float | None:
        """The mean selection score over outer folds; None of a fusion, or where it is undefined."""
        chosen = self.record.get("chosen", {})
        scores = [cell["score"] for fold, of in chosen.items() if fold != ALL for cell in of]
        return float(np.mean(scores)) if scores and None not in scores else None


@dataclass(frozen=True)
class ChangedSetting:
    """A setting that differs.

    Attributes
    ----------
    key : str
        Dotted, as in the recipe and `run.json`.
    a, b : str
        JSON; `-` where a run does not have it.
    pairs : sequence of str
        In which runs; empty for all that are matched.
    """

    key: str
    a: str
    b: str
    pairs: Sequence[str] = ()

    @property
    def text(self) -> str:
        """A line for the terminal."""
        where = f" ({', '.join(self.pairs)})" if self.pairs else ""
        return f"{self.key}: {self.a} | {self.b}{where}"


@dataclass(frozen=True)
class Comparison:
    """Two folders of runs side by side.

    Attributes
    ----------
    a, b : Path
    matched : list of (ComparedRun, ComparedRun)
    best : bool
        Whether the last pair was matched as the best of each, and not by name.
    table : list of PairRow
        A row a partition, metric and pair.
    settings : list of ChangedSetting
    alone : (list of str, list of str)
        Runs of A, and of B, that nothing was matched with.
    """

    a: Path
    b: Path
    matched: list[tuple[ComparedRun, ComparedRun]]
    best: bool
    table: list[PairRow]
    settings: list[ChangedSetting]
    alone: tuple[list[str], list[str]]

    @property
    def recipe(self) -> Recipe:
        """What the first run of A was made with; its `[evaluate]` holds for all."""
        return recipe_of(self.matched[0][0])

    def by_metric(self) -> dict[tuple[str, str], list[PairRow]]:
        """The rows of the table that have numbers, by partition and metric."""
        return _by_metric(self.table)

    def optimism(self, partition: str) -> str:
        """Why the scores of a partition are optimistic, of any run; empty where they are not."""
        every = (run.folder for pair in self.matched for run in pair)
        on_devel = partition == "devel" and any(map(runs.chosen_on_devel, every))
        return CHOSEN_ON_DEVEL if on_devel else ""

    def with_marks(self) -> Comparison:
        """The same, its differences marked where scores of a partition are optimistic."""
        table = [
            marked(row, [OPTIMISTIC] if self.optimism(row.partition) else []) for row in self.table
        ]
        return replace(self, table=table)

    def marked(self, partition: str) -> str:
        """The name of a partition, marked where its scores are optimistic."""
        return f"{partition} (optimistic)" if self.optimism(partition) else partition

    def not_compared(self) -> list[str]:
        """What has no number, and why.

        Returns
        -------
        list of str
            A line each.
        """
        lines = []
        for row in self.table:
            if row.why:
                where = f" {row.partition}" if row.partition else ""
                lines.append(f"{row.a}, {row.b}{where}: {row.why}")
        for side, names in zip("AB", self.alone, strict=True):
            if names:
                lines.append(f"{', '.join(names)}: in {side} alone")
        return lines


def compare(a: Path, b: Path) -> Comparison:
    """Compare the finished runs of two folders.

    Parameters
    ----------
    a, b : Path
        Folders of recipes' runs, such as `runs/emodb`.

    Returns
    -------
    Comparison
        A minus B.

    Raises
    ------
    RunError
        A folder has no finished run, the runs have other tasks, or nothing matches.
    """
    ours, theirs = finished(a), finished(b)
    matched = [(ours[name], theirs[name]) for name in ours if name in theirs]
    best = _best_pair(ours, theirs)
    matched += best
    if not matched:
        raise RunError(
            f"{a}, {b}: no run has the same name in both ({', '.join(ours)}; {', '.join(theirs)}), "
            "and not both have a model with a selection score"
        )
    first, second = (recipe_of(run) for run in matched[0])
    if first.task != second.task:
        raise RunError(f"{a} is of a {first.task}, {b} of a {second.task}: nothing to compare")
    table = [row for pair in matched for row in _rows(*pair, first)]
    if all(row.why for row in table):
        whys = [f"{row.a}, {row.b}: {row.why}" for row in table]
        raise RunError("\n  ".join([f"{a}, {b}: nothing to compare", *dict.fromkeys(whys)]))
    taken = [{pair[side].name for pair in matched} for side in (0, 1)]
    alone = [[x for x in found if x not in names]
             for found, names in zip((ours, theirs), taken, strict=True)]  # fmt: skip
    found = Comparison(
        a, b, matched, bool(best), _corrected(table), _differing(matched), (alone[0], alone[1])
    )
    return found.with_marks()


def finished(folder: Path) -> dict[str, ComparedRun]:
    """The finished runs of a folder by name: models, then fusions.

    Parameters
    ----------
    folder : Path
        Of a recipe's runs.

    Returns
    -------
    dict
        Name -> its run.

    Raises
    ------
    RunError
        There is none.
    """
    found = {}
    for pattern in ("*", "fusion/*"):
        for at in sorted(folder.glob(pattern)):
            record = read_run(at) if (at / PREDICTIONS).is_file() else None
            if record is not None:
                name = at.relative_to(folder).as_posix()
                found[name] = ComparedRun(name, at, record)
    if not found:
        raise RunError(f"{folder}: no finished run there; name a folder such as runs/emodb")
    return found


def recipe_of(run: ComparedRun) -> Recipe:
    """The recipe that a run was made with.

    Parameters
    ----------
    run : ComparedRun

    Returns
    -------
    Recipe

    Raises
    ------
    RunError
        Where another version wrote it, and this one cannot read it.
    """
    try:
        return Recipe.model_validate_json(json.dumps(run.record["recipe"]))
    except (KeyError, ValidationError):
        raise RunError(
            f"{run.folder / 'run.json'}: the recipe in it is of another version; run make train "
            "(or make fuse) again"
        ) from None


def _best_pair(
    ours: Mapping[str, ComparedRun], theirs: Mapping[str, ComparedRun]
) -> list[tuple[ComparedRun, ComparedRun]]:
    """The model with the highest selection score of each; none where their names are the same."""
    our_best, other = _best(ours), _best(theirs)
    return [(our_best, other)] if our_best and other and our_best.name != other.name else []


def _best(found: Mapping[str, ComparedRun]) -> ComparedRun | None:
    scores = {name: run.selection for name, run in found.items()}
    known = {name: score for name, score in scores.items() if score is not None}
    return found[max(known, key=known.__getitem__)] if known else None


def _rows(a: ComparedRun, b: ComparedRun, recipe: Recipe) -> list[PairRow]:
    """The rows of the table that a pair of runs gives."""
    optimistic = [run.name for run in (a, b) if run.record.get("optimistic")]
    predictions = [read_predictions(run.folder / PREDICTIONS) for run in (a, b)]
    partitions = [
        name
        for name in predictions[0]["partition"].unique()
        if name in set(predictions[1]["partition"])
    ]
    if not partitions:
        return [PairRow("", "", a.name, b.name, "no partition is in both")]
    result: list[PairRow] = []
    for partition in partitions:
        pair = [rows[rows["partition"] == partition] for rows in predictions]
        shared = "chosen on the rows that it is scored on" if optimistic else shared_rows(*pair)
        if isinstance(shared, str):
            result.append(PairRow(partition, "", a.name, b.name, shared))
        else:
            result += _numbers(a, b, partition, shared, recipe)
    return result


def _numbers(
    a: ComparedRun,
    b: ComparedRun,
    partition: str,
    shared: tuple[pd.DataFrame, pd.DataFrame],
    recipe: Recipe,
) -> list[PairRow]:
    names = predicted_labels(shared[0]) or predicted_targets(shared[0])
    gap = paired_gap(*shared, recipe)
    swaps = comparisons.draw_swaps(speakers(shared[0]), N_SWAPS, recipe.evaluate.seed)
    return [
        PairRow(
            partition,
            metric,
            a.name,
            b.name,
            n=gap.n,
            n_speakers=gap.n_speakers,
            score_a=gap.scores[metric][0],
            score_b=gap.scores[metric][1],
            difference=gap.metrics[metric],
            lacking=gap.lacking if metric in metrics.OVER_CLASSES else "",
            p=number_or_none(_p_value(shared, names, metric, swaps)),
            smallest_p=swaps.smallest_p,
        )
        for metric in recipe.shown
    ]


def _p_value(
    shared: tuple[pd.DataFrame, pd.DataFrame],
    names: Sequence[str],
    metric: str,
    swaps: comparisons.Swaps,
) -> float:
    if "true" in shared[0].columns:
        truth = shared[0]["true"].to_numpy()
        said = [rows["pred"].to_numpy() for rows in shared]
        return float(comparisons.classification_p(truth, said, names, swaps)[metric][0, 1])
    truth, _ = values_of(shared[0], names)
    values = np.stack([values_of(rows, names)[1] for rows in shared])
    return float(comparisons.regression_p(truth, values, metric, swaps)[0, 1])


def _corrected(table: Sequence[PairRow]) -> list[PairRow]:
    """The rows with `p_holm`, corrected a partition and metric at a time."""
    p_holm: dict[int, float | None] = {}
    for rows in _by_metric(table).values():
        adjusted = comparisons.holm([np.nan if row.p is None else row.p for row in rows])
        p_holm |= {id(row): number_or_none(p) for row, p in zip(rows, adjusted, strict=True)}
    return [replace(row, p_holm=p_holm.get(id(row))) for row in table]


def _by_metric(table: Sequence[PairRow]) -> dict[tuple[str, str], list[PairRow]]:
    """The rows that have numbers by partition and metric."""
    found: dict[tuple[str, str], list[PairRow]] = {}
    for row in table:
        if not row.why:
            found.setdefault((row.partition, row.metric), []).append(row)
    return found


def cannot_tell(rows: Sequence[PairRow]) -> str:
    """That so few speakers cannot show a difference in these rows of one metric; empty if they can.

    Examples
    --------
    >>> rows = [PairRow("test", "uar", "a", "b", smallest_p=p) for p in (0.0625, 0.002)]
    >>> cannot_tell(rows[:1]), cannot_tell(rows[1:])
    ('so few speakers cannot show a difference: p is 0.062 at least', '')
    """
    least = min(row.smallest_p for row in rows)
    if least * len(rows) <= LEVEL:
        return ""
    return f"so few speakers cannot show a difference: p is {least:.2g} at least"


def details(found: Comparison) -> tuple[list[DetailRow], list[str]]:
    """Scores of classes, targets and groups that both runs of a pair have.

    Parameters
    ----------
    found : Comparison

    Returns
    -------
    list of DetailRow
        By pairs, then partitions and kinds.
    list of str
        Runs whose scores are not at hand.
    """
    metric = found.recipe.shown[0]
    rows: list[DetailRow] = []
    lacking: list[str] = []
    for a, b in found.matched:
        scores = [scores_at_hand(run.folder) for run in (a, b)]
        if None in scores:
            lacking += [str(x.folder) for x, y in zip((a, b), scores, strict=True) if y is None]
            continue
        numbered = [
            row.partition
            for row in found.table
            if (row.a, row.b, row.metric) == (a.name, b.name, metric)
        ]
        for partition in numbered:
            ours, theirs = (_parts(of_run, partition, metric) for of_run in scores if of_run)
            rows += [
                DetailRow(partition, *key, a.name, b.name, score, theirs[key][0], n, theirs[key][1])
                for key, (score, n) in ours.items()
                if key in theirs
            ]
    return rows, list(dict.fromkeys(lacking))


def _parts(
    scores: RunScores, partition: str, metric: str
) -> dict[tuple[str, str], tuple[Estimate, int]]:
    """Kind and name -> score and number of rows."""
    found: dict[tuple[str, str], tuple[Estimate, int]] = {}
    if part := scores.partitions.get(partition):
        marks = (OPTIMISTIC,) if part.optimistic or scores.optimistic else ()
        for name, of_class in part.per_class.items():
            found["class", name] = (Estimate(of_class.recall, marks=marks), of_class.support)
        for name, of_target in part.per_target.items():
            found["target", name] = (of_target.metrics[metric], of_target.n)
    for kind, groups in scores.groups.get(partition, {}).items():
        if kind != "speaker":  # too many for a page of all runs
            for name, group in groups.groups.items():
                found[kind, name] = (group.metrics[metric], group.n)
    return found


def _differing(matched: Sequence[tuple[ComparedRun, ComparedRun]]) -> list[ChangedSetting]:
    """What differs; the pairs are named where it does not differ in all."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for a, b in matched:
        for key, value, other in differences(_settings(a), _settings(b)):
            if key.startswith("stores.") and a.name != b.name:
                continue  # of other models
            found.setdefault((key, value, other), []).append(pair_name(a.name, b.name))
    return [
        ChangedSetting(*which, pairs if len(pairs) < len(matched) else ())
        for which, pairs in found.items()
    ]


def _settings(run: ComparedRun) -> dict[str, Any]:
    """What a run was made with; keys that its version had not known have their defaults."""
    recipe = {k: v for k, v in recipe_of(run).resolved().items() if k not in ("name", "path")}
    corpora = run.record["inputs"].get("corpora", {})
    return {
        **recipe,
        "tables": {corpus: identities.get("table") for corpus, identities in corpora.items()},
        "stores": {corpus: identities.get("store") for corpus, identities in corpora.items()},
        "numerics": run.record["inputs"].get("numerics"),
        "versions": run.record.get("versions", {}),
    }


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Dotted keys with both values as JSON; `-` where a key is not there.

    Parameters
    ----------
    ours, theirs : mapping
        Nested settings.
    above : str
        The key that they stand under.

    Yields
    ------
    key, ours, theirs : str

    Examples
    --------
    >>> list(differences({"a": {"b": 1, "c": [2]}}, {"a": {"b": 1}, "d": "x"}))
    [('a.c', '[2]', '-'), ('d', '-', '"x"')]
    """
    for name in dict.fromkeys([*ours, *theirs]):
        pair = [settings.get(name, _NONE) for settings in (ours, theirs)]
        if all(isinstance(value, Mapping) for value in pair):
            yield from differences(pair[0], pair[1], f"{above}{name}.")
        elif pair[0] != pair[1]:
            texts = ["-" if x is _NONE else json.dumps(x, ensure_ascii=False) for x in pair]
            yield f"{above}{name}", texts[0], texts[1]


_NONE = object()


def pair_name(a: str, b: str) -> str:
    """How two runs that are matched are named together."""
    return a if a == b else f"{a}, {b}"


def best_note(found: Comparison) -> str:
    """What the last pair is, where it has two names; empty where there is no such pair."""
    if not found.best:
        return ""
    name = pair_name(*(run.name for run in found.matched[-1]))
    return f"{name}: the highest selection score of each; all others have one name"


def write_table(path: Path, found: Comparison) -> None:
    """Write the table as CSV, at full precision.

    Parameters
    ----------
    path : Path
    found : Comparison
    """
    rows = [
        vars(row)
        | {"difference": row.difference.value}
        | {"low": row.difference.low, "high": row.difference.high}
        | ({"lacking": None, "smallest_p": None} if row.why else {})
        for row in found.table
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(path, table.to_csv(index=False, lineterminator="\n"), RunError)
