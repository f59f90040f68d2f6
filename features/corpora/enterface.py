"""eNTERFACE'05, an audio-visual emotion database: the sound of its videos.

`subject N/<emotion>/sentence K/sN_<letters>_K.avi`; converting the videos to audio files, beside
them or in a tree of the same folders, is what many do. **The folders are right where names are
not**: all files of subject 11 are called `s12_...`, those of subject 3 partly `s_3_...`, one of
subject 16 `s16_su_3avi`, and two of subject 2 have each other's number. Subject 6 has one long
recording an emotion, not cut into sentences. The five texts of an emotion belong to it alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.common.errors import CorpusError
from features.common.findings import finding
from features.corpora.base import AUDIO_SUFFIXES, Corpus, Reading
from features.corpora.named import drop_copies, match_names

EMOTIONS = {
    "an": "anger",
    "di": "disgust",
    "fe": "fear",
    "ha": "happiness",
    "sa": "sadness",
    "su": "surprise",
}
NAME = re.compile(
    r"(?:.*?/)??(?:subject (?P<subject>\d+)/)?"
    rf"(?:(?P<folder>{'|'.join(EMOTIONS.values())})/)?(?:sentence (?P<sentence>\d)/)?"
    rf"s_?(?P<speaker>\d+)_(?P<emotion>{'|'.join(EMOTIONS)})(?:_(?P<number>\d))?(?:avi)?",
    re.I,
)


def read_enterface(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read eNTERFACE'05 from its folders, and from file names where there are no such folders.

    Raises
    ------
    CorpusError
        If there is neither video nor audio, or none of single sentences.
    """
    form = "s<subject>_<an|di|fe|ha|sa|su>_<sentence>"
    table, findings = match_names(root, ENTERFACE, NAME, form, (*AUDIO_SUFFIXES, ".avi"))
    by_name = [table["speaker"], table["emotion"].str.lower().map(EMOTIONS), table["number"]]
    by_folder = [table["subject"], table["folder"].str.lower(), table["sentence"]]
    whole = (by_name[2] == "") & (by_folder[2] == "")
    disagree, unplaced = table["path"] == "", table["subject"] == ""
    for column, name, folder in zip(
        ("speaker", "emotion", "sentence"), by_name, by_folder, strict=True
    ):
        disagree |= (name != folder) & (name != "") & (folder != "")
        table[column] = folder.where(folder != "", name)
    findings += finding(
        "unsegmented", table.loc[whole, "path"].tolist(),
        "recordings are not cut into sentences and are left out",
    )  # fmt: skip
    findings += finding(
        "names-disagree", table.loc[disagree & ~whole, "path"].tolist(),
        "names contradict their folders, which are right",
    )  # fmt: skip
    findings += finding(
        "no-folders", table.loc[unplaced & ~whole, "path"].tolist(),
        "recordings lie in no folder 'subject N' and have their speaker from the name, where "
        "subjects 11 and 12 are both s12",
    )  # fmt: skip
    table = table[~whole]
    if table.empty:
        raise CorpusError(f"{root}: no recording of a sentence; expected {ENTERFACE.layout}")
    table, copies = drop_copies(root, table, ["speaker", "emotion", "sentence"])
    table["sentence"] = table["emotion"] + "-" + table["sentence"]
    table["language"] = "en"
    return Reading(table, findings + copies)


ENTERFACE = Corpus(
    key="enterface",
    title="eNTERFACE'05 audio-visual emotion database, its sound",
    labels={"emotion": tuple(EMOTIONS.values())},
    languages=("en",),
    licence="MIT, as its page is quoted",
    homepage="https://enterface.net/enterface05/emotion.html",
    citation="Martin, Kotsia, Macq, Pitas (2006), The eNTERFACE'05 Audio-Visual Emotion Database, "
    "ICDE Workshops, p. 8",
    source="names as in public listings of its files; counts those of the archive: 42 subjects "
    "with 30 recordings (the 42 of its page), subject 23 with 27, subject 6 left out. "
    "It names no subject's gender",
    tree="verified",
    layout="'subject N/<emotion>/sentence K/*.avi' (as s1_an_1.avi), or audio files so named",
    expected={
        "utterances": 1287,
        "speakers": 43,
        **{f"emotion={name}": 215 for name in EMOTIONS.values() if name != "happiness"},
        "emotion=happiness": 212,
    },
    published=True,
    read=read_enterface,
    label_maps={
        "four-class": {"anger": "angry", "happiness": "happy", "sadness": "sad"},
        "emobox": {
            "anger": "angry",
            "disgust": "disgust",
            "fear": "fear",
            "happiness": "happy",
            "sadness": "sad",
            "surprise": "surprise",
        },
    },
)
