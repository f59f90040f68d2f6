"""Audio of no corpus: the files that a user wants predictions of, as a table of their own.

Conventions
-----------
- The names that are given, made absolute, name a corpus `predict-<digest>` below the stores: its
  stores are caches as those of any corpus. Asked again for the same names, what has not changed is
  not computed again.
- A folder stands for all audio below it, as `features.common.walk` finds it; a file is taken
  whatever its suffix. A file that is named twice counts once.
- Ids are made as those of corpora: below the folder that all files share. `path` is absolute.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from features.common.errors import CorpusError, RecipeError, nearest
from features.common.findings import Finding, finding
from features.common.text import clean, nfc
from features.common.walk import existing
from features.corpora.base import AUDIO_SUFFIXES, find_audio, make_ids, refuse_duplicates
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.utterances import (
    KEY,
    TIMES,
    Table,
    columns_of,
)

SUFFIXES = (
    *(*AUDIO_SUFFIXES, ".wave", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".sph", ".nist", ".oga", ".opus", ".mp2", ".mpga", ".avi"),
)
"""Of the files in a folder; of videos the sound is taken."""
UNREAD = (
    *(".m4a", ".m4b", ".aac", ".wma", ".amr", ".3gp", ".ape", ".wv", ".spx", ".voc", ".ircam"),
    *(".mp4", ".m4v", ".mov", ".webm", ".mka", ".mkv"),
)
"""Sound of kinds that are not read: passed over, and named."""
SPLIT = "a name with a blank is quoted twice for make: AUDIO=\"'new audio' 'it is.wav'\""


@dataclass(frozen=True)
class System:
    """What predicts: a combination of a recipe, or one of its runs alone.

    Attributes
    ----------
    kind : "fusion" or "model"
    name : str
        Of the combination, or of the run's folder.
    members : list of str
        The runs that it takes.
    """

    kind: str
    name: str
    members: list[str]

    @property
    def models(self) -> list[str]:
        """The models of the members."""
        return list(dict.fromkeys(Member.parse(member).model for member in self.members))


def add_system(parser: argparse.ArgumentParser) -> None:
    """Add `--fusion NAME | --model NAME` to a parser; `--member` is `--model` as it was called."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--fusion",
        metavar="NAME",
        type=clean,
        help="[fusion.NAME] of the recipe (default: its first)",
    )
    which.add_argument(
        "--model",
        "--member",
        dest="member",
        metavar="NAME",
        type=clean,
        help="one run alone, by its folder's name: mfcc, xlsr-1b@12",
    )


def add_audio(parser: argparse.ArgumentParser) -> None:
    """Add what predicts and, as `--audio`, what it is to predict."""
    parser.add_argument("--audio", nargs="+", required=True, metavar="PATH", help="files, folders")
    add_system(parser)


def system_of(recipe: Recipe, fusion: str | None = None, member: str | None = None) -> System:
    """What a recipe predicts with: what is named, else its first combination, else its one run.

    Parameters
    ----------
    recipe : Recipe
    fusion : str, optional
        Name of a combination, `[fusion.NAME]`.
    member : str, optional
        Name of a run, as `features.recipe.member` has it.

    Returns
    -------
    System
        What it is called, and the runs that it needs.

    Raises
    ------
    RecipeError
        There is no such combination or run, or there are several runs and nothing that says which.
    """
    if fusion is None and member is None and recipe.fusion:
        fusion = next(iter(recipe.fusion))
    if fusion is not None:
        if fusion not in recipe.fusion:
            raise RecipeError(
                f"{recipe.path}: no [fusion.{fusion}]; it has: "
                f"{', '.join(recipe.fusion) or 'none'}{nearest(fusion, recipe.fusion)}; "
                "MODEL= names one run alone"
            )
        return System("fusion", fusion, list(recipe.fusion[fusion].members))
    runs = [str(run) for run in recipe.members()]
    if member is None:
        if len(runs) > 1:
            raise RecipeError(
                f"{recipe.path}: no [fusion.NAME] and {len(runs)} runs ({', '.join(runs)}); name "
                "one of them with MODEL="
            )
        (member,) = runs
    if not _is_run(recipe, member):
        raise RecipeError(
            f"{recipe.path}: {member} is no run of its models ({', '.join(runs)})"
            f"{nearest(member, runs)}"
        )
    return System("model", member, [member])


