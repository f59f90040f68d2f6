"""The store: round trip, keys, damage, kills, locks, and files of every released version."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from features.common.errors import StoreError
from features.stores.guard import BLOCK, checksums
from features.stores.key import (
    audio_hash,
    file_digest,
    full_key,
    key_difference,
)
from features.stores.read import Store
from features.stores.write import write_store

KEY = full_key(
    {
        "model": "toy",
        "source": "org/toy@" + "0" * 40,
        "layers": [0, 1, 2],
        "n_layers": 2,
        "statistics": ["mean"],
        "precision": "float32",
        "max_seconds": 60.0,
    }
)


def index_of(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "utterance": [f"ü{i:04}" for i in range(n)],
            "audio_hash": [f"{i:032x}" for i in range(n)],
            "size": np.arange(n) + 100,
            "mtime_ns": np.arange(n) + 10**18,
        }
    )


def write(path: Path, data: np.ndarray, key: dict = KEY, **more: object) -> None:
    write_store(
        path, key, index_of(data.shape[1]), range(len(data)),
        lambda _, i, start, stop: data[i, start:stop],
        default=["mean"], columns={"mean": data.shape[2]}, **more,
    )  # fmt: skip


@pytest.fixture
def data(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((3, 150, 7)).astype(np.float32)


@pytest.mark.parametrize("n", [0, 1, BLOCK, 5 * BLOCK, 5 * BLOCK + 1])
def test_rows_are_compared_in_runs_of_any_length(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    data = rng.standard_normal((3, n, 7)).astype(np.float32)
    write(tmp_path / "toy.h5", data)
    for run_bytes in (1, 2 * BLOCK * 7 * 4):
        monkeypatch.setattr("features.stores.blocks.RUN_BYTES", run_bytes)
        with Store(tmp_path / "toy.h5") as store:
            for position in range(3):
                found = store.read_position(position, "mean", check=True)
                np.testing.assert_array_equal(found, data[position])
            assert store.verify() == []


def test_a_file_cut_while_it_is_open_is_an_error(tmp_path: Path, data: np.ndarray) -> None:
    write(tmp_path / "toy.h5", data)
    with Store(tmp_path / "toy.h5") as store:
        start = (tmp_path / "toy.h5").read_bytes().index(data[2].tobytes())
        os.truncate(tmp_path / "toy.h5", start + 100)
        with pytest.raises(StoreError, match=r"layer 2: cannot be read \(the file ends at byte"):
            store.read(2, "mean", check=True)


def test_round_trip(tmp_path: Path, data: np.ndarray) -> None:
    path = tmp_path / "c" / "toy.h5"
    write(path, data, names={"mean": [f"f{i}" for i in range(7)]}, failed=[("x", "00", "why")])
    with Store(path) as store:
        for layer in range(3):
            np.testing.assert_array_equal(store.read(layer, "mean", check=True), data[layer])
        np.testing.assert_array_equal(store.read("last", "mean"), data[2])
        np.testing.assert_allclose(
            store.read("mean", "mean"), (data[1].astype(float) + data[2]) / 2, rtol=1e-6
        )
        pd.testing.assert_frame_equal(store.index, index_of(150), check_dtype=False)
        assert store.key == KEY
        assert store.default == ["mean"]
        assert store.names == {"mean": [f"f{i}" for i in range(7)]}
        assert store.failed == [["x", "00", "why"]]
        assert store.verify() == []
    assert [one.name for one in path.parent.iterdir()] == ["toy.h5"]  # no temporary file left


def test_layout_is_contiguous_so_that_a_layer_is_one_read(tmp_path: Path, data: np.ndarray) -> None:
    write(tmp_path / "toy.h5", data)
    with h5py.File(tmp_path / "toy.h5", "r") as file:
        assert file["mean"].chunks is None
        assert file["mean"].shape == (3, 150, 7)
        offset = file["mean"].id.get_offset()
    raw = np.fromfile(tmp_path / "toy.h5", dtype="<f4", offset=offset, count=data.size)
    np.testing.assert_array_equal(raw.reshape(data.shape), data)


def test_same_content_gives_the_same_bytes(tmp_path: Path, data: np.ndarray) -> None:
    write(tmp_path / "a.h5", data)
    write(tmp_path / "b.h5", data)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_layer_that_is_not_stored_is_named_with_those_that_are(
    tmp_path: Path, data: np.ndarray
) -> None:
    write_store(
        tmp_path / "toy.h5", {**KEY, "layers": [0, 1, 5], "n_layers": 8}, index_of(150), [0, 1, 5],
        lambda _, i, start, stop: data[i, start:stop], default=["mean"], columns={"mean": 7},
    )  # fmt: skip
    with Store(tmp_path / "toy.h5") as store:
        np.testing.assert_array_equal(store.read(5, "mean"), data[2])
        with pytest.raises(StoreError, match=r"layer 'last' needs layer 8, stored are 0-1, 5"):
            store.read("last", "mean")
        with pytest.raises(StoreError, match=r"no statistic 'std'; stored are mean"):
            store.read(0, "std")


def test_key_difference_names_both_values() -> None:
    other = {**KEY, "precision": "bfloat16"}
    assert key_difference(KEY, KEY) is None
    assert key_difference(other, KEY) == "precision: stored 'float32', asked 'bfloat16'"


def test_identity_depends_on_key_and_audio_not_on_order(tmp_path: Path, data: np.ndarray) -> None:
    write(tmp_path / "a.h5", data)
    write(tmp_path / "b.h5", data, key={**KEY, "precision": "float16"})
    shuffled = index_of(150).sample(frac=1, random_state=0)
    write_store(
        tmp_path / "c.h5", KEY, shuffled, range(3), lambda _, i, start, stop: data[i, start:stop],
        default=["mean"], columns={"mean": 7},
    )  # fmt: skip
    identities = []
    for name in "abc":
        with Store(tmp_path / f"{name}.h5") as store:
            identities.append(store.identity)
    assert identities[0] == identities[2] != identities[1]


@pytest.mark.parametrize("layer", [0, 2])
def test_a_flipped_byte_is_found_and_named(tmp_path: Path, data: np.ndarray, layer: int) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    with h5py.File(path, "r") as file:
        offset = file["mean"].id.get_offset()
    row = 70  # in the second block
    with path.open("r+b") as file:
        file.seek(offset + 4 * (layer * 150 * 7 + row * 7))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with Store(path) as store:
        (damage,) = store.verify()
        assert (damage.layer, damage.statistic) == (layer, "mean")
        assert damage.utterances == tuple(f"ü{i:04}" for i in range(BLOCK, 2 * BLOCK))
        with pytest.raises(StoreError, match=f"layer {layer}, utterances ü0064"):
            store.read(layer, "mean", check=True)


def test_damage_to_the_index_is_found_on_opening(tmp_path: Path, data: np.ndarray) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    with h5py.File(path, "r+") as file:
        file["audio_hash"][3, 0] = 255
    with pytest.raises(StoreError, match=r"toy.h5: damaged \(checksum of /utterance"):
        Store(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.unlink(), "no such store: run make extract MODEL=toy"),
        (lambda p: p.write_bytes(b"not HDF5"), "cannot be opened as HDF5"),
        (
            lambda p: p.write_bytes(p.read_bytes()[:3000]),
            "truncated.*make extract MODEL=toy FORCE=1 repl",
        ),
    ],
)
def test_unreadable_files_are_one_line(
    tmp_path: Path, data: np.ndarray, spoil: object, message: str
) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    spoil(path)
    with pytest.raises(StoreError, match=message) as caught:
        Store(path)
    assert "\n" not in str(caught.value)


def test_another_format_version_is_refused(tmp_path: Path, data: np.ndarray) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(StoreError, match="format version 99, this program reads 1"):
        Store(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(StoreError, match="is no store"):
        Store(path)


def test_a_failed_write_leaves_nothing_and_the_old_file_stays(
    tmp_path: Path, data: np.ndarray
) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    before = path.read_bytes()

    def fail(statistic: str, position: int, start: int, stop: int) -> np.ndarray:
        if position == 2:
            raise OSError(28, "No space left on device")
        return data[position, start:stop]

    with pytest.raises(StoreError, match=r"disk is full: 12,600 bytes needed, [\d,]+ free"):
        write_store(path, KEY, index_of(150), range(3), fail, default=["mean"], columns={"mean": 7})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_is_written_and_verified_in_whole_blocks_of_bounded_memory(
    tmp_path: Path, data: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "whole.h5", data)
    monkeypatch.setattr("features.stores.guard.STEP_BYTES", 1)
    asked = []

    def matrix(statistic: str, position: int, start: int, stop: int) -> np.ndarray:
        asked.append((position, start, stop))
        return data[position, start:stop]

    path = tmp_path / "steps.h5"
    write_store(path, KEY, index_of(150), range(3), matrix, default=["mean"], columns={"mean": 7})
    assert asked == [(i, *rows) for i in range(3) for rows in ((0, 64), (64, 128), (128, 150))]
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    with Store(path) as store:
        assert store.verify() == []


def test_rows_are_read_past_damage_elsewhere_and_never_from_a_damaged_block(
    tmp_path: Path, data: np.ndarray
) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    raw = bytearray(path.read_bytes())
    raw[raw.index(data[1, 70].tobytes())] ^= 1
    path.write_bytes(raw)
    with Store(path) as store:
        rows = np.array([3, 140, 5, 149])
        np.testing.assert_array_equal(store.read_rows(1, "mean", rows), data[1, rows])
        np.testing.assert_array_equal(store.read_rows(0, "mean", np.array([70])), data[0, [70]])
        with pytest.raises(StoreError, match=r"layer 1, utterances ü0064, .* VERIFY=1"):
            store.read_rows(1, "mean", np.array([3, 100]))
        (damage,) = store.verify()
        assert damage.utterances == tuple(f"ü{i:04}" for i in range(64, 128))


@pytest.mark.parametrize("flipped", [b"org/toy@", b"statistics_default"])
def test_a_flipped_byte_in_the_key_is_found(
    tmp_path: Path, data: np.ndarray, flipped: bytes
) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    raw = bytearray(path.read_bytes())
    raw[raw.index(flipped) + 1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="damaged"):
        Store(path)


def test_a_file_without_a_checksum_of_the_key_stays_readable(
    tmp_path: Path, data: np.ndarray
) -> None:
    import h5py

    path = tmp_path / "toy.h5"
    write(path, data)
    with Store(path) as store:
        identity = store.identity
    with h5py.File(path, "r+") as file:
        del file["crc/key"]
    with Store(path) as store:
        assert store.verify() == []
        assert store.identity == identity
        np.testing.assert_array_equal(store.read(1, "mean"), data[1])


def test_checksums_are_crc32_of_little_endian_blocks() -> None:
    import zlib

    matrix = np.arange(65 * 2, dtype=np.float32).reshape(65, 2)
    expected = [
        zlib.crc32(matrix[:64].astype("<f4").tobytes()),
        zlib.crc32(matrix[64:].astype("<f4").tobytes()),
    ]
    np.testing.assert_array_equal(checksums(matrix), expected)


def test_audio_hash_of_a_file_and_of_a_segment(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a.wav"
    path.write_bytes(b"abc" * 1000)
    whole = hashlib.blake2b(b"abc" * 1000, digest_size=16).hexdigest()
    segment = hashlib.blake2b(b"abc" * 1000 + b"#0.5-nan", digest_size=16).hexdigest()
    digest = file_digest(path)
    assert audio_hash(digest, float("nan"), float("nan")) == whole
    assert audio_hash(digest, 0.5, float("nan")) == segment
    assert audio_hash(digest, float("nan"), float("nan")) == whole  # the digest is not used up


STORED = Path(__file__).resolve().parents[1] / "data"


@pytest.mark.parametrize("path", sorted(STORED.glob("store-v*.h5")), ids=lambda p: p.name)
def test_files_of_every_released_version_can_be_read(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    with Store(path) as store:
        assert store.verify() == []
        assert store.index["utterance"].tolist() == expected["utterance"]
        assert store.identity == expected["identity"]
        for layer, values in expected["mean"].items():
            np.testing.assert_array_equal(store.read(int(layer), "mean"), np.float32(values))


def test_there_is_a_file_of_the_current_version() -> None:
    assert (STORED / "store-v1.h5").exists()


TINY = Path(__file__).resolve().parents[1] / "data" / "store-v1.h5"


@pytest.mark.parametrize(("place", "value"), [(1649, 3), (2200, 255)], ids=["crash", "loop"])
def test_a_byte_at_which_hdf5_crashes_or_loops(tmp_path: Path, place: int, value: int) -> None:
    data = bytearray(TINY.read_bytes())
    data[place] = value
    (tmp_path / "toy.h5").write_bytes(data)
    with pytest.raises(StoreError, match=r"toy.h5: damaged \((attribute 'format'|a text that)"):
        Store(tmp_path / "toy.h5")


def changed(path: Path, name: str, shape: tuple[int, ...], kind: str) -> Path:
    path.write_bytes(TINY.read_bytes())
    with h5py.File(path, "r+", locking=False) as file:
        del file[name]
        file.create_dataset(name, shape, dtype=kind)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("mean", (2, 3, 10**9), "<f4"),
        ("mean", (10**6, 10**6, 10**6), "<f4"),
        ("mean", (2, 3), "<f4"),
        ("size", (10**12,), "<i8"),
        ("layers", (10**12,), "<i8"),
        ("mean", (2, 4, 4), "<f4"),
        ("crc/mean", (2, 2), "<u4"),
    ],
)
def test_a_shape_is_a_claim(tmp_path: Path, name: str, shape: tuple[int, ...], kind: str) -> None:
    path = changed(tmp_path / "toy.h5", name, shape, kind)
    with pytest.raises(StoreError, match=rf"toy.h5: damaged \(/{name} has shape"):
        Store(path)


def test_texts_that_no_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    changed(path, "utterance", (10**12,), h5py.string_dtype())
    with pytest.raises(StoreError, match=r"/utterance has shape \(10{12},\), expected \(3,\)"):
        Store(path)


def test_layers_that_contradict_their_attribute(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    path.write_bytes(TINY.read_bytes())
    with h5py.File(path, "r+", locking=False) as file:
        file["layers"][1] = 2
    with pytest.raises(StoreError, match=r"/layers is \[0, 2\], attribute layers \[0, 3\]"):
        Store(path)


@pytest.mark.parametrize("name", ["model", "layers", "statistics", "statistics_default"])
@pytest.mark.parametrize(
    "value", ["json:[]", "json:[[0]]", "json:" + "[" * 5_000, np.longdouble(1)]
)
def test_an_attribute_of_another_type(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "toy.h5"
    path.write_bytes(TINY.read_bytes())
    with h5py.File(path, "r+", locking=False) as file:
        del file.attrs[name]
        file.attrs[name] = value
    with pytest.raises(StoreError, match=r"toy.h5: damaged"):
        Store(path)


def test_a_pipe_is_not_waited_for_and_a_device_not_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    for path in (tmp_path / "a.wav", Path("/dev/zero")):
        with pytest.raises(OSError, match="is a (pipe|device): remove it"):
            file_digest(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("run_bytes", [1, 1 << 22])
def test_values_that_are_not_finite_are_refused_with_their_place(
    tmp_path: Path, data: np.ndarray, monkeypatch: pytest.MonkeyPatch, value: float, run_bytes: int
) -> None:
    """The checksums are those of what was written: they say nothing."""
    monkeypatch.setattr("features.stores.blocks.RUN_BYTES", run_bytes)
    data[1, 70, 3] = data[1, 149, 0] = data[2, 149, 6] = value
    write(tmp_path / "toy.h5", data)
    with Store(tmp_path / "toy.h5") as store:
        np.testing.assert_array_equal(store.read(0, "mean"), data[0])
        for check in (False, True):
            with pytest.raises(StoreError, match=(
                r"toy.h5: damaged: /mean, layer 1, utterances ü0070: values that are not finite; "
                r"make extract MODEL=toy VERIFY=1 computes"
            )):  # fmt: skip
                store.read(1, "mean", check=check)
        with pytest.raises(StoreError, match="layer 1, utterances ü0070: values that are not"):
            store.read("mean", "mean")
        with pytest.raises(StoreError, match="layer 2, utterances ü0149: values that are not"):
            store.read_rows(2, "mean", np.array([3, 149]))
        rows = np.array([148, 71, 69, 64])  # of the same blocks, and finite
        np.testing.assert_array_equal(store.read_rows(1, "mean", rows), data[1, rows])
        found = [(one.layer, one.block, one.utterances, one.finite) for one in store.verify()]
    assert found == [
        (1, 1, ("ü0070",), False), (1, 2, ("ü0149",), False), (2, 2, ("ü0149",), False),
    ]  # fmt: skip


def test_a_block_that_is_damaged_into_infinity_is_named_once(
    tmp_path: Path, data: np.ndarray
) -> None:
    path = tmp_path / "toy.h5"
    write(path, data)
    raw = bytearray(path.read_bytes())
    at = raw.index(data[1, 70].tobytes())
    raw[at : at + 4] = np.float32(np.inf).tobytes()
    path.write_bytes(raw)
    with Store(path) as store:
        (damage,) = store.verify()
    assert (damage.block, damage.finite, len(damage.utterances)) == (1, True, 64)


def test_an_array_without_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="/mean has no columns"):
        Store(changed(tmp_path / "toy.h5", "mean", (2, 3, 0), "<f4"))


def test_a_layer_that_the_model_does_not_have(tmp_path: Path, data: np.ndarray) -> None:
    write(tmp_path / "toy.h5", data)
    with Store(tmp_path / "toy.h5") as store, pytest.raises(StoreError) as caught:
        store.columns_of(9)
    assert str(caught.value).endswith("stored are 0-2; choose one of these: 2 is the model's last")
    write(tmp_path / "some.h5", data[:2], full_key({**KEY, "layers": [0, 1]}))
    with Store(tmp_path / "some.h5") as store, pytest.raises(StoreError, match="extract with oth"):
        store.columns_of(2)


def test_a_store_that_is_open_elsewhere_with_locking_is_read(
    tmp_path: Path, data: np.ndarray
) -> None:
    write(tmp_path / "toy.h5", data)
    with h5py.File(tmp_path / "toy.h5", "r", locking=True), Store(tmp_path / "toy.h5") as store:
        np.testing.assert_array_equal(store.read(1, "mean", check=True), data[1])
