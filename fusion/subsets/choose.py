"""Choose subsets of a recipe's models, and show what the choice is worth.

Conventions
-----------
- What is scored are the rows of `test` that have a truth, of all folds together (those of `devel`
  where all of `test` is masked).
- `best` is chosen on the rows that it is scored on: optimistic. `honest` is chosen, for each fold,
  on rows that are not scored: the fold's `devel` rows, else its rows of `inner.csv`; what is chosen
  then predicts the fold's scored rows. The optimism is the difference of the two on the same rows,
  with an interval over resampled speakers.
- A search is `exhaustive`, `greedy` or `greedy with replacement`. Its choice over all sizes has the
  size `any`; of equally good subsets the smallest is taken, then the first in the recipe's order.
- Resamples that lack a class are left out of intervals, and `lacking` says how many they are.
- Quantiles are of the scores of random subsets of a size (of all, where there are no more).
- With `alone = true` all of it is repeated on the rows of each corpus: `alone` of the file.
- A search that is stopped goes on from `progress.json`, if it is of the same inputs.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.metrics import metrics
from evaluate.runs import record as files
from evaluate.runs.arrays import count_speakers, has_truth, speakers, values_of
from evaluate.runs.files import fingerprint, read_json, versions, write_json
from evaluate.runs.folders import INNER, PREDICTIONS, fusion_folder, run_folder
from evaluate.runs.folders import SUBSETS as SUBSETS_FILE
from evaluate.runs.freshness import check_members, is_fresh, subsets_settings
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from evaluate.scores.marks import subset_marks
from evaluate.scores.records import (
    ChosenSubset,
    Estimate,
    HonestChoice,
    RandomSubsets,
    SubsetChoice,
    Subsets,
    SubsetsOfRows,
    estimate,
    number_or_none,
)
from evaluate.scores.subsets import ANY, FILE
from evaluate.statistics import resampling as intervals
from features.common.errors import RunError
from features.common.folders import Folders
from features.common.progress import Progress
from features.common.telling import Tell, silent
from features.common.words import counted
from features.recipe.fusion import SUBSETS, SubsetsSpec
from features.recipe.known.metrics import METRICS
from features.recipe.model import Recipe
from fusion.align import align
from fusion.subsets.classes import Classes
from fusion.subsets.parts import Subset
from fusion.subsets.search import (
    TIES_KEPT,
    State,
    SubsetProblem,
    draw,
    greedy,
    members_of,
    search,
)
from fusion.subsets.targets import Shares

Floats = NDArray[np.float64]

PROGRESS = "progress.json"
SAVE_EVERY_S = 10.0
FIRST_LINE_S = 1.0
"""When a search says how long it will take: nobody else has told before."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
EXHAUSTIVE, GREEDY, REPLACED = "exhaustive", "greedy", "greedy with replacement"


@dataclass(frozen=True)
class MemberRows:
    """Predictions of all members for the same rows, each with a truth.

    Attributes
    ----------
    predictions : DataFrame
        The first member's.
    values : float64, shape (n_members, n, n_targets) or (n_members, n, n_labels)
    """

    predictions: pd.DataFrame
    values: Floats

    def where(self, mask: pd.Series | NDArray[np.bool_]) -> MemberRows:
        """The rows of a mask."""
        chosen = np.asarray(mask, dtype=bool)
        return MemberRows(self.predictions[chosen].reset_index(drop=True), self.values[:, chosen])


