"""Every kind of result file, by its name."""

from __future__ import annotations

from typing import Any

from evaluate.runs.folders import SCORES, SUBSETS
from evaluate.scores import pairs, protocols, score, seeds, speaker_gains, spread, subsets
from evaluate.scores.stored import FileKind

KINDS: dict[str, FileKind[Any]] = {
    SCORES: score.FILE,
    "statistics.json": pairs.FILE,
    "gaps.json": protocols.GAPS_FILE,
    "gains.json": speaker_gains.FILE,
    "seeds.json": seeds.FILE,
    "spread.json": spread.FILE,
    SUBSETS: subsets.FILE,
}
