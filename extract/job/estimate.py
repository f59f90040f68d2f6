"""What an extraction would take: audio, batches, time at a measured rate, disk. Writes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from extract.job.compute import Extractor, begin_batch, load_items
from extract.job.device import Machine, place
from extract.job.parts import sealed_of
from extract.plan.batches import make_batches, padded_seconds
from extract.plan.work import Work, items_of
from features.common.progress import duration
from features.common.telling import Tell, silent
from features.common.words import counted
from features.stores.key import parts_path

N_MEASURED = 3
"""Batches that the rate is measured on, beside one to warm up."""
WORTH_SAYING = 2.0
"""Times the audio that a model computes by its own padding, from which a plan says so."""


@dataclass(frozen=True)
class JobEstimate:
    """What is left of one model and corpus, and how long it takes.

    Attributes
    ----------
    n_sealed : int
        Utterances that sealed parts hold already.
    n_batches : int
    audio_s, padded_s : float
        Seconds of audio that are left, without and with padding.
    longest_s : float
        Of a piece.
    n_tried : int
    measured_s, took_s : float
        Batches that were tried, their padded seconds, and how long they took.
    device : str
    """

    work: Work
    n_sealed: int
    n_batches: int
    audio_s: float
    padded_s: float
    longest_s: float
    n_tried: int
    measured_s: float
    took_s: float
    device: str

    @property
    def time_s(self) -> float:
        """Estimated seconds of computing, loading of the weights not counted."""
        return self.padded_s * self.took_s / self.measured_s if self.measured_s else 0.0

    def __str__(self) -> str:
        if self.work.idle:
            return str(self.work)
        sealed = f", {self.n_sealed} of them sealed" if self.n_sealed else ""
        head = f"{self.work}{sealed}"
        if not self.n_batches:
            return head
        rate = self.audio_s / self.time_s
        return (
            f"{head}\n    {counted(self.n_batches, 'batch', 'batches')} on {self.device}, "
            f"{self.padded_s / max(self.audio_s, 1e-9):.2f}x padded; {rate:,.1f} s of audio a "
            f"second on {counted(self.n_tried, 'batch', 'batches')} tried: about "
            f"{duration(self.time_s)}{self._of_padding()}"
        )

    def _of_padding(self) -> str:
        """What a model that pads all audio to one length costs, and what shortens it."""
        least_s = self.work.target.least_s
        if self.padded_s < WORTH_SAYING * self.audio_s or not least_s:
            return ""
        return (
            f"\n    {self.work.target.name} computes {least_s:g} s for every clip, of "
            f"{self.longest_s:.1f} s at the most: [models.{self.work.target.name}] context_s = ... "
            "computes less, and gives somewhat other vectors"
        )


def estimate(
    work: Work, machine: Machine, extractor: Extractor | None, warn: Tell = silent
) -> JobEstimate:
    """Plan the batches that are left, and time a few of them.

    Parameters
    ----------
    work : Work
    machine : Machine
    extractor : Extractor or None
        The loaded model; None where there is nothing to compute.
    warn : callable
        Gets a line on every batch that was too large.

    Returns
    -------
    JobEstimate
        The rate is that of the shortest, the median and the longest batch together.
    """
    computed, failed = sealed_of(parts_path(work.path), kinds=work.target.kinds)
    done = computed | set(failed)
    jobs = [job for job in work.jobs if (job.utterance, job.audio_hash) not in done]
    n_sealed = len(work.jobs) - len(jobs)
    if not jobs or extractor is None:
        return JobEstimate(work, n_sealed, 0, 0.0, 0.0, 0.0, 0, 0.0, 0.0, "")
    target = work.target
    device, budget_s = place(machine, target, max(job.seconds for job in jobs))
    batches = make_batches(jobs, budget_s, target.least_s)
    chosen = np.linspace(0, len(batches) - 1, min(N_MEASURED, len(batches))).round().astype(int)
    tried = [batches[len(batches) // 2], *(batches[i] for i in chosen)]
    items = [items_of(work.survey, batch) for batch in tried]
    workers = machine.n_workers(device != "cpu", target.in_decoders)
    # An acoustic set is computed where audio is decoded: here one process, there so many.
    loaded = load_items(target, items, 0 if target.in_decoders else workers)
    began = 0.0
    for number, (batch, results) in enumerate(zip(items, loaded, strict=True)):
        begin_batch(extractor, batch, results, warn, target.framewise)()
        if number == 0:
            began = time.perf_counter()
    took_s = (time.perf_counter() - began) / (max(1, workers) if target.in_decoders else 1)
    return JobEstimate(
        work, n_sealed, len(batches),
        sum(job.seconds for job in jobs), padded_seconds(batches, target.least_s),
        max(job.seconds for job in jobs), len(chosen),
        padded_seconds(tried[1:], target.least_s), took_s, device,
    )  # fmt: skip
