"""Sealed parts of an extraction under way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.frames import FrameOutput
from extract.plan.work import Item, Target
from features.common.ending import in_full
from features.common.errors import StoreError
from features.common.files import Stamp, file_stamp
from features.stores.frames import gathered
from features.stores.key import frames_beside
from features.stores.read import Store
from features.stores.write import write_frames, write_store

SEAL_AFTER_S = 60.0

SEAL_AFTER_BYTES = 256_000_000

Features = dict[str, NDArray[np.float32]]
"""Statistic -> shape (n_layers, n_utterances, n_columns)."""


class Embedded(NamedTuple):
    """A finished batch.

    Attributes
    ----------
    features : dict
        Of the good utterances.
    good : list of Item
    bad : list of (Item, reason)
    framewise : dict
        Kind -> arrays (n_layers, n_frames, width), or reasons why they cannot be stored: one each
        of the good utterances. Without the kinds that are not asked for.
    """

    features: Features
    good: list[Item]
    bad: list[tuple[Item, str]]
    framewise: dict[str, list[NDArray[Any] | str]]

    def n_bytes(self, row_bytes: int) -> int:
        """Bytes that it takes in a part."""
        in_time = sum(
            values.nbytes
            for each in self.framewise.values()
            for values in each
            if not isinstance(values, str)
        )
        return len(self.good) * row_bytes + in_time


Failed = dict[tuple[str, str], str]
"""(utterance, audio hash) -> reason."""


@dataclass(frozen=True)
class Slab:
    """Batches of a plan that one process computes and seals.

    Attributes
    ----------
    target : Target
    folder : Path
        Where the parts go.
    plan : str
        The plan's name: in the names of the parts.
    batches : list of (number, list of Item)
        Ascending numbers of the plan.
    """

    target: Target
    folder: Path
    plan: str
    batches: list[tuple[int, list[Item]]]

    @property
    def audio_s(self) -> float:
        """Seconds of audio."""
        return sum(item.job.seconds for _, batch in self.batches for item in batch)

    @property
    def title(self) -> str:
        """What errors call it."""
        numbers = [number for number, _ in self.batches]
        return (
            f"{self.target.title}: batches {numbers[0]} to {numbers[-1]} of {self.folder} (first "
            f"utterance {self.batches[0][1][0].job.utterance})"
        )

    def left(self) -> Slab:
        """The same without the batches that its parts hold already.

        Returns
        -------
        Slab
            A batch stays whole where one of its utterances is neither computed nor failed.
        """
        computed, failed = sealed_of(
            self.folder,
            self.plan,
            (n for n, _ in self.batches),
            kinds=self.target.kinds,
        )
        done = computed | set(failed)
        left = [
            (number, batch)
            for number, batch in self.batches
            if any((item.job.utterance, item.job.audio_hash) not in done for item in batch)
        ]
        return Slab(self.target, self.folder, self.plan, left)


def sealed_of(
    folder: Path,
    plan: str = "*",
    numbers: Iterable[int] | None = None,
    *,
    kinds: Sequence[str] = (),
) -> tuple[set[tuple[str, str]], Failed]:
    """What the parts of a plan (of all) hold, and what failed in them, as their indices say.

    Parameters
    ----------
    folder : Path
    plan : str
    numbers : iterable of int, optional
        Only the parts that begin with one of these batches; no other is looked for.
    kinds : sequence of str
        Only parts that have these beside them.

    Returns
    -------
    done : set of (utterance, audio hash)
    failed : dict
        (utterance, audio hash) -> reason.
    """
    if numbers is None:
        paths = sorted(folder.glob(f"part-{plan}-*.h5"))
    else:
        paths = [path for path in (_part_path(folder, plan, n) for n in numbers) if path.exists()]
    done: set[tuple[str, str]] = set()
    failed: Failed = {}
    for path in paths:
        if not all(frames_beside(path, kind).exists() for kind in kinds):
            continue
        # A damaged part holds nothing: its batches are computed again, and replace it.
        with contextlib.suppress(StoreError), Store(path) as part:
            done.update(zip(part.index["utterance"], part.index["audio_hash"], strict=True))
            failed.update({(u, h): reason for u, h, reason in part.failed})
    return done, failed


def _part_path(folder: Path, plan: str, number: int) -> Path:
    return folder / f"part-{plan}-{number:06d}.h5"


@dataclass
class Outcome:
    """What came of a slab."""

    computed: int = 0
    computed_s: float = 0.0
    failed: Failed = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Take over another slab's."""
        self.computed += other.computed
        self.computed_s += other.computed_s
        self.failed |= other.failed


