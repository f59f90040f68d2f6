"""Predictions -> `scores.json`, and what its numbers are in words.

Conventions
-----------
- Scores are computed on all held-out rows of a partition pooled; mean and sample deviation over
  folds stand beside them. Where a recipe has several corpora, each is also scored alone.
- A cross-corpus run is also scored a pair of corpora (`transfer`): a row what was trained on, a
  column what was tested. The diagonal is that of the partition `within`, fitted to other speakers
  of the corpus, and empty where the recipe does not ask for it.
- The conditions of the grid of speakers and sentences are compared with its partition `test` on
  the same rows, in pairs (`gaps`).
- Devel rows that settings of the head (or of a fusion's members) were chosen on give an optimistic
  score: `optimistic` of the partition says why (`CHOSEN_ON_DEVEL`).
- Rows whose truth is masked are left out and counted (`n_masked`).
- A regression's `metrics` are means over its targets. A target without any truth is left out; a
  target whose score is undefined makes the mean undefined.
- Scores by gender, language, corpus, session and speaker (`groups`) are those of
  `evaluate.scores.groups`.
- New statistics need no new training: `scores.json` is made anew whenever the predictions, the
  recipe's `[evaluate]` or `SCORES_NUMERICS` change.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from evaluate.metrics import calibration, metrics
from evaluate.runs import record as runs
from evaluate.runs.arrays import (
    count_speakers,
    has_truth,
    plain_scores,
    resampled_scores,
    speakers,
    truth_of,
    values_of,
)
from evaluate.runs.files import file_hash, read_run
from evaluate.runs.folders import INNER, PREDICTIONS, SCORES, gaps_path, run_folder, run_folders
from evaluate.runs.freshness import hash_of_table, is_stale
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from evaluate.scores.groups import group_names, read_tables, score_groups
from evaluate.scores.marks import run_marks
from evaluate.scores.records import (
    Bins,
    Calibration,
    ClassScore,
    Estimate,
    Folds,
    Gap,
    PartitionScores,
    PartitionStatistics,
    PermutationTest,
    ProtocolGaps,
    RowScores,
    RunScores,
    TargetScore,
    Transfer,
    estimate,
    number_or_none,
)
from evaluate.scores.stored import Kind
from evaluate.scores.version_0 import run_scores, same
from evaluate.statistics import resampling as intervals
from features.common.errors import CorpusError, RunError
from features.common.words import counted
from features.recipe.known.metrics import METRICS, shown
from features.recipe.known.records import TASKS

if TYPE_CHECKING:
    from features.recipe.model import Recipe
    from features.recipe.split import SplitSpec

SCORES_NUMERICS = 7
"""Raised with every change that can move a score or a bound."""
FEW_SPEAKERS = 20
"""Below this many speakers an interval is shown with their number."""
SMALL_P = 0.01
"""Where no corrected p value can be as small as this, the least that there can be is said."""

SHOWN = {task: tuple(METRICS[key].field for key in shown(task)) for task in TASKS}
"""The metrics of the overview."""
NAMES = {metric.field: metric.name for metric in METRICS.values()}
_OVER_CLASSES = " and ".join(NAMES[one] for one in metrics.OVER_CLASSES)
CHOSEN_ON_DEVEL = "the heads' settings were chosen on these rows; test is the honest figure"
"""Why scores on devel are optimistic."""
PARTITIONS = ("devel", "test")
"""Of the overview; those of a cross-corpus run and of the grid have tables of their own."""
GRID = (
    ("speakers new", (("sentences new", "test"), ("sentences seen", "sentence-seen"))),
    ("speakers seen", (("sentences new", "speaker-seen"), ("sentences seen", "both-seen"))),
)
"""Rows and columns of the grid of speakers and sentences, with the partition of each cell."""

FILE = Kind("scores", RunScores, run_scores, run_marks)
GAPS_FILE = Kind("gaps", ProtocolGaps, same)

K = TypeVar("K")


@dataclass(frozen=True)
class Scored:
    """A finished run with its scores.

    Attributes
    ----------
    kind : "model" or "fusion"
    member : str
        The folder's name.
    stale : bool
        Made with another recipe than today's.
    record : dict
        `run.json`.
    scores : RunScores
        `scores.json`.
    """

    kind: str
    member: str
    folder: Path
    stale: bool
    record: dict[str, Any]
    scores: RunScores

    @property
    def name(self) -> str:
        """The folder below `runs/<recipe>`."""
        return f"fusion/{self.member}" if self.kind == "fusion" else self.member

    @property
    def title(self) -> str:
        """How the run is named wherever it is shown."""
        title = str(self.record.get("title", self.member))
        return f"fused: {title}" if self.kind == "fusion" else title

    @property
    def marks(self) -> list[str]:
        """What a reader must know about the row."""
        head = self.record.get("recipe", {}).get("head", {})
        flags = {
            "optimistic": self.scores.optimistic,
            "uses unlabelled test data": bool(head.get("standardise")),
            "stale": self.stale,
        }
        return [name for name, on in flags.items() if on]

    @property
    def marked_title(self) -> str:
        """The title with its marks, for plain text."""
        return f"{self.title} ({', '.join(self.marks)})" if self.marks else self.title


def score_run(
    folder: str | Path, recipe: Recipe, *, stores: Path | None = None, force: bool = False
) -> RunScores:
    """Score one run's predictions and write its `scores.json` where it is missing or outdated.

    Parameters
    ----------
    folder : path
    recipe : Recipe
    stores : Path, optional
        The tables beside the stores say who is of which gender, language and session. Scores made
        with a table hold where it is not at hand.
    force : bool
        Score anew in any case.

    Raises
    ------
    RunError
        On unusable predictions, or predictions of another task than the recipe's.
    """
    folder = Path(folder)
    hashes = _table_hashes(recipe, stores)
    if not force and (old := _up_to_date(folder, recipe, hashes, strict=True)):
        return old
    inputs = _inputs(folder, recipe)
    frame = read_predictions(folder / PREDICTIONS)
    names = _names(frame, folder, recipe)
    notes: list[str] = []
    if lacking := [one for one in recipe.corpora if stores is not None and one not in hashes]:
        notes.append(f"no table of {', '.join(lacking)}: not by gender, language and session")
    of_row = group_names(frame, read_tables(recipe, stores) if stores is not None else {})
    order = {name: i for i, name in enumerate(PARTITIONS)}
    found = sorted(frame["partition"].unique(), key=lambda name: (order.get(name, 2), name))
    partitions, groups = {}, {}
    for name in found:
        here = (frame["partition"] == name).to_numpy()
        optimistic = CHOSEN_ON_DEVEL if name == "devel" and inputs["chosen_on_devel"] else ""
        try:
            scored = _score_partition(frame[here], name, names, recipe, notes)
            known = here & has_truth(frame, names).to_numpy()
            own = {kind: of[known] for kind, of in of_row.items()}
            groups[name] = score_groups(
                frame[known], names, own, SHOWN[recipe.task], recipe.evaluate
            )
        except ValueError as error:
            raise RunError(f"{folder / PREDICTIONS}: {name}: {error}; train anew") from None
        partitions[name] = replace(scored, optimistic=optimistic)
        notes += [f"{name}: {optimistic}"] if optimistic else []
    calibrated, no_calibration = _calibration(folder, frame, names)
    transfer = (
        _transfer(frame, names, recipe, notes) if recipe.split.outer == "cross-corpus" else None
    )
    scores = RunScores(
        recipe.task,
        inputs["optimistic"],
        count_speakers(frame),
        partitions,
        groups,
        labels=names if recipe.task == "classification" else (),
        targets=names if recipe.task == "regression" else (),
        calibration=calibrated,
        no_calibration=no_calibration,
        transfer=transfer,
        gaps=_grid_gaps(frame, found, recipe),
        warnings=tuple(notes),
    )
    return FILE.write(folder / SCORES, scores, {**inputs, "tables": hashes})


def _names(frame: pd.DataFrame, folder: Path, recipe: Recipe) -> tuple[str, ...]:
    """Labels or targets; predictions of another task than the recipe's are an error."""
    task = "classification" if "true" in frame.columns else "regression"
    if task != recipe.task:
        raise RunError(
            f"{folder}: its predictions are those of a {task}, the recipe's task is "
            f"{recipe.task}; run make train (and make fuse) again"
        )
    return predicted_labels(frame) or predicted_targets(frame)


