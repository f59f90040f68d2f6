"""`python -m features`: what can be done with the tables and stores."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from features.common.command import (
    add_arguments,
    count,
    names_of,
    run_command,
)
from features.common.errors import CorpusError, StoreError, UserError, nearest
from features.common.files import read_bytes
from features.common.findings import Finding, finding
from features.common.progress import duration
from features.common.text import clean
from features.common.walk import existing
from features.common.words import counted
from features.corpora import CORPORA, read_corpus
from features.corpora.listing import print_corpora
from features.exchange import exchange
from features.recipe.arguments import corpus_root
from features.recipe.load import load_recipe
from features.splits.lint import lint_recipe
from features.splits.truths import constant
from features.stores import difference, inventory
from features.stores import prune as pruning
from features.stores.guard import BLOCK
from features.stores.key import file_digest, store_path
from features.stores.read import Store
from features.survey import NO_FILE, Survey, forget, is_hash_of, survey
from features.utterances import Table, differences, read_table

LFS = b"version https://git-lfs"
LFS_BYTES = 1024
"""A pointer of Git LFS begins with the one and is smaller than the other (its specification)."""


def main(args: argparse.Namespace) -> int:
    """Dispatch to the asked sub-command."""
    return int(args.run(args))


def status(args: argparse.Namespace) -> int:
    """Print how the stores of a recipe stand to its tables."""
    recipe = load_recipe(args.recipe, models=args.model, corpora=args.corpus)
    return inventory.status(recipe, args.stores)


def lint_splits(args: argparse.Namespace) -> int:
    """Print what the sides of every fold share; 1 where a run would be stopped."""
    recipe = load_recipe(args.recipe, corpora=args.corpus)
    found = [lint_recipe(one, args.stores) for one in recipe.protocols()]
    print("\n\n".join(one.table() for one in found))
    for one in found:
        one.refuse(recipe.path)
    return 0


def list_stores(args: argparse.Namespace) -> int:
    """Print all stores there are."""
    return inventory.list_stores(args.stores)


def prune(args: argparse.Namespace) -> int:
    """Print what can go, or remove it."""
    recipes = [load_recipe(path) for path in args.recipes]
    return pruning.prune(recipes, args.stores, runs=args.runs, yes=args.yes, wanted=args.store)


def diff(args: argparse.Namespace) -> int:
    """Compare two stores."""
    return difference.diff(args.a, args.b)


def export(args: argparse.Namespace) -> int:
    """Write one layer of a store for other programs."""
    first, *model = args.store
    if len(model) > 1:
        raise UserError("export takes a store, or a corpus and a model")
    path = store_path(args.stores, clean(first), clean(model[0])) if model else Path(first)
    return exchange.export_features(path, args.to, layer=args.layer, statistics=args.statistic)


def import_(args: argparse.Namespace) -> int:
    """Make a store of features of other programs."""
    return exchange.import_features(
        args.files, args.corpus, args.model, stores=args.stores,
        root=existing(args.root or args.data / args.corpus), drop=args.drop,
        allow_missing=args.allow_missing, force=args.force,
    )  # fmt: skip


def table(args: argparse.Namespace) -> int:
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
    _print_table(made)
    for one in _not_audio(seen):
        print(f"odd: {one.text}")
    print(f"written: {folder / 'utterances.csv'}")
    return 0


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


def _not_audio(seen: Survey) -> list[Finding]:
    """Files that hold no audio, as a copy without its large files has them, or none to be used."""
    empty: dict[str, None] = {}
    pointers: dict[str, None] = {}
    unusable: dict[str, None] = {}
    for utterance, reason in seen.failures.items():
        path = Path(seen.clip(utterance).path)
        name = os.path.relpath(path, seen.root)
        try:
            n_bytes = path.stat().st_size
            head = read_bytes(path, LFS_BYTES) if 0 < n_bytes <= LFS_BYTES else b""
        except (OSError, ValueError):
            if reason != NO_FILE:  # the reader names those that are not there
                unusable[f"{utterance} ({reason})"] = None
            continue
        if not n_bytes:
            empty[name] = None
        elif head.startswith(LFS):
            pointers[name] = None
        else:
            unusable[f"{utterance} ({reason})"] = None
    text = "audio files stand for ones that Git LFS has not fetched (git lfs pull does)"
    bad = "rows have audio that cannot be used"
    return [
        *finding("empty-files", empty, "audio files are empty", "audio file is empty"),
        *finding("lfs-pointers", pointers, text),
        *finding("unusable-audio", unusable, bad, "row has audio that cannot be used"),
    ]


def _print_table(made: Table) -> None:
    frame = made.frame
    known = frame["seconds"].dropna()
    heard = f", {duration(known.sum())} of audio" if len(known) else ""
    speakers = frame["speaker"]
    n_speakers = counted(speakers[speakers != ""].nunique(), "speaker")
    print(f"{counted(len(frame), 'utterance')}, {n_speakers}{heard}")
    if (speakers != "").any():
        print(f"speaker: {_speakers(speakers)}")
    for column in ("partition", "gender", "language", "session", *made.labels):
        counts = frame[column].value_counts()
        order = [one for one in made.labels.get(column, sorted(counts.index)) if one in counts]
        if list(order) != [""]:
            print(f"{column}: " + ", ".join(f"{one or '(none)'} {counts[one]}" for one in order))
    for name, mapping in CORPORA[made.corpus["reader"]].label_maps.items():
        counts = frame["emotion"].map(mapping).value_counts().sort_index()
        text = ", ".join(f"{one} {n}" for one, n in counts.items())
        print(f"emotion by the map {name}: {text}; {counts.sum()} in all")
    for target in made.targets:
        values = frame[target]
        if values.isna().all():
            continue
        print(
            f"{target}: {values.notna().sum()} known, {values.min():.3g} to {values.max():.3g}, "
            f"{(values == 0).mean():.0%} zero"
        )
        flat = constant(target, values.to_numpy(dtype=np.float64))
        if flat:
            print(f"odd: {flat}")
    for one in made.findings:
        print(f"odd: {one.text}")


def _speakers(speakers: pd.Series) -> str:
    """Say how many utterances speakers have: one by one up to 24 of them, else the range."""
    counts = speakers.replace("", "(none)").value_counts().sort_index()
    least, most = counts.min(), counts.max()
    if least == most:
        return f"{most} each"
    if len(counts) > 24:
        return f"{least} to {most} each"
    return ", ".join(f"{speaker} {n}" for speaker, n in counts.items())


def verify(args: argparse.Namespace) -> int:
    """Compare every block of the stores with its checksum; with --audio the audio too."""
    paths = _chosen(args)
    n_bad = 0
    for path in paths:
        faults, heard = _faults(path, args.names), ""
        if args.audio and not faults and path.parent.suffix != ".parts":
            faults, n_files = _audio_faults(path, args)
            heard = f", {n_files} audio files hashed"
        n_bad += bool(faults)
        print(f"{path}: {'not as it should be' if faults else 'ok'}{heard}")
        for fault in faults:
            print(f"  {fault}")
    if n_bad:
        are = "is not as it should be" if n_bad == 1 else "are not as they should be"
        print(f"{n_bad} of {counted(len(paths), 'file')} {are}", file=sys.stderr)
    return 1 if n_bad else 0


def _chosen(args: argparse.Namespace) -> list[Path]:
    """Stores, and parts behind them, of the corpora and models that are asked for.

    Raises
    ------
    UserError
        There is none, or none of a name that was asked for.
    """
    of = {one: (one.parent.name, one.stem) for one in sorted(args.stores.glob("*/[!.]*.h5"))}
    for one in sorted(args.stores.glob("*/*.parts/part-*.h5")):
        of[one] = one.parents[1].name, one.parent.stem
    if not of:
        raise UserError(f"{args.stores}: no store there; name the folder with --stores")
    for position, (what, asked) in enumerate((("corpus", args.corpus), ("model", args.model))):
        known = sorted({names[position] for names in of.values()})
        for one in asked or []:
            if one not in known:
                raise UserError(
                    f"{args.stores}: no store of {what} {one!r}; there are {', '.join(known)}"
                    f"{nearest(one, known)}"
                )
    chosen = [
        path
        for path, (corpus, model) in of.items()
        if corpus in (args.corpus or [corpus]) and model in (args.model or [model])
    ]
    if not chosen:
        raise UserError(f"{args.stores}: these corpora have no store of these models")
    return chosen


def _faults(path: Path, names: bool) -> list[str]:
    """What is damaged, and in the last line what mends it."""
    try:
        with Store(path) as store:
            found = store.verify()
            lines = [f"damaged: {one.naming(BLOCK if names else 3)}" for one in found]
            return [*lines, store.mending] if found else []
    except StoreError as error:
        return [str(error)]


def _audio_faults(path: Path, args: argparse.Namespace) -> tuple[list[str], int]:
    """Hash the audio again, whatever size and time say, and compare with the store.

    Returns
    -------
    list of str
    int
        Files that were hashed.
    """
    corpus = path.parent.name
    root = args.data / corpus
    if args.recipe:
        recipe = load_recipe(args.recipe)
        root = corpus_root(recipe, corpus, args.data) if corpus in recipe.corpora else root
    if not root.is_dir():
        text = f"{root}: no such folder to compare the audio of; name it with --data or --recipe"
        return [text], 0
    frame = read_table(path.parent).frame.set_index("utterance")
    faults: list[str] = []
    changed: list[Path] = []
    digests: dict[Path, hashlib.blake2b] = {}
    with Store(path) as store:
        for utterance, stored in zip(
            store.index["utterance"], store.index["audio_hash"], strict=True
        ):
            if utterance not in frame.index:
                faults.append(f"{utterance}: not in the table any more; run make extract")
                continue
            row = frame.loc[utterance]
            file = root / row["path"]
            try:
                digest = digests.get(file) or digests.setdefault(file, file_digest(file))
            except OSError as error:
                faults.append(f"{utterance}: {file}: {error.strerror}")
                continue
            if not is_hash_of(stored, digest, row["start"], row["end"]):
                faults.append(f"{utterance}: {file}: its audio has changed; run make extract")
                changed.append(file)
    # Else the next extraction would believe size and time of a file that changed behind them.
    forget(path.parent, changed)
    return faults, len(digests)


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    result = argparse.ArgumentParser(
        prog="python -m features", description="Look at tables and stores."
    )
    commands = result.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("status", help="which stores of a recipe are complete")
    add_arguments(one, "recipe", "stores", "model", "corpus")
    one.set_defaults(run=status)
    one = commands.add_parser("lint", help="what the sides of a recipe's folds share")
    add_arguments(one, "recipe", "stores", "corpus")
    one.set_defaults(run=lint_splits)
    one = commands.add_parser("corpora", help="which corpora are known, and where to get them")
    one.add_argument("names", nargs="*", metavar="CORPUS", help="(default: all)")
    one.set_defaults(run=lambda args: print_corpora(args.names))
    one = commands.add_parser("table", help="read a corpus and print and write its table")
    one.add_argument("name", type=clean, help="corpus, or a name of your own for a manifest")
    one.add_argument("--root", type=Path, help="its folder (default: DATA/<name>)")
    one.add_argument("--reader", help="who reads it (default: its own reader, else manifest)")
    one.add_argument("--recipe", help="take root, reader and options from this recipe")
    add_arguments(one, "data", "stores")
    one.set_defaults(run=table)
    one = commands.add_parser("verify", help="compare stores with their checksums")
    one.add_argument("--audio", action="store_true", help="hash the audio again, too")
    one.add_argument("--recipe", help="where --audio finds the corpora's folders")
    one.add_argument("--names", action="store_true", help="name all utterances of a damaged block")
    one.add_argument("--model", type=names_of, metavar="A,B", help="only stores of these models")
    one.add_argument("--corpus", type=names_of, metavar="A,B", help="only stores of these corpora")
    add_arguments(one, "data", "stores")
    one.set_defaults(run=verify)
    one = commands.add_parser("list", help="all stores, whether a recipe names them or not")
    add_arguments(one, "stores")
    one.set_defaults(run=list_stores)
    one = commands.add_parser(
        "prune", help="remove stores that no recipe names, stale rows, left temporary files",
        description="What the given recipes, those in or below their folders and recipes/ name "
        "stays, and what finished runs were made from; the lines `stays:` say who keeps it.",
    )  # fmt: skip
    one.add_argument("recipes", nargs="+", metavar="RECIPE", help="what these name stays")
    one.add_argument(
        "--store", type=Path, action="append", default=[], metavar="FILE",
        help="a store that goes whoever names it, e.g. stores/emodb/egemaps.h5; may be repeated",
    )  # fmt: skip
    one.add_argument("--yes", action="store_true", help="do it; else only say what would go")
    add_arguments(one, "stores", "runs")
    one.set_defaults(run=prune)
    one = commands.add_parser(
        "diff", help="how two stores differ; exit code 0: equal, 1: different, 2: trouble"
    )
    one.add_argument("a", type=Path, metavar="A", help="a store, e.g. stores/emodb/mfcc.h5")
    one.add_argument("b", type=Path, metavar="B", help="another")
    one.set_defaults(run=diff)
    one = commands.add_parser("export", help="one layer of a store as npz, Parquet or CSV")
    one.add_argument(
        "store", nargs="+", metavar="STORE", help="a store's file, or a corpus and a model"
    )
    one.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"ends in {', '.join(exchange.FORMATS)}",
    )
    one.add_argument(
        "--layer", type=_layer, default="last", help="last, mean or an index (%(default)s)"
    )
    one.add_argument(
        "--statistic", type=names_of, metavar="A,B", help="(default: what recipes get, too)"
    )
    add_arguments(one, "stores")
    one.set_defaults(run=export)
    one = commands.add_parser("import", help="a store from features of other programs")
    one.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="CSV (; or ,) or Parquet: the name of the utterance, then a column a feature; "
        "several are stacked",
    )  # fmt: skip
    one.add_argument("--corpus", type=clean, required=True, help="whose utterances they are")
    one.add_argument(
        "--as", type=clean, required=True, dest="model", metavar="MODEL", help="name in recipes"
    )
    one.add_argument(
        "--drop", type=names_of, default=[], metavar="A,B", help="columns that are no features"
    )
    one.add_argument("--root", type=Path, help="the audio's folder (default: DATA/<corpus>)")
    one.add_argument(
        "--allow-missing", type=count, default=0, metavar="N",
        help="accept N rows and utterances without a partner",
    )  # fmt: skip
    one.add_argument(
        "--force", action="store_true", help="replace an imported store of another key"
    )
    add_arguments(one, "data", "stores")
    one.set_defaults(run=import_)
    return result


def _layer(text: str) -> int | str:
    if text not in ("last", "mean") and not text.isdecimal():
        raise argparse.ArgumentTypeError("last, mean, or an index from 0")
    return int(text) if text.isdecimal() else text


if __name__ == "__main__":
    raise SystemExit(run_command(main, parser()))
