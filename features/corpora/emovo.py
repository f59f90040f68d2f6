"""EMOVO, the Italian emotional speech database.

`EMOVO/<speaker>/<emotion>-<speaker>-<sentence>.wav`, as `f1/dis-f1-b1.wav`: three women, three
men, fourteen sentences (short b1-3, long l1-4, nonsense n1-5, questions d1-2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.corpora.base import Corpus, Reading
from features.corpora.named import drop_copies, match_names

# From the Italian words: disgusto, gioia, neutro, paura, rabbia, sorpresa, tristezza.
EMOTIONS = {
    "dis": "disgust",
    "gio": "joy",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}
NAME = re.compile(
    rf"(?:.*/)?(?P<emotion>{'|'.join(EMOTIONS)})-(?P<speaker>[fm][123])"
    r"-(?P<sentence>b[1-3]|l[1-4]|n[1-5]|d[12])",
    re.I,
)


def read_emovo(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read EMOVO from its file names."""
    table, findings = match_names(root, EMOVO, NAME, "<emotion>-<speaker>-<sentence>")
    columns = ["emotion", "speaker", "sentence"]
    table[columns] = table[columns].apply(lambda column: column.str.lower())
    table, copies = drop_copies(root, table, columns)
    table["emotion"] = table["emotion"].map(EMOTIONS)
    table["gender"] = table["speaker"].str[0].map({"f": "female", "m": "male"})
    table["language"] = "it"
    return Reading(table, findings + copies)


EMOVO = Corpus(
    key="emovo",
    title="EMOVO, Italian emotional speech",
    labels={"emotion": tuple(EMOTIONS.values())},
    languages=("it",),
    licence="CC BY-NC-SA 4.0, as others state it",
    homepage="http://voice.fub.it/activities/corpora/emovo/index.html",
    citation="Costantini, Iaderola, Paoloni, Todisco (2014), EMOVO Corpus: an Italian Emotional "
    "Speech Database, LREC, pp. 3501-3504",
    source="names and counts as in public listings of its files; genders by the speaker's letter",
    tree="verified",
    layout="EMOVO/<f1|f2|f3|m1|m2|m3>/*.wav (as dis-f1-b1.wav)",
    expected={
        "utterances": 588,
        "speakers": 6,
        **{f"emotion={name}": 84 for name in EMOTIONS.values()},
    },
    published=True,
    read=read_emovo,
    speakers=("f1", "f2", "f3", "m1", "m2", "m3"),
    label_maps={
        "four-class": {"anger": "angry", "joy": "happy", "neutral": "neutral", "sadness": "sad"},
        "emobox": {
            "disgust": "disgust",
            "joy": "happy",
            "neutral": "neutral",
            "fear": "fear",
            "anger": "angry",
            "surprise": "surprise",
            "sadness": "sad",
        },
    },
)
