"""What corpora share whose file names say all: matching them, and leaving copies out.

Such a corpus is found at any depth below its root, whatever the folders above it are called, since
copies of it travel in several trees. A copy of a recording (the same tree packed twice, a video
beside its own sound) is left out and counted.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from features.common.errors import CorpusError
from features.common.findings import Finding, finding, some
from features.common.text import clean, nfc
from features.corpora.base import AUDIO_SUFFIXES, Corpus, find_audio, make_ids, no_audio


def match_names(
    root: Path,
    corpus: Corpus,
    pattern: re.Pattern[str],
    form: str,
    suffixes: tuple[str, ...] = AUDIO_SUFFIXES,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Match the path below `root`, without its suffix, of every audio file.

    Parameters
    ----------
    root : Path
    corpus : Corpus
        Named in errors.
    pattern : re.Pattern
        Has to match the whole path; its named groups become columns, empty where one is optional
        and absent.
    form : str
        How a name should look, for people.
    suffixes : tuple of str
        Lower-case suffixes of the files that are looked at.

    Returns
    -------
    frame : pandas.DataFrame
        `path` and the groups, as text, one row a file that matches.
    findings : list of Finding
        What was passed over, and files that do not match.

    Raises
    ------
    CorpusError
        If there is no audio, or none of it is named so.
    """
    paths, passed = find_audio(root, root, suffixes)
    if not paths:
        raise no_audio(root, root, corpus)
    matches = {
        path: pattern.fullmatch(clean(str(PurePosixPath(path).with_suffix("")))) for path in paths
    }
    odd = [path for path, match in matches.items() if match is None]
    if len(odd) == len(paths):
        raise CorpusError(
            f"{root}: none of the {len(odd)} audio files below it is named {form}: "
            f"{some(odd, 3)}; {corpus.key} is expected to hold {corpus.layout}"
        )
    rows = [{"path": path, **match.groupdict("")} for path, match in matches.items() if match]
    left_out = finding(
        "names",
        odd,
        f"audio files whose name is not {form} are left out",
        f"audio file whose name is not {form} is left out",
    )
    return pd.DataFrame(rows, dtype=str), passed + left_out


def drop_copies(
    root: Path, table: pd.DataFrame, columns: Sequence[str]
) -> tuple[pd.DataFrame, list[Finding]]:
    """Keep and name one file of each recording, sound before video, then the nearest to the root.

    Parameters
    ----------
    root : Path
    table : pandas.DataFrame
        Has `path`.
    columns : sequence of str
        What tells one recording from another.

    Returns
    -------
    table : pandas.DataFrame
        Without the copies, sorted by path, with `utterance` (`name_utterances`).
    findings : list of Finding
        Copies; those of the same kind but of another size apart, since somebody should look.
    """
    ordered = table.assign(
        video=[not path.lower().endswith(AUDIO_SUFFIXES) for path in table["path"]],
        depth=table["path"].str.count("/"),
    ).sort_values(["video", "depth", "path"])
    again = ordered.duplicated(list(columns))
    kept, copies = ordered[~again], ordered[again]
    first = {tuple(row[:-1]): row[-1] for row in _rows(kept, columns)}
    same: list[str] = []
    other: list[str] = []
    for *key, path in _rows(copies, columns):
        original, copy = root / first[tuple(key)], root / path
        alike = original.suffix.lower() != copy.suffix.lower() or _size(original) == _size(copy)
        (same if alike else other).append(path)
    kept = kept.drop(columns=["video", "depth"]).sort_values("path", ignore_index=True)
    return kept.assign(utterance=name_utterances(kept["path"].tolist())), [
        *finding("copies", same, "files are copies of one that is kept, and are left out",
                 "file is a copy of one that is kept, and is left out"),
        *finding(
            "copies-differ", other,
            "files are named as one that is kept but differ from it in size; the one nearest to "
            "the root is kept",
        ),
    ]  # fmt: skip


def name_utterances(paths: Sequence[str]) -> list[str]:
    """Make ids: stems, or the paths below the deepest folder that holds all of them.

    Examples
    --------
    >>> name_utterances(["x/DC/a01.wav", "x/JE/a01.wav"])
    ['DC/a01', 'JE/a01']
    """
    return make_ids(paths, posixpath.commonpath([posixpath.dirname(nfc(path)) for path in paths]))


def _rows(table: pd.DataFrame, columns: Sequence[str]) -> list[list[str]]:
    return table[[*columns, "path"]].to_numpy().tolist()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