@dataclass(frozen=True)
class Data:
    """What is scored, and what is chosen on.

    Attributes
    ----------
    scored : MemberRows
    partition : str
        Theirs.
    choosers : dict
        Fold -> rows to choose on; empty where there are none.
    chosen_on : str
        What these are, or why there are none.
    notes : list of str
    """

    scored: MemberRows
    partition: str
    choosers: dict[str, MemberRows]
    chosen_on: str
    notes: list[str]

    def of(self, corpus: str) -> Data:
        """The rows of one corpus; a fold without any to choose on leaves no honest choice.

        Parameters
        ----------
        corpus : str

        Returns
        -------
        Data
            `chosen_on` says why where nothing can be chosen.
        """
        scored = self.scored.where(self.scored.predictions["corpus"] == corpus)
        choosers = {
            fold: self.choosers[fold].where(self.choosers[fold].predictions["corpus"] == corpus)
            for fold in dict.fromkeys(scored.predictions["fold"] if self.choosers else ())
        }
        if lacking := [fold for fold, rows in choosers.items() if rows.predictions.empty]:
            why = f"no rows of {corpus} beside {self.partition} to choose on in fold {lacking[0]}"
            return replace(self, scored=scored, choosers={}, chosen_on=why)
        return replace(self, scored=scored, choosers=choosers)


@dataclass(frozen=True)
class SearchChoice:
    """What a search chose.

    Attributes
    ----------
    members : tuple of int
    key : int or float
        What choices of one set of rows are compared by.
    value : float
        The score on the rows it was chosen on.
    count : int
        How many subsets of the size are as good.
    ties : tuple of tuple of int
        The first of them.
    """

    members: Subset
    key: Any
    value: float
    count: int
    ties: tuple[Subset, ...]


Choices = dict[tuple[str, str, int | str], SearchChoice]
"""(metric, search, k) -> choice."""


def make_subsets(
    recipe: Recipe, folders: Folders, *, force: bool = False, tell: Tell = silent
) -> Path:
    """Search the subsets that `[fusion.subsets]` asks for, unless a finished run says the same.

    Parameters
    ----------
    recipe : Recipe
    folders : Folders
    force : bool
        Search although nothing changed.
    tell : callable
        Gets a line a method and metric.

    Returns
    -------
    Path
        The folder, with `subsets.json`.

    Raises
    ------
    RunError
        A member's run is missing or stale, lacks an utterance, or disagrees on a truth; or no row
        has a truth.
    """
    spec = _spec(recipe)
    folder = fusion_folder(folders.runs, recipe.name, SUBSETS)
    check_members(recipe, spec.members, f"fusion {SUBSETS}", folders)
    inputs = subsets_settings(recipe, folders.runs)
    if not force and is_fresh(folder, inputs, (SUBSETS_FILE,)):
        tell(f"fusion {SUBSETS}: nothing to do")
        return folder
    start = time.monotonic()
    data = read_data(recipe, folders.runs)
    checkpoint = SearchStates(folder / PROGRESS, fingerprint(inputs), tell)
    result = choose(recipe, data, checkpoint)
    (folder / "run.json").unlink(missing_ok=True)
    FILE.write(folder / SUBSETS_FILE, result)
    record = {
        "inputs": inputs,
        "stage": SUBSETS,
        "title": f"subsets of {len(spec.members)}",
        "members": spec.members,
        "recipe": recipe.resolved(),
        "seeds": {"random": spec.seed, "bootstrap": recipe.evaluate.seed},
        "notes": data.notes,
        "versions": versions(),
        "seconds": {"all": time.monotonic() - start},
    }
    files.write_run(folder, record)
    checkpoint.path.unlink(missing_ok=True)
    for row in result.choices:
        if row.k == ANY and row.best is not None:
            tell(f"fusion {SUBSETS}: {_line(row, row.best, data)}")
    for note in data.notes:
        tell(f"fusion {SUBSETS}: {note}")
    return folder


def _line(row: SubsetChoice, best: ChosenSubset, data: Data) -> str:
    how = row.method if row.search == EXHAUSTIVE else f"{row.method}, {row.search}"
    text = f"{how}: best {row.metric} on {data.partition} {best.value:.3f} (optimistic)"
    if row.honest is None:
        return f"{text}; {data.chosen_on}"
    return f"{text}, by {data.chosen_on} {row.honest.value:.3f}"


