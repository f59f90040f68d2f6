"""IEMOCAP, the Interactive Emotional Dyadic Motion Capture database.

`Session<n>/dialog/EmoEvaluation/<dialogue>.txt` defines the set: one turn a line, with its times in
the dialogue, the code of its category and its valence, activation and dominance (1 to 5, means of
the raters). The audio of a turn is its own file,
`Session<n>/sentences/wav/<dialogue>/<dialogue>_<F|M><number>.wav`. Turns that the raters did not
agree on (`xxx`) stay without a category; their values are kept.

- The speaker is the letter of the **last** part: `Ses01F_impro01_M003` is the man's turn. The
  letter after the session says who of the two wore the markers; both speak in every dialogue.
- `style` (improvised, scripted) is a label set of its own; `style = "improvised"` in the recipe's
  options keeps these turns alone. `sentence` is the scenario or script (`impro05a`, `script01_3`):
  turns of one script share their text.
- `happy` and `excited` are two classes, as annotated; the map `four-class` makes them one (5,531
  turns), `four-class-without-excited` drops the second (4,490).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from features.common.errors import CorpusError, nearest
from features.common.files import read_text
from features.common.findings import Finding, finding, some
from features.common.walk import find_place
from features.common.words import counted
from features.corpora.base import Corpus, Reading, find_audio, match_audio, number

CODES = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "sad": "sad",
    "neu": "neutral",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgusted",
    "oth": "other",
}
FOUR_CLASS = {"angry": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad"}
NO_AGREEMENT = "xxx"
STYLES = {"impro": "improvised", "script": "scripted"}
GENDERS = {"F": "female", "M": "male"}
TARGETS = ("valence", "activation", "dominance")
LABELS = "dialog/EmoEvaluation"
SESSION = re.compile(r"Session(\d)")
TURN = re.compile(
    r"(?P<dialogue>Ses0(?P<session>\d)[FM]_(?P<scenario>(?P<style>impro|script)\d\d(?:_\d)?[a-z]?))"
    r"_(?P<speaker>[FM])(?:\d+|XX\d+)"
)
LINE = re.compile(
    r"\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(?P<turn>\S+)\s+(?P<code>\w+)\s+\[(?P<values>[^\]]*)\]\s*"
)


def read_iemocap(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read IEMOCAP from its evaluation files.

    The option `style`, "improvised" or "scripted", reads that style alone.

    Raises
    ------
    CorpusError
        If there is no evaluation file, or lines of one are no turns.
    """
    style = _style(root, options)
    base = find_place(root, lambda place: bool(_sessions(place)))
    if base is None:
        raise CorpusError(
            f"{root}: no folder Session<n>/{LABELS}; iemocap is expected to hold {IEMOCAP.layout}"
        )
    turns, findings = _all_turns(root, base)
    if style:
        other = [turn["utterance"] for turn in turns if turn["style"] != style]
        turns = [turn for turn in turns if turn["style"] == style]
        findings += finding("other-style", other, f"turns are not {style} and left out")
    without = [turn["utterance"] for turn in turns if not turn["emotion"]]
    text = f"turns have no category, since the raters did not agree ({NO_AGREEMENT})"
    findings += finding("no-agreement", without, text)
    columns = ["utterance", "path", "speaker", "gender", "language", "session", "sentence",
               "emotion", "style", *TARGETS]  # fmt: skip
    return Reading(pd.DataFrame(turns, columns=columns), findings)


def _style(root: Path, options: Mapping[str, Any]) -> str:
    """The option `style`; empty is both."""
    style = options.get("style", "")
    if style and style not in STYLES.values():
        raise CorpusError(
            f"{root}: option style = {style!r}: expected {' or '.join(STYLES.values())}"
            f"{nearest(str(style), STYLES.values())}"
        )
    return str(style)


def _all_turns(root: Path, base: Path) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The turns of all sessions with their audio's paths, and what was odd."""
    turns: list[dict[str, Any]] = []
    odd: list[str] = []
    lost: list[str] = []
    spare: list[str] = []
    findings: list[Finding] = []
    for session in _sessions(base):
        found, faulty = _turns(session / LABELS)
        odd += faulty
        folder = session / "sentences/wav"
        prefix = folder.relative_to(root).as_posix()
        names = [turn["utterance"] for turn in found]
        files, passed = find_audio(root, folder)
        findings += passed
        paths, others = match_audio(names, files, prefix)
        for turn, name, path in zip(found, names, paths, strict=True):
            turn["path"] = path or f"{prefix}/{turn['dialogue']}/{name}.wav"
            if path is None:
                lost.append(name)
        spare += others
        turns += found
    return turns, [
        *findings,
        *finding(
            "names",
            odd,
            "turns with a name of another form are left out",
            "turn with a name of another form is left out",
        ),
        *finding(
            "labels-without-audio",
            lost,
            "turns without audio stay in the table",
            "turn without audio stays in the table",
        ),
        *finding(
            "audio-without-labels",
            spare,
            "audio files without an evaluation are left out",
            "audio file without an evaluation is left out",
        ),
    ]


