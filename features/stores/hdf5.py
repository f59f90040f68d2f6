"""The part of HDF5 that a store uses, read in bounded memory and time, whatever the bytes say.

Conventions
-----------
- What is read: superblock 0, object headers 1, groups that are symbol tables, contiguous arrays of
  numbers and of variable-length texts, scalar attributes. It is what HDF5's earliest file format
  has for a store; section numbers below are those of the HDF5 File Format Specification 3.0.
- Nothing is followed out of the file: links, external storage and virtual arrays are refused.
- A number in a file is a claim. Bytes are read only where the file has them, each a few times at
  most, so that memory and time stay within a small multiple of the file's size.
- `ValueError` and its kin are damage; a `LayoutError` is a sound file of another layout.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.common.files import open_regular

SIGNATURE = b"\x89HDF\r\n\x1a\n"
READS = 6
"""How often a file's bytes are read, but for values: texts share heaps, nothing else does."""
CONSTANT_BYTES = 1 << 20
MAX_MEMBERS = 4096
MAX_NAME = 1024
"""Members of a group, bytes of a name: far more than a store has."""
MAX_TEXT = 1 << 22
"""Bytes of one text, and of an attribute: what is decoded from its JSON is larger."""
MAX_BLOCK = 1 << 24
"""Bytes of a header's or a heap's piece."""

_NOWHERE = 2**64 - 1
_WANTED = (
    "FORMAT.md wants contiguous arrays in HDF5's earliest file format: write the file again so"
)
_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE = 0x1, 0x3, 0x7, 0x8, 0xB, 0xC
_CONTINUED, _TABLE = 0x10, 0x11
_LATER = {0x2, 0x6, 0x15}
"""Messages of the groups and attributes of later file formats."""
_CLASSES = ("integer", "float", "time", "text", "bits", "opaque", "compound", "reference", "enum")
_FILTER_NAMES = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 32000: "lzf"}
_FLOATS = {
    2: (struct.pack("<HHBBBBI", 0, 16, 10, 5, 0, 10, 15), 15),
    4: (struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127), 31),
    8: (struct.pack("<HHBBBBI", 0, 64, 52, 11, 0, 52, 1023), 63),
}
"""Properties and place of the sign of IEEE floats, by their bytes."""


class LayoutError(ValueError):
    """A file that holds what is asked for in another form; the text says which and what to do."""


@dataclass(frozen=True)
class ElementType:
    """A type of elements.

    Attributes
    ----------
    name : str
        numpy's (`<f4`), `text` for variable-length texts, else words.
    size : int
        Bytes of an element.
    """

    name: str
    size: int

    def __str__(self) -> str:
        if self.name[0] not in "<>|":
            return "texts of variable length" if self.name == "text" else self.name
        order = {">": "big-endian ", "<": "little-endian ", "|": ""}[self.name[0]]
        return f"{order}{np.dtype(self.name).newbyteorder('=').name}"


