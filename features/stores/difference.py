"""How two stores differ: their keys, their rows, and the numbers of the rows that both have.

The error of a row is the norm of the difference over the norm of the row in the first store, as in
`benchmarks/`; one layer of each store is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.common.findings import some
from features.common.words import counted
from features.stores.frames import FrameStore
from features.stores.guard import Float32
from features.stores.read import Store

STEP_VALUES = 1 << 20
"""Values that are compared at a time, in float64."""


def differences(a: Store | FrameStore, b: Store | FrameStore) -> Iterator[str]:
    """How two stores differ, a line each, as it is found.

    Nothing comes of stores that are equal: key, rows, audio hashes, and all values bit for bit.

    Raises
    ------
    StoreError
        A block that is compared is damaged.
    """
    yield from _keys(a, b)
    if isinstance(a, Store) and isinstance(b, Store):
        yield from _statistics(a, b)
    yield from _rows(a, b)
    if isinstance(a, Store) and isinstance(b, Store):
        yield from _values(a, b)
    elif isinstance(a, FrameStore) and isinstance(b, FrameStore) and a.kind == b.kind:
        yield from _frames(a, b)
    else:
        first, second = (s.kind if isinstance(s, FrameStore) else "a store" for s in (a, b))
        yield f"{first} and {second}; values are not compared"


def extent(store: Store | FrameStore) -> str:
    """How much two equal stores have in common: rows, layers, and statistics where several."""
    counts = [(len(store.index), "row"), (len(store.layers), "layer")]
    if isinstance(store, FrameStore):
        counts.append((store.n_frames, store.kind.removesuffix("s")))
    elif len(store.statistics) > 1:
        counts.append((len(store.statistics), "statistic"))
    return ", ".join(counted(n, what) for n, what in counts)


def _keys(a: Store | FrameStore, b: Store | FrameStore) -> Iterator[str]:
    """A line for each member in which the keys differ."""
    for name in sorted({*a.key, *b.key}):
        if a.key.get(name) != b.key.get(name):
            mine, other = (repr(s.key[name]) if name in s.key else "none" for s in (a, b))
            yield f"key, {name}: {mine} and {other}"


def _statistics(a: Store, b: Store) -> Iterator[str]:
    """A line for each difference of what the columns are."""
    if a.default != b.default:
        yield f"default statistics: {', '.join(a.default)} and {', '.join(b.default)}"
    for statistic in (name for name in a.statistics if name in b.statistics):
        if a.names.get(statistic) != b.names.get(statistic):
            yield f"names of the columns of {statistic} differ"


def _rows(a: Store | FrameStore, b: Store | FrameStore) -> Iterator[str]:
    """A line for each difference of the indices."""
    ours, theirs = (dict(zip(s.index["utterance"], s.index["audio_hash"], strict=True))
                    for s in (a, b))  # fmt: skip
    for store, lines in ((a, ours.keys() - theirs.keys()), (b, theirs.keys() - ours.keys())):
        if lines:
            yield f"{counted(len(lines), 'row')} only in {store.path}: {some(sorted(lines))}"
    changed = [u for u, hashed in sorted(ours.items()) if theirs.get(u) not in (None, hashed)]
    if changed:
        yield f"{counted(len(changed), 'row')} of other audio: {some(changed)}"


def _frames(a: FrameStore, b: FrameStore) -> Iterator[str]:
    """A line for each layer in which not all frames, or segments, of common rows are equal."""
    common, here, there = np.intersect1d(
        a.index["utterance"].to_numpy(str), b.index["utterance"].to_numpy(str),
        assume_unique=True, return_indices=True,
    )  # fmt: skip
    if a.width != b.width:
        yield f"{a.width} and {b.width} columns; not compared"
        return
    other = a.lengths[here] != b.lengths[there]
    if other.any():
        yield (
            f"{counted(int(other.sum()), 'row')} with other numbers of {a.kind}: "
            f"{some(common[other].tolist())}"
        )
    for layer in (index for index in a.layers if index in b.layers):
        n_equal, worst, where = 0, -1.0, ""
        for name, row, match in zip(common[~other], here[~other], there[~other], strict=True):
            x, y = (
                store.read(store.layers.index(layer), *store.offsets[at : at + 2].tolist())
                for store, at in ((a, row), (b, match))
            )
            rows = np.arange(len(x))
            equal, error = _compare(
                x.astype(np.float32, copy=False), y.astype(np.float32, copy=False), rows, rows
            )
            n_equal += bool(equal.all())
            if error.max() > worst and not equal.all():
                worst, where = float(error.max()), str(name)
        if where:
            yield (
                f"{a.kind}, layer {layer}: {n_equal} of {int((~other).sum())} rows are equal, "
                f"largest relative error of a {a.kind.removesuffix('s')} {worst:.2e} ({where})"
            )


def _values(a: Store, b: Store) -> Iterator[str]:
    """A line for each layer of each statistic in which not all common rows are equal."""
    common, here, there = np.intersect1d(
        a.index["utterance"].to_numpy(str), b.index["utterance"].to_numpy(str),
        assume_unique=True, return_indices=True,
    )  # fmt: skip
    if not len(common):
        return
    worst, where = -1.0, ""
    for statistic in (name for name in a.statistics if name in b.statistics):
        widths = a.columns(statistic), b.columns(statistic)
        if widths[0] != widths[1]:
            yield f"{statistic}: {widths[0]} and {widths[1]} columns; not compared"
            continue
        for layer in (index for index in a.layers if index in b.layers):
            x = a.read_position(a.layers.index(layer), statistic, check=True)
            y = b.read_position(b.layers.index(layer), statistic, check=True)
            equal, error = _compare(x, y, here, there)
            if equal.all():
                continue
            most = int(error.argmax())
            if error[most] > worst:
                worst, where = float(error[most]), f"{common[most]}, {statistic}, layer {layer}"
            yield (
                f"{statistic}, layer {layer}: {equal.sum()} of {len(common)} rows are equal, "
                f"largest relative error {error[most]:.2e} ({common[most]})"
            )
    if where:
        yield f"largest relative error of all: {worst:.2e} ({where})"


def _compare(
    x: Float32, y: Float32, here: NDArray[np.intp], there: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which common rows are equal bit for bit, and the relative error of each; (n_common,)."""
    equal = np.empty(len(here), dtype=bool)
    error = np.empty(len(here))
    step = max(1, STEP_VALUES // x.shape[1])
    for start in range(0, len(here), step):
        part = slice(start, start + step)
        first, second = x[here[part]], y[there[part]]
        equal[part] = (first.view(np.uint32) == second.view(np.uint32)).all(axis=1)
        gap = np.linalg.norm(first.astype(np.float64) - second, axis=1)
        norm = np.linalg.norm(first.astype(np.float64), axis=1)
        # A row of zeros beside one that is not: the error is infinite.
        with np.errstate(divide="ignore", invalid="ignore"):
            error[part] = np.where(gap == 0, 0.0, gap / norm)
    return equal, error
