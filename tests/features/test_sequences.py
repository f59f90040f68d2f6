"""Frames and tables to padded batches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.common.errors import StoreError
from features.matrix import load_matrix
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from features.sequences import POOL_BATCHES, load_frames, load_sequences, plan_batches, widen
from features.stores.key import frames_path, full_key, parts_path, store_path
from features.stores.write import write_frames
from tests.features.test_matrix import hash_of, make_store, make_table, write_recipe


def make_frames(
    stores: Path,
    corpus: str,
    frames: Mapping[str, np.ndarray],
    dtype: str = "float16",
    n_segments: int | None = None,
) -> None:
    """Frames or segments: utterance -> shape (n_layers, n_frames, width); layers 1 and 2 of 2."""
    index = pd.DataFrame(
        {"utterance": list(frames), "audio_hash": [f"{hash_of(i):032x}" for i in frames],
         "size": 1, "mtime_ns": 1}
    )  # fmt: skip
    whole = np.concatenate(list(frames.values()), axis=1).astype(dtype)
    kind = "frames" if n_segments is None else "segments"
    key = full_key(
        {"model": "toy", "source": "x", "layers": [1, 2], "n_layers": 2, "precision": "float32",
         "kind": kind, "dtype": dtype, **({"segments": n_segments} if n_segments else {})}
    )  # fmt: skip
    write_frames(
        frames_path(stores, corpus, "toy", kind), key, index,
        np.append(0, np.cumsum([one.shape[1] for one in frames.values()])), [1, 2],
        lambda i, start, stop: whole[i, start:stop], width=whole.shape[2],
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tables of two corpora and frames of all their utterances, stored in another order."""
    found = {}
    for corpus in "ab":
        ids = [f"{corpus}{i}" for i in range(4)]
        make_table(tmp_path / "stores", corpus, ids, ["low", "high", "", "odd"])
        data = rng.standard_normal((3, 4, 5)).astype(np.float32)
        make_store(tmp_path / "stores", corpus, data, ids)
        frames = {
            name: rng.standard_normal((2, rng.integers(1, 90), 5)).astype(np.float16)
            for name in [ids[i] for i in (2, 0, 3, 1)]
        }
        make_frames(tmp_path / "stores", corpus, frames)
        found.update(frames)
    return found


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(write_recipe(tmp_path))


def test_rows_are_those_of_the_matrix(tmp_path: Path, made, recipe: Recipe) -> None:
    sequences = load_sequences(recipe, tmp_path / "stores", "toy", 1)
    matrix = load_matrix(recipe, tmp_path / "stores", "toy", 1)
    pd.testing.assert_frame_equal(sequences.rows, matrix.rows)
    assert sequences.y.tolist() == matrix.y.tolist()
    assert sequences.groups.tolist() == matrix.groups.tolist()
    assert (sequences.labels, sequences.title) == (matrix.labels, matrix.title)
    assert (len(sequences), sequences.n_columns, sequences.layer) == (8, 5, 1)
    for row, name in enumerate(sequences.rows["utterance"]):
        found = sequences.frames(row)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, made[name][0].astype(np.float32))
    last = load_sequences(recipe, tmp_path / "stores", "toy")
    np.testing.assert_array_equal(last.frames(7), made["b3"][1].astype(np.float32))


def test_batches_are_padded_with_zeros_and_say_what_is_padding(
    tmp_path: Path, made, recipe: Recipe
) -> None:
    sequences = load_sequences(recipe, tmp_path / "stores", "toy", 2)
    seen = []
    for batch in sequences.batches(3, seed=1, epoch=2):
        assert batch.X.dtype == np.float32
        assert batch.X.shape == (len(batch.rows), batch.lengths.max(), 5)
        assert batch.mask.sum(axis=1).tolist() == batch.lengths.tolist()
        assert not batch.X[~batch.mask].any()
        for i, row in enumerate(batch.rows):
            expected = made[sequences.rows["utterance"][row]][1]
            np.testing.assert_array_equal(batch.X[i, : batch.lengths[i]], expected)
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(8))
    some = [row for batch in sequences.batches(2, [6, 1, 3], seed=0) for row in batch.rows]
    assert sorted(some) == [1, 3, 6]


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 1_000, 5_000)

    def plan(seed: int | None, epoch: int = 0) -> list[list[int]]:
        return [batch.tolist() for batch in plan_batches(lengths, 8, seed=seed, epoch=epoch)]

    assert plan(3, 1) == plan(3, 1)
    assert len({str(plan(*which)) for which in ((3, 1), (3, 2), (4, 1))}) == 3
    for batches in (plan(3, 1), plan(None)):
        assert sorted(row for batch in batches for row in batch) == list(range(5_000))
        assert {len(batch) for batch in batches} == {8}
    in_order = lengths[[row for batch in plan(None) for row in batch]]
    assert (np.diff(in_order) <= 0).all()
    # Of a pool's 512 utterances a batch has 8 neighbours in length.
    assert 2 * 8 * POOL_BATCHES < 5_000
    padded = sum(lengths[batch].max() * len(batch) for batch in plan(3, 1))
    assert padded / lengths.sum() < 1.05
    with pytest.raises(ValueError, match="size 0"):
        plan_batches(lengths, 0)


