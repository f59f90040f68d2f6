"""Small trees of corpora under their real names: every class, speaker kind and sentence occurs.

Files are empty, or hold a short tone whose pitch tells the class and whose noise the speaker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import soundfile as sf

EVALUATION = "[1.0000 - 2.0000]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]"

Files = Iterator[tuple[str, str]]
"""(path without its suffix, class)."""


def ravdess() -> Files:
    for actor, emotion, text in product(range(1, 9), range(1, 9), (1, 2)):
        yield (
            f"Actor_{actor:02}/03-01-{emotion:02}-01-{text:02}-01-{actor:02}",
            str(emotion),
        )


def tess() -> Files:
    emotions = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    words = ("back", "bar", "base", "bath", "bean")
    for speaker, emotion, word in product(("OAF", "YAF"), emotions, words):
        yield f"{speaker}_{emotion}/{speaker}_{word}_{emotion}", emotion


def savee() -> Files:
    codes = ("a", "d", "f", "h", "n", "sa", "su")
    for speaker, code, number in product(("DC", "JE", "JK", "KL"), codes, range(1, 4)):
        yield f"AudioData/{speaker}/{code}{number:02}", code


def emovo() -> Files:
    speakers = ("f1", "f2", "f3", "m1", "m2", "m3")
    emotions = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    for speaker, emotion, sentence in product(speakers, emotions, ("b1", "l2", "n3")):
        yield f"EMOVO/{speaker}/{emotion}-{speaker}-{sentence}", emotion


def ema() -> Files:
    emotions = ("angry", "happy", "neutral", "sad")
    for speaker, emotion, number in product(("ab", "jn", "ls"), emotions, range(1, 6)):
        yield f"{speaker}/Wavfiles/4emo_{speaker}_{emotion}_{number:02}_001", emotion


def emodb() -> Files:
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    for speaker, text, letter in product(speakers, ("a01", "a02", "a04", "b01", "b02"), "WLEAFNT"):
        yield f"wav/{speaker}{text}{letter}a", letter


def enterface() -> Files:
    emotions = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    for subject, emotion, sentence in product(range(1, 4), emotions, range(1, 4)):
        folder = f"subject {subject}/{emotion}/sentence {sentence}"
        yield f"{folder}/s{subject}_{emotion[:2]}_{sentence}", emotion


def jtes() -> Files:
    speakers = [f"{letter}{10 * group + 1:02}" for letter, group in product("fm", range(5))]
    for speaker, emotion, number in product(speakers, ("ang", "joy", "neu", "sad"), range(1, 6)):
        yield f"wav/{speaker}/{emotion}/{speaker}_{emotion}_{number:02}", emotion


def crema_d() -> Files:
    emotions = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    for actor, sentence, emotion in product(range(1001, 1009), ("TIE", "IOM"), emotions):
        yield f"AudioWAV/{actor}_{sentence}_{emotion}_XX", emotion


def iemocap() -> Files:
    scenes = ("impro01", "impro02", "script01_1", "script01_2", "script02_2")
    for session, scene in product(range(1, 6), scenes):
        dialogue = f"Ses0{session}F_{scene}"
        for letter, (number, code) in product(
            "FM", enumerate(("ang", "hap", "exc", "neu", "sad", "fru", "xxx"))
        ):
            turn = f"{dialogue}_{letter}{number:03}"
            yield f"Session{session}/sentences/wav/{dialogue}/{turn}", code


def turev_db() -> Files:
    tags = {"Angry": "kz", "Calm": "sk", "Happy": "mt", "Sad": "hl"}
    speakers = ("1157", "1234", "1358", "1984", "6783", "7895")
    for speaker, emotion, word in product(speakers, tags, ("acik", "algi", "beste", "cam", "dev")):
        yield f"Sound Source/{emotion}/{speaker}_{tags[emotion]}_{word}", emotion


TREES: dict[str, Callable[[], Files]] = {
    "ravdess": ravdess, "tess": tess, "savee": savee, "emovo": emovo, "ema": ema, "emodb": emodb,
    "enterface": enterface, "jtes": jtes, "crema-d": crema_d, "iemocap": iemocap,
    "turev-db": turev_db,
}  # fmt: skip


def plant(data: Path, corpus: str, rng: np.random.Generator | None = None) -> int:
    """Make the tree of a corpus at `data/<corpus>`; with `rng` its files sound. Counts them."""
    root = data / corpus
    suffix = ".avi" if corpus == "enterface" and rng is None else ".wav"
    files = [(root / f"{name}{suffix}", label) for name, label in TREES[corpus]()]
    labels = sorted({label for _, label in files})
    for path, label in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        if rng is None:
            path.touch()
            continue
        phase = 2 * np.pi * (200 + 150 * labels.index(label)) / 16_000 * np.arange(2400)
        samples = 0.3 * np.sin(phase) + 0.05 * rng.standard_normal(2400)
        sf.write(path, samples, 16_000, subtype="PCM_16")
    if corpus == "iemocap":
        write_evaluations(root, ((path.stem, label) for path, label in files))
    return len(files)


def write_evaluations(root: Path, turns: Iterator[tuple[str, str]]) -> None:
    """Write IEMOCAP's evaluation files of these turns and codes."""
    lines = defaultdict(list)
    for turn, code in turns:
        lines[turn.rpartition("_")[0]].append(EVALUATION.format(turn=turn, code=code))
    for dialogue, found in lines.items():
        path = root / f"Session{dialogue[4]}/dialog/EmoEvaluation/{dialogue}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(found) + "\n", encoding="latin-1")
