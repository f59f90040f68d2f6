"""Calls, short English calls for help: six speakers, five sentences, three emotions.

`<speaker>/<emotion>/<speaker>-<sentence>.wav`, as `w1/fear/w1-s2.wav`: three women, three men.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.corpora.base import Corpus, Reading
from features.corpora.named import drop_copies, match_names, name_utterances

EMOTIONS = ("anger", "fear", "neutral")
NAME = re.compile(
    rf"(?:.*/)?(?P<emotion>{'|'.join(EMOTIONS)})/(?P<speaker>[wm][123])-(?P<sentence>s[1-5])", re.I
)


def read_calls(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read Calls from its file names.

    Parameters
    ----------
    root : Path
        The corpus's folder.
    options : mapping
        None is known.

    Returns
    -------
    Reading
        A row an utterance, and what was odd.

    Raises
    ------
    CorpusError
        If there is no audio.
    """
    table, findings = match_names(root, CALLS, NAME, "<emotion>/<speaker>-<sentence>")
    columns = ["emotion", "speaker", "sentence"]
    table[columns] = table[columns].apply(lambda column: column.str.lower())
    table, copies = drop_copies(root, table, columns)
    table["utterance"] = name_utterances(table["path"].tolist())
    table["gender"] = table["speaker"].str[0].map({"w": "female", "m": "male"})
    table["language"] = "en"
    return Reading(table, findings + copies)


CALLS = Corpus(
    key="calls",
    title="Calls, English calls for help",
    labels={"emotion": EMOTIONS},
    targets=(),
    shares=False,
    languages=("en",),
    licence="CC BY 4.0",
    homepage="https://example.org/calls",
    citation="nobody (2026), made up for a walk",
    source="made up",
    tree="unverified",
    layout="<w1|w2|w3|m1|m2|m3>/<anger|fear|neutral>/*.wav (as w1-s2.wav)",
    expected={"utterances": 90, "speakers": 6, **{f"emotion={name}": 30 for name in EMOTIONS}},
    published=True,
    read=read_calls,
    speakers=("w1", "w2", "w3", "m1", "m2", "m3"),
    label_maps={
        "four-class": {"anger": "angry", "neutral": "neutral"},
        "emobox": {"anger": "angry", "fear": "fear", "neutral": "neutral"},
    },
)