def read_data(recipe: Recipe, runs: Path) -> Data:
    """Read the members' predictions, and part them into what is scored and what is chosen on.

    Parameters
    ----------
    recipe : Recipe
        With `[fusion.subsets]`.
    runs : Path

    Returns
    -------
    Data
        Test rows, chosen for on devel or else on the inner folds; without a test, devel rows on the
        inner folds.

    Raises
    ------
    RunError
        The members' runs disagree, or no row that is scored has a truth.
    """
    spec = _spec(recipe)
    notes: list[str] = []
    rows = {}
    for output in (PREDICTIONS, INNER):
        predictions = {
            member: read_predictions(run_folder(runs, recipe.name, member) / output)
            for member in spec.members
        }
        aligned = align(predictions, spec.missing, f"fusion {SUBSETS}: {output}")
        if aligned.n_dropped:
            dropped = counted(aligned.n_dropped, "row")
            notes.append(f"{output}: {dropped} dropped that not every member has")
        names = aligned.labels or predicted_targets(aligned.predictions)
        rows[output] = MemberRows(aligned.predictions, aligned.stack).where(
            has_truth(aligned.predictions, names)
        )
    held, inner = rows[PREDICTIONS], rows[INNER]
    by_partition = {
        name: held.where(held.predictions["partition"] == name) for name in ("test", "devel")
    }
    partition = "test" if len(by_partition["test"].predictions) else "devel"
    scored = by_partition[partition]
    if scored.predictions.empty:
        raise RunError(
            f"fusion {SUBSETS}: no row of test or devel has a truth: nothing to choose by"
        )
    inner = inner.where(inner.predictions["partition"] == "inner")
    kinds = {"devel": by_partition["devel"]} if partition == "test" else {}
    folds = list(dict.fromkeys(scored.predictions["fold"]))
    for name, source in {**kinds, "inner folds": inner}.items():
        choosers = {fold: source.where(source.predictions["fold"] == fold) for fold in folds}
        lacking = [fold for fold in folds if choosers[fold].predictions.empty]
        if not lacking:
            return Data(scored, partition, choosers, name, notes)
    why = f"no rows beside {partition} to choose on" + (
        f" in fold {lacking[0]}" if lacking[0] else ""
    )
    return Data(scored, partition, {}, why, notes)


def _spec(recipe: Recipe) -> SubsetsSpec:
    if recipe.subsets is None:
        raise ValueError(f"{recipe.path}: no [fusion.subsets]")
    return recipe.subsets


def problem_of(rows: MemberRows, method: str, by: Sequence[str]) -> SubsetProblem:
    """The search problem of some rows."""
    labels = predicted_labels(rows.predictions)
    if labels:
        truth = metrics.encode(rows.predictions["true"].to_numpy(), labels, "truth")
        return Classes(truth, rows.values, method, by)
    return Shares(_truths(rows.predictions), rows.values, by)


def _truths(rows: pd.DataFrame) -> Floats:
    return values_of(rows, predicted_targets(rows))[0]


class SearchStates:
    """How far the searches are, in a file that is written whole from time to time.

    Parameters
    ----------
    path : Path
    inputs : str
        Fingerprint of what the searches depend on; a file of other inputs is not gone on from.
    tell : callable
        Hears of such a file.
    """

    def __init__(self, path: Path, inputs: str, tell: Tell = silent) -> None:
        self.path, self.inputs = path, inputs
        found = read_json(path)
        if found is not None and found["inputs"] != inputs:
            tell(f"fusion {SUBSETS}: {path} is of other inputs; begun anew")
            found = None
        records = found["states"] if found else {}
        self.states = {key: State.of(record) for key, record in records.items()}
        self._saved = time.monotonic()

    def save(self, *, now: bool = False) -> None:
        """Write the file, when it is time."""
        if now or time.monotonic() - self._saved >= SAVE_EVERY_S:
            states = {key: state.record() for key, state in self.states.items()}
            write_json(self.path, {"inputs": self.inputs, "states": states})
            self._saved = time.monotonic()