def _is_run(recipe: Recipe, name: str) -> bool:
    """Whether a name is of a run that a recipe can have, of a sweep over layers, too."""
    try:
        run = Member.parse(name)
    except ValueError:
        return False
    return run.model in recipe.models and run.head in recipe.by_head and run.seed is None


def corpus_name(paths: Sequence[str]) -> str:
    """The corpus that the files of these names are; their order does not matter.

    Examples
    --------
    >>> corpus_name(["/speech/a", "/speech/b/"]) == corpus_name(["/speech/b", "/speech/a"])
    True
    """
    names = sorted({nfc(os.path.abspath(path)) for path in paths})
    text = "\n".join(names).encode("utf-8", "surrogateescape")
    return f"predict-{hashlib.blake2b(text, digest_size=5).hexdigest()}"


def audio_table(paths: Sequence[str]) -> tuple[Table, Path]:
    """The table of the audio files that are named, or lie below a folder that is.

    Parameters
    ----------
    paths : sequence of str
        Files and folders.

    Returns
    -------
    table : Table
        Without labels and targets; `seconds` is NaN and `audio_hash` empty.
    root : Path
        The folder that all files share.

    Raises
    ------
    CorpusError
        A name is not there, or is no UTF-8; a folder has no audio; two files get the same id.
    """
    found: dict[str, None] = {}
    findings: list[Finding] = []
    faults: list[str] = []
    hints: list[str] = []
    for given in paths:
        path = existing(os.path.abspath(given))
        if path.is_dir():
            below, passed = find_audio(path, path, SUFFIXES)
            findings += [*passed, *_unread(path)]
            found |= dict.fromkeys(str(path / name) for name in below)
            if not below:
                none = f"{given}: no audio file below it ({', '.join(SUFFIXES)})"
                faults.append("; ".join([none, *(finding.text for finding in passed)]))
        elif path.exists() and not path.is_file():
            faults.append(f"{given!r}: a pipe, socket or device; name files and folders")
        elif not path.exists():
            faults.append(f"{given!r}: no such file or folder")
            hints = [SPLIT] if len(paths) > 1 else []
        elif not _is_utf8(str(path)):
            faults.append(f"{given!a}: its name is no UTF-8; rename it")
        else:
            found[str(path)] = None
    if faults:
        raise CorpusError("\n  ".join([*faults, *hints]))
    files, again = _each_once(found)
    findings += again
    root = Path(os.path.commonpath([os.path.dirname(file) for file in files]))
    ids = [clean(name) for name in make_ids([os.path.relpath(file, root) for file in files])]
    refuse_duplicates(ids, files, root)
    table = pd.DataFrame({"corpus": corpus_name(paths), "utterance": ids, "path": files})
    for column in columns_of((), ()):
        if column not in table:
            table[column] = np.nan if column in TIMES else ""
    table = table[columns_of((), ())].sort_values(list(KEY), kind="stable", ignore_index=True)
    about = {"key": corpus_name(paths), "title": "audio of no corpus"}
    return Table(table, {}, (), list(dict.fromkeys(findings)), about), root


def _unread(folder: Path) -> list[Finding]:
    """The sound below a folder that is of kinds that are not read."""
    names, _ = find_audio(folder, folder, UNREAD)
    way_out = "(ffmpeg -i FILE NEW.wav converts it)"
    text = f"files are of kinds that are not read, and are passed over {way_out}"
    singular = f"file is of a kind that is not read, and is passed over {way_out}"
    return finding("unread-audio", names, text, singular)


def _each_once(paths: Iterable[str]) -> tuple[list[str], list[Finding]]:
    """Leave out files of a folder that was named twice, by a link."""
    first: dict[str, str] = {}
    again = []
    for path in paths:
        folder, name = os.path.split(path)
        kept = first.setdefault(os.path.join(os.path.realpath(folder), name), path)
        if kept != path:
            again.append(f"{path} (is {kept})")
    text = "files are named a second time, by links to folders, and are passed over"
    singular = "file is named a second time, by a link to a folder, and is passed over"
    return list(first.values()), finding("links-passed-over", again, text, singular)


def _is_utf8(name: str) -> bool:
    try:
        return bool(nfc(name).encode())
    except UnicodeEncodeError:
        return False
