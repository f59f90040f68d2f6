"""TESS, the Toronto emotional speech set: two speakers say "Say the word ..." and one word.

`<OAF|YAF>_<word>_<emotion>.wav`, all in one folder or in fourteen (`OAF_angry`, ...). OAF is the
older talker, YAF the younger. One file of some copies is called `OA_bite_neutral.wav`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.corpora.base import Corpus, Reading
from features.corpora.named import drop_copies, match_names

EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "pleasant surprise",
    "sad": "sadness",
}
NAME = re.compile(
    rf"(?:.*/)?(?P<speaker>OAF?|YAF)_(?P<word>[a-z]+)_(?P<emotion>{'|'.join(EMOTIONS)})", re.I
)


def read_tess(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read TESS from its file names."""
    table, findings = match_names(root, TESS, NAME, "<OAF|YAF>_<word>_<emotion>")
    table["speaker"] = table["speaker"].str.upper().replace("OA", "OAF")
    table["sentence"] = table["word"].str.lower()
    table["emotion"] = table["emotion"].str.lower().map(EMOTIONS)
    table, copies = drop_copies(root, table, ["speaker", "sentence", "emotion"])
    table["gender"] = "female"
    table["language"] = "en"
    return Reading(table, findings + copies)


TESS = Corpus(
    key="tess",
    title="Toronto emotional speech set",
    labels={"emotion": tuple(EMOTIONS.values())},
    languages=("en",),
    licence="CC BY-NC-ND 4.0",
    homepage="https://doi.org/10.5683/SP2/E8H2MF",
    citation="Dupuis, Pichora-Fuller (2010), Toronto emotional speech set (TESS), University of "
    "Toronto, Psychology Department",
    source="names and counts compared with a listing of the published files; two actresses, as "
    "its documentation says",
    tree="verified",
    layout="*.wav (as OAF_back_angry.wav), in one folder or in folders as OAF_angry",
    expected={
        "utterances": 2800,
        "speakers": 2,
        **{f"emotion={name}": 400 for name in EMOTIONS.values()},
    },
    published=True,
    read=read_tess,
    label_maps={
        "four-class": {
            "anger": "angry",
            "happiness": "happy",
            "neutral": "neutral",
            "sadness": "sad",
        },
        "emobox": {
            "anger": "angry",
            "disgust": "disgust",
            "fear": "fear",
            "happiness": "happy",
            "neutral": "neutral",
            "pleasant surprise": "surprise",
            "sadness": "sad",
        },
    },
)
