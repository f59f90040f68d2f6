"""`python -m features`: what can be done with the tables and stores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from features.common.command import (
    Subcommand,
    count,
    names_of,
    room_parser,
    run_chosen,
    run_command,
)
from features.common.errors import CorpusError, StoreError, UserError, nearest
from features.common.progress import size
from features.common.text import clean
from features.common.walk import existing
from features.common.words import counted
from features.corpora import CORPORA, read_corpus
from features.corpora.listing import listing
from features.description import describe_table, not_audio
from features.exchange.incoming import import_features
from features.exchange.outgoing import FORMATS, export_features, export_frames
from features.recipe.arguments import corpus_root, folders_of, recipe_of
from features.recipe.known.frame_kinds import FRAMES, SEGMENTS
from features.recipe.load import load_recipe
from features.splits.lint import lint_recipe
from features.stores import inventory
from features.stores.difference import differences as store_differences
from features.stores.difference import extent
from features.stores.key import frames_beside, store_path
from features.stores.kinds import corpus_folder, opened
from features.stores.prune import carry_out, plan
from features.survey import survey
from features.utterances import Table, differences, read_table
from features.verification import changed_audio, choose, damage_of

EQUAL, DIFFERENT, TROUBLE = 0, 1, 2
"""Exit codes of `diff`, as of diff(1)."""


def _status(args: argparse.Namespace) -> None:
    """Print how the stores of a recipe stand to its tables."""
    recipe = recipe_of(args)
    print("\n".join(inventory.status(recipe, args.stores)))


def _lint_splits(args: argparse.Namespace) -> None:
    """Print what the sides of every fold share; a fault is what would stop a run."""
    recipe = recipe_of(args)
    found = [lint_recipe(protocol, args.stores) for protocol in recipe.protocols()]
    print("\n\n".join(lint.table() for lint in found))
    for lint in found:
        lint.refuse(recipe.path)


def _corpora(args: argparse.Namespace) -> None:
    """Print the records of corpora."""
    print(listing(args.names))


def _list_stores(args: argparse.Namespace) -> None:
    """Print all stores there are."""
    print("\n".join(inventory.list_stores(args.stores)))


def _prune(args: argparse.Namespace) -> int:
    """Print what can go, or remove it; 1 where a process took something meanwhile."""
    recipes = [load_recipe(path) for path in args.recipes]
    steps, kept = plan(recipes, folders_of(args), args.store)
    for line in kept:
        print(f"stays: {line}")
    if not args.yes:
        for step in steps:
            print(f"would {'rewrite' if step.stale else 'remove'}: {step}")
        total = size(sum(step.freed for step in steps))
        print(f"{total} would be freed; --yes does it" if steps else "nothing can go")
        return 0
    freed, n_refused = 0, 0
    for step in steps:
        try:
            carry_out(step)
        except StoreError as error:
            n_refused += 1
            print(f"stays: {error}")
            continue
        freed += step.freed
        print(f"{'rewritten' if step.stale else 'removed'}: {step}")
    print(f"{size(freed)} freed" if steps else "nothing can go")
    return 1 if n_refused else 0


def _diff(args: argparse.Namespace) -> int:
    """Print how two stores differ, or that they do not."""
    try:
        for path in (args.a, args.b):
            inventory.require_store(path)
        with opened(args.a) as first, opened(args.b) as second:
            n_lines = 0
            for line in store_differences(first, second):
                print(line)
                n_lines += 1
            if not n_lines:
                print(f"equal: {extent(first)}, bit for bit")
            return DIFFERENT if n_lines else EQUAL
    except UserError as error:
        print(f"{args.prog}: {error}", file=sys.stderr)
        return TROUBLE


def _export(args: argparse.Namespace) -> None:
    """Write one layer of a store for other programs."""
    first, *model = args.store
    if len(model) > 1:
        raise UserError("export takes a store, or a corpus and a model")
    path = store_path(args.stores, clean(first), clean(model[0])) if model else Path(first)
    kind = FRAMES if args.frames else SEGMENTS if args.segments else None
    if kind is not None:
        path = frames_beside(path, kind) if model else path
        print(export_frames(path, args.to, layer=args.layer, kind=kind))
        return
    print(export_features(path, args.to, layer=args.layer, statistics=args.statistic))


def _import(args: argparse.Namespace) -> None:
    """Make a store of features of other programs."""
    made = import_features(
        args.files, args.corpus, args.model, stores=args.stores,
        root=existing(args.root or args.data / args.corpus), drop=args.drop,
        allow_missing=args.allow_missing, force=args.force,
    )  # fmt: skip
    print("\n".join(made.lines()))


def _table(args: argparse.Namespace) -> None:
    """Read a corpus, print what is in it, and write its table."""
    _refuse_no_folder(args.root)
    if args.recipe is not None:
        recipe = load_recipe(args.recipe, corpora=[args.name])
        spec = recipe.corpora[args.name]
        root = args.root or corpus_root(recipe, args.name, args.data)
        made = read_corpus(
            args.name, root, reader=spec.reader, strict_counts=spec.strict_counts,
            options=recipe.reader_options(args.name),
        )  # fmt: skip
    else:
        root = existing(args.root or args.data / args.name)
        made = _read_by_name(args.name, root, args.reader)
    folder = args.stores / args.name
    try:
        old = read_table(folder)
    except CorpusError:
        old = None
    for line in differences(old, made) if old is not None else []:
        print(f"changed: {line}")
    seen = survey(made, root, folder, keep=old)
    odd = [f"odd: {finding.text}" for finding in not_audio(seen)]
    print("\n".join([*describe_table(made), *odd, f"written: {folder / 'utterances.csv'}"]))


def _refuse_no_folder(root: Path | None) -> None:
    """Refuse a --root that is no folder: another DATA would not mend that."""
    if root is not None and not root.is_dir():
        what = "is a file" if root.is_file() else "no such folder"
        raise CorpusError(f"{root}: {what}; --root names the folder of the corpus")


def _read_by_name(name: str, root: Path, reader: str | None) -> Table:
    """Read a corpus by its own reader; one that has none by a manifest."""
    if reader or name in CORPORA:
        return read_corpus(name, root, reader=reader)
    try:
        return read_corpus(name, root, reader="manifest")
    except CorpusError as error:
        hint = nearest(name, CORPORA)
        if not hint:
            raise
        raise CorpusError(f"{error}; {name} has no reader of its own{hint}") from None


def _verify(args: argparse.Namespace) -> int:
    """Compare every block of the stores with its checksum; with --audio the audio too."""
    paths = choose(args.stores, args.corpus, args.model)
    n_bad = 0
    for path in paths:
        faults, heard = damage_of(path, names=args.names), ""
        if args.audio and not faults and path.parent.suffix != ".parts":
            faults, n_files = changed_audio(path, _audio_root(corpus_folder(path).name, args))
            heard = f", {n_files} audio files hashed"
        n_bad += bool(faults)
        print(f"{path}: {'not as it should be' if faults else 'ok'}{heard}")
        for fault in faults:
            print(f"  {fault}")
    if n_bad:
        are = "is not as it should be" if n_bad == 1 else "are not as they should be"
        print(f"{n_bad} of {counted(len(paths), 'file')} {are}", file=sys.stderr)
    return 1 if n_bad else 0


def _audio_root(corpus: str, args: argparse.Namespace) -> Path:
    """The folder of a corpus's audio: as the recipe has it, else below DATA."""
    if args.recipe:
        recipe = load_recipe(args.recipe)
        if corpus in recipe.corpora:
            return corpus_root(recipe, corpus, args.data)
    return Path(args.data / corpus)


