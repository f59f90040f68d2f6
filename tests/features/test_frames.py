"""Files of frames: round trip, layout, damage, and files of every released version."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.common.errors import StoreError
from features.recipe.known.frame_kinds import FRAME_KINDS
from features.stores.frames import FrameStore, gathered
from features.stores.guard import FRAME_BLOCK, frame_steps
from features.stores.key import FRAMES_VERSION, frames_beside, full_key
from features.stores.read import Store
from features.stores.write import write_frames, write_store
from tests.features.test_store import KEY as POOLED
from tests.features.test_store import index_of

DATA = Path(__file__).parents[1] / "data"
KEY = full_key(
    {
        "model": "toy", "source": "org/toy@" + "0" * 40, "layers": [1, 2], "n_layers": 2,
        "precision": "float32", "kind": "frames", "dtype": "float16",
    }
)  # fmt: skip
LENGTHS = np.array([1, 4_000, 700, FRAME_BLOCK, 60])


def made(rng: np.random.Generator, dtype: str = "float16", width: int = 3) -> np.ndarray:
    return rng.standard_normal((2, LENGTHS.sum(), width)).astype(dtype)


def write(path: Path, data: np.ndarray, **more: object) -> Path:
    key = {**KEY, "dtype": data.dtype.name, **more.pop("key", {})}
    offsets = np.append(0, np.cumsum(LENGTHS))
    write_frames(
        path, key, index_of(len(LENGTHS)), offsets, KEY["layers"],
        lambda i, start, stop: data[i, start:stop], width=data.shape[2], **more,
    )  # fmt: skip
    return path


SEGMENTS = {"kind": "segments", "segments": 5_000}


@pytest.mark.parametrize(
    ("dtype", "kind"), [("float16", {}), ("float32", {}), ("float32", SEGMENTS)]
)
def test_round_trip(
    tmp_path: Path, rng: np.random.Generator, dtype: str, kind: dict[str, object]
) -> None:
    data = made(rng, dtype)
    path = write(tmp_path / "frames" / "toy.h5", data, failed=[("x", "00", "why")], key=kind)
    with FrameStore(path) as store:
        assert (store.key, store.layers) == ({**KEY, **kind, "dtype": dtype}, [1, 2])
        assert (store.kind, store.width) == (kind.get("kind", "frames"), 3)
        assert store.lengths.tolist() == LENGTHS.tolist()
        assert store.failed == [["x", "00", "why"]]
        assert (store.position(2), store.position("last")) == (1, 1)
        assert store.verify() == []
        for start, stop in ((0, 1), (4_090, 4_105), (0, LENGTHS.sum())):
            found = store.read(1, start, stop)
            np.testing.assert_array_equal(found, data[1, start:stop])
        mapped = store.mapped()
    assert mapped.dtype == data.dtype
    np.testing.assert_array_equal(mapped, data)  # after the file was closed
    with h5py.File(path, "r") as file:  # any HDF5 library reads it
        assert file["frames"].chunks is None
        np.testing.assert_array_equal(file["frames"], data)
        block = data[1, FRAME_BLOCK : 2 * FRAME_BLOCK]
        assert file["crc/frames"][1, 1] == zlib.crc32(block.tobytes())


def test_same_content_gives_the_same_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    data = made(rng)
    one, other = (write(tmp_path / name, data).read_bytes() for name in ("a.h5", "b.h5"))
    assert one == other


def test_frames_are_written_in_whole_blocks_of_bounded_memory(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, asked = made(rng), []

    def frames(position: int, start: int, stop: int) -> np.ndarray:
        asked.append((position, start, stop))
        return data[position, start:stop]

    monkeypatch.setattr("features.stores.guard.FRAME_STEP_BYTES", 1)
    offsets = np.append(0, np.cumsum(LENGTHS))
    write_frames(tmp_path / "a.h5", KEY, index_of(5), offsets, [1, 2], frames, width=3)
    n = int(LENGTHS.sum())
    assert asked == [(i, a, min(a + FRAME_BLOCK, n)) for i in (0, 1) for a in (0, 4096, 8192)]
    monkeypatch.undo()
    assert frame_steps(n, 6) == [(0, n)]
    with FrameStore(tmp_path / "a.h5") as store:
        np.testing.assert_array_equal(store.mapped(), data)


def test_a_flipped_byte_is_found_and_named(tmp_path: Path, rng: np.random.Generator) -> None:
    data = made(rng)
    path = write(tmp_path / "toy.h5", data)
    raw = bytearray(path.read_bytes())
    place = raw.index(data[1].tobytes()) + 6 * (FRAME_BLOCK + 5)
    raw[place] ^= 1
    path.write_bytes(raw)
    with FrameStore(path) as store:
        (damage,) = store.verify()
        assert str(damage) == "/frames, layer 2, utterances ü0002, ü0003"
        np.testing.assert_array_equal(store.read(1, 0, FRAME_BLOCK), data[1, :FRAME_BLOCK])
        store.check(0)
        for start in (FRAME_BLOCK, FRAME_BLOCK + 100):
            with pytest.raises(StoreError, match=r"layer 2, .*MODEL=toy VERIFY=1 computes the dam"):
                store.read(1, start, start + 1)


def test_a_value_that_is_not_finite_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    data = made(rng)
    data[0, 4_001, 2] = np.inf
    with FrameStore(write(tmp_path / "toy.h5", data)) as store:
        (damage,) = store.verify()
        assert str(damage) == "/frames, layer 1, utterances ü0002: values that are not finite"
        with pytest.raises(StoreError, match="values that are not finite"):
            store.check(0)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("offsets", lambda v: v + (v == 1), r"damaged \(checksum of /offsets"),
        ("offsets", lambda v: v[::-1], r"damaged \(/offsets does not rise"),
        ("offsets", lambda v: v + 0 * v, ""),
        ("size", lambda v: v + 1, r"damaged \(checksum of /utterance"),
        ("layers", lambda v: v + 1, r"damaged \(/layers is"),
        ("frames", lambda v: v[:, :-1], r"damaged \(/offsets does not rise"),
        ("frames", lambda v: v.astype("<f4"), "/frames holds little-endian float32; FORMAT.md"),
        ("crc/frames", lambda v: v[:, :-1], r"damaged \(/crc/frames has shape"),
    ],
)
def test_a_file_that_contradicts_itself_is_one_line(
    tmp_path: Path, rng: np.random.Generator, name: str, change, message: str
) -> None:
    path = write(tmp_path / "frames" / "toy.h5", made(rng))
    with h5py.File(path, "r+", libver="earliest") as file:
        values = change(file[name][()])
        del file[name]
        file[name] = values
    if not message:
        FrameStore(path).close()
        return
    with pytest.raises(StoreError, match=rf"{message}.*; delete it, and make extract MODEL=toy"):
        FrameStore(path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"kind": "pieces"}, "attribute kind is 'pieces'"),
        ({"kind": "segments"}, "attribute kind is 'segments', segments None"),
        ({"segments": 8}, "attribute kind is 'frames', segments 8"),
        ({"kind": "segments", "segments": 4_000}, "an utterance has more than 4000 segments"),
    ],
)
def test_a_key_that_contradicts_itself_is_one_line(
    tmp_path: Path, rng: np.random.Generator, key: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "frames" / "toy.h5", made(rng), key=key)
    with pytest.raises(StoreError, match=rf"damaged \({message}.*\); delete it"):
        FrameStore(path)


def test_the_two_kinds_are_not_taken_for_one_another(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    frames = write(tmp_path / "frames" / "toy.h5", made(rng))
    pooled = rng.standard_normal((3, 5, 2)).astype(np.float32)
    write_store(
        tmp_path / "toy.h5", POOLED, index_of(5), range(3), lambda _, i, a, b: pooled[i, a:b],
        default=["mean"], columns={"mean": 2},
    )  # fmt: skip
    assert frames_beside(tmp_path / "toy.h5") == frames
    with pytest.raises(StoreError, match=r"holds frames \(format = 'serfuse-frames'\), no pooled"):
        Store(frames)
    with FrameStore(frames) as store, pytest.raises(StoreError, match="holds frames, no segments"):
        store.require("segments")
    segments = write(tmp_path / "segments" / "toy.h5", made(rng), key=SEGMENTS)
    assert frames_beside(tmp_path / "toy.h5", "segments") == segments
    with pytest.raises(
        StoreError, match=r"holds segments \(format = 'serfuse-frames'\), no pooled"
    ):
        Store(segments)
    with pytest.raises(StoreError, match=r"holds pooled features .*, no frames"):
        FrameStore(tmp_path / "toy.h5")
    with pytest.raises(StoreError, match=r"tay.h5: no frames of tay: .*did you mean 'toy'"):
        FrameStore(tmp_path / "frames" / "tay.h5")


def test_a_newer_version_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "toy.h5", made(rng))
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = FRAMES_VERSION + 1
    with pytest.raises(StoreError, match="format version 2, this program reads 1"):
        FrameStore(path)


def test_a_failed_write_leaves_nothing_and_the_old_file_stays(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    data = made(rng)
    path = write(tmp_path / "toy.h5", data)
    before = path.read_bytes()

    def frames(position: int, start: int, stop: int) -> np.ndarray:
        raise OSError(28, "No space left on device")

    offsets = np.append(0, np.cumsum(LENGTHS))
    with pytest.raises(StoreError, match=r"the disk is full: 106,284 bytes needed"):
        write_frames(path, KEY, index_of(5), offsets, [1, 2], frames, width=3)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["toy.h5"]


def test_frames_of_utterances_are_gathered(rng: np.random.Generator) -> None:
    parts = [rng.standard_normal((n, 2)) for n in (3, 1, 5)]
    whole, offsets = np.concatenate(parts), np.array([0, 3, 4, 9])
    for start in range(9):
        for stop in range(start + 1, 10):
            found = gathered(offsets, start, stop, lambda row, a, b: parts[row][a:b])
            np.testing.assert_array_equal(found, whole[start:stop])


@pytest.mark.parametrize("path", sorted(DATA.glob("[fs]*s-v*.h5")), ids=lambda p: p.stem)
def test_files_of_every_released_version_can_be_read(path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    with FrameStore(path) as store:
        assert store.index["utterance"].tolist() == record["utterance"]
        assert store.kind == path.stem.split("-")[0]
        assert store.offsets.tolist() == record["offsets"]
        assert store.identity == record["identity"]
        assert store.verify() == []
        np.testing.assert_array_equal(store.mapped(), np.array(record["frames"]))


def test_there_is_a_file_of_the_current_version() -> None:
    for kind in FRAME_KINDS:
        assert (DATA / f"{kind}-v{FRAMES_VERSION}.h5").exists()