def _sessions(base: Path) -> list[Path]:
    """List `Session<n>` with evaluation files."""
    found = [
        path
        for path in base.glob("Session*")
        if SESSION.fullmatch(path.name) and (path / LABELS).is_dir()
    ]
    # A link to another session is that session again.
    real = {
        path.resolve(): path
        for path in sorted(found, key=lambda path: (not path.is_symlink(), path))
    }
    return sorted(real.values())


def _turns(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the evaluation files of a session: its turns, and names that are of another form."""
    turns, odd, faults = [], [], []
    for path in sorted(folder.glob("*.txt")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            lines = read_text(path, "latin-1").splitlines()
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read: {error.strerror}") from None
        for place, line in enumerate(lines, 1):
            if not re.match(r"\[\s*\d", line):  # a rater's line, the header, or empty
                continue
            match = LINE.fullmatch(line)
            values = _values(match["values"]) if match else None
            if match is None or values is None:
                faults.append(f"{path.name} line {place}")
                continue
            turn = TURN.fullmatch(match["turn"])
            if turn is None:
                odd.append(match["turn"])
                continue
            turns.append(_row(turn, match["code"].lower(), values))
    if faults:
        lines_are = counted(len(faults), "line is no turn", "lines are no turns")
        raise CorpusError(
            f"{folder}: {lines_are} ([start - end] turn code [valence, activation, dominance]): "
            f"{some(faults, 10)}"
        )
    return turns, odd


def _row(turn: re.Match[str], code: str, values: Sequence[float]) -> dict[str, Any]:
    """A row of the table, but for its path."""
    return {
        "utterance": turn[0],
        "dialogue": turn["dialogue"],
        "speaker": f"Ses0{turn['session']}{turn['speaker']}",
        "gender": GENDERS[turn["speaker"]],
        "language": "en",
        "session": f"Session{turn['session']}",
        "sentence": turn["scenario"],
        "emotion": "" if code == NO_AGREEMENT else CODES.get(code, code),
        "style": STYLES[turn["style"]],
        **dict(zip(TARGETS, values, strict=True)),
    }


def _values(text: str) -> list[float] | None:
    """Parse three finite numbers; None where they are others."""
    try:
        values = [number(part.strip()) for part in text.split(",")]
    except ValueError:
        return None
    return values if len(values) == len(TARGETS) and all(map(math.isfinite, values)) else None


IEMOCAP = Corpus(
    key="iemocap",
    title="Interactive Emotional Dyadic Motion Capture database (IEMOCAP)",
    labels={"emotion": tuple(CODES.values()), "style": tuple(STYLES.values())},
    targets=TARGETS,
    languages=("en",),
    licence="on request from the authors, for academic use",
    homepage="https://sail.usc.edu/iemocap/",
    citation="Busso, Bulut, Lee, Kazemzadeh, Mower, Kim, Chang, Lee, Narayanan (2008), IEMOCAP: "
    "Interactive emotional dyadic motion capture database, Language Resources and Evaluation "
    "42(4), pp. 335-359",
    source="names and labels of the four-class part compared with a listing of the published "
    "files; form of the evaluation files and the other counts as several public projects give them",
    tree="verified",
    layout="Session1 to Session5, each with dialog/EmoEvaluation/*.txt and "
    "sentences/wav/<dialogue>/*.wav",
    expected={
        "utterances": 10039,
        "speakers": 10,
        "emotion=angry": 1103,
        "emotion=happy": 595,
        "emotion=excited": 1041,
        "emotion=sad": 1084,
        "emotion=neutral": 1708,
        "emotion=frustrated": 1849,
        "emotion=fearful": 40,
        "emotion=surprised": 107,
        "emotion=disgusted": 2,
        "emotion=other": 3,
        "emotion=": 2507,
    },
    published=True,
    read=read_iemocap,
    speakers=tuple(f"Ses0{session}{who}" for session in range(1, 6) for who in GENDERS),
    options=("style",),
    label_maps={
        "four-class": {**FOUR_CLASS, "excited": "happy"},
        "four-class-without-excited": FOUR_CLASS,
        "emobox": {**FOUR_CLASS, "excited": "happy"},
    },
)
