"""Rows that come fold by fold, in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import models.spool
from evaluate.runs.predictions import read_predictions, write_predictions
from features.common.errors import RunError
from models.spool import Spool


def fold(name: str, n: int) -> pd.DataFrame:
    values = np.random.default_rng(n).normal(size=(n, 2))
    return pd.DataFrame(
        {"corpus": "made", "utterance": [f"é, {i}" for i in range(n)], "partition": "inner",
         "fold": name, "speaker": 'a "b"', "x_true": values[:, 0], "x_pred": values[:, 1]}
    )  # fmt: skip


@pytest.mark.parametrize("room", [2**26, 500, 0])
def test_the_file_is_that_of_all_rows_sorted_by_fold(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.spool, "ROOM", room)
    frames = {str(i): fold(str(i), 3 + i) for i in range(12)}  # "10" stands before "2"
    whole = pd.concat(frames.values()).sort_values("fold", kind="stable")
    write_predictions(tmp_path / "whole.csv", whole)
    path = tmp_path / "runs" / "inner.csv"
    with Spool(path) as spool:
        for name, frame in frames.items():
            spool.add(name, frame)
        assert path.parent.exists() == (room < 2**26)
        spool.write()
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert [one.name for one in path.parent.iterdir()] == ["inner.csv"]
    assert read_predictions(path)["fold"].unique().tolist() == sorted(frames)


def test_what_would_be_refused_on_reading_is_refused(tmp_path: Path) -> None:
    frame = fold("0", 3)
    frame.loc[1, "x_pred"] = np.inf
    with Spool(tmp_path / "inner.csv") as spool, pytest.raises(RunError, match="not finite"):
        spool.add("0", frame)
