"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song: its speech, as audio.

`Actor_AA/MM-VV-EE-II-SS-RR-AA.wav`: modality (03 audio only), vocal channel (01 speech, 02 song),
emotion, intensity, statement, repetition, actor (odd: male). Audio-only speech defines the set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.common.findings import finding
from features.corpora.base import AUDIO_SUFFIXES, Corpus, Reading, no_audio
from features.corpora.named import drop_copies, match_names

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
# "Kids are talking by the door", "Dogs are sitting by the door".
STATEMENTS = {"01": "kids", "02": "dogs"}
NAME = re.compile(
    r"(?:.*/)?(?P<modality>0[123])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])"
    r"-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>0[1-9]|1\d|2[0-4])"
)


def read_ravdess(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read RAVDESS from its file names; songs and what belongs to videos are left out.

    Raises
    ------
    CorpusError
        If there is no audio-only speech.
    """
    form = "MM-VV-EE-II-SS-RR-AA (as 03-01-06-01-02-01-12)"
    table, findings = match_names(root, RAVDESS, NAME, form, (*AUDIO_SUFFIXES, ".mp4"))
    video, song = table["modality"] != "03", table["channel"] == "02"
    findings += finding(
        "videos", table.loc[video, "path"].tolist(),
        "files of the videos are left out; the audio-only files (03-...) are the set",
    )  # fmt: skip
    findings += finding(
        "songs", table.loc[song & ~video, "path"].tolist(),
        "songs are left out; this is the speech of RAVDESS",
    )  # fmt: skip
    table = table[~video & ~song]
    if table.empty:
        raise no_audio(root, root, RAVDESS)
    table, copies = drop_copies(root, table, list(NAME.groupindex))
    table["speaker"] = table["actor"]
    table["gender"] = ["male" if int(actor) % 2 else "female" for actor in table["actor"]]
    table["language"] = "en"
    table["sentence"] = table["statement"].map(STATEMENTS)
    table["emotion"] = table["emotion"].map(EMOTIONS)
    table["intensity"] = table["intensity"].map(INTENSITIES)
    return Reading(table, findings + copies)


RAVDESS = Corpus(
    key="ravdess",
    title="Ryerson Audio-Visual Database of Emotional Speech and Song, its speech",
    labels={"emotion": tuple(EMOTIONS.values()), "intensity": tuple(INTENSITIES.values())},
    languages=("en",),
    licence="CC BY-NC-SA 4.0; commercial licences on request from its authors",
    homepage="https://zenodo.org/records/1188976",
    citation="Livingstone, Russo (2018), The Ryerson Audio-Visual Database of Emotional Speech "
    "and Song (RAVDESS), PLoS ONE 13(5): e0196391",
    source="names and counts compared with a listing of the published files; genders by the "
    "parity of the actor's number, as its documentation says",
    tree="verified",
    layout="Actor_01 to Actor_24 with *.wav (Audio_Speech_Actors_01-24.zip)",
    expected={
        "utterances": 1440,
        "speakers": 24,
        "emotion=neutral": 96,
        **{f"emotion={name}": 192 for name in EMOTIONS.values() if name != "neutral"},
    },
    published=True,
    read=read_ravdess,
    speakers=tuple(f"{actor:02}" for actor in range(1, 25)),
    label_maps={
        "four-class": {"angry": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad"},
        "emobox": {
            "neutral": "neutral",
            "calm": "calm",
            "happy": "happy",
            "sad": "sad",
            "angry": "angry",
            "fearful": "fear",
            "disgust": "disgust",
            "surprised": "surprise",
        },
    },
)
