"""The plan: length-sorted batches under a budget of padded seconds, kept with the parts.

A resume redoes whole batches of the plan on disk, so that an extraction that was killed equals one
that was not, bit for bit, whatever the second command says about the budget.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.common.errors import StoreError
from features.common.files import parse_json, read_text, write_text
from features.stores.key import key_difference

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Pending:
    """An utterance to be computed: its id, the hash of its audio, its length in seconds."""

    utterance: str
    audio_hash: str
    seconds: float


def make_batches(
    jobs: Sequence[Pending], budget_s: float, least_s: float = 0.0
) -> list[list[Pending]]:
    """Sort by length, longest first, and cut where the padded seconds would pass the budget.

    An utterance counts as `least_s` at least: whisper's encoder takes 30 s however short it is.
    Longest first, so that what does not fit the device's memory shows at once. Ties are in order of
    the ids: the plan depends on the utterances alone.

    Parameters
    ----------
    jobs : sequence of Pending
    budget_s : float
        Padded seconds of a batch; an utterance that is longer is a batch alone.
    least_s : float
        What an utterance counts at least.

    Returns
    -------
    list of lists of Pending

    Examples
    --------
    >>> jobs = [Pending("a", "", 2.0), Pending("b", "", 3.0), Pending("c", "", 2.0)]
    >>> [[job.utterance for job in batch] for batch in make_batches(jobs, 6.0)]
    [['b', 'a'], ['c']]
    """
    batches: list[list[Pending]] = []
    for job in sorted(jobs, key=lambda pending: (-pending.seconds, pending.utterance)):
        longest = max(batches[-1][0].seconds, least_s) if batches else 0.0
        if batches and (len(batches[-1]) + 1) * longest <= budget_s:
            batches[-1].append(job)
        else:
            batches.append([job])
    return batches


def padded_seconds(batches: Sequence[Sequence[Pending]], least_s: float = 0.0) -> float:
    """Seconds that the device sees, padding counted."""
    return sum(len(batch) * max(batch[0].seconds, least_s) for batch in batches)


@dataclass(frozen=True)
class BatchPlan:
    """Batches of one extraction, and the key under which they are computed."""

    key: dict[str, Any]
    batches: list[list[Pending]]

    @property
    def name(self) -> str:
        """Hash of the plan: in the names of the parts that were sealed under it."""
        return hashlib.blake2b(self._text().encode(), digest_size=4).hexdigest()

    def _text(self) -> str:
        batches = [[[j.utterance, j.audio_hash, j.seconds] for j in b] for b in self.batches]
        return json.dumps({"key": self.key, "batches": batches}, sort_keys=True)

    def jobs(self) -> set[tuple[str, str]]:
        """All (utterance, audio hash) of the plan."""
        return {(job.utterance, job.audio_hash) for batch in self.batches for job in batch}

    def left(self, settled: Set[tuple[str, str]]) -> list[int]:
        """Numbers of the batches with an (utterance, audio hash) that is not settled."""
        return [
            number
            for number, batch in enumerate(self.batches)
            if any((job.utterance, job.audio_hash) not in settled for job in batch)
        ]

    def write(self, folder: Path) -> None:
        """Keep the plan beside the parts."""
        write_text(folder / PLAN_FILE, self._text(), StoreError)


def read_plan(folder: Path) -> BatchPlan | None:
    """The plan of a folder of parts; None where there is none.

    Parameters
    ----------
    folder : Path
        Of the parts.

    Returns
    -------
    BatchPlan or None

    Raises
    ------
    StoreError
        The plan cannot be read.
    """
    path = folder / PLAN_FILE
    try:
        raw = parse_json(read_text(path))
        return BatchPlan(
            dict(raw["key"]), [[_job(*job) for job in b] for b in _filled(raw["batches"])]
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); delete {folder}") from None


def _filled(batches: list[list[Any]]) -> list[list[Any]]:
    if not all(batches):
        raise ValueError("a batch without an utterance")
    return batches


def _job(utterance: str, audio_hash: str, seconds: float) -> Pending:
    """A job as `BatchPlan.write` wrote it, and nothing else."""
    if not (
        isinstance(utterance, str)
        and isinstance(audio_hash, str)
        and isinstance(seconds, float)
        and 0 <= seconds < math.inf
    ):
        raise ValueError(f"no job: {[utterance, audio_hash, seconds]!r}")
    return Pending(utterance, audio_hash, seconds)


def refuse_other_key(folder: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse to go on with an extraction of other settings.

    Parameters
    ----------
    folder : Path
        Of the parts.
    ours, theirs : mapping
        The key that is asked for, and that of the plan or a part.

    Raises
    ------
    StoreError
        Naming what differs, with both values.
    """
    difference = key_difference(ours, theirs)
    if difference:
        raise StoreError(
            f"{folder}: an extraction with other settings is under way ({difference}); finish "
            f"it with those settings, or delete the folder"
        )


def current_plan(
    folder: Path,
    key: Mapping[str, Any],
    jobs: Sequence[Pending],
    done: set[tuple[str, str]],
    budget_s: float,
    least_s: float = 0.0,
) -> BatchPlan:
    """The plan to work on: the one on disk where it still holds, else a new one for what is left.

    Parameters
    ----------
    folder : Path
        Folder of the parts.
    key : mapping
        Complete key of the extraction.
    jobs : sequence of Pending
        All that the store lacks.
    done : set of (utterance, audio hash)
        What sealed parts hold already.
    budget_s, least_s : float
        Padded seconds a batch, and what an utterance counts at least.

    Returns
    -------
    BatchPlan
        Written to `folder` where it is new.

    Raises
    ------
    StoreError
        The plan on disk was made under another key (both values are named).
    """
    plan = read_plan(folder)
    wanted = {(job.utterance, job.audio_hash) for job in jobs}
    if plan is not None:
        refuse_other_key(folder, key, plan.key)
        if plan.jobs() | done >= wanted and plan.jobs() <= wanted:
            return plan
    left = [job for job in jobs if (job.utterance, job.audio_hash) not in done]
    plan = BatchPlan(dict(key), make_batches(left, budget_s, least_s))
    plan.write(folder)
    return plan