def _calibration(
    folder: Path, frame: pd.DataFrame, names: Sequence[str]
) -> tuple[dict[str, Calibration], str]:
    """Calibration by partition, and why there is none; neither of a regression."""
    if "true" not in frame.columns:
        return {}, ""
    kind = (read_run(folder) or {}).get("scores", "score")
    found = calibration.of_run(frame, read_predictions(folder / INNER), names, kind=kind)
    bins = {
        partition: Calibration(_bins(each.plain), _bins(each.tempered), {**each.temperatures})
        for partition, each in found.items()
    }
    silent = kind in calibration.NO_PROBABILITIES
    return bins, f"its class scores are {kind}, no probabilities" if silent else ""


def _bins(found: calibration.Reliability) -> Bins:
    columns = (found.confidence, found.accuracy)
    confidence, accuracy = (tuple(map(number_or_none, one.tolist())) for one in columns)
    return Bins(confidence, accuracy, tuple(found.counts.tolist()), number_or_none(found.error))


def _grid_gaps(frame: pd.DataFrame, found: Sequence[str], recipe: Recipe) -> dict[str, Gap] | None:
    """The differences to `test` of the grid of speakers and sentences; None of other splits."""
    if recipe.split.outer != "speaker-sentence-grid":
        return None
    strict = frame[frame["partition"] == "test"]
    return {
        name: paired_gap(frame[frame["partition"] == name], strict, recipe)
        for name in found
        if name != "test"
    }


