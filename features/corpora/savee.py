"""SAVEE, the Surrey Audio-Visual Expressed Emotion database: its audio.

`AudioData/<DC|JE|JK|KL>/a01.wav`, or all in one folder as `DC_a01.wav`: emotion letters, then the
number of the sentence within the emotion. Three sentences are common to all emotions and neutral
repeats sentences of the others, which numbers is not documented: `sentence` (a01) tells sentences
of one emotion apart, not those of two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.corpora.base import Corpus, Reading
from features.corpora.named import drop_copies, match_names

EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
NAME = re.compile(
    r"(?:.*/)?(?P<speaker>DC|JE|JK|KL)[/_](?P<emotion>sa|su|[adfhn])(?P<number>\d\d)", re.I
)


def read_savee(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read SAVEE from the names of its files and of the speakers' folders."""
    table, findings = match_names(root, SAVEE, NAME, "<speaker>/<emotion letters><two digits>")
    table["speaker"] = table["speaker"].str.upper()
    table["sentence"] = (table["emotion"] + table["number"]).str.lower()
    table["emotion"] = table["emotion"].str.lower().map(EMOTIONS)
    table, copies = drop_copies(root, table, ["speaker", "sentence"])
    table["gender"] = "male"
    table["language"] = "en"
    return Reading(table, findings + copies)


SAVEE = Corpus(
    key="savee",
    title="Surrey Audio-Visual Expressed Emotion database, its audio",
    labels={"emotion": tuple(EMOTIONS.values())},
    languages=("en",),
    licence="after registration, research use",
    homepage="http://personal.ee.surrey.ac.uk/Personal/P.Jackson/SAVEE/",
    citation="Haq, Jackson (2009), Speaker-dependent audio-visual emotion recognition, AVSP, "
    "pp. 53-58",
    source="names and counts as in public listings of its files; four male speakers and the "
    "letters as in its Info.txt",
    tree="verified",
    layout="AudioData/<DC|JE|JK|KL>/*.wav (as DC/a01.wav), or *.wav (as DC_a01.wav)",
    expected={
        "utterances": 480,
        "speakers": 4,
        **{f"emotion={name}": 60 for name in EMOTIONS.values() if name != "neutral"},
        "emotion=neutral": 120,
    },
    published=True,
    read=read_savee,
    speakers=("DC", "JE", "JK", "KL"),
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
            "sadness": "sad",
            "surprise": "surprise",
        },
    },
)
