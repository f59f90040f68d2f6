"""Hume-Prosody as packaged for the ComParE 2023 Emotion Share challenge."""

from __future__ import annotations

from features.corpora.base import Corpus
from features.corpora.compare import LAYOUT, TARGETS, counts, read_compare

HUME_PROSODY = Corpus(
    key="hume-prosody",
    title="Hume-Prosody, ComParE 2023 Emotion Share",
    labels={},
    targets=TARGETS,
    shares=True,
    languages=("en", "es"),
    licence="on request from the challenge's organisers, research use",
    homepage="http://www.compare.openaudio.eu/",
    citation="Schuller et al. (2023), The ACM Multimedia 2023 Computational Paralinguistics "
    "Challenge: Emotion Share & Requests, ACM Multimedia",
    source="layout as the challenge's published code reads it; counts as in the challenge's paper. "
    "The label files name no speaker",
    tree="unverified",
    layout=LAYOUT,
    expected=counts([30133, 12241, 9507]),
    published=True,
    read=read_compare,
)