def choose(recipe: Recipe, data: Data, checkpoint: SearchStates) -> Subsets:
    """Search, and judge what was found.

    Parameters
    ----------
    recipe : Recipe
    data : Data
    checkpoint : SearchStates
        Searches go on from its states; it is saved on the way and when this is stopped.

    Returns
    -------
    Subsets
        Of all rows, and of each corpus alone where the recipe asks for it.
    """
    spec = _spec(recipe)
    corpora = sorted(data.scored.predictions["corpus"].unique()) if spec.alone else []
    parts = {"": data, **{corpus: data.of(corpus) for corpus in corpora if len(corpora) > 1}}
    n_sets = sum(1 + len(part.choosers) for part in parts.values())
    exhaustive, _ = _sizes(spec)
    wanted = sum(math.comb(len(spec.members), k) for k in exhaustive) * n_sets * len(spec.methods)
    done = sum(state.n_subsets for state in checkpoint.states.values())
    progress = Progress(f"fusion {SUBSETS}", wanted - done, "subsets", FIRST_LINE_S)

    def searched(problem: SubsetProblem, key: str) -> Choices:
        return _search(problem, spec, key, checkpoint, progress)

    try:
        found = {corpus: _of_part(recipe, part, corpus, searched) for corpus, part in parts.items()}
    except BaseException:
        checkpoint.save(now=True)
        raise
    progress.close()
    whole = found.pop("")
    result = Subsets(
        task=recipe.task,
        members=tuple(spec.members),
        partition=data.partition,
        alone=found,
        **vars(whole),
    )
    return subset_marks(result)


def _of_part(
    recipe: Recipe, data: Data, corpus: str, searched: Callable[[SubsetProblem, str], Choices]
) -> SubsetsOfRows:
    """The choices on the rows of one corpus, or of all ("")."""
    spec = _spec(recipe)
    sets = {"scored": data.scored, **{f"fold {f}": rows for f, rows in data.choosers.items()}}
    lacking = ""
    choices: list[SubsetChoice] = []
    random: list[RandomSubsets] = []
    for method in spec.methods:
        found = {}
        for name, rows in sets.items():
            problem = problem_of(rows, method, [METRICS[key].field for key in spec.metrics])
            key = f"{method}, {name}"
            found[name] = searched(problem, f"{corpus}: {key}" if corpus else key)
            if name == "scored":
                scored = Scorer(problem, data.scored, recipe)
                lacking = scored.lacking
                random += _random(problem, method, spec)
        choices += _judge(scored, found, data, method, spec)
    return SubsetsOfRows(
        n=len(data.scored.predictions),
        n_speakers=count_speakers(data.scored.predictions),
        chosen_on=data.chosen_on if data.choosers else None,
        why=None if data.choosers else data.chosen_on,
        choices=tuple(choices),
        random=tuple(random),
        lacking=lacking,
    )


def _sizes(spec: SubsetsSpec) -> tuple[list[int], list[int]]:
    """The sizes that are searched through, and those of a greedy path."""
    n = len(spec.members)
    exhaustive = [k for k in spec.sizes if math.comb(n, k) <= spec.limit]
    return exhaustive, [k for k in spec.sizes if spec.greedy or k not in exhaustive]


def _search(
    problem: SubsetProblem,
    spec: SubsetsSpec,
    key: str,
    checkpoint: SearchStates,
    progress: Progress,
) -> Choices:
    """All choices on one set of rows by one method."""
    found: Choices = {}
    exhaustive, paths = _sizes(spec)

    for k in exhaustive:
        name = f"{key}, {k}"

        def done(state: State, n_subsets: int, name: str = name) -> None:
            checkpoint.states[name] = state
            progress.add(n_subsets)
            checkpoint.save()

        state = search(problem, k, checkpoint.states.get(name), done=done)
        for metric, best in state.best.items():
            if best.masks:
                rows = members_of(np.array(best.masks), problem.n_members, k).tolist()
                ties = tuple(tuple(row) for row in rows)
                found[metric, EXHAUSTIVE, k] = SearchChoice(
                    ties[0], best.key, best.value, best.count, ties
                )
    for metric in problem.metrics if paths else ():
        for kind in (GREEDY, REPLACED):
            for step in greedy(problem, metric, max(paths), replacement=kind == REPLACED):
                if len(step.members) in paths:
                    found[metric, kind, len(step.members)] = SearchChoice(
                        step.members, step.key, step.value, 1, (step.members,)
                    )
    for metric in problem.metrics:
        for kind in (EXHAUSTIVE, GREEDY, REPLACED):
            sizes = [k for k in spec.sizes if (metric, kind, k) in found]
            if sizes:
                found[metric, kind, ANY] = _best_of_all([found[metric, kind, k] for k in sizes])
    return found