def _add_corpora(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="CORPUS", help="(default: all)")


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", type=clean, help="corpus, or a name of your own for a manifest")
    parser.add_argument("--root", type=Path, help="its folder (default: DATA/<name>)")
    parser.add_argument("--reader", help="who reads it (default: its own reader, else manifest)")
    parser.add_argument("--recipe", help="take root, reader and options from this recipe")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--audio", action="store_true", help="hash the audio again, too")
    parser.add_argument("--recipe", help="where --audio finds the corpora's folders")
    parser.add_argument(
        "--names", action="store_true", help="name all utterances of a damaged block"
    )
    parser.add_argument("--model", type=names_of, metavar="A,B", help="only stores of these models")
    parser.add_argument(
        "--corpus", type=names_of, metavar="A,B", help="only stores of these corpora"
    )


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="what these name stays")
    parser.add_argument(
        "--store", type=Path, action="append", default=[], metavar="FILE",
        help="a store that goes whoever names it, e.g. stores/emodb/egemaps.h5; may be repeated",
    )  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="do it; else only say what would go")


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help="a store, e.g. stores/emodb/mfcc.h5")
    parser.add_argument("b", type=Path, metavar="B", help="another")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store", nargs="+", metavar="STORE", help="a store's file, or a corpus and a model"
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FILE", help=f"ends in {', '.join(FORMATS)}"
    )
    parser.add_argument(
        "--layer", type=_layer, default="last", help="last, mean or an index (%(default)s)"
    )
    parser.add_argument(
        "--statistic", type=names_of, metavar="A,B", help="(default: what recipes get, too)"
    )
    in_time = parser.add_mutually_exclusive_group()
    in_time.add_argument(
        "--frames", action="store_true", help="the frames of the layer, as npz: X and offsets"
    )
    in_time.add_argument("--segments", action="store_true", help="its segments, in the same way")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="CSV (; or ,) or Parquet: the name of the utterance, then a column a feature; "
        "several are stacked",
    )  # fmt: skip
    parser.add_argument("--corpus", type=clean, required=True, help="whose utterances they are")
    parser.add_argument(
        "--model", "--as", type=clean, required=True, metavar="MODEL", help="name in recipes"
    )
    parser.add_argument(
        "--drop", type=names_of, default=[], metavar="A,B", help="columns that are no features"
    )
    parser.add_argument("--root", type=Path, help="the audio's folder (default: DATA/<corpus>)")
    parser.add_argument(
        "--allow-missing", type=count, default=0, metavar="N",
        help="accept N rows and utterances without a partner",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="replace an imported store of another key"
    )


