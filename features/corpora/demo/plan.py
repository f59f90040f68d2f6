"""Who says what in the demo corpus, with which emotion shares, and how those shares sound.

A share moves several cues at once (`WEIGHTS`), each emotion in at least three of the four groups
pitch, energy, timing and spectrum. A speaker's voice and habits, an utterance's chance variation
and its background noise move the same cues. The figures were set once, by what phonetics says of
such emotions, before any head was fitted, and are not to be tuned on scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.corpora.compare import PARTITIONS as NAMES
from features.corpora.compare import TARGETS
from features.corpora.demo.texts import TEXTS

VERSION = 1
"""Raised with every change of the plan or the sound: a corpus of another version is made anew."""
PARTITIONS = (360, 120, 120)

# Cue -> its group, and the standard deviations over speakers and over one speaker's utterances.
CUES = {
    "pitch_st": ("pitch", 2.0, 0.8),  # semitones
    "pitch_range": ("pitch", 6.0, 6.0),  # espeak-ng's scale: 0 monotone, 50 usual
    "level_db": ("energy", 2.0, 2.0),
    "tremolo": ("energy", 0.03, 0.05),  # depth of the amplitude modulation
    "rate": ("timing", 0.06, 0.05),  # relative change of words a minute
    "pause_ms": ("timing", 30.0, 50.0),  # between the clauses
    "tilt_db": ("spectrum", 0.5, 0.4),  # an octave, around 1 kHz
    "breath_db": ("spectrum", 3.0, 2.5),  # breath noise relative to the voice
    "presence_db": ("spectrum", 1.5, 1.5),  # a broad peak at 2.8 kHz
}
MEANS = dict(zip(CUES, (0.0, 45.0, -31.0, 0.04, 0.0, 200.0, 0.0, -34.0, 0.0), strict=True))
# A share of 1.0 moves the cues, in the order above, by this much.
WEIGHTS = {
    "Anger": (2.0, 10, 6, 0.0, 0.06, -60, 1.2, 0, 4),
    "Boredom": (-1.5, -25, -2, 0.0, -0.16, 120, -0.6, 0, -2),
    "Calmness": (-1.0, -5, -3, 0.0, -0.08, 60, -0.8, 4, 0),
    "Concentration": (0.0, -15, 0, 0.0, -0.05, 260, 0.0, 0, -4),
    "Determination": (0.5, -5, 4, 0.0, -0.04, 0, 0.6, -4, 5),
    "Excitement": (4.0, 25, 4, 0.1, 0.18, -80, 0.8, 0, 2),
    "Interest": (1.5, 25, 1, 0.0, 0.06, 40, 0.0, 2, 3),
    "Sadness": (-1.5, -12, -4, 0.35, -0.10, 80, -1.0, 4, -1),
    "Tiredness": (-1.0, -10, -3, 0.2, -0.08, 100, -0.6, 10, -2),
}
# How often an emotion comes up; gamma draws below this shape are sparse, as raters' choices are.
PREVALENCE = (0.7, 0.8, 1.1, 1.0, 1.0, 0.9, 1.2, 0.7, 0.8)
SHAPE, SMALLEST = 0.6, 0.15
VARIANTS = {
    "male": tuple(f"m{n}" for n in range(1, 9)),
    "female": tuple(f"f{n}" for n in range(1, 6)),
}
PER_SPEAKER = 12


@dataclass(frozen=True)
class Speaker:
    """A voice and its habits; `cues` are its constant deviations, in the order of `CUES`."""

    name: str
    partition: str
    gender: str
    language: str
    voice: str
    tract: float  # factor on all frequencies: a shorter vocal tract is higher
    words_a_minute: float
    expression: float  # factor on what the shares do
    cues: np.ndarray


@dataclass(frozen=True)
class Utterance:
    """One line of the plan: who says what, the truth, and how it is to sound."""

    name: str
    seed: int
    speaker: Speaker
    clauses: tuple[str, str]
    shares: np.ndarray
    cues: dict[str, float]
    snr_db: float


def plan(sizes: Sequence[int] = PARTITIONS) -> list[Utterance]:
    """Draw the corpus, or the first utterances of each of its partitions.

    Parameters
    ----------
    sizes : sequence of int
        How many of train, devel and test. What is drawn does not depend on it.

    Returns
    -------
    list of Utterance
        In the order in which they are spoken. The partitions share no speaker.
    """
    utterances = []
    first = 0
    for name, full, size in zip(NAMES, PARTITIONS, sizes, strict=True):
        n_speakers = full // PER_SPEAKER
        speakers = [_speaker(first + n, name) for n in range(n_speakers)]
        utterances += [
            _utterance(first * PER_SPEAKER + n, speakers[n % n_speakers]) for n in range(size)
        ]
        first += n_speakers
    return utterances


def _speaker(number: int, partition: str) -> Speaker:
    rng = np.random.default_rng([VERSION, 1, number])
    gender = ("male", "female")[number % 2]
    language = tuple(TEXTS)[number % len(TEXTS)]
    return Speaker(
        name=f"{number + 1:02d}",
        partition=partition,
        gender=gender,
        language=language,
        voice=f"{language}+{rng.choice(VARIANTS[gender])}",
        tract=rng.uniform(0.94, 1.08),
        words_a_minute=rng.uniform(160, 195),
        expression=rng.uniform(0.6, 1.4),
        cues=rng.normal(0, [spread for _, spread, _ in CUES.values()]),
    )


def _utterance(number: int, speaker: Speaker) -> Utterance:
    rng = np.random.default_rng([VERSION, 2, number])
    drawn = rng.gamma(SHAPE, size=len(TARGETS)) * PREVALENCE
    shares = np.round(drawn / drawn.max(), 4)
    shares[shares < SMALLEST] = 0.0
    moved = shares @ np.array([WEIGHTS[target] for target in TARGETS])
    chance = rng.normal(0, [spread for *_, spread in CUES.values()])
    total = np.array(list(MEANS.values())) + speaker.cues + speaker.expression * moved + chance
    texts = TEXTS[speaker.language]
    return Utterance(
        name=f"{number + 1:04d}.wav",
        seed=number + 1,
        speaker=speaker,
        clauses=texts[rng.integers(len(texts))],
        shares=shares,
        cues=dict(zip(CUES, total.tolist(), strict=True)),
        snr_db=rng.uniform(12, 32),
    )