def read_scores(folder: str | Path, recipe: Recipe, *, stores: Path | None = None) -> RunScores:
    """Read a run's `scores.json`, computing nothing.

    Scores that were made without a table hold where there is one.

    Raises
    ------
    RunError
        Where it is missing, or older than the predictions, the recipe's `[evaluate]` or the tables
        beside the stores, where these are named.
    """
    scores = _up_to_date(Path(folder), recipe, _table_hashes(recipe, stores), strict=False)
    if scores is None:
        raise runs.outdated(Path(folder) / SCORES, recipe)
    return scores


def scores_at_hand(folder: Path) -> RunScores | None:
    """A run's `scores.json`, whatever `[evaluate]` says today.

    None where it is missing, of other predictions than those that are there, or made by a version
    that computed other numbers.
    """
    found = FILE.open(folder / SCORES)
    now = {
        "numerics": SCORES_NUMERICS,
        "predictions": file_hash(folder / PREDICTIONS),
    }
    return found.record if found and now == {key: found.inputs.get(key) for key in now} else None


def _up_to_date(
    folder: Path, recipe: Recipe, tables: Mapping[str, str], *, strict: bool
) -> RunScores | None:
    """The scores that are there; not `strict`, a table that they were made without is no matter."""
    found = FILE.open(folder / SCORES)
    if found is None:
        return None
    inputs = found.inputs
    used = inputs.pop("tables", {})
    same = all(used.get(name, "" if strict else hash_) == hash_ for name, hash_ in tables.items())
    return found.record if same and inputs == _inputs(folder, recipe) else None


def _table_hashes(recipe: Recipe, stores: Path | None) -> dict[str, str]:
    """Corpus -> hash of its table, where there is one."""
    if stores is None:
        return {}
    found = {}
    for corpus in recipe.corpora:
        with contextlib.suppress(CorpusError):
            found[corpus] = hash_of_table(stores / corpus)
    return found


