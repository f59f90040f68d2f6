"""Files of version 0, as 0.1 wrote them, to the content of version 1: what moved, and marks.

No number is touched, and nothing is written: a file of version 0 stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evaluate.scores.records import OPTIMISTIC, RunScores, marked

Content = dict[str, Any]


def same(content: Content) -> Content:
    """Nothing has moved."""
    return content


def run_scores(content: Content) -> Content:
    """The number of a target's rows stood among its metrics."""
    for partition in content["partitions"].values():
        for part in (partition, *partition["corpora"].values()):
            part["per_target"] = {
                target: {"n": found["n"], "metrics": _without(found, "n")}
                for target, found in part.get("per_target", {}).items()
            }
    return content


def with_marks(scores: RunScores) -> RunScores:
    """The marks of the whole run, and of partitions that settings were chosen on."""
    own = {
        name: [OPTIMISTIC] if part.optimistic or scores.optimistic else []
        for name, part in scores.partitions.items()
    }
    run = [OPTIMISTIC] if scores.optimistic else []
    return replace(
        scores,
        partitions={name: marked(of, own[name]) for name, of in scores.partitions.items()},
        groups={name: marked(of, own.get(name, run)) for name, of in scores.groups.items()},
        transfer=marked(scores.transfer, run),
        gaps=marked(scores.gaps, run),
    )


def _without(found: Content, *names: str) -> Content:
    return {key: value for key, value in found.items() if key not in names}
