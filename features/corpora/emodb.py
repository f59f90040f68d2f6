"""EmoDB, the Berlin Database of Emotional Speech, in its first published form.

`wav/SSsssEv.wav`: speaker (03, 08 to 16), text (a01 ... b10), emotion letter, version. The audio
defines the set. `erkennung.txt`, where it is there, has for each recording the percentage of
listeners who recognised the emotion and who found it natural; here both are shares in [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from features.common.errors import CorpusError
from features.common.findings import Finding, finding, some
from features.common.text import clean
from features.common.words import counted
from features.corpora.base import (
    Corpus,
    Reading,
    find_audio,
    make_ids,
    no_audio,
    read_rows,
    refuse_duplicates,
)

# The letters stand for the German words: Wut, Langeweile, Ekel, Angst, Freude, Trauer.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}
FOUR_CLASS = {"anger": "angry", "happiness": "happy", "neutral": "neutral", "sadness": "sad"}
MALE = ("03", "10", "11", "12", "15")
FEMALE = ("08", "09", "13", "14", "16")
NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<letter>[WLEAFNT])[a-z]?")
SCORES = "erkennung.txt"
TARGETS = ("recognised", "natural")


def read_emodb(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read EmoDB from the names of its files and the listeners' scores.

    Raises
    ------
    CorpusError
        If there is no audio, or a row of `erkennung.txt` has no number.
    """
    folder = next((root / n for n in ("wav", "wav_corpus") if (root / n).is_dir()), root)
    paths, passed = find_audio(root, folder)
    if not paths:
        raise no_audio(root, folder, EMODB)
    matches = {path: NAME.fullmatch(clean(PurePosixPath(path).stem)) for path in paths}
    found = {path: match.groupdict() for path, match in matches.items() if match}
    table = pd.DataFrame({"path": list(found)})
    table["utterance"] = make_ids(list(found), folder.relative_to(root).as_posix())
    table["speaker"] = [parts["speaker"] for parts in found.values()]
    genders = {**dict.fromkeys(MALE, "male"), **dict.fromkeys(FEMALE, "female")}
    table["gender"] = [genders.get(speaker, "") for speaker in table["speaker"]]
    table["language"] = "de"
    table["sentence"] = [parts["text"] for parts in found.values()]
    table["emotion"] = [EMOTIONS[parts["letter"]] for parts in found.values()]
    odd = [path for path in paths if path not in found]
    findings = finding(
        "names",
        odd,
        "audio files whose name is not SSsssEv (as 03a01Fa.wav) are left out",
        "audio file whose name is not SSsssEv (as 03a01Fa.wav) is left out",
    )
    return Reading(table, passed + findings + _add_scores(table, root / SCORES))


def _add_scores(table: pd.DataFrame, path: Path) -> list[Finding]:
    """Add the listeners' scores as shares in [0, 1], NaN where there is none."""
    if not path.is_file():
        text = f"recordings have no listeners' scores: {SCORES} is not there"
        return finding("labels-missing", table["utterance"].tolist(), text)
    header, rows = read_rows(path, delimiter="\t")
    if len(header) != 4:
        raise CorpusError(
            f"{path}: {counted(len(header), 'column')}; expected four, tab-separated: "
            "number, file, recognised, natural (both in percent)"
        )
    stems = [PurePosixPath(clean(row[1])).stem for row in rows]
    refuse_duplicates(stems, (f"row {row[0]}" for row in rows), path)
    scores, faults = {}, []
    for stem, row in zip(stems, rows, strict=True):
        try:
            scores[stem] = [float(text.replace(",", ".")) / 100 for text in row[2:]]
        except ValueError:
            faults.append(f"{stem} ({row[2]!r}, {row[3]!r})")
    if faults:
        rows_hold = counted(len(faults), "row holds", "rows hold")
        raise CorpusError(f"{path}: {rows_hold} no percentages: {some(faults, 10)}")
    known = table["utterance"].map(lambda path: clean(PurePosixPath(path).stem)).tolist()
    for place, name in enumerate(TARGETS):
        table[name] = [scores[stem][place] if stem in scores else float("nan") for stem in known]
    lost = [stem for stem in stems if stem not in set(known)]
    spare = [stem for stem in known if stem not in scores]
    return [
        *finding(
            "labels-without-audio",
            lost,
            f"rows of {SCORES} have no audio and are left out",
            f"row of {SCORES} has no audio and is left out",
        ),
        *finding(
            "audio-without-labels",
            spare,
            f"recordings have no scores in {SCORES}",
            f"recording has no scores in {SCORES}",
        ),
    ]


EMODB = Corpus(
    key="emodb",
    title="Berlin Database of Emotional Speech",
    labels={"emotion": tuple(EMOTIONS.values())},
    targets=TARGETS,
    shares=True,
    languages=("de",),
    licence="CC BY 4.0 as stated by its later releases",
    homepage="http://emodb.bilderbar.info/",
    citation="Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss (2005), A Database of German "
    "Emotional Speech, Interspeech, pp. 1517-1520",
    source="names, counts and scores compared with the published files; genders as published",
    tree="verified",
    layout="wav/*.wav (as 03a01Fa.wav) and, for the listeners' scores, erkennung.txt",
    expected={
        "utterances": 535,
        "speakers": 10,
        "emotion=anger": 127,
        "emotion=boredom": 81,
        "emotion=disgust": 46,
        "emotion=fear": 69,
        "emotion=happiness": 71,
        "emotion=neutral": 79,
        "emotion=sadness": 62,
    },
    published=True,
    read=read_emodb,
    speakers=tuple(sorted((*MALE, *FEMALE))),
    label_maps={
        "four-class": FOUR_CLASS,
        "four-class-disgust-as-angry": {**FOUR_CLASS, "disgust": "angry"},
        "emobox": {**FOUR_CLASS, "boredom": "boredom", "disgust": "disgust", "fear": "fear"},
    },
)
