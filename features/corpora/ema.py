"""EMA, the electromagnetic articulography database of USC's SAIL: its audio.

`<speaker>/Wavfiles/4emo_<speaker>_<emotion>_NN[_index].wav`; ab is a man, jn and ls are women. NN
counts the recordings of an emotion; which sentence it is stands in the lists that the speakers
read from (`HumanEval/ema_14sents_rand_ab.txt`, `ema_10sents_rand_ls_jn.txt`), here by the numbers
1 to 14 of its README. The articulatory files are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.corpora.base import Corpus, Reading
from features.corpora.named import drop_copies, match_names

EMOTIONS = {"angry": "anger", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}
GENDERS = {"ab": "male", "jn": "female", "ls": "female"}
SENTENCES_AB = (
    8, 14, 10, 5, 4, 1, 12, 3, 9, 14, 13, 10, 7, 12, 6, 7, 5, 8, 10, 12, 11, 4, 5, 14, 1, 11, 4, 6,
    2, 13, 11, 5, 7, 9, 3, 4, 7, 1, 13, 3, 6, 2, 14, 11, 12, 8, 13, 7, 9, 6, 4, 1, 10, 2, 8, 13,
    9, 2, 3, 14, 6, 10, 5, 12, 2, 3, 1, 8, 11, 9,
)  # fmt: skip
SENTENCES_JN_LS = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 3, 10, 2, 6, 9, 1, 7, 5, 4, 8, 2, 1, 3, 5, 9, 6, 7, 4, 8, 10,
    1, 7, 9, 3, 5, 6, 2, 10, 8, 4, 3, 1, 7, 2, 9, 10, 6, 8, 4, 5,
)  # fmt: skip
NAME = re.compile(
    rf"(?:.*/)?(?:4emo_)?(?P<speaker>ab|jn|ls)_(?P<emotion>{'|'.join(EMOTIONS)})"
    r"_(?P<number>\d\d)(?:_\d+)?",
    re.I,
)


def read_ema(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read EMA from its file names."""
    form = "4emo_<speaker>_<emotion>_NN (as 4emo_ab_angry_01_001)"
    table, findings = match_names(root, EMA, NAME, form)
    table["speaker"], table["emotion"] = table["speaker"].str.lower(), table["emotion"].str.lower()
    table, copies = drop_copies(root, table, ["speaker", "emotion", "number"])
    table["sentence"] = [
        sentence(*place) for place in zip(table["speaker"], table["number"], strict=True)
    ]
    table["emotion"] = table["emotion"].map(EMOTIONS)
    table["gender"] = table["speaker"].map(GENDERS)
    table["language"] = "en"
    return Reading(table, findings + copies)


def sentence(speaker: str, number: str) -> str:
    """Look up the sentence of a recording's number; empty where the list ends before it.

    Examples
    --------
    >>> sentence("ab", "37"), sentence("ls", "37"), sentence("ls", "51")
    ('7', '2', '')
    """
    sentences = SENTENCES_AB if speaker == "ab" else SENTENCES_JN_LS
    place = int(number)
    return str(sentences[place - 1]) if 1 <= place <= len(sentences) else ""


EMA = Corpus(
    key="ema",
    title="Electromagnetic articulography database of emotional speech, its audio",
    labels={"emotion": tuple(EMOTIONS.values())},
    languages=("en",),
    licence="unknown; released to the research community by USC's SAIL",
    homepage="http://sail.usc.edu/ema_web/",
    citation="Lee, Yildirim, Kazemzadeh, Narayanan (2005), An articulatory study of emotional "
    "speech production, Interspeech, pp. 497-500",
    source="names as in a public listing of its files; counts, genders and sentences as in its "
    "README and lists",
    tree="verified",
    layout="<ab|jn|ls>/Wavfiles/*.wav (as 4emo_ab_angry_01_001.wav)",
    expected={
        "utterances": 680,
        "speakers": 3,
        **{f"emotion={name}": 170 for name in EMOTIONS.values()},
    },
    published=True,
    read=read_ema,
    label_maps={
        "four-class": {
            "anger": "angry",
            "happiness": "happy",
            "neutral": "neutral",
            "sadness": "sad",
        }
    },
)
