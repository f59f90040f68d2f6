"""Made-up runs: recipes and finished run folders without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluate.report import sheets
from evaluate.report.writers.terminal import to_terminal
from evaluate.runs import record as runs
from evaluate.runs.folders import INNER, PREDICTIONS, fusion_folder, run_folder
from evaluate.runs.freshness import fusion_settings, head_settings
from evaluate.runs.predictions import KEY, write_predictions
from evaluate.scores.records import Statistics
from evaluate.scores.score import Scored
from features.recipe.load import load_recipe
from features.recipe.member import Member
from features.recipe.model import Recipe

TARGETS = ("Calmness", "Sadness", "Anger")
UNLUCKY = '<script>alert(1)</script>, "quoted"'
LABELS = ("anger", UNLUCKY, "sadness")


def recipe(folder: Path, task: str = "regression", more: str = "", corpora: str = "mine") -> Recipe:
    """A recipe over a corpus of the user's own with the models `one`, `two` and their mean."""
    classification = task == "classification"
    wanted = 'target = "emotion"' if classification else f"targets = {list(TARGETS)}"
    head = ("linear-svc", "uar") if classification else ("linear-svr", "nmse")
    tables = "".join(f'[corpora.{name}]\nreader = "manifest"\n' for name in corpora.split())
    path = folder / "study.toml"
    path.write_text(
        f"""
        models = ["one", "two"]
        {wanted}
        {tables}
        [split]
        outer = "leave-one-speaker-out"
        [head]
        kind = "{head[0]}"
        select = "{head[1]}"
        [fusion.mean]
        method = "mean"
        {more}
        """,
        encoding="utf-8",
    )
    return load_recipe(path)


def regression(
    n: int = 60,
    seed: int = 0,
    noise: float = 0.3,
    partitions: Sequence[str] = ("devel", "test"),
    speakers: int = 6,
) -> pd.DataFrame:
    """Predictions with ties and, in Calmness, a masked truth in each partition."""
    rng = np.random.default_rng(seed)
    partition = np.repeat(partitions, n // len(partitions))
    columns: dict[str, Any] = {
        "corpus": "mine",
        "utterance": [f"u{i:03}" for i in range(n)],
        "partition": partition,
        "fold": "",
        "speaker": [f"{i % speakers:02}" for i in range(n)],
    }
    for target in TARGETS:
        truth = rng.integers(0, 6, n) / 5
        columns[f"{target}_pred"] = truth + noise * rng.normal(size=n)
        if target == "Calmness":
            truth[:: n // 2] = np.nan
        columns[f"{target}_true"] = truth
    frame = pd.DataFrame(columns)
    return frame[[*KEY, *(f"{t}_{side}" for t in TARGETS for side in ("true", "pred"))]]


def classification(
    n: int = 60, seed: int = 0, right: float = 0.7, labels: Sequence[str] = LABELS
) -> pd.DataFrame:
    """Cross-validated predictions, one fold a speaker."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(labels), n)
    scores = rng.random((n, len(labels)))
    scores[np.arange(n), truth] += rng.random(n) < right
    speaker = [f"{i % 5:02}" for i in range(n)]
    names = np.array(labels, dtype=object)
    return pd.DataFrame(
        {
            "corpus": "mine",
            "utterance": [f"u{i:03}" for i in range(n)],
            "partition": "test",
            "fold": [f"mine/{one}" for one in speaker],
            "speaker": speaker,
            "true": names[truth],
            "pred": names[scores.argmax(axis=1)],
            **{f"score_{label}": scores[:, i] for i, label in enumerate(labels)},
        }
    )


def finish(
    recipe: Recipe,
    folder: Path,
    member: str,
    frame: pd.DataFrame,
    record: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run as a training leaves it: predictions, inner predictions, `run.json`."""
    if member in recipe.fusion:
        where = fusion_folder(folder, recipe.name, member)
        inputs = fusion_settings(recipe, member, folder)
    else:
        where = run_folder(folder, recipe.name, member)
        settings = head_settings(recipe, Member.parse(member))
        inputs = {**settings, "corpora": {name: {} for name in recipe.corpora}}
    write_predictions(where / PREDICTIONS, frame)
    write_predictions(where / INNER, frame)
    runs.write_run(where, {"inputs": inputs, "recipe": recipe.resolved(), **(record or {})})
    return where


def choice(score: float | None) -> dict[str, Any]:
    """A cell of the grid as `run.json` has it."""
    return {"cell": 1, "scaler": "standard", "params": {"C": 0.1}, "score": score}


def table(recipe: Recipe, scored: Sequence[Scored], statistics: Statistics | None = None) -> str:
    """The table of all runs on a wide terminal."""
    return to_terminal(sheets.overview(recipe, scored, {}, statistics), 200)