def _best_of_all(choices: Sequence[SearchChoice]) -> SearchChoice:
    """The choice over several sizes, which rise; a smaller one goes before an equal larger one."""
    top = max(choice.key for choice in choices)
    equal = [choice for choice in choices if choice.key == top]
    ties = tuple(tie for choice in equal for tie in choice.ties)[:TIES_KEPT]
    return replace(equal[0], count=sum(choice.count for choice in equal), ties=ties)


def _random(problem: SubsetProblem, method: str, spec: SubsetsSpec) -> Iterator[RandomSubsets]:
    """Mean and quantiles of the scores of random subsets, a size and metric at a time."""
    for k in spec.sizes:
        drawn = draw(problem.n_members, k, spec.random, spec.seed)
        for metric in problem.metrics:
            scores = problem.scores(drawn, metric)
            known = scores[~np.isnan(scores)]
            quantiles = (
                np.quantile(known, QUANTILES) if len(known) else np.full(len(QUANTILES), np.nan)
            )
            yield RandomSubsets(
                method,
                metric,
                k,
                len(drawn),
                math.comb(problem.n_members, k) <= spec.random,
                len(scores) - len(known),
                number_or_none(known.mean()) if len(known) else None,
                dict(zip(map(str, QUANTILES), map(number_or_none, quantiles), strict=True)),
            )


class Scorer:
    """Scores of choices on the scored rows, with resamples that all of them share."""

    def __init__(self, problem: SubsetProblem, rows: MemberRows, recipe: Recipe) -> None:
        self.problem, self.predictions = problem, rows.predictions
        self.labels = predicted_labels(rows.predictions)
        self.folds = list(dict.fromkeys(rows.predictions["fold"]))
        self._evaluate = recipe.evaluate
        groups = speakers(rows.predictions)
        self._drawn = intervals.draw(groups, self._evaluate.bootstrap, self._evaluate.seed)
        self._scores: dict[tuple[Subset, ...], dict[str, tuple[float, Floats]]] = {}

    def score(self, choices: Sequence[Subset], metric: str) -> tuple[float, Floats]:
        """The score of a choice a fold, in the order of `folds`, and that in every resample."""
        key = tuple(choices)
        if key not in self._scores:
            compute = self._classes if self.labels else self._shares
            self._scores[key] = compute(self._predict(key))
        return self._scores[key][metric]

    def estimate(self, value: float, resampled: Floats) -> Estimate:
        """A score or difference with its interval."""
        return estimate(value, resampled, self._evaluate.confidence)

    @property
    def lacking(self) -> str:
        """What became of the resamples that lack a class; empty where none does."""
        if not self.labels:
            return ""
        truth = self.predictions["true"].to_numpy()
        recalls = intervals.classification_resampled(truth, truth, self.labels, self._drawn)["uar"]
        return intervals.lacking_text(int(np.isnan(recalls).sum()), len(recalls))

    def _predict(self, choices: tuple[Subset, ...]) -> Floats:
        """Combined values, the rows of each fold by its choice."""
        combined = {subset: self.problem.combined(subset) for subset in set(choices)}
        result = np.empty_like(combined[choices[0]])
        for fold, subset in zip(self.folds, choices, strict=True):
            rows = (self.predictions["fold"] == fold).to_numpy()
            result[rows] = combined[subset][rows]
        return result

    def _classes(self, combined: Floats) -> dict[str, tuple[float, Floats]]:
        predicted = np.asarray(self.labels, dtype=object)[np.nanargmax(combined, axis=1)]
        truth = self.predictions["true"].to_numpy()
        values = metrics.scores_of(metrics.confusion(truth, predicted, self.labels))
        resampled = intervals.classification_resampled(truth, predicted, self.labels, self._drawn)
        return {
            metric: (float(values[metric]), resampled[metric]) for metric in self.problem.metrics
        }

    def _shares(self, combined: Floats) -> dict[str, tuple[float, Floats]]:
        truth = _truths(self.predictions)
        scored = ~np.isnan(truth).all(axis=0)
        truth, combined = truth[:, scored], combined[:, scored]
        resampled = intervals.regression_resampled(truth, combined, self._drawn)
        return {
            metric: (mean_over_targets(metric, truth, combined), resampled[metric].mean(axis=0))
            for metric in self.problem.metrics
        }