def _inputs(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """What scores depend on."""
    for path in (folder / PREDICTIONS, folder / INNER):
        if not path.is_file():
            raise RunError(
                f"{path}: missing from a finished run; run make train (or make fuse) again"
            )
    return {
        "numerics": SCORES_NUMERICS,
        "predictions": file_hash(folder / PREDICTIONS),
        "inner": file_hash(folder / INNER),
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "outer": recipe.split.outer,
        "optimistic": bool((read_run(folder) or {}).get("optimistic", False)),
        "chosen_on_devel": runs.chosen_on_devel(folder),
    }


def score_all(
    recipe: Recipe, runs_folder: Path, *, stores: Path | None = None, force: bool = False
) -> list[Scored]:
    """Score every finished run of a recipe: models in the recipe's order, then fusions.

    Raises
    ------
    RunError
        Where no run is finished.
    """
    return _finished(
        recipe, runs_folder, lambda one: score_run(one, recipe, stores=stores, force=force)
    )


def read_all(recipe: Recipe, runs_folder: Path, *, stores: Path | None = None) -> list[Scored]:
    """As `score_all`, but computing nothing: a run without up-to-date scores is a RunError."""
    return _finished(recipe, runs_folder, lambda one: read_scores(one, recipe, stores=stores))


@dataclass(frozen=True)
class Protocols:
    """The runs of a recipe by its protocols, and how these compare.

    Attributes
    ----------
    scored : dict
        Protocol of `[split] also` -> its finished runs; empty where none is finished.
    gaps : dict
        Protocol -> member -> what `paired_gap` gives for the protocol minus the main one, on the
        rows that both hold out in `test`.
    """

    scored: dict[str, list[Scored]]
    gaps: dict[str, dict[str, Gap]]


def score_protocols(
    recipe: Recipe, runs_folder: Path, *, stores: Path | None = None, force: bool = False
) -> Protocols:
    """Score the runs of `[split] also`, and compare them with those of the main protocol."""
    scored = by_protocol(
        recipe.beside(),
        runs_folder,
        lambda one: score_all(one, runs_folder, stores=stores, force=force),
    )
    if not scored:
        return Protocols({}, {})
    found = GAPS_FILE.made(
        gaps_path(runs_folder, recipe.name),
        _gap_inputs(recipe, runs_folder),
        lambda: ProtocolGaps(
            {
                name: {
                    one.member: _gap_to_main(one, recipe, recipe.also[name], runs_folder)
                    for one in members
                    if read_run(run_folder(runs_folder, recipe.name, one.member)) is not None
                }
                for name, members in scored.items()
            }
        ),
        force=force,
    )
    return Protocols(scored, found.gaps)


def _gap_to_main(one: Scored, recipe: Recipe, split: SplitSpec, runs_folder: Path) -> Gap:
    """The difference of a run of another protocol to that of the main one."""
    if "speaker-sentence-grid" in (recipe.split.outer, split.outer):
        return _no_gap("fitted on fewer rows: compare within its grid")
    main = run_folder(runs_folder, recipe.name, one.member)
    pair = [read_predictions(at / PREDICTIONS) for at in (one.folder, main)]
    first, second = (frame[frame["partition"] == "test"] for frame in pair)
    return paired_gap(first, second, recipe)


def read_protocols(recipe: Recipe, runs_folder: Path) -> Protocols:
    """As `score_protocols`, but computing nothing: what is missing or outdated is a RunError."""
    scored = by_protocol(recipe.beside(), runs_folder, lambda one: read_all(one, runs_folder))
    if not scored:
        return Protocols({}, {})
    path = gaps_path(runs_folder, recipe.name)
    return Protocols(scored, GAPS_FILE.current(path, _gap_inputs(recipe, runs_folder), recipe).gaps)


def by_protocol(
    protocols: Mapping[K, Recipe], runs_folder: Path, scored: Callable[[Recipe], list[Scored]]
) -> dict[K, list[Scored]]:
    """The finished runs of each protocol that has any, as `scored` gives them."""
    found = {}
    for name, one in protocols.items():
        folders = run_folders(one, runs_folder)
        if any(read_run(folder) is not None for _, _, folder in folders):
            found[name] = scored(one)
    return found


def _gap_inputs(recipe: Recipe, runs_folder: Path) -> dict[str, Any]:
    """What the comparison of protocols depends on."""
    predictions: dict[str, str | None] = {}
    for one in (recipe, *recipe.beside().values()):
        for kind, member, folder in run_folders(one, runs_folder):
            path = folder / PREDICTIONS
            if kind == "model" and read_run(folder) is not None:
                predictions[f"{one.name}/{member}"] = file_hash(path)
    return {
        "numerics": SCORES_NUMERICS,
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "predictions": predictions,
    }


def _finished(
    recipe: Recipe, runs_folder: Path, scores_of: Callable[[Path], RunScores]
) -> list[Scored]:
    result = []
    for kind, member, folder in run_folders(recipe, runs_folder):
        record = read_run(folder)
        if record is not None:
            stale = is_stale(recipe, kind, member, runs_folder, record)
            result.append(Scored(kind, member, folder, stale, record, scores_of(folder)))
    if not result:
        raise RunError(
            f"{runs_folder / recipe.name}: no finished run; run make train RECIPE={recipe.path}"
        )
    return result


# -- one partition ---------------------------------------------------------------------------


def _score_partition(
    frame: pd.DataFrame, name: str, names: Sequence[str], recipe: Recipe, notes: list[str]
) -> PartitionScores:
    score = _classification if recipe.task == "classification" else _regression
    known = has_truth(frame, names)
    whole = score(frame[known], name, names, recipe, notes)
    masked = int((~known).sum())
    if masked:
        notes.append(f"{name}: {masked} of {len(frame)} rows have no truth; left out")
    folds = _folds(frame[known], name, names, recipe, notes)
    corpora = sorted(frame["corpus"].unique())
    alone = {
        corpus: score(
            frame[known & (frame["corpus"] == corpus)], f"{name}, {corpus}", names, recipe, notes
        )
        for corpus in corpora
        if len(corpora) > 1
    }
    return PartitionScores(**vars(whole), n_masked=masked, folds=folds, corpora=alone)


def _counts(frame: pd.DataFrame, name: str, notes: list[str]) -> tuple[int, int | None]:
    """Rows and speakers; rows without a speaker are noted."""
    n_speakers = count_speakers(frame)
    unknown = int((frame["speaker"] == "").sum())
    if n_speakers and unknown:
        notes.append(
            f"{name}: {counted(unknown, 'row has', 'rows have')} no speaker; resampled one by one"
        )
    return len(frame), n_speakers


def _regression(
    frame: pd.DataFrame, name: str, targets: Sequence[str], recipe: Recipe, notes: list[str]
) -> RowScores:
    n, n_speakers = _counts(frame, name, notes)
    if frame.empty:
        return RowScores(n, n_speakers, {})
    truth, prediction = values_of(frame, targets)
    values: dict[str, dict[str, float]] = {}
    for i, target in enumerate(targets):
        with _noted(f"{name}, {target}: ", notes):
            values |= metrics.regression_scores(truth[:, [i]], prediction[:, [i]], [target])
    drawn = intervals.draw(speakers(frame), recipe.evaluate.bootstrap, recipe.evaluate.seed)
    resampled = intervals.regression_resampled(truth, prediction, drawn)
    counts = (~np.isnan(truth)).sum(axis=0)
    confidence = recipe.evaluate.confidence
    per_target = {
        target: TargetScore(
            int(counts[i]),
            {
                metric: estimate(values[target][metric], resampled[metric][i], confidence)
                for metric in metrics.REGRESSION
            },
        )
        for i, target in enumerate(targets)
    }
    scored = [i for i, count in enumerate(counts) if count]
    means = {
        metric: estimate(
            float(np.mean([values[targets[i]][metric] for i in scored])),
            resampled[metric][scored].mean(axis=0),
            confidence,
        )
        for metric in metrics.REGRESSION
    }
    return RowScores(n, n_speakers, means, per_target=per_target)


def _classification(
    frame: pd.DataFrame, name: str, labels: Sequence[str], recipe: Recipe, notes: list[str]
) -> RowScores:
    n, n_speakers = _counts(frame, name, notes)
    if frame.empty:
        return RowScores(n, n_speakers, {})
    truth, prediction = frame["true"].to_numpy(), frame["pred"].to_numpy()
    matrix = metrics.confusion(truth, prediction, labels)
    with warnings.catch_warnings():
        # Said by name.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        values = metrics.classification_scores(matrix)
    per_class = {
        label: ClassScore(**found) for label, found in metrics.per_class(matrix, labels).items()
    }
    notes += absent_classes(name, per_class)
    drawn = intervals.draw(speakers(frame), recipe.evaluate.bootstrap, recipe.evaluate.seed)
    resampled = intervals.classification_resampled(truth, prediction, labels, drawn)
    confidence = recipe.evaluate.confidence
    found = {
        metric: estimate(value, resampled[metric], confidence) for metric, value in values.items()
    }
    notes += _lacking_notes(name, found, recipe)
    rows = tuple(map(tuple, matrix.tolist()))
    return RowScores(n, n_speakers, found, per_class=per_class, confusion=rows)


def _lacking_notes(name: str, found: Mapping[str, Estimate], recipe: Recipe) -> list[str]:
    """Say how many resamples lack a class; nothing where none does."""
    text = _lacking_text(found, recipe)
    return [f"{name}, {_OVER_CLASSES}: {text}"] if text else []


def _lacking_text(found: Mapping[str, Estimate], recipe: Recipe) -> str:
    """What became of the resamples that lack a class: of the entries of a set of rows."""
    undefined = found["uar"].undefined if "uar" in found else 0
    return intervals.lacking_text(undefined, recipe.evaluate.bootstrap)


def absent_classes(name: str, per_class: Mapping[str, ClassScore]) -> list[str]:
    """Say which classes no scored row of a partition is of; nothing where each has one.

    Examples
    --------
    >>> sad, calm = ClassScore(0.5, 0.5, 0.5, support=3), ClassScore(0, None, None, support=0)
    >>> absent_classes("test", {"sad": sad, "calm": calm})
    ['test: no row is of calm; UAR is the mean over the other 1 of 2 classes']
    """
    absent = [label for label, one in per_class.items() if not one.support]
    if not absent:
        return []
    n = len(per_class)
    return [
        f"{name}: no row is of {', '.join(absent)}; UAR is the mean over the other "
        f"{n - len(absent)} of {n} classes"
    ]


def _folds(
    frame: pd.DataFrame, name: str, names: Sequence[str], recipe: Recipe, notes: list[str]
) -> Folds | None:
    """Mean and sample deviation of the scores of single folds; None where there is one fold."""
    scores, partial = [], 0
    for _, rows in frame.groupby("fold", sort=True):
        found: list[str] = []
        with _noted("", found):
            scores.append(plain_scores(rows, names))
        partial += bool(found)
    if len(scores) < 2:
        return None
    if partial:
        notes.append(
            f"{name}: in {partial} of {len(scores)} folds a class has no true sample or a score is "
            f"undefined; mean and deviation over folds go without it"
        )
    table = pd.DataFrame(scores)
    mean, std = (
        {str(metric): number_or_none(value) for metric, value in of.items()}
        for of in (table.mean(), table.std(ddof=1))
    )
    return Folds(mean, std, len(table))


@contextlib.contextmanager
def _noted(prefix: str, notes: list[str]) -> Iterator[None]:
    """Turn warnings into notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", metrics.ScoreWarning)
        yield
    notes += [prefix + str(one.message) for one in caught]


# -- pairs -----------------------------------------------------------------------------------


def _transfer(
    frame: pd.DataFrame, names: Sequence[str], recipe: Recipe, notes: list[str]
) -> Transfer:
    """Scores of every training set (rows) on every corpus (columns); None where there is none."""
    score = _classification if recipe.task == "classification" else _regression
    known = frame[has_truth(frame, names)]
    across, within = (known[known["partition"] == one] for one in ("test", "within"))
    trained = [one.removeprefix("from ") for one in sorted(across["fold"].unique())]
    tested = sorted(known["corpus"].unique())

    def cell(train: str, test: str) -> RowScores | None:
        rows = within if train == test else across[across["fold"] == f"from {train}"]
        rows = rows[rows["corpus"] == test]
        found = score(rows, f"{train} on {test}", names, recipe, notes)
        return RowScores(found.n, found.n_speakers, found.metrics) if len(rows) else None

    cells = tuple(tuple(cell(train, test) for test in tested) for train in trained)
    return Transfer(tuple(trained), tuple(tested), cells)


def paired_gap(first: pd.DataFrame, second: pd.DataFrame, recipe: Recipe) -> Gap:
    """Difference of the scores of two sets of predictions on the rows that both have.

    Speakers are resampled, with their rows in both. Without such rows, or where an utterance stands
    several times, there is none.

    Parameters
    ----------
    first, second : DataFrame
        Predictions of one recipe's task.
    recipe : Recipe
    """
    frames = shared_rows(first, second)
    if isinstance(frames, str):
        return _no_gap(frames)
    names = predicted_labels(first) or predicted_targets(first)
    drawn = intervals.draw(speakers(frames[0]), recipe.evaluate.bootstrap, recipe.evaluate.seed)
    with warnings.catch_warnings():
        # Said already where each is scored.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        a, b = (plain_scores(frame, names) for frame in frames)
    of_a, of_b = (resampled_scores(frame, names, drawn) for frame in frames)
    confidence = recipe.evaluate.confidence
    values = {
        metric: estimate(a[metric] - b[metric], of_a[metric] - of_b[metric], confidence)
        for metric in a
    }
    return Gap(
        len(frames[0]),
        count_speakers(frames[0]),
        values,
        {metric: (number_or_none(a[metric]), number_or_none(b[metric])) for metric in values},
        lacking=_lacking_text(values, recipe),
    )


def shared_rows(
    first: pd.DataFrame, second: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame] | str:
    """The rows with a truth that two sets of predictions have, in one order; or why there are none.

    By corpus and utterance, whatever the folds: two protocols divide the same rows otherwise.
    """
    if list(first.columns) != list(second.columns):
        return "they predict other things"
    names = predicted_labels(first) or predicted_targets(first)
    key = ["corpus", "utterance"]
    one, other = (frame[has_truth(frame, names)].set_index(key) for frame in (first, second))
    if not (one.index.is_unique and other.index.is_unique):
        return "rows are held out several times"
    shared = one.index.intersection(other.index).sort_values()
    if not len(shared):
        return "no row is held out in both"
    one, other = one.loc[shared].reset_index(), other.loc[shared].reset_index()
    return (one, other) if truth_of(one, names) == truth_of(other, names) else "the truths differ"


def _no_gap(why: str) -> Gap:
    return Gap(0, None, {}, {}, why=why)


# -- in words -------------------------------------------------------------------------------


def optimism(partition: str, scored: Sequence[Scored]) -> str:
    """Why the scores of a partition are optimistic; empty where those of no run are."""
    found = [one.scores.partitions.get(partition) for one in scored]
    return next((part.optimistic for part in found if part and part.optimistic), "")


def marked_partition(partition: str, scored: Sequence[Scored], metric: str = "") -> str:
    """The name of a partition, and of a metric, marked where the scores are optimistic."""
    name = f"{partition} {metric}".rstrip()
    return f"{name} (optimistic)" if optimism(partition, scored) else name


def column_notes(recipe: Recipe, scored: Sequence[Scored], partitions: Sequence[str]) -> list[str]:
    """Where a column is optimistic, and what those of UAR and their intervals go without."""
    found = [
        line
        for name in partitions
        for one in scored
        if (part := one.scores.partitions.get(name))
        for line in (
            *([f"{name}: {part.optimistic}"] if part.optimistic else []),
            *absent_classes(name, part.per_class),
            *_lacking_notes(name, part.metrics, recipe),
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
    '10 speakers, 45 pairs: a corrected p is 0.088 at least: too few to tell any two apart'
    >>> least_p("10 speakers", test, 5, "pair")
    ''
    """
    least = min(1.0, test.smallest_p * n)
    if least <= SMALL_P:
        return ""
    few = ": too few to tell any two apart" if least > test.level else ""
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


def caption(recipe: Recipe, scored: Sequence[Scored]) -> str:
    """Say what the numbers of the overview are and on how much they stand."""
    names = " and ".join(NAMES[m] for m in SHOWN[recipe.task])
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


def number(value: float | None) -> str:
    """Three decimals; `undefined` for null.

    Examples
    --------
    >>> number(0.12345), number(None)
    ('0.123', 'undefined')
    """
    return "undefined" if value is None else f"{value:.3f}"
