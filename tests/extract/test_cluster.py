"""Slabs: what of a plan goes to a worker in one message."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from extract import acoustic
from extract.audio import Clip
from extract.encoders.registry import find_model
from extract.job import cluster
from extract.job.compute import Item
from extract.job.parts import Slab
from extract.plan.batches import BatchPlan, Pending, make_batches
from extract.plan.work import make_target


@pytest.fixture
def plan() -> BatchPlan:
    jobs = [Pending(f"speaker-{i // 100:04}/u{i:06}", f"{i:032x}", 2.0) for i in range(20_000)]
    return BatchPlan({}, make_batches(jobs, 16.0))


@pytest.fixture
def whole(tmp_path: Path) -> Slab:
    target = make_target(find_model("mfcc"), acoustic.describe("mfcc"))
    return Slab(target, tmp_path, "00000000", [])


def items(batch: list[Pending]) -> list[Item]:
    return [
        Item(job, Clip(job.utterance, f"/data/corpus/wav/{job.utterance}.wav"), 64_044, 10**18)
        for job in batch
    ]


def test_slabs_hold_each_batch_once_in_order(plan: BatchPlan, whole: Slab) -> None:
    numbers = [number for number in range(len(plan.batches)) if number % 3]
    slabs = list(cluster.cut(whole, plan, numbers, items, 2))
    assert [number for slab in slabs for number, _ in slab.batches] == numbers
    assert all(
        [item.job for item in batch] == plan.batches[number]
        for slab in slabs
        for number, batch in slab.batches
    )
    assert len(slabs) >= 2 * cluster.SLABS_A_WORKER


def test_a_slab_is_about_one_part_and_its_message_a_megabyte(
    plan: BatchPlan, whole: Slab, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(len(plan.batches))
    monkeypatch.setattr(cluster, "SLABS_A_WORKER", 1)
    slabs = list(cluster.cut(whole, plan, numbers, items, 1))
    assert [sum(len(batch) for _, batch in slab.batches) for slab in slabs] == [4_000] * 5
    assert max(len(pickle.dumps(slab)) for slab in slabs) < 1_100_000
    monkeypatch.setattr(cluster, "SEAL_AFTER_BYTES", 100 * whole.target.row_bytes)
    slabs = list(cluster.cut(whole, plan, numbers, items, 1))
    assert max(sum(len(batch) for _, batch in slab.batches) for slab in slabs) == 96