def test_every_finite_half_is_widened_to_its_value() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 64)
    for stored in (halves, halves.astype(np.float32)):
        found = np.full(halves.shape, np.nan, np.float32)
        widen(stored, found)
        expected = halves.astype(np.float32)
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_rows_without_frames_are_an_error_or_left_out(tmp_path: Path, made, recipe: Recipe) -> None:
    frames = {name: values for name, values in made.items() if name.startswith("b")}
    del frames["b2"]
    make_frames(tmp_path / "stores", "b", frames)
    with pytest.raises(StoreError, match=r"b.frames.toy.h5: lacks 1 .*\(b2\).*ALLOW_FAILURES=1"):
        load_sequences(recipe, tmp_path / "stores", "toy")
    sequences = load_sequences(recipe, tmp_path / "stores", "toy", allow_failures=1)
    assert (sequences.lacking, sequences.n_lacking, len(sequences)) == (["b2"], 1, 7)
    alone = load_frames(tmp_path / "stores", "b", "toy", 1)
    assert (alone.lacking, alone.rows["utterance"].tolist()) == (["b2"], ["b0", "b1", "b3"])
    np.testing.assert_array_equal(alone.padded([2]).X[0], made["b3"][0])


def test_frames_of_other_audio_are_an_error(tmp_path: Path, made, recipe: Recipe) -> None:
    ids = ["b0", "b1", "b2", "b4"]
    make_table(tmp_path / "stores", "b", ids, ["low"] * 4)
    table = (tmp_path / "stores/b/utterances.csv").read_text()
    old, new = f"{hash_of('b1'):032x}", "f" * 32
    (tmp_path / "stores/b/utterances.csv").write_text(table.replace(old, new))
    with pytest.raises(StoreError, match=r"the audio of 1 utterance has changed since \(b1\)"):
        load_sequences(recipe, tmp_path / "stores", "toy")


def test_what_is_damaged_unfinished_or_not_there_is_an_error(
    tmp_path: Path, made, recipe: Recipe
) -> None:
    stores = tmp_path / "stores"
    with pytest.raises(StoreError, match=r"layer 0 needs layer 0, stored are 1-2.*\[extract\] fra"):
        load_sequences(recipe, stores, "toy", 0)
    with pytest.raises(StoreError, match="frames are of a single model"):
        load_sequences(recipe, stores, "toy+toy2")
    path = frames_path(stores, "a", "toy")
    raw = bytearray(path.read_bytes())
    raw[raw.index(made["a1"][1].tobytes())] ^= 1
    path.write_bytes(raw)
    load_sequences(recipe, stores, "toy", 1)
    with pytest.raises(StoreError, match=r"damaged: /frames, layer 2, .* VERIFY=1"):
        load_sequences(recipe, stores, "toy", 2)
    load_sequences(recipe, stores, "toy", 2, check=False)
    parts = parts_path(store_path(stores, "a", "toy"))
    parts.mkdir()
    (parts / "plan.json").touch()
    with pytest.raises(StoreError, match="is not finished; run make extract MODEL=toy again"):
        load_sequences(recipe, stores, "toy")
    parts.joinpath("plan.json").unlink()
    path.unlink()
    with pytest.raises(StoreError, match=r"no frames of toy: set \[extract\] frames"):
        load_sequences(recipe, stores, "toy")


def test_segments_are_read_as_frames_are(tmp_path: Path, made, recipe: Recipe) -> None:
    stores = tmp_path / "stores"
    few = {name: values[:, :5] for name, values in made.items()}
    for corpus in "ab":
        own = {name: values for name, values in few.items() if name.startswith(corpus)}
        make_frames(stores, corpus, own, n_segments=5)
    sequences = load_sequences(recipe, stores, "toy", 1, source="segments")
    assert sequences.lengths.max() == 5
    assert {found["key"]["segments"] for found in sequences.identity.values()} == {5}
    for row, name in enumerate(sequences.rows["utterance"]):
        np.testing.assert_array_equal(sequences.frames(row), few[name][0].astype(np.float32))
    alone = load_frames(stores, "b", "toy", source="segments")
    np.testing.assert_array_equal(alone.frames(3), few["b3"][1].astype(np.float32))
    make_frames(stores, "a", {n: v for n, v in few.items() if n[0] == "a"}, n_segments=6)
    with pytest.raises(StoreError, match=r"cut into other parts: \{'a': 6, 'b': 5\}"):
        load_sequences(recipe, stores, "toy", source="segments")
    frames_path(stores, "a", "toy").replace(frames_path(stores, "a", "toy", "segments"))
    with pytest.raises(StoreError, match=r"segments.toy.h5: holds frames, no segments"):
        load_sequences(recipe, stores, "toy", source="segments")
    frames_path(stores, "a", "toy", "segments").unlink()
    with pytest.raises(StoreError, match=r"no segments of toy: set \[extract\] segments"):
        load_sequences(recipe, stores, "toy", source="segments")
    with pytest.raises(ValueError, match="source 'segment': expected one of frames, segments"):
        load_sequences(recipe, stores, "toy", source="segment")


def test_frames_are_read_without_torch() -> None:
    code = "import sys, features.sequences; print({'torch', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