@dataclass(frozen=True)
class Array:
    """Where a contiguous array lies.

    Attributes
    ----------
    shape : tuple of int
    kind : ElementType
    start : int
        Its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: ElementType
    start: int

    @property
    def n_bytes(self) -> int:
        """Bytes that the shape claims."""
        return math.prod(self.shape) * self.kind.size


class _Bytes:
    """The bytes of a file, each read a few times at most: a file that asks for more is damaged."""

    def __init__(self, path: Path) -> None:
        self.file = open_regular(path, "rb", buffering=0)
        self.n = os.fstat(self.file.fileno()).st_size
        self._left = READS * self.n + CONSTANT_BYTES

    def read(self, start: int, n: int, most: int = MAX_BLOCK) -> bytes:
        """`n` bytes of the file; ValueError where there are fewer, or `n` is more than `most`."""
        if start + n > self.n or n > most:
            raise ValueError(f"{n} bytes at byte {start}, of {self.n}")
        self._left -= n
        if self._left < 0:
            raise ValueError("the same bytes stand for many things")
        parts = []
        while n:
            part = os.pread(self.file.fileno(), n, start)
            if not part:
                raise ValueError(f"the file ends at byte {start}")
            parts.append(part)
            start, n = start + len(part), n - len(part)
        return b"".join(parts)

    def signed(self, start: int, n: int, signature: bytes) -> bytes:
        """As `read`; ValueError where the bytes do not begin with a signature."""
        data = self.read(start, n)
        if not data.startswith(signature):
            raise ValueError(f"no {signature.decode()} at byte {start}")
        return data


class File:
    """An HDF5 file opened for reading.

    Raises
    ------
    OSError
        It is missing, cannot be read, or is no regular file.
    ValueError
        It is no HDF5 file, or a damaged one; a `LayoutError` for a later file format.
    """

    def __init__(self, path: Path) -> None:
        self._bytes = _Bytes(path)
        self._groups: dict[str, dict[str, int]] = {}
        try:
            self._root = _messages(self._bytes, "", _superblock(self._bytes))
        except BaseException:
            self.close()
            raise

    @property
    def handle(self) -> int:
        """The descriptor, for reads past this class."""
        return self._bytes.file.fileno()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._bytes.file.closed)

    def close(self) -> None:
        """Close the file."""
        self._bytes.file.close()

    def attributes(self) -> dict[str, str | int | float]:
        """The root's attributes: texts and numbers.

        Returns
        -------
        dict
            Name -> value.

        Raises
        ------
        ValueError
            One stands twice, or all texts together are too long.
        """
        found: dict[str, str | int | float] = {}
        references: dict[str, bytes] = {}
        for number, data in self._root:
            if number != _ATTRIBUTE:
                continue
            name, kind, value = _attribute(data)
            if name in found or name in references:
                raise ValueError(f"two attributes {name!r}")
            if kind.name == "text":
                references[name] = value
            elif kind.name == "fixed text":
                found[name] = value.partition(b"\0")[0].decode()
            else:
                found[name] = np.frombuffer(value, kind.name)[0].item()
        texts = _texts(self._bytes, np.frombuffer(b"".join(references.values()), _REFERENCE))
        if sum(map(len, texts)) > MAX_TEXT:
            raise ValueError(f"the attributes have more than {MAX_TEXT} bytes")
        return {**found, **dict(zip(references, texts, strict=True))}

    def members(self, group: str = "") -> list[str]:
        """Names in a group, sorted; none where there is no such group."""
        if group and group not in self.members():
            return []
        return sorted(self._members(group))

    def array(self, name: str) -> Array:
        """Where the array of this name lies, such as `crc/mean`; its bytes may be too few.

        Parameters
        ----------
        name : str
            Without the leading slash.

        Returns
        -------
        Array

        Raises
        ------
        ValueError
            There is no such array.
        LayoutError
            It lies in other files, in chunks, or compressed.
        """
        messages: dict[int, bytes] = {}
        for number, data in _messages(self._bytes, name, self._address(name)):
            messages.setdefault(number, data)
        if not {_DATASPACE, _DATATYPE, _LAYOUT} <= set(messages):
            raise ValueError(f"/{name} is no array")
        shape, kind = _shape(messages[_DATASPACE]), _kind(messages[_DATATYPE])
        if shape is None:
            raise ValueError(f"/{name} is no array")
        if _EXTERNAL in messages:
            raise LayoutError(f"/{name} lies in other files; {_WANTED}")
        start = _start(name, messages[_LAYOUT], messages.get(_FILTERS))
        return Array(name, shape, kind, start)

    def numbers(self, array: Array) -> NDArray[Any]:
        """All of an array of numbers, for one that is small beside the file's values."""
        data = self._filling(array)
        return np.frombuffer(data, array.kind.name).reshape(array.shape)

    def texts(self, array: Array) -> list[str]:
        """All of a one-dimensional array of texts."""
        return _texts(self._bytes, np.frombuffer(self._filling(array), _REFERENCE))

    def check_filled(self, array: Array) -> None:
        """Raise ValueError where the file's bytes do not fill an array."""
        if array.n_bytes > self._bytes.n:
            raise ValueError(f"/{array.name} has shape {array.shape}, more than the file's bytes")
        if array.n_bytes and array.start + array.n_bytes > self._bytes.n:
            raise ValueError(f"/{array.name} has shape {array.shape}, which no bytes fill")

    def _filling(self, array: Array) -> bytes:
        self.check_filled(array)
        return self._bytes.read(array.start, array.n_bytes, self._bytes.n) if array.n_bytes else b""

    def _address(self, name: str) -> int:
        group, _, last = name.rpartition("/")
        members = self._members(group)
        if last not in members:
            raise ValueError(f"there is no /{name}")
        if members[last] == _NOWHERE:
            raise LayoutError(f"/{name} is a link, which is not followed; {_WANTED}")
        return members[last]

    def _members(self, group: str) -> dict[str, int]:
        """Addresses of a group's members by their names; `_NOWHERE` for links."""
        if group not in self._groups:
            messages = _messages(self._bytes, group, self._address(group)) if group else self._root
            table = dict(messages).get(_TABLE)
            if table is None:
                raise ValueError(f"/{group} is no group")
            tree, heap = _unpack("<QQ", table, 0)
            head = self._bytes.signed(heap, 32, b"HEAP")  # III.D
            names = self._bytes.read(
                struct.unpack_from("<Q", head, 24)[0], _unpack("<Q", head, 8)[0]
            )
            found: dict[str, int] = {}
            for place, address, cached in _entries(self._bytes, tree):
                end = names.find(b"\0", place, place + MAX_NAME)
                name = names[place : max(end, place)].decode()
                if not name or name in found or len(found) == MAX_MEMBERS:
                    raise ValueError(f"the names in /{group}")
                found[name] = _NOWHERE if cached == 2 else address
            self._groups[group] = found
        return self._groups[group]