def _layer(text: str) -> int | str:
    if text not in ("last", "mean") and not text.isdecimal():
        raise argparse.ArgumentTypeError("last, mean, or an index from 0")
    return int(text) if text.isdecimal() else text


STATUS, LINT = ("recipe", "stores", "model", "corpus"), ("recipe", "stores", "corpus")
DATA = ("data", "stores")
COMMANDS = (
    Subcommand("status", _status, "which stores of a recipe are complete", STATUS),
    Subcommand("lint", _lint_splits, "what the sides of a recipe's folds share", LINT),
    Subcommand(
        "corpora", _corpora, "which corpora are known, and where to get them", (), _add_corpora
    ),
    Subcommand("table", _table, "read a corpus and print and write its table", DATA, _add_table),
    Subcommand("verify", _verify, "compare stores with their checksums", DATA, _add_verify),
    Subcommand("list", _list_stores, "all stores, whether a recipe names them or not", ("stores",)),
    Subcommand(
        "prune",
        _prune,
        "remove stores that no recipe names, stale rows, left temporary files",
        ("stores", "runs"),
        _add_prune,
        "What the given recipes, those in or below their folders and recipes/ name stays, and what "
        "finished runs were made from; the lines `stays:` say who keeps it.",
    ),
    Subcommand(
        "diff",
        _diff,
        "how two stores differ; exit code 0: equal, 1: different, 2: trouble",
        add=_add_diff,
    ),
    Subcommand(
        "export", _export, "one layer of a store as npz, Parquet or CSV", ("stores",), _add_export
    ),
    Subcommand("import", _import, "a store from features of other programs", DATA, _add_import),
)


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    return room_parser("python -m features", "Look at tables and stores.", COMMANDS)


if __name__ == "__main__":
    raise SystemExit(run_command(run_chosen, parser()))
