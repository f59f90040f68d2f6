"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset.

`AudioWAV/<actor>_<sentence>_<emotion>_<intensity>.wav`, as `1001_IEO_DIS_LO.wav`; where there is no
such folder, `AudioMP3/`, else the root. The audio defines the set. `emotion` is what the actor was
asked for, and so is `intensity` (LO, MD, HI; XX, most of the corpus, is unspecified and stays
empty). What listeners heard is another thing: `processedResults/tabulatedVotes.csv` of the
published repository, where it is there, gives the share of votes for each emotion as targets,
`voice_*` from hearing alone, `face_*` from seeing alone, `multimodal_*` from both.
`VideoDemographics.csv` gives gender, and age in years as one more target.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from features.common.errors import CorpusError
from features.common.findings import Finding, finding, some
from features.common.text import clean
from features.common.walk import find_place
from features.common.words import counted
from features.corpora.base import (
    Corpus,
    Reading,
    find_audio,
    no_audio,
    number,
    read_rows,
)

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
SENTENCES = ["IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI"]
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": ""}
NAME = re.compile(
    rf"(?P<actor>1\d\d\d)_(?P<sentence>{'|'.join(SENTENCES)})"
    rf"_(?P<emotion>{'|'.join(EMOTIONS)})_(?P<intensity>{'|'.join(INTENSITIES)})"
)
FOLDERS = ("AudioWAV", "AudioMP3")
# The first digit of a row's name in the table of votes: what was presented.
PRESENTED = {"1": "voice", "2": "face", "3": "multimodal"}
VOTES = "tabulatedVotes.csv"
ACTORS = "VideoDemographics.csv"
SHARES = tuple(f"{what}_{emotion}" for what in PRESENTED.values() for emotion in EMOTIONS.values())
# As the corpus's own notes say: the first is silent in both formats, the others as MP3 alone.
SILENT = ("1076_MTI_SAD_XX",)
BAD_MP3 = ("1076_MTI_NEU_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD")