_REFERENCE = np.dtype(
    {
        "names": ["length", "heap", "object"],
        "formats": ["<u4", "<u8", "<u4"],
        "offsets": [0, 4, 12],
        "itemsize": 16,
    }
)


def _superblock(file: _Bytes) -> int:
    """The address of the root's object header (II.A)."""
    data = file.read(0, min(96, file.n))
    if not data.startswith(SIGNATURE):
        raise ValueError("file signature not found")
    if len(data) < 96:
        raise ValueError(f"truncated: {len(data)} bytes")
    if data[8] in (1, 2, 3):
        raise LayoutError(f"is of a later file format (superblock {data[8]}); {_WANTED}")
    base, _, end, _, _, root = struct.unpack_from("<6Q", data, 24)
    if data[8] or data[13:15] != b"\x08\x08" or base:
        raise ValueError("superblock")
    if end > file.n:
        raise ValueError(f"truncated: {file.n} of {end} bytes")
    return root


def _messages(file: _Bytes, name: str, address: int) -> list[tuple[int, bytes]]:
    """Type and data of an object header's messages (IV.A.1.a)."""
    head = file.read(address, 16)
    if head.startswith(b"OHDR"):
        raise LayoutError(f"/{name} is of a later file format; {_WANTED}")
    if head[0] != 1:
        raise ValueError(f"the header of /{name}")
    blocks, found = [(address + 16, struct.unpack_from("<I", head, 8)[0])], []
    for start, n in blocks:  # it grows on the way
        data = file.read(start, n)
        place = 0
        while place + 8 <= len(data):
            number, size, flags = struct.unpack_from("<HHB", data, place)
            body = data[place + 8 : place + 8 + size]
            if len(body) < size:
                raise ValueError(f"the header of /{name}")
            if number in _LATER:
                raise LayoutError(
                    f"/{name} is a group of a later file format (links out of the file and "
                    f"an order of creation make one); {_WANTED}"
                )
            if flags & 2:
                raise LayoutError(f"/{name} shares its type with others; {_WANTED}")
            if number == _CONTINUED and len(blocks) < MAX_MEMBERS:
                blocks.append(_unpack("<QQ", body, 0))
            elif number:
                found.append((number, body))
            place += 8 + size
    return found


def _entries(file: _Bytes, tree: int) -> Iterator[tuple[int, int, int]]:
    """Place of the name, address and kind of each symbol below a tree (III.A to III.C)."""
    nodes = [tree]
    for address in nodes:  # it grows on the way
        head = file.read(address, 24)
        if head.startswith(b"SNOD"):
            n = struct.unpack_from("<H", head, 6)[0]
            for entry in struct.iter_unpack("<QQII16x", file.read(address + 8, 40 * n)):
                yield entry[:3]
            continue
        n = struct.unpack_from("<H", head, 6)[0]
        if head[:5] != b"TREE\0" or len(nodes) + n > MAX_MEMBERS:
            raise ValueError(f"no TREE at byte {address}")
        nodes += struct.unpack(f"<{2 * n}Q", file.read(address + 24, 16 * n))[1::2]


def _texts(file: _Bytes, references: NDArray[np.void]) -> list[str]:
    """The texts that references point to (III.E, and IV.B on variable-length data)."""
    lengths = references["length"].astype(np.int64)
    total = int(lengths.sum())
    if total > file.n or (total and lengths.max() > MAX_TEXT):
        raise ValueError(f"texts of {total} bytes, the longest of {lengths.max()}")
    texts = [""] * len(references)
    rows = np.flatnonzero(lengths)
    rows = rows[np.argsort(references["heap"][rows], kind="stable")]
    heaps = references["heap"][rows]
    firsts = np.flatnonzero(np.diff(heaps, prepend=heaps[:1] ^ np.uint64(1)))
    end = 0
    for run, heap in zip(np.split(rows, firsts[1:]), heaps[firsts].tolist(), strict=False):
        if heap < end:
            raise ValueError("heaps of texts that overlap")
        objects, data = _heap(file, heap)
        end = heap + len(data)
        wanted = zip(
            run.tolist(), references["object"][run].tolist(), lengths[run].tolist(), strict=True
        )
        for row, number, length in wanted:
            start, size = objects.get(number, (0, 0))
            if length > size:
                raise ValueError("a text that is in no heap")
            texts[row] = data[start : start + length].partition(b"\0")[0].decode()
    return texts


