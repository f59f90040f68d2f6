"""Two stores side by side."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from features.stores.guard import index_bytes
from features.stores.key import store_path
from tests.features.test_matrix import make_store


@pytest.fixture
def data(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((3, 80, 5)).astype(np.float32)


IDS = [f"u{i:02}" for i in range(80)]


def pair(tmp_path: Path) -> list[str]:
    return [str(store_path(tmp_path, corpus, "toy")) for corpus in "ab"]


def test_equal_stores(tmp_path: Path, data: np.ndarray, features) -> None:
    make_store(tmp_path, "a", data, IDS)
    make_store(tmp_path, "b", data, IDS)
    assert features("diff", *pair(tmp_path)) == (0, "equal: 80 rows, 3 layers, bit for bit\n")


def test_the_largest_error_is_named_with_utterance_and_layer(
    tmp_path: Path, data: np.ndarray, features
) -> None:
    other = data.copy()
    other[1, 7] = data[1, 7] * np.float32(1.25)  # by hand: an error of a quarter
    other[2, 9] = data[2, 9] * np.float32(1.5)
    other[2, 3, 0] = np.nextafter(data[2, 3, 0], np.float32(9))
    make_store(tmp_path, "a", data, IDS)
    order = list(reversed(range(80)))  # rows are found by id
    make_store(tmp_path, "b", other[:, order], [IDS[i] for i in order])
    code, text = features("diff", *pair(tmp_path))
    assert code == 1
    assert text.splitlines() == [
        "mean, layer 1: 79 of 80 rows are equal, largest relative error 2.50e-01 (u07)",
        "mean, layer 2: 78 of 80 rows are equal, largest relative error 5.00e-01 (u09)",
        "largest relative error of all: 5.00e-01 (u09, mean, layer 2)",
    ]


def test_rows_of_one_store_and_of_other_audio(tmp_path: Path, data: np.ndarray, features) -> None:
    make_store(tmp_path, "a", data, IDS)
    renamed = ["aa", "ab", *IDS[2:]]
    make_store(tmp_path, "b", data, renamed)
    code, text = features("diff", *pair(tmp_path))
    a, b = pair(tmp_path)
    assert code == 1
    assert text.splitlines() == [
        f"2 rows only in {a}: u00, u01", f"2 rows only in {b}: aa, ab",
    ]  # fmt: skip
    make_store(tmp_path, "b", data, IDS)
    with h5py.File(b, "r+") as file:
        file["audio_hash"][4] = 0
        index = {n: file[n][:] for n in ("size", "mtime_ns")}
        hashes = [bytes(row).hex() for row in file["audio_hash"][:]]
        frame = pd.DataFrame({"utterance": IDS, "audio_hash": hashes, **index})
        file["crc/index"][()] = zlib.crc32(index_bytes(frame))
    assert features("diff", a, b) == (1, "1 row of other audio: u04\n")


def test_keys_are_compared_member_by_member(tmp_path: Path, data: np.ndarray, features) -> None:
    make_store(tmp_path, "a", data, IDS)
    make_store(tmp_path, "b", data[:2], IDS, names={"mean": list("vwxyz")})
    code, text = features("diff", *pair(tmp_path))
    assert code == 1
    assert text.splitlines() == [
        "key, layers: [0, 1, 2] and [0, 1]", "key, n_layers: 2 and 1",
        "names of the columns of mean differ",
    ]  # fmt: skip
    make_store(tmp_path, "b", data[..., :4], IDS)
    assert "mean: 5 and 4 columns; not compared" in features("diff", *pair(tmp_path))[1]


def test_a_row_of_zeros_beside_another_is_infinitely_far(
    tmp_path: Path, data: np.ndarray, features
) -> None:
    data[0, 0] = 0
    other = data.copy()
    other[0, 0] = 1
    make_store(tmp_path, "a", data, IDS)
    make_store(tmp_path, "b", other, IDS)
    assert "largest relative error inf (u00)" in features("diff", *pair(tmp_path))[1]


def test_trouble_is_2(tmp_path: Path, data: np.ndarray, features) -> None:
    make_store(tmp_path, "a", data, IDS)
    code, text = features("diff", *pair(tmp_path))
    assert (code, "no such store; nor any other in that folder" in text) == (2, True)
    a, b = pair(tmp_path)
    code, text = features("diff", a, a.replace("toy.h5", "toyy.h5"))
    assert (code, "no such store; there are toy; did you mean 'toy'?" in text) == (2, True)
    readme = tmp_path / "README.md"
    readme.write_text("# Toys\n")
    code, text = features("diff", a, str(readme))
    assert (code, text) == (2, f"python -m features diff: {readme}: is no store (no HDF5 file)\n")


def test_layers_and_statistics_are_counted_apart(extracted: Path, tmp_path: Path, features) -> None:
    path = str(tmp_path / "stores/tones/mfcc.h5")
    text = "equal: 12 rows, 1 layer, 2 statistics, bit for bit\n"
    assert features("diff", path, path) == (0, text)