def _judge(
    scorer: Scorer, found: Mapping[str, Choices], data: Data, method: str, spec: SubsetsSpec
) -> Iterator[SubsetChoice]:
    """Put beside each choice on the scored rows what an honest one gives there."""
    n = len(spec.members)
    for metric in scorer.problem.metrics:
        for kind, sizes in _searched(spec):
            each: list[int | str] = [*sizes, ANY]
            for k in each:
                key = metric, kind, k
                best = found["scored"].get(key)
                chosen = {
                    fold: found[f"fold {fold}"][key]
                    for fold in data.choosers
                    if key in found[f"fold {fold}"]
                }
                whole = chosen and len(chosen) == len(data.choosers)
                honest, optimism = _honest(scorer, best, chosen, metric, spec) if whole else _NONE
                counted = [k] if isinstance(k, int) else sizes
                searched = sum(math.comb(n, size) for size in counted)
                yield SubsetChoice(
                    method,
                    metric,
                    kind,
                    k,
                    searched if kind == EXHAUSTIVE else None,
                    None if best is None else _entry(best, spec),
                    honest,
                    optimism,
                )


_NONE = (None, None)


def _honest(
    scorer: Scorer,
    best: SearchChoice | None,
    chosen: Mapping[str, SearchChoice],
    metric: str,
    spec: SubsetsSpec,
) -> tuple[HonestChoice, Estimate | None]:
    """What the folds' own choices score, and how much more the best one does."""
    value, resampled = scorer.score([chosen[fold].members for fold in scorer.folds], metric)
    choices = {fold: _entry(choice, spec) for fold, choice in chosen.items()}
    honest = HonestChoice(**vars(scorer.estimate(value, resampled)), choices=choices)
    if best is None:
        return honest, None
    at_best, there = scorer.score([best.members] * len(scorer.folds), metric)
    return honest, scorer.estimate(at_best - value, there - resampled)


def _searched(spec: SubsetsSpec) -> Iterator[tuple[str, list[int]]]:
    """The kinds of search, with the sizes of each."""
    exhaustive, paths = _sizes(spec)
    for kind, sizes in ((EXHAUSTIVE, exhaustive), (GREEDY, paths), (REPLACED, paths)):
        if sizes:
            yield kind, sizes


def _entry(choice: SearchChoice, spec: SubsetsSpec) -> ChosenSubset:
    """A choice by the names of its members."""
    return ChosenSubset(
        number_or_none(choice.value),
        members=tuple(spec.members[i] for i in choice.members),
        n_best=choice.count,
        ties=tuple(tuple(spec.members[i] for i in tie) for tie in choice.ties[1:]),
    )


def mean_over_targets(metric: str, truth: Floats, prediction: Floats) -> float:
    """A metric a target, then the mean; NaN where one is undefined.

    Parameters
    ----------
    metric : str
        Of `evaluate.metrics.metrics.REGRESSION`.
    truth : float64, shape (n, n_targets)
        NaN where masked; such a row is left out for that target.
    prediction : float64, shape (n, n_targets)

    Returns
    -------
    float
    """
    values = []
    with warnings.catch_warnings():
        # Said already where the members are scored.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        for x, y in zip(truth.T, prediction.T, strict=True):
            known = ~np.isnan(x)
            values.append(metrics.REGRESSION[metric](x[known], y[known]))
    return float(np.mean(values))