def _heap(file: _Bytes, address: int) -> tuple[dict[int, tuple[int, int]], bytes]:
    """A collection of the global heap: places and sizes of its objects, and its bytes.

    An object is its number, its size and its bytes, padded to 8; number 0 is the space left.
    """
    size = _unpack("<Q", file.signed(address, 16, b"GCOL"), 8)[0]
    data = file.read(address, size)
    objects: dict[int, tuple[int, int]] = {}
    place = 16
    while place + 16 <= len(data):
        number, length = struct.unpack_from("<H6xQ", data, place)
        if number == 0:
            break
        if number in objects or place + 16 + length > len(data):
            raise ValueError("a heap of texts")
        objects[number] = (place + 16, length)
        place += 16 + -(-length // 8) * 8
    return objects, data


def _unpack(form: str, data: bytes, place: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(form, data, place)
    except struct.error:
        raise ValueError("a header's message") from None


def _shape(data: bytes) -> tuple[int, ...] | None:
    """Shape of a dataspace message; None for one without elements (IV.A.2.b)."""
    version, rank, _, empty = _unpack("<4B", data, 0)
    if version not in (1, 2) or rank > 32:
        raise ValueError("a shape")
    if version == 2 and empty == 2:
        return None
    return _unpack(f"<{rank}Q", data, 8 if version == 1 else 4)


def _kind(data: bytes) -> ElementType:
    """A datatype message (IV.A.2.d)."""
    first, low, sign, size = _unpack("<BBBxI", data, 0)
    number = first & 15
    order = ">" if low & 1 else "<"
    if number == 0 and size in (1, 2, 4, 8) and _unpack("<HH", data, 8) == (0, 8 * size):
        return ElementType(np.dtype(f"{order}{'i' if low & 8 else 'u'}{size}").str, size)
    if number == 1 and (data[8:20], sign) == _FLOATS.get(size) and low & 0x70 == 0x20:
        return ElementType(f"{order}f{size}", size)
    if number == 3 and size:
        return ElementType("fixed text", size)
    if number == 9 and low & 15 == 1 and size == 16:
        return ElementType("text", size)
    names = dict(enumerate(_CLASSES)) | {9: "list", 10: "array"}
    return ElementType(f"{names.get(number, 'unknown')} of {size} bytes", size)


def _start(name: str, layout: bytes, filters: bytes | None) -> int:
    """Where a contiguous array begins (IV.A.2.i); `_NOWHERE` for one without bytes."""
    version, kind = _unpack("<BB", layout, 0)
    if version not in (3, 4, 5):
        raise LayoutError(f"/{name} has a layout of version {version}; {_WANTED}")
    if filters is not None:
        at = 8 if filters[:1] == b"\x01" else 2
        number = _unpack("<H", filters, at)[0]
        what = _FILTER_NAMES.get(number, f"filter {number}")
        raise LayoutError(f"/{name} is chunked and compressed ({what}); {_WANTED}")
    if kind != 1:
        words = {0: "compact", 2: "chunked", 3: "virtual (it lies in other files)"}
        raise LayoutError(f"/{name} is {words.get(kind, 'of an unknown layout')}; {_WANTED}")
    return _unpack("<Q", layout, 2)[0]


def _attribute(data: bytes) -> tuple[str, ElementType, bytes]:
    """Name, type and value of an attribute message (IV.A.2.m)."""
    version, shared, *sizes = _unpack("<BBHHH", data, 0)
    if version not in (1, 2, 3) or (version > 1 and shared):
        raise ValueError("an attribute")
    place = 9 if version == 3 else 8
    parts = []
    for size in sizes:
        parts.append(data[place : place + size])
        place += -(-size // 8) * 8 if version == 1 else size
    name = parts[0].partition(b"\0")[0].decode()
    kind, shape = _kind(parts[1]), _shape(parts[2])
    value = data[place : place + kind.size]
    plain = kind.name in ("text", "fixed text") or kind.name[0] in "<>|"
    if shape != () or not plain or len(value) < kind.size:
        raise ValueError(f"attribute {name!r} is neither text nor a number")
    return name, kind, value