def read_crema_d(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read CREMA-D from the names of its files, the votes and the actors' table.

    Raises
    ------
    CorpusError
        If there is no audio, or a table beside it lacks columns or holds what is no number.
    """
    base = find_place(root, lambda place: any((place / name).is_dir() for name in FOLDERS)) or root
    folder = next((base / name for name in FOLDERS if (base / name).is_dir()), base)
    paths, passed = find_audio(root, folder)
    if not paths:
        raise no_audio(root, folder, CREMA_D)
    found: dict[str, tuple[str, re.Match[str]]] = {}
    odd, again = [], []
    for path in paths:
        stem = clean(PurePosixPath(path).stem)
        match = NAME.fullmatch(stem)
        if match is None:
            odd.append(path)
        elif stem in found:
            again.append(path)
        else:
            found[stem] = path, match
    parts = [match.groupdict() for _, match in found.values()]
    table = pd.DataFrame({"utterance": list(found), "path": [path for path, _ in found.values()]})
    table["speaker"] = [part["actor"] for part in parts]
    table["language"] = "en"
    table["sentence"] = [part["sentence"] for part in parts]
    table["emotion"] = [EMOTIONS[part["emotion"]] for part in parts]
    table["intensity"] = [INTENSITIES[part["intensity"]] for part in parts]
    mp3 = {stem for stem, (path, _) in found.items() if path.lower().endswith(".mp3")}
    bad = [stem for stem in found if stem in SILENT or (stem in mp3 and stem in BAD_MP3)]
    form = "not named <actor>_<sentence>_<emotion>_<intensity>"
    findings = [
        *passed,
        *finding(
            "names", odd, f"audio files {form} are left out", f"audio file {form} is left out"
        ),
        *finding(
            "duplicates",
            again,
            "audio files of a name that another has are left out",
            "audio file of a name that another has is left out",
        ),
        *finding(
            "known-bad",
            bad,
            "recordings are damaged as published; their rows stay",
            "recording is damaged as published; its row stays",
        ),
        *_add_actors(table, _beside(root, base, ACTORS)),
        *_add_votes(table, _beside(root, base, f"processedResults/{VOTES}", VOTES)),
    ]
    return Reading(table, findings)


def _beside(root: Path, base: Path, *names: str) -> Path | None:
    places = [place / name for place in dict.fromkeys((base, root)) for name in names]
    return next((path for path in places if path.is_file()), None)


def _columns(path: Path, wanted: tuple[str, ...]) -> list[list[str]]:
    """Read the wanted columns of a table, its first column before them."""
    header, rows = read_rows(path)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise CorpusError(f"{path}: no column {', '.join(missing)}; it has {', '.join(header)}")
    places = [0, *(header.index(name) for name in wanted)]
    return [[clean(row[place]) for place in places] for row in rows]


def _add_actors(table: pd.DataFrame, path: Path | None) -> list[Finding]:
    """Add gender and age."""
    table["gender"], table["age"] = "", math.nan
    if path is None:
        text = f"speakers have no gender and no age: {ACTORS} is not there"
        return finding("speakers-missing", sorted(set(table["speaker"])), text)
    known, faults = {}, []
    for _, actor, sex, age in _columns(path, ("ActorID", "Sex", "Age")):
        try:
            known[actor] = sex.lower(), number(age)
        except ValueError:
            faults.append(f"{actor} ({age!r})")
    if faults:
        raise CorpusError(f"{path}: {len(faults)} ages are no numbers: {some(faults)}")
    rows = [known.get(actor, ("", math.nan)) for actor in table["speaker"]]
    table["gender"] = [gender for gender, _ in rows]
    table["age"] = [age for _, age in rows]
    lost = sorted({actor for actor in table["speaker"] if actor not in known})
    return finding(
        "speakers-missing",
        lost,
        f"speakers are not in {path.name}",
        f"speaker is not in {path.name}",
    )


def _add_votes(table: pd.DataFrame, path: Path | None) -> list[Finding]:
    """Add the shares of votes; NaN where nobody voted."""
    if path is None:
        table[list(SHARES)] = math.nan
        text = f"recordings have no listeners' votes: {VOTES} is not there"
        return finding("labels-missing", table["utterance"].tolist(), text)
    letters = tuple(code[0] for code in EMOTIONS)
    shares: dict[tuple[str, str], list[float]] = {}
    faults, again = [], []
    for name, clip, *texts in _columns(path, ("fileName", *letters)):
        what = PRESENTED.get(name[:1]) if re.fullmatch(r"\d{6}", name) else None
        try:
            votes = [int(text) for text in texts]
        except ValueError:
            votes = [-1]
        if what is None or min(votes) < 0:
            faults.append(f"row {name!r} of {clip} ({', '.join(texts)})")
            continue
        if (clip, what) in shares:
            again.append(f"{clip} ({what})")
        n = sum(votes)
        shares[clip, what] = [vote / n if n else math.nan for vote in votes]
    if faults or again:
        text = counted(len(faults), "row is no vote", "rows are no votes")
        text += f" (a name of six digits, counts): {some(faults)}"
        twice = f"{counted(len(again), 'row stands', 'rows stand')} more than once: {some(again)}"
        raise CorpusError(f"{path}: {text if faults else twice}")
    nobody = [math.nan] * len(letters)
    for what in PRESENTED.values():
        rows = [shares.get((clip, what), nobody) for clip in table["utterance"]]
        names = [f"{what}_{emotion}" for emotion in EMOTIONS.values()]
        table[names] = rows
    clips = {clip for clip, _ in shares}
    here = set(table["utterance"])
    spare = [clip for clip in table["utterance"] if clip not in clips]
    return [
        *finding("labels-without-audio", sorted(clips - here),
                 f"clips of {path.name} have no audio and are left out",
                 f"clip of {path.name} has no audio and is left out"),
        *finding("audio-without-labels", spare, f"recordings have no votes in {path.name}",
                 f"recording has no votes in {path.name}"),
    ]  # fmt: skip


CREMA_D = Corpus(
    key="crema-d",
    title="Crowd-sourced Emotional Multimodal Actors Dataset (CREMA-D)",
    labels={"emotion": tuple(EMOTIONS.values()), "intensity": ("low", "medium", "high")},
    targets=(*SHARES, "age"),
    # Shares are made here from counts; ages are no shares.
    languages=("en",),
    licence="Open Database License 1.0, contents under the Database Contents License 1.0",
    homepage="https://github.com/CheyneyComputerScience/CREMA-D",
    citation="Cao, Cooper, Keutmann, Gur, Nenkova, Verma (2014), CREMA-D: Crowd-sourced Emotional "
    "Multimodal Actors Dataset, IEEE Transactions on Affective Computing 5(4), pp. 377-390",
    source="names, counts, votes and actors as in the files of the published repository",
    tree="verified",
    layout="AudioWAV/*.wav (as 1001_IEO_DIS_LO.wav) and, for gender, age and listeners' votes, "
    f"{ACTORS} and processedResults/{VOTES}",
    expected={
        "utterances": 7442,
        "speakers": 91,
        "emotion=anger": 1271,
        "emotion=disgust": 1271,
        "emotion=fear": 1271,
        "emotion=happy": 1271,
        "emotion=neutral": 1087,
        "emotion=sad": 1271,
    },
    published=True,
    read=read_crema_d,
    label_maps={
        "four-class": {"anger": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad"},
        "emobox": {
            "anger": "angry",
            "disgust": "disgust",
            "fear": "fear",
            "happy": "happy",
            "neutral": "neutral",
            "sad": "sad",
        },
    },
)
