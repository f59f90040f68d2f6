"""Reading HDF5 without HDF5: what h5py reads, links and layouts refused, memory bounded."""

from __future__ import annotations

import os
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from features.common.errors import StoreError
from features.stores import hdf5
from features.stores.read import Store
from features.stores.write import write_store

TINY = Path(__file__).resolve().parents[1] / "data" / "store-v1.h5"
WHOLE = TINY.read_bytes()
ALLOWANCE = 64 << 20
"""Bytes of address space that reading a small file may add, whatever is in it."""
SPACE_LEFT = "a heap to the end of the file, which is the space that it has left"
"""The one false claim that changes nothing."""


def write(path: Path, ids: list[str], width: int = 3, **more: Any) -> Path:
    n = len(ids)
    index = pd.DataFrame(
        {
            "utterance": ids,
            "audio_hash": [f"{i:032x}" for i in range(n)],
            "size": np.arange(n) - 5,
            "mtime_ns": np.arange(n) + 2**61,
        }
    )
    key = {"model": "toy", "layers": [0, 7], "statistics": ["mean"], "rate": 0.1, "n_layers": 7}
    key |= more.pop("key", {})
    rng = np.random.default_rng(3)
    write_store(
        path, key, index, [0, 7],
        lambda _, i, start, stop: rng.standard_normal((stop - start, width)).astype(np.float32),
        default=["mean"], columns={"mean": width}, **more,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("n", [0, 1, 5, 700])
def test_what_h5py_reads(tmp_path: Path, rng: np.random.Generator, n: int) -> None:
    letters = ["a", "é", "e\u0301", "字", "\U0001f600", "/", " ", "\u202e"]
    texts = ["".join(rng.choice(letters, size=i % 50)) + str(i) for i in range(n)]
    texts[3:4] = ["long" * 20_000]
    more = {f"more {i}": "x" * i for i in range(60)} | {"ä": "ß" * 999, "none": "", "f": -0.0}
    path = write(
        tmp_path / "a.h5", texts, width=700, key=more,
        names={"mean": [f"f{i}" if i % 9 else "" for i in range(700)]},
        failed=[("u", "00", "why\n" * i) for i in range(1, 40)],
    )  # fmt: skip
    ours = hdf5.File(path)
    with h5py.File(path, "r", locking=False) as theirs:
        assert ours.attributes() == dict(theirs.attrs)
        assert ours.members() == sorted(theirs)
        assert ours.members("crc") == sorted(theirs["crc"])
        assert ours.members("nothing") == []
        names: list[str] = []
        theirs.visititems(lambda name, one: names.append(name) if hasattr(one, "shape") else None)
        assert len(names) == 11
        for name in names:
            array = ours.array(name)
            assert array.shape == theirs[name].shape
            if array.kind.name == "text":
                assert ours.texts(array) == theirs[name].asstr()[()].tolist()
                continue
            assert array.kind.name == theirs[name].dtype.str
            np.testing.assert_array_equal(ours.numbers(array), theirs[name][()])
    ours.close()


@pytest.mark.parametrize("over", [0, 1])
def test_what_is_written_can_be_read(tmp_path: Path, over: int) -> None:
    """The limit of a text holds for both; an ä has two bytes."""
    text = "ä" * (hdf5.MAX_TEXT // 2) + "x" * over
    reason = "y" * (hdf5.MAX_TEXT - len('["", "", ""]') + over)
    for more in ({"ids": [text]}, {"ids": ["a"], "failed": [("", "", reason)]}):
        if over:
            with pytest.raises(StoreError, match=r"a text of 4,194,305 bytes .* at most 4,194,304"):
                write(tmp_path / "a.h5", **more)
            continue
        with Store(write(tmp_path / "a.h5", **more)) as store:
            assert store.index["utterance"].tolist() == more["ids"]


def test_attributes_of_other_writers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["fixed"] = np.bytes_("abc")
        file.attrs.create("ascii", "abc", dtype=h5py.string_dtype("ascii"))
        for name, value in {
            "i": np.int16(-3),
            "big": np.uint64(2**63),
            "f": np.float32(0.5),
        }.items():
            file.attrs[name] = value
        file.attrs.create("order", 258, dtype=">i4")
    file = hdf5.File(tmp_path / "a.h5")
    expected = {"fixed": "abc", "ascii": "abc", "i": -3, "big": 2**63, "f": 0.5, "order": 258}
    assert file.attributes() == expected
    file.close()


def rewritten(name: str, **how: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        values = file[name][()]
        del file[name]
        file.create_dataset(name, data=values, **how)

    return edit


def fixed_texts(file: h5py.File) -> None:
    values = file["utterance"][()].astype("S9")
    del file["utterance"]
    file["utterance"] = values


def compact(file: h5py.File) -> None:
    values = file["mean"][()]
    del file["mean"]
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(values.shape)
    made = h5py.h5d.create(file.id, b"mean", h5py.h5t.IEEE_F32LE, space, how)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def soft(file: h5py.File) -> None:
    file.move("mean", "elsewhere")
    file["mean"] = h5py.SoftLink("/elsewhere")


def outside(file: h5py.File) -> None:
    del file["size"]
    file["size"] = h5py.ExternalLink("pipe", "/size")


def stored_outside(file: h5py.File) -> None:
    del file["mean"]
    file.create_dataset("mean", (2, 3, 4), "<f4", external=[("pipe", 0, 96)])


def virtual(file: h5py.File) -> None:
    del file["mean"]
    layout = h5py.VirtualLayout((2, 3, 4), "<f4")
    layout[:] = h5py.VirtualSource("pipe", "mean", (2, 3, 4))
    file.create_virtual_dataset("mean", layout)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (rewritten("mean", chunks=(1, 3, 4)), "/mean is chunked; FORMAT.md wants contiguous"),
        (rewritten("mean", compression="gzip"), r"/mean is chunked and compressed \(gzip\); FORMA"),
        (rewritten("mean", compression="lzf"), r"/mean is chunked and compressed \(lzf\); FORMAT"),
        (rewritten("utterance", chunks=(2,)), "/utterance is chunked; FORMAT.md wants"),
        (rewritten("crc/mean", shuffle=True), r"/crc/mean is chunked and compressed \(shuffle\)"),
        (compact, "/mean is compact; FORMAT.md wants contiguous"),
        (rewritten("mean", dtype=">f4"), "/mean holds big-endian float32; FORMAT.md wants little-"),
        (rewritten("mean", dtype="<f8"), "/mean holds little-endian float64; FORMAT.md wants"),
        (rewritten("mean", dtype="<f2"), "/mean holds little-endian float16; FORMAT.md wants"),
        (rewritten("size", dtype="<i4"), "/size holds little-endian int32; FORMAT.md wants"),
        (fixed_texts, "/utterance holds fixed text; FORMAT.md wants texts"),
        (soft, "/mean is a link, which is not followed; FORMAT.md"),
        (outside, r"/ is a group of a later file format \(links out of the file"),
        (stored_outside, "/mean lies in other files; FORMAT.md wants"),
        (virtual, r"/mean is virtual \(it lies in other files\); FORMAT.md wants"),
    ],
)
def test_another_layout_is_named(
    tmp_path: Path, edit: Callable[[h5py.File], None], message: str
) -> None:
    """Whatever a link leads to is a pipe: who followed it would wait."""
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "toy.h5"
    path.write_bytes(WHOLE)
    with h5py.File(path, "r+", locking=False, libver=("earliest", "v110")) as file:
        edit(file)
    with pytest.raises(StoreError, match=rf"toy.h5: {message}.*; make extract MODEL=toy FORCE=1"):
        Store(path)


@pytest.mark.parametrize("how", [{"libver": "latest"}, {"track_order": True}])
def test_a_later_file_format_is_named(tmp_path: Path, how: dict[str, Any]) -> None:
    with h5py.File(TINY, "r") as old, h5py.File(tmp_path / "toy.h5", "w", **how) as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    with pytest.raises(StoreError, match=r"is of a later file format.*; FORMAT.md wants"):
        Store(tmp_path / "toy.h5")


def changed(place: int, value: bytes, whole: bytes = WHOLE) -> bytes:
    return whole[:place] + value + whole[place + len(value) :]


def forgeries(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files that claim more than they have, in each way that a claim can be made."""
    ids = ["x" * 24_000, *(f"{i:06}" for i in range(20_000))]
    whole = write(folder / "many.h5", ids, failed=[("a", "b", "c")]).read_bytes()
    with h5py.File(folder / "many.h5", "r") as file:
        at = file["utterance"].id.get_offset()
    one = whole[at : at + 16]
    yield "one long text for all", changed(at, one * len(ids), whole)
    for length in (2**32 - 1, 2**22, 2**22 - 1, 7):
        yield f"texts of {length} bytes", changed(at, struct.pack("<I", length), whole)
    heap = struct.unpack_from("<Q", one, 4)[0]
    for size in (2**63, len(whole) - heap, 2**24, 17, 0):
        what = SPACE_LEFT if size == len(whole) - heap else f"a heap of {size} bytes"
        yield what, changed(heap + 8, struct.pack("<Q", size), whole)
    nested = b"GCOL\1\0\0\0" + struct.pack("<QHxxxxxxQ", 64, 1, 8) + b"a" * 8
    inside = whole.index(b"x" * 64) + 8
    whole = changed(at + 16, struct.pack("<IQI", 8, inside, 1), whole)
    yield "a heap in a text of a heap", changed(inside, nested, whole)
    tree, snod = WHOLE.index(b"TREE"), WHOLE.index(b"SNOD")
    for n in (2, 255, 2**16 - 1):
        yield f"a tree of {n}", changed(tree + 6, struct.pack("<H", n))
        yield f"{n} symbols", changed(snod + 6, struct.pack("<H", n))
    yield "a tree that is its own branch", changed(tree + 32, struct.pack("<Q", tree))
    names = WHOLE.index(b"HEAP")
    for size in (2**63, 2**33, 0):
        yield f"names of {size} bytes", changed(names + 8, struct.pack("<Q", size))
    (header,) = struct.unpack_from("<Q", WHOLE, 64)
    header += 16  # where its messages begin
    yield (
        "a header that goes on in itself",
        changed(header, struct.pack("<HHBxxxQQ", 0x10, 16, 0, header, 24)),
    )
    for size in (2**32 - 1, len(WHOLE) - header, 8):
        yield f"a header of {size} bytes", changed(header - 8, struct.pack("<I", size))
    brackets = "json:[" + "[]," * 1_000_000 + "[]]"
    key = {"parameters": "x" * len(brackets)}
    whole = write(folder / "brackets.h5", ["a"], key=key).read_bytes()
    yield "a million lists", whole.replace(b"x" * len(brackets), brackets.encode())


def in_a_child(work: Callable[[], None]) -> None:
    """Run `work` in a process of its own, whose address space may grow by `ALLOWANCE`."""
    child = os.fork()
    if child == 0:
        try:
            Store(TINY).close()  # what pandas takes at its first use is no part of it
            before = virtual_bytes("VmSize")
            work()
            grown = virtual_bytes("VmPeak") - before
            assert grown < ALLOWANCE, f"{grown:,} bytes"
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def virtual_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(one.split()[1]) for one in lines if one.startswith(f"{name}:"))


linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")


@linux
def test_a_forged_file_takes_no_memory_or_time(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    for what, data in forgeries(tmp_path):
        path.write_bytes(data)

        def refused(what: str = what) -> None:
            start = time.process_time()
            if what == SPACE_LEFT:
                Store(path).close()
                return
            with pytest.raises(StoreError, match=r"^[^\n]*toy.h5: [^\n]*\Z"):
                Store(path)
            assert time.process_time() - start < 5, what

        in_a_child(refused)


@linux
@pytest.mark.parametrize("hunt", [pytest.param("SERFUSE_FUZZ" in os.environ, id="bytes")])
def test_any_byte_of_the_metadata_may_be_another(tmp_path: Path, hunt: bool) -> None:
    """Every byte in several ways in a hunt, else some; the values' bytes are left out."""
    path = tmp_path / "toy.h5"
    with Store(TINY) as store:
        identity = store.identity

    def sweep() -> None:
        for place in range(0, len(WHOLE), 1 if hunt else 41):
            byte = WHOLE[place]
            for value in {0, 255, byte ^ 1, byte ^ 128} if hunt else {255 - byte}:
                path.write_bytes(changed(place, bytes([value])))
                try:
                    with Store(path) as store:
                        assert store.identity == identity, place
                        store.verify()
                except StoreError:
                    pass

    in_a_child(sweep)
