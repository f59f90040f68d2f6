"""JTES, the Japanese Twitter-based emotional speech corpus.

`wav/<speaker>/<emotion>/<speaker>_<emotion>_NN.wav`, as `f01_ang_01.wav`: fifty women f01 to f50,
fifty men m01 to m50 (a number alone is no speaker), fifty sentences. The sentences were chosen for
each emotion apart: `ang-01` and `joy-01` are different texts, and the words tell the emotion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.common.errors import CorpusError
from features.common.findings import finding
from features.corpora.base import Corpus, Reading
from features.corpora.named import drop_copies, match_names

EMOTIONS = {"ang": "anger", "joy": "joy", "neu": "neutral", "sad": "sadness"}
N_SPEAKERS = 50
"""Of either gender."""
NAME = re.compile(
    rf"(?:.*/)?(?P<speaker>[fm](?:0[1-9]|[1-4]\d|50))_(?P<emotion>{'|'.join(EMOTIONS)})"
    r"_(?P<number>0[1-9]|[1-4]\d|50)",
    re.I,
)


def read_jtes(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read JTES from its file names.

    The option `sessions` (an integer that divides 50) makes that many sessions of as many women
    as men, by their numbers: with 5, f01 to f10 and m01 to m10 are session 1. The corpus itself
    has none.

    Raises
    ------
    CorpusError
        If there is no audio, or `sessions` does not divide 50.
    """
    n_sessions = options.get("sessions")
    whole = isinstance(n_sessions, int) and not isinstance(n_sessions, bool)
    if n_sessions is not None and (not whole or n_sessions < 1 or N_SPEAKERS % n_sessions):
        raise CorpusError(
            f"option sessions = {n_sessions!r}: expected 1, 2, 5, 10, 25 or 50, so that each has "
            "as many speakers of either gender"
        )
    table, findings = match_names(root, JTES, NAME, "<speaker>_<emotion>_NN (as f01_ang_01)")
    table["speaker"], table["emotion"] = table["speaker"].str.lower(), table["emotion"].str.lower()
    table["sentence"] = table["emotion"] + "-" + table["number"]
    table, copies = drop_copies(root, table, ["speaker", "sentence"])
    table["emotion"] = table["emotion"].map(EMOTIONS)
    table["gender"] = table["speaker"].str[0].map({"f": "female", "m": "male"})
    table["language"] = "ja"
    if n_sessions is not None:
        size = N_SPEAKERS // n_sessions
        table["session"] = [str((int(speaker[1:]) - 1) // size + 1) for speaker in table["speaker"]]
    unseen = finding(
        "tree-unverified", [str(root)],
        "folder is read as public code reads JTES, whose files were not seen: look at the counts",
    )  # fmt: skip
    return Reading(table, findings + copies + unseen)


JTES = Corpus(
    key="jtes",
    title="Japanese Twitter-based emotional speech",
    labels={"emotion": tuple(EMOTIONS.values())},
    languages=("ja",),
    licence="on request from its authors (Tohoku University)",
    homepage="https://tohoku.pure.elsevier.com/ja/publications/"
    "construction-and-analysis-of-phonetically-and-prosodically-balanc",
    citation="Takeishi, Nose, Chiba, Ito (2016), Construction and analysis of phonetically and "
    "prosodically balanced emotional speech database, O-COCOSDA, pp. 16-21",
    source="layout as public code reads it; counts and emotion-dependent sentences as in papers; "
    "genders by the speaker's letter",
    tree="unverified",
    layout="wav/<f01..m50>/<ang|joy|neu|sad>/*.wav (as f01_ang_01.wav)",
    expected={
        "utterances": 20000,
        "speakers": 100,
        **{f"emotion={name}": 5000 for name in EMOTIONS.values()},
    },
    published=True,
    read=read_jtes,
    options=("sessions",),
    label_maps={
        "four-class": {"anger": "angry", "joy": "happy", "neutral": "neutral", "sadness": "sad"}
    },
)
