"""Stores: each byte flipped, cut at each length, spliced, and HDF5 files of other shapes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.common.errors import StoreError
from features.stores.read import Store
from tests.fuzz.tools import ODD_TEXT, bounded, damaged, read_or_refused

PATH = Path(__file__).resolve().parents[1] / "data" / "store-v1.h5"
WHOLE = PATH.read_bytes()
HUNT = "SERFUSE_FUZZ" in os.environ


def content(path: Path) -> dict[str, Any]:
    """All that a store gives; a StoreError where it says itself that it is damaged."""
    with Store(path) as store:
        damages = store.verify()
        if damages:
            raise StoreError(str(damages[0]))
        store.identity.encode()
        store.title.encode("utf-8", "backslashreplace")
        return {
            "key": store.key,
            "default": store.default,
            "failed": store.failed,
            "names": store.names,
            "layers": store.layers,
            "index": store.index.to_csv(),
            "matrices": {
                statistic: [
                    store.read_position(position, statistic, check=True).tobytes()
                    for position in range(len(store.layers))
                ]
                for statistic in store.statistics
            },
        }


CONTENT = content(PATH)


def changed(path: Path) -> set[str]:
    """What reads differently from the undamaged file; nothing where that is refused."""
    with read_or_refused(StoreError):
        found = content(path)
        return {name for name, value in CONTENT.items() if repr(found[name]) != repr(value)}
    return set()


@pytest.mark.slow
def test_every_byte_flipped(folder: Path) -> None:
    """Every byte in a hunt, else some of them; the arrays and their checksums all the same."""
    path = folder / "flipped.h5"
    with h5py.File(PATH) as file:
        first = min(file[name].id.get_offset() for name in ("utterance", "mean", "crc/mean"))
    places = [*range(0, len(WHOLE), 1 if HUNT else 37), *range(first, first + 268, 5)]
    with bounded():
        for place in places:
            for bit in (0, 7) if HUNT else (place % 8,):
                data = bytearray(WHOLE)
                data[place] ^= 1 << bit
                path.write_bytes(data)
                assert not changed(path), (place, bit)


@pytest.mark.parametrize("value", [0x00, 0xFF])
def test_every_byte_of_the_heaps_overwritten(folder: Path, value: int) -> None:
    """HDF5 loops without end in some of these."""
    path, start = folder / "heap.h5", WHOLE.index(b"GCOL")
    for place in range(start, start + 700, 1 if HUNT else 11):
        path.write_bytes(WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :])
        assert not changed(path), place


def test_cut_at_every_length(folder: Path) -> None:
    path = folder / "cut.h5"
    for length in [*range(0, len(WHOLE), 1 if HUNT else 211), len(WHOLE) - 1]:
        path.write_bytes(WHOLE[:length])
        with bounded(), pytest.raises(StoreError):
            content(path)


@given(data=damaged(WHOLE))
def test_a_damaged_file(folder: Path, data: bytes) -> None:
    (folder / "damaged.h5").write_bytes(data)
    assert not changed(folder / "damaged.h5")


ATTRIBUTES = sorted(h5py.File(PATH, "r", locking=False).attrs)
DATASETS = [
    "utterance", "audio_hash", "size", "mtime_ns", "layers", "mean", "crc", "crc/index", "crc/mean",
    "names", "names/mean", "failed",
]  # fmt: skip
ODD_ATTRIBUTES = st.one_of(
    ODD_TEXT.filter(lambda text: "\0" not in text),
    ODD_TEXT.filter(lambda text: "\0" not in text).map(lambda text: f"json:{text}"),
    st.sampled_from(
        [
            "json:[]",
            "json:{}",
            "json:[1]",
            'json:["std"]',
            'json:["mean", "mean"]',
            "json:" + "[" * 9999,
        ]
        + [np.longdouble(1), np.float32("nan"), b"\xff", True, 2**63, np.arange(3), h5py.Empty("f")]
    ),
    st.integers(-(2**63), 2**63),
    st.floats(),
)


@given(name=st.sampled_from([*ATTRIBUTES, "more"]), value=ODD_ATTRIBUTES, drop=st.booleans())
def test_an_attribute_of_another_kind(folder: Path, name: str, value: Any, drop: bool) -> None:
    path = folder / "attribute.h5"
    path.write_bytes(WHOLE)
    with h5py.File(path, "r+", locking=False) as file:
        if name in file.attrs:
            del file.attrs[name]
        if not drop:
            file.attrs[name] = value
    assert not changed(path)


TYPES = ["<f4", ">f4", "<f8", "<i8", "u1", "<u4", "S3", "c16", "bool", h5py.string_dtype()]


@given(
    name=st.sampled_from(DATASETS),
    shape=st.none() | st.lists(st.sampled_from([0, 1, 2, 3, 4, 10**6]), max_size=4).map(tuple),
    kind=st.sampled_from(TYPES),
)
def test_a_dataset_of_another_shape(folder: Path, name: str, shape: Any, kind: Any) -> None:
    """Nothing is allocated in the file for it: that is left to who reads it."""
    path = folder / "dataset.h5"
    path.write_bytes(WHOLE)
    with h5py.File(path, "r+", locking=False) as file:
        if name in file:
            del file[name]
        if shape is not None:
            # What not even HDF5 will write is left out: then the dataset is missing.
            with contextlib.suppress(ValueError):
                file.create_dataset(name, shape, dtype=kind)
    with read_or_refused(StoreError):
        content(path)


def alias(file: h5py.File) -> None:
    file["mean"] = h5py.SoftLink("/mean")


def elsewhere(file: h5py.File) -> None:
    file["mean"] = h5py.ExternalLink("nothing.h5", "/mean")


def external(file: h5py.File) -> None:
    file.create_dataset("mean", (2, 3, 4), "<f4", external=[(str(PATH), 0, 96)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 3, 4), "<f4")
    layout[:] = h5py.VirtualSource(str(PATH), "mean", (2, 3, 4))
    file.create_virtual_dataset("mean", layout)


def group(file: h5py.File) -> None:
    file.create_group("mean")


def named_type(file: h5py.File) -> None:
    file["mean"] = np.dtype("<f4")


@pytest.mark.parametrize("make", [alias, elsewhere, external, virtual, group, named_type])
def test_a_dataset_that_is_none_or_lies_elsewhere(
    folder: Path, make: Callable[[h5py.File], None]
) -> None:
    path = folder / "elsewhere.h5"
    path.write_bytes(WHOLE)
    with h5py.File(path, "r+", locking=False, libver=("earliest", "v110")) as file:
        del file["mean"]
        make(file)
    with bounded(), pytest.raises(StoreError, match=r"elsewhere.h5: (damaged|/(mean)? ?(is|lies))"):
        content(path)
