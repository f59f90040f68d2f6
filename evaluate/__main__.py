"""`python -m evaluate score|layers|report|submission RECIPE`: what is shown of finished runs.

`python -m evaluate compare RUNS RUNS [--report]` compares the runs of two recipes, also on a page.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluate.runs import record as runs
from features.common.command import Subcommand, room_parser, run_chosen, run_command
from features.common.errors import OutdatedError, RunError
from features.common.findings import some
from features.common.terminal import folded, terminal_width
from features.common.words import counted
from features.new_audio import add_system, system_of
from features.recipe.arguments import folders_of, recipe_of

if TYPE_CHECKING:
    from evaluate.scores.score import Scored
    from evaluate.scores.side_by_side import ComparedRun


def score(args: argparse.Namespace) -> None:
    """Score what is new and print the table of the recipe's runs."""
    from evaluate.report.printed import scores_text
    from evaluate.scores.pairs import make_statistics
    from evaluate.scores.protocols import score_protocols
    from evaluate.scores.score import score_all
    from evaluate.scores.seeds import make_seeds
    from evaluate.scores.speaker_gains import MAIN, make_gains
    from evaluate.scores.spread import make_spread
    from evaluate.scores.subsets import read_subsets
    from evaluate.scores.sweeps import score_sweeps

    recipe, folders = recipe_of(args), folders_of(args)
    scored = score_all(recipe, folders, force=args.force)
    statistics = make_statistics(recipe, scored, args.runs, force=args.force)
    make_spread(recipe, scored, args.runs, force=args.force)
    others = score_protocols(recipe, folders, force=args.force)
    repeats = make_seeds(recipe, folders, force=args.force)
    gains = make_gains(recipe, {MAIN: scored, **others.scored}, args.runs, force=args.force)
    if not args.quiet:
        chosen = read_subsets(recipe, args.runs)
        found = (scored, statistics, others, repeats, chosen, gains)
        print(scores_text(recipe, *found, terminal_width()))
    _warn_of_changed(scored)
    score_sweeps(recipe, folders, force=args.force)


def layers(args: argparse.Namespace) -> None:
    """Score the sweeps over layers and print them."""
    from evaluate.report.printed import layers_text
    from evaluate.scores.sweeps import score_sweeps, single_layers

    recipe = recipe_of(args)
    sweeps = score_sweeps(recipe, folders_of(args), force=args.force)
    single = single_layers(recipe, args.stores)
    if sweeps or not single:
        found = layers_text(recipe, sweeps, terminal_width())
        print(found or f"{recipe.path}: no model has runs at several layers")
    for line in single:
        print(line)


def report(args: argparse.Namespace) -> None:
    """Write the pages, print the table of the recipe's runs, and say what to open."""
    from evaluate.report.printed import scores_text
    from evaluate.report.write import make_report

    recipe = recipe_of(args)
    page, study = make_report(recipe, folders_of(args))
    found = (study.scored, study.statistics, study.protocols, study.repeats, study.subsets)
    print(scores_text(recipe, *found, study.gains, terminal_width()))
    for line in study.paper.left_out:
        print("\n".join(folded(line, terminal_width(), "  ")))
    with study.kept.held():
        _warn_of_changed(study.scored)
    print(page.resolve())


def _warn_of_changed(finished: Sequence[Scored] | Sequence[ComparedRun]) -> None:
    """Say in a line which files were changed by others than the command that wrote them."""
    named = [path for run in finished for path in runs.changed_outputs(run.folder, run.record)]
    if named:
        print(
            f"changed since {'it was' if len(named) == 1 else 'they were'} written, and scored as "
            f"{'it is' if len(named) == 1 else 'they are'}: {some(named)}; `make reproduce "
            f"RUN={Path(named[0]).parent}` says where",
            file=sys.stderr,
        )


def compare(args: argparse.Namespace) -> None:
    """Compare two folders of runs, such as runs/a runs/b, run by run."""
    from evaluate.report.printed import comparison_text
    from evaluate.scores.side_by_side import compare, write_table

    found = compare(args.a, args.b)
    print(comparison_text(found, terminal_width()))
    _warn_of_changed([run for pair in found.matched for run in pair])
    if args.to:
        write_table(args.to, found)
    if args.report:
        from evaluate.report.write import make_comparison

        print(f"\n{make_comparison(found).resolve()}")


def submission(args: argparse.Namespace) -> None:
    """Write the test predictions as the ComParE challenge takes them."""
    from evaluate.submission import read_predicted, submission, write_authors, write_csv

    recipe = recipe_of(args)
    system = system_of(recipe, args.fusion, args.member)
    predicted = read_predicted(recipe, system, folders_of(args))
    rows = submission(predicted, args.template)
    write_csv(args.to, rows)
    against = f"the files of {args.template}" if args.template else "not compared with a template"
    sizes = f"{counted(len(rows), 'file')}, {counted(len(rows.columns) - 1, 'target')}"
    print(f"{args.to}: {sizes}, {against}")
    for path in write_authors(predicted, args.predictions) if args.predictions else []:
        print(path)


def main(args: argparse.Namespace) -> None:
    """Run the sub-command; what says how to score again says it with the folders that were given.

    Parameters
    ----------
    args : Namespace

    Raises
    ------
    RunError
    """
    try:
        run_chosen(args)
    except OutdatedError as error:
        given = {
            "STORES": (args.stores, Path("stores")),
            "RUNS": (args.runs, Path("runs")),
            "CORPUS": (",".join(args.corpus or []), ""),
            "SET": (shlex.quote(" ".join(args.settings or [])), "''"),
        }
        more = "".join(f" {name}={value}" for name, (value, own) in given.items() if value != own)
        raise RunError(f"{error}{more}") from None


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    text = "score, but do not print the tables: a later command does"
    parser.add_argument("--quiet", action="store_true", help=text)


def _add_submission(parser: argparse.ArgumentParser) -> None:
    add_system(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="the submission")
    parser.add_argument("--template", type=Path, metavar="FILE", help="as lab/test.csv: compare")
    parser.add_argument(
        "--predictions", type=Path, metavar="FOLDER", help="also what the challenge's scripts write"
    )


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, help="folder of a recipe's runs")
    parser.add_argument("b", type=Path, help="folder that is taken from it")
    parser.add_argument("--to", type=Path, metavar="CSV", help="write the table to this file")
    parser.add_argument(
        "--report", action="store_true", help="also write a page: A/report/against-<B>/index.html"
    )


RUNS = ("recipe", "stores", "runs", "corpus")


def parser() -> argparse.ArgumentParser:
    """Make the command line; what a sub-command does is what its function says."""
    commands = [
        Subcommand(function.__name__, function, function.__doc__ or "", shared, add)
        for function, shared, add in (
            (score, (*RUNS, "force"), _add_quiet),
            (layers, (*RUNS, "model", "head", "force"), None),
            (report, (*RUNS, "data"), None),
            (submission, RUNS, _add_submission),
            (compare, (), _add_compare),
        )
    ]
    return room_parser("python -m evaluate", "Score and show finished runs.", commands)


if __name__ == "__main__":
    sys.exit(run_command(main, parser()))
