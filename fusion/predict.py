"""`python -m fusion predict RECIPE --audio PATH...`: what members say of new audio, as one.

Conventions
-----------
- Members are read from `runs/<recipe>/predict/<corpus>/<member>/` (`python -m models predict`).
- What a method learns (weights, positions, temperatures, stacking) it learns here from rows that
  the predicting heads were not fitted to: of one fold the rows of `inner.csv`, of several folds all
  held-out rows of `predictions.csv`, pooled.
- A file that a member has no features of is left out, and named with its reason.
- `spread` is the standard deviation over the members, of classes that of the probability which each
  gives to the predicted class (after its temperature, where there is one); `agree` is the share of
  members whose own choice it is. One member alone has neither.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluate.metrics.calibration import probabilities
from evaluate.runs.folders import INNER, PREDICTIONS, new_folder, run_folder
from evaluate.runs.freshness import finished_run, is_fresh, new_inputs
from evaluate.runs.predictions import read_predictions
from features.common.command import Subcommand
from features.common.errors import RunError
from features.common.files import write_text
from features.common.folders import Folders
from features.common.words import counted
from features.new_audio import System, add_audio, corpus_name, system_of
from features.recipe.arguments import folders_of, recipe_of
from features.recipe.extract import model_parts
from features.recipe.fusion import FusionSpec
from features.recipe.model import Recipe
from features.stores.failures import named_failures
from features.stores.key import store_path
from features.utterances import read_table
from fusion.align import Aligned, align
from fusion.methods import Floats, fixed_method
from fusion.stacking import Rule, StackedRows, learn

SHOWN = 20
"""Rows of the table that is printed."""


def main(args: argparse.Namespace) -> int:
    """Combine, write the CSV and print the first rows; 1 where more files than allowed lack one.

    Parameters
    ----------
    args : Namespace
        Of `parser`.

    Returns
    -------
    int
        The exit code.
    """
    recipe = recipe_of(args)
    system = system_of(recipe, args.fusion, args.member)
    corpus = corpus_name(args.audio)
    aligned = read_members(recipe, system, corpus, folders_of(args))
    rule, learned_from = rule_of(recipe, system, aligned, args.runs)
    table = read_table(args.stores / corpus).rows
    result = predictions(aligned, rule, table, list(recipe.targets))
    default = args.runs / recipe.name / "predict" / corpus / f"{system.name}.csv"
    to = args.to or default
    write_text(to, result.to_csv(index=False, lineterminator="\n"), RunError)
    print(shown(result, list(aligned.labels), list(recipe.targets)))
    method = recipe.fusion[system.name].method if system.kind == "fusion" else "one run"
    print(f"\n{system.name} ({method}: {', '.join(system.members)}){learned_from}")
    n_lacking = len(table) - len(result)
    if n_lacking:
        of = counted(len(table), "file")
        lack = f"{n_lacking} of {of} {'has' if n_lacking == 1 else 'have'} no prediction:"
        parts = [part for model in system.models for part in model_parts(model)]
        stores = [store_path(args.stores, corpus, part) for part in dict.fromkeys(parts)]
        print("\n  ".join([lack, *named_failures(stores)]))
    if n_lacking > args.allow_failures:
        print(f"mend or leave them out, or accept them with ALLOW_FAILURES={n_lacking}")
    print(to)
    return 1 if n_lacking > args.allow_failures else 0


def read_members(recipe: Recipe, system: System, corpus: str, folders: Folders) -> Aligned:
    """What the members say of the files that all of them have features of.

    Parameters
    ----------
    recipe : Recipe
    system : System
    corpus : str
        Name of the new audio, as `corpus_name` gives it.
    folders : Folders
        Stores and runs.

    Returns
    -------
    Aligned
        Of the files that all members predict.

    Raises
    ------
    RunError
        A member's predictions are missing, or its run or the audio has changed since; no file is
        common to all.
    """
    predictions = {}
    for member in system.members:
        finished_run(recipe, "model", member, folders.runs)
        folder = new_folder(folders.runs, recipe.name, corpus, member)
        inputs = new_inputs(recipe, member, corpus, folders)
        if not is_fresh(folder, inputs, (PREDICTIONS,)):
            raise RunError(
                f"{folder}: no predictions of {member} by the run and the audio as they are now; "
                "`make predict` makes them (`python -m models predict`)"
            )
        predictions[member] = read_predictions(folder / PREDICTIONS)
    return align(predictions, "drop", f"predict {system.name}")


@dataclass(frozen=True)
class Applied:
    """A combination that is ready for new rows.

    Attributes
    ----------
    rule : Rule
    temperatures : float64, shape (n_members,)
        1 where members are not calibrated.
    """

    rule: Rule
    temperatures: Floats


def rule_of(recipe: Recipe, system: System, new: Aligned, runs: Path) -> tuple[Applied, str]:
    """How the members become one, and what was learned from.

    Parameters
    ----------
    recipe : Recipe
    system : System
        A single run goes as it is.
    new : Aligned
        What the members say of the new audio.
    runs : Path

    Returns
    -------
    Applied
        The rule and each member's temperature; 1 where it has none.
    str
        What it was learned from, for people; empty where nothing was.

    Raises
    ------
    RunError
        The members' runs disagree, or have too few rows to learn from.
    """
    ones = np.ones(len(system.members))
    if system.kind == "model":
        return Applied(Rule(lambda stack: stack[0]), ones), ""
    spec = recipe.fusion[system.name]
    fixed = fixed_method(spec, bool(new.labels))
    if fixed and not spec.calibrate:
        return Applied(Rule(fixed), ones), ""
    rows, where = rows_to_learn(recipe, system.name, spec, runs)
    try:
        rule = learn(spec, fixed, rows)
    except RunError as error:
        raise RunError(f"fusion {system.name}: {error}") from None
    temperatures = np.asarray(rule.learned.get("temperatures", ones))
    told = f"; learned from {counted(rows.known.sum(), 'row')} of {where}"
    return Applied(rule, temperatures), told


def rows_to_learn(
    recipe: Recipe, name: str, spec: FusionSpec, runs: Path
) -> tuple[StackedRows, str]:
    """The members' predictions of rows that they were not fitted to, and the file they are in.

    Parameters
    ----------
    recipe : Recipe
    name : str
        Of the combination.
    spec : FusionSpec
    runs : Path

    Returns
    -------
    StackedRows
        The held-out predictions where there are several outer folds, else the inner ones.
    str
        Name of their file.
    """

    def read(output: str) -> Aligned:
        return align(
            {
                member: read_predictions(run_folder(runs, recipe.name, member) / output)
                for member in spec.members
            },
            spec.missing,
            f"fusion {name}: {output}",
        )

    held_out = read(PREDICTIONS)
    if len(set(held_out.predictions["fold"])) > 1:
        return held_out.rows, PREDICTIONS
    return read(INNER).rows, INNER


def predictions(
    new: Aligned, applied: Applied, table: pd.DataFrame, targets: Sequence[str]
) -> pd.DataFrame:
    """The rows of the CSV.

    Parameters
    ----------
    new : Aligned
    applied : Applied
    table : DataFrame
        Of the new audio: `utterance`, `path`.
    targets : sequence of str
        Of a regression.

    Returns
    -------
    DataFrame
        `path, utterance`, then `score_<class>` a class, `pred`, `spread`, `agree`; or
        `<target>_pred` and `<target>_spread` a target.
    """
    values = applied.rule.apply(new.stack)
    combined = new.predicted(values)
    paths = table.set_index("utterance")["path"]
    result = pd.DataFrame({"path": paths.loc[combined["utterance"]].to_numpy(object)})
    result["utterance"] = combined["utterance"].to_numpy(object)
    result[new.columns] = values
    several = len(new.stack) > 1
    if not new.labels:
        if several:
            result[[f"{target}_spread" for target in targets]] = new.stack.std(axis=0)
        return result
    result["pred"] = combined["pred"].to_numpy(object)
    if several:
        winner = np.nanargmax(values, axis=1)
        members = probabilities(new.stack, applied.temperatures[:, None, None])
        given = np.take_along_axis(members, winner[None, :, None], axis=2)[:, :, 0]
        result["spread"] = given.std(axis=0)
        result["agree"] = (np.nanargmax(new.stack, axis=2) == winner).mean(axis=0)
    return result


def shown(result: pd.DataFrame, labels: Sequence[str], targets: Sequence[str]) -> str:
    """The first rows as text, and how many more there are.

    Parameters
    ----------
    result : DataFrame
        As `predictions` gives it.
    labels, targets : sequence of str
        One of them is empty.

    Returns
    -------
    str
    """
    first = result.head(SHOWN)
    columns: dict[str, list[str]] = {"": first["utterance"].tolist()}
    if labels:
        score = [row[f"score_{row['pred']}"] for _, row in first.iterrows()]
        columns |= {"pred": first["pred"].tolist(), "score": _numbers(score)}
        columns |= {
            column: _numbers(first[column]) for column in ("spread", "agree") if column in first
        }
    else:
        for target in targets:
            spread = first.get(f"{target}_spread")
            columns[target] = _numbers(first[f"{target}_pred"])
            if spread is not None:
                pairs = zip(columns[target], _numbers(spread), strict=True)
                columns[target] = [f"{value} ±{deviation}" for value, deviation in pairs]
    lines = _laid_out(columns)
    more = len(result) - len(first)
    return "\n".join([*lines, *([f"... and {more} more"] if more else [])])


def _numbers(values: Sequence[float] | pd.Series) -> list[str]:
    return [f"{value:.3f}" for value in values]


def _laid_out(columns: Mapping[str, Sequence[str]]) -> list[str]:
    widths = [max(map(len, [name, *cells])) for name, cells in columns.items()]
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_audio(parser)
    parser.add_argument("--to", type=Path, metavar="FILE", help="the CSV (default: below RUNS)")


COMMAND = Subcommand(
    "predict",
    main,
    "combine what the heads of a recipe say of new audio, and write it as CSV",
    ("recipe", "stores", "runs", "allow-failures"),
    _arguments,
)
