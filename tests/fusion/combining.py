"""Predictions that are combined without a run."""

from __future__ import annotations

import pandas as pd

from features.recipe.fusion import FusionSpec
from fusion.align import align
from fusion.methods import fixed_method


def combine(frames: dict[str, pd.DataFrame], spec: FusionSpec) -> tuple[pd.DataFrame, int]:
    """Combine by a method that learns nothing; the rows, and how many were dropped."""
    aligned = align(frames, spec.missing)
    method = fixed_method(spec, bool(aligned.labels))
    assert method is not None
    return aligned.predicted(method(aligned.stack)), aligned.n_dropped
