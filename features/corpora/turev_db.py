"""TurEV-DB, the Turkish Emotion-Voice Database.

`Sound Source/<Emotion>/<speaker>_<tag>_<word>.<suffix>`. The folder is the label; the tag says it
again, and where the two disagree the file is named. The audio defines the set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from features.common.findings import finding
from features.common.text import clean
from features.corpora.base import Corpus, Reading, find_audio, make_ids, no_audio

FOLDER = "Sound Source"
# From the Turkish words: kızgın, sakin, mutlu, hüzünlü.
TAGS = {"angry": "kz", "calm": "sk", "happy": "mt", "sad": "hl"}
NAME = re.compile(r"(?P<speaker>\d+)_(?P<tag>[^_]+)_(?P<word>.+)")


def read_turev_db(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read TurEV-DB from its folders and file names."""
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    paths, passed = find_audio(root, folder)
    if not paths:
        raise no_audio(root, folder, TUREV_DB)
    matches = {path: NAME.fullmatch(clean(PurePosixPath(path).stem)) for path in paths}
    found = {path: match.groupdict() for path, match in matches.items() if match}
    table = pd.DataFrame({"path": list(found)})
    table["utterance"] = make_ids(list(found), folder.relative_to(root).as_posix())
    table["speaker"] = [parts["speaker"] for parts in found.values()]
    table["language"] = "tr"
    table["sentence"] = [parts["word"] for parts in found.values()]
    table["emotion"] = [clean(PurePosixPath(path).parent.name).lower() for path in found]
    odd = [path for path in paths if path not in found]
    disagree = [
        path
        for path, emotion in zip(found, table["emotion"], strict=True)
        if emotion in TAGS and found[path]["tag"] != TAGS[emotion]
    ]
    return Reading(
        table,
        [
            *passed,
            *finding("names", odd, "audio files not named <speaker>_<tag>_<word> are left out"),
            *finding(
                "labels-disagree", disagree, "tags contradict their folder, which is the label"
            ),
        ],
    )


TUREV_DB = Corpus(
    key="turev-db",
    title="Turkish Emotion-Voice Database",
    labels={"emotion": tuple(TAGS)},
    languages=("tr",),
    licence="GPL-3.0 beside the files; the authors also state CC BY-NC-ND 4.0",
    homepage="https://aclanthology.org/2020.sltu-1.52/",
    citation="Canpolat, Ormanoglu, Zeyrek (2020), Turkish Emotion Voice Database (TurEV-DB), "
    "SLTU and CCURL, pp. 368-375",
    source="names and counts compared with the published files, which name no gender",
    tree="verified",
    layout=f"'{FOLDER}/<Angry|Calm|Happy|Sad>/<speaker>_<tag>_<word>.wav' (or .flac)",
    expected={
        "utterances": 1735,
        "speakers": 6,
        "emotion=angry": 487,
        "emotion=calm": 408,
        "emotion=happy": 357,
        "emotion=sad": 483,
    },
    published=True,
    read=read_turev_db,
)
