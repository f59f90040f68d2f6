"""Damaged bytes, odd values, and a ceiling over what reading them may take."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st

from features.common.errors import UserError

MEMORY = 256 << 20
"""Bytes of address space that one example may add."""
PROCESSOR_S = 30.0
"""Processor time, not time on the clock, of one example: a loaded machine makes no hang."""

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63)

ODD_TEXT = st.one_of(
    st.sampled_from(
        ["", " ", "..", "/", "../x", "a/b", "\0", "a\0b", "nan", "-inf", "1e999", "NA", "\ufeffa"]
        + ["\u202eb", "\U0001f600", "e\u0301", "#", "@", "%s{0}", "x" * 300, "\n", "\t", '"', "'"]
    ),
    st.text(max_size=8),
)
"""Names and cells that somebody's file has; no lone surrogates, which no UTF-8 file holds."""
ODD_NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**30, -0.0, 1e308, 5e-324]),
    st.floats(),
    st.integers(),
)


def odd_values(**more: Any) -> st.SearchStrategy[Any]:
    """Values of every type that JSON and TOML share, nested a little."""
    leaves = st.one_of(ODD_TEXT, ODD_NUMBERS, st.booleans())
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3),
        max_leaves=5,
        **more,
    )


class Damaged(bytes):
    """A file's bytes, shown by their beginning when a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes, {bytes(self[:60])!r}...>"


@st.composite
def damaged(draw: st.DrawFn, *whole: bytes) -> Damaged:
    """One of several files with one to four faults: flips, cuts, numbers, splices."""
    data = bytearray(whole[draw(st.integers(0, len(whole) - 1))])
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())
        at = draw(st.integers(0, max(0, min(len(data), 160 if near else len(data)) - 1)))
        kind = draw(st.sampled_from(["flip", "number", "number", "cut", "drop", "twice", "splice"]))
        length = draw(st.integers(1, 64))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            width = draw(st.sampled_from([1, 2, 4, 8]))
            value = draw(st.sampled_from(EXTREMES)) % 256**width
            data[at : at + width] = value.to_bytes(width, draw(st.sampled_from(["little", "big"])))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + length]
        elif kind == "twice":
            data[at:at] = data[at : at + length]
        else:
            other = whole[draw(st.integers(0, len(whole) - 1))]
            data[at:] = other[draw(st.integers(0, len(other))) :]
    return Damaged(data)


@st.composite
def misfit(draw: st.DrawFn, tree: Any) -> Any:
    """A JSON-able value with one to three of its members replaced, dropped, renamed or added."""
    for _ in range(draw(st.integers(1, 3))):
        tree = _replaced(draw, tree)
    return tree


def _replaced(draw: st.DrawFn, tree: Any) -> Any:
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 5)) == 0:
        return draw(odd_values())
    if isinstance(tree, list):
        place = draw(st.integers(0, min(len(tree), 50) - 1))
        if draw(st.integers(0, 4)) == 0:
            return [*tree[:place], *tree[place + 1 :]]
        return [*tree[:place], _replaced(draw, tree[place]), *tree[place + 1 :]]
    name = draw(st.sampled_from(sorted(tree)))
    kind = draw(st.sampled_from(["value", "value", "value", "drop", "rename", "add"]))
    if kind == "value":
        return {**tree, name: _replaced(draw, tree[name])}
    if kind == "add":
        return {**tree, draw(ODD_TEXT): draw(odd_values())}
    rest = {key: value for key, value in tree.items() if key != name}
    return rest if kind == "drop" else {**rest, draw(ODD_TEXT): tree[name]}


class TooLong(BaseException):
    """An example took more processor time than reading a small file can."""


@contextlib.contextmanager
def bounded(memory: int = MEMORY, processor_s: float = PROCESSOR_S) -> Iterator[None]:
    """Let the body add so much address space (where /proc says what there is) and time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if statm.is_file():
        used = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, hard))
    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, processor_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def read_or_refused(kind: type[UserError] = UserError) -> Iterator[None]:
    """Run the body within `bounded`; a refusal must be of this kind and have a text."""
    with bounded():
        try:
            yield
        except kind as error:
            # What a file holds may stand in a message; what a terminal cannot show may not crash.
            str(error).encode("utf-8", "backslashreplace")
            if not str(error).strip():
                raise


def toml(value: Any) -> str:
    """A value as TOML in one line; tables are inline.

    >>> toml({"a b": [1.5, True, "x"]})
    '{"a b" = [1.5, true, "x"]}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def toml_file(tree: Mapping[str, Any]) -> str:
    """A table as a TOML file, one line a key."""
    return "".join(f"{toml(str(key))} = {toml(value)}\n" for key, value in tree.items())
