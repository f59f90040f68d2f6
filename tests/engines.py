"""Both engines on the same stores: what they may differ in, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions
from features.common.folders import Folders
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from tests.models import synthetic

SPREAD = 1e-5
"""Largest difference of a prediction, in standard deviations of its column."""


def recipe_of(text: str, folder: Path, engine: str, tol: str = "tol = 1e-8") -> Recipe:
    """A shipped recipe with an engine and a tolerance set."""
    head, _, rest = text.partition("[head]\n")
    text = f'{head}[head]\nengine = "{engine}"\n{rest}'
    if "[head.fixed]\n" in text:
        text = text.replace("[head.fixed]\n", f"[head.fixed]\n{tol}\n")
    else:
        text += f"\n[head.fixed]\n{tol}\n"
    path = folder / f"{engine}.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def agree(text: str, model: str, stores: Path, folder: Path) -> pd.DataFrame:
    """Train by both engines: the same cells, search tables and predictions.

    Returns
    -------
    DataFrame
        The search table.
    """
    found = {}
    for engine in ("sklearn", "exact-path"):
        run = synthetic.train(
            recipe_of(text, folder, engine),
            model,
            folders=Folders(stores=stores, runs=folder / "runs"),
        )
        record = read_run(run)
        assert record is not None
        cells = {name: [c["cell"] for c in one] for name, one in record["chosen"].items()}
        tables = [read_predictions(run / f"{one}.csv") for one in ("predictions", "inner")]
        found[engine] = cells, pd.read_csv(run / "search.csv"), tables
    (theirs, table, tables), (ours, other, others) = found.values()
    assert ours == theirs
    pd.testing.assert_frame_equal(other, table, rtol=1e-6, atol=1e-9)
    for a, b in zip(tables, others, strict=True):
        values = [one for one in a if one.startswith("score_") or one.endswith("_pred")]
        rest = [one for one in a if one not in values]
        pd.testing.assert_frame_equal(a[rest], b[rest])
        far = (a[values] - b[values]).abs().max() / a[values].std()
        assert np.isfinite(far).all()
        assert (far < SPREAD).all(), far.to_dict()
    return table
