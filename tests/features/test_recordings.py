"""Which rows share audio, beside every pair compared one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from features.splits.recordings import Recordings
from tests.models import synthetic


def made(*rows: dict[str, object]) -> pd.DataFrame:
    """Rows that share nothing but what is said."""
    frame = synthetic.rows(len(rows))
    frame = frame.assign(
        path=[f"{i}.wav" for i in range(len(rows))],
        **{
            name: [f"{name}{i}" for i in range(len(rows))]
            for name in ("audio_hash", "file_hash", "samples_hash", "recording_hash")
        },
    )
    for i, row in enumerate(rows):
        for name, value in row.items():
            frame.loc[i, name] = value
    return frame


SEGMENT = {"start": 1.0, "end": 2.0}


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        ({}, {}, False),
        (SEGMENT, {"start": 1.0, "end": 1.99}, True),
        (SEGMENT, {"start": 1.998, "end": 2.5}, True),
        (SEGMENT, {"start": 2.0, "end": 2.5}, False),
        (SEGMENT, {"start": 0.0, "end": 1.0}, False),
        (SEGMENT, {"start": 0.1 + 0.2 + 1.7, "end": 3.0}, False),
        (SEGMENT, {}, True),
        (SEGMENT, {"start": 1.5}, True),
        (SEGMENT, {"start": 2.5}, False),
        (SEGMENT, {"end": 0.5}, False),
        (SEGMENT, {"end": 1.5}, True),
        ({}, {}, True),
    ],
)
@pytest.mark.parametrize("by", ["path", "file_hash", "recording_hash"])
def test_intervals_of_one_recording(
    one: dict[str, object], other: dict[str, object], shares: bool, by: str
) -> None:
    same = {by: "same"} if shares or one or other else {}
    found = Recordings(made({**one, **same}, {**other, **same}, {}))
    here = np.array([0]), np.array([1, 2])
    assert found.shared(*here).tolist() == [shares, False]
    assert found.shared(here[1], here[0]).tolist() == [shares]


def test_paths_are_of_their_corpus() -> None:
    frame = made({"path": "a.wav"}, {"path": "a.wav", "corpus": "other"})
    assert not Recordings(frame).shared(np.array([0]), np.array([1])).any()


def test_the_same_samples_in_another_container() -> None:
    frame = made({"samples_hash": "s"}, {"samples_hash": "s", "corpus": "other"}, {})
    assert Recordings(frame).shared(np.array([0]), np.array([1, 2])).tolist() == [True, False]


def test_silence_is_no_recording_but_its_file_is() -> None:
    silent = {"samples_hash": "silent", "recording_hash": "silent", "file_hash": "f"}
    silent["audio_hash"] = "f"
    frame = made(silent, silent, {**silent, "path": "p"}, {**silent, "path": "p"})
    found = Recordings(frame)
    assert not found.shared(np.array([0]), np.array([1, 2, 3])).any()
    assert found.shared(np.array([2]), np.array([3])).all()


def test_a_copy_joins_files_that_share_nothing_else() -> None:
    # wav and flac hold the same samples, copy has the bytes of the flac: one recording.
    wav, flac, copy = {"recording_hash": "r"}, {"recording_hash": "r"}, {"recording_hash": ""}
    flac, copy = {**flac, "file_hash": "f"}, {**copy, "file_hash": "f"}
    frame = made({**wav, **SEGMENT}, {**flac, "end": 0.5}, {**copy, "start": 1.9})
    assert Recordings(frame).shared(np.array([0]), np.array([1, 2])).tolist() == [False, True]


@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    starts = np.where(rng.random(n) < 0.2, math.nan, rng.integers(0, 40, n) / 4)
    lengths = rng.integers(1, 12, n) / 4
    ends = np.where(rng.random(n) < 0.2, math.nan, np.nan_to_num(starts) + lengths)
    files, samples = rng.integers(0, 25, n), rng.integers(0, 300, n)
    frame = made(*({} for _ in range(n))).assign(
        start=starts, end=ends,
        file_hash=[str(one) for one in files], recording_hash=[str(one) for one in files],
        samples_hash=[str(one) for one in samples],
    )  # fmt: skip

    def shares(i: int, j: int) -> bool:
        late = max(np.nan_to_num(starts[[i, j]]))
        early = min(math.inf if math.isnan(one) else one for one in ends[[i, j]])
        return bool(i == j or samples[i] == samples[j] or (files[i] == files[j] and late < early))

    found = Recordings(frame)
    for _ in range(10):
        side = rng.integers(0, 3, n)
        fitted, held_out = np.flatnonzero(side == 0), np.flatnonzero(side > 0)
        wanted = [any(shares(i, j) for i in fitted) for j in held_out]
        assert found.shared(fitted, held_out).tolist() == wanted
    pairs = itertools.combinations(range(n), 2)
    assert sum(shares(*pair) for pair in pairs) > 20