class _Part:
    """Finished batches that are not sealed yet."""

    def __init__(self, slab: Slab, outcome: Outcome, may_write: Callable[[], None]) -> None:
        self._slab, self._outcome, self._may_write = slab, outcome, may_write
        self._clear()

    def _clear(self) -> None:
        self._since = time.monotonic()
        self._batches: list[tuple[int, Embedded]] = []
        self._before: Stamp | None = None

    @property
    def full(self) -> bool:
        """Whether it is time to seal."""
        row_bytes = self._slab.target.row_bytes
        n_bytes = sum(batch.n_bytes(row_bytes) for _, batch in self._batches)
        return n_bytes >= SEAL_AFTER_BYTES or time.monotonic() - self._since >= SEAL_AFTER_S

    def add(self, number: int, batch: Embedded) -> None:
        """Take a finished batch; whole or not at all, should a signal come now."""
        if not self._batches:
            self._before = file_stamp(_part_path(self._slab.folder, self._slab.plan, number))
        self._batches.append((number, batch))

    def seal(self) -> None:
        """Write what is there as a part that is never touched again.

        A signal on the way leaves what is there to the next call, which writes nothing twice.
        """
        if not self._batches:
            return
        path = _part_path(self._slab.folder, self._slab.plan, self._batches[0][0])
        if file_stamp(path) == self._before:
            try:
                with in_full():
                    self._may_write()
                    self._write(path)
            except StoreError:
                self._clear()  # it fails once: whoever catches it finds nothing left to seal
                raise
        items = [item for _, batch in self._batches for item in batch.good]
        self._outcome.computed += len(items)
        self._outcome.computed_s += sum(item.job.seconds for item in items)
        self._outcome.failed |= {
            (item.job.utterance, item.job.audio_hash): reason
            for _, batch in self._batches
            for item, reason in batch.bad
        }
        self._clear()

    def _write(self, path: Path) -> None:
        target = self._slab.target
        batches = [batch for _, batch in self._batches]
        items = [item for batch in batches for item in batch.good]
        blocks = [batch.features for batch in batches if batch.good]
        failed = [pair for batch in batches for pair in batch.bad]
        for output in target.framewise:
            # First: the part of the store says that all are there.
            _write_frames(frames_beside(path, output.kind), target, output, items, batches, failed)

        def matrix(statistic: str, position: int, start: int, stop: int) -> NDArray[np.float32]:
            return np.concatenate([block[statistic][position] for block in blocks])[start:stop]

        write_store(
            path, target.key, _index(items), target.layers, matrix,
            default=target.default, columns=target.columns, failed=_failed_rows(failed),
        )  # fmt: skip


def _index(items: Sequence[Item]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "utterance": [item.job.utterance for item in items],
            "audio_hash": [item.job.audio_hash for item in items],
            "size": np.array([item.size for item in items], np.int64),
            "mtime_ns": np.array([item.mtime_ns for item in items], np.int64),
        }
    )


def _failed_rows(failed: Sequence[tuple[Item, str]]) -> list[tuple[str, str, str]]:
    return [(item.job.utterance, item.job.audio_hash, reason) for item, reason in failed]


def _write_frames(
    path: Path,
    target: Target,
    output: FrameOutput,
    items: Sequence[Item],
    batches: Sequence[Embedded],
    failed: Sequence[tuple[Item, str]],
) -> None:
    """Seal the frames, or segments, of finished batches."""
    found = (one for batch in batches if batch.good for one in batch.framewise[output.kind])
    each = list(zip(items, found, strict=True))
    kept = [(item, one) for item, one in each if not isinstance(one, str)]
    failed = [*failed, *((item, one) for item, one in each if isinstance(one, str))]
    values = [one for _, one in kept]
    offsets = np.append(0, np.cumsum([one.shape[1] for one in values], dtype=np.int64))

    def frames(position: int, start: int, stop: int) -> NDArray[Any]:
        return gathered(offsets, start, stop, lambda row, a, b: values[row][position, a:b])

    write_frames(
        path, output.key(target.key), _index([item for item, _ in kept]), offsets, output.layers,
        frames, width=output.width, failed=_failed_rows(failed),
    )  # fmt: skip
