"""Where a model runs: device, memory, workers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from extract.encoders.costs import budget_s
from extract.encoders.description import Description
from extract.job.parts import SEAL_AFTER_BYTES
from extract.plan.work import Target
from features.common.errors import ModelError

BATCH_SECONDS = {"cpu": 16.0, "mps": 64.0}
"""Padded seconds a batch. On a CPU one file fills the cores and padding costs; see benchmarks/."""

MAX_GPU_WORKERS = 8


@dataclass(frozen=True)
class Machine:
    """Where and how an extraction computes; nothing here changes a number beyond rounding."""

    device: str = "auto"
    batch_seconds: float | None = None
    jobs: int = -1
    workers: int | None = None

    def n_workers(self, on_gpu: bool, in_decoders: bool) -> int:
        """Decoders: all jobs for acoustic sets, none beside an encoder on the CPU.

        Decoding is well below a hundredth of a CPU encoder's work, whose cores are busy.
        """
        if self.workers is not None:
            return self.workers
        jobs = self.jobs if self.jobs > 0 else (os.cpu_count() or 1)
        if in_decoders:
            return jobs
        return min(jobs, MAX_GPU_WORKERS) if on_gpu else 0


def place(machine: Machine, target: Target, longest_s: float) -> tuple[str, float]:
    """Where a model computes here, and how much at once.

    Parameters
    ----------
    machine : Machine
    target : Target
    longest_s : float
        The longest utterance, in seconds.

    Returns
    -------
    device : str
    budget_s : float
        Padded seconds a batch: as asked for, else, on CUDA, by the free memory, and such that the
        frames and segments of a batch, where they are asked for, fill a part.
    """
    device = device_of(machine.device, target)
    kind = device.split(":")[0]
    speech = target.description if isinstance(target.description, Description) else None
    if speech and speech.engine == "reference":
        return device, 0.0  # each file is a batch of its own
    if machine.batch_seconds:
        return device, machine.batch_seconds
    if kind != "cuda" or speech is None:
        return device, BATCH_SECONDS[kind]
    import torch

    free_bytes, _ = torch.cuda.mem_get_info(device)
    fitting_s = budget_s(speech, free_bytes, longest_s)
    if target.framewise:
        # What a batch gives in time is in memory together, and a part holds whole batches. Of
        # segments a second of audio has as many as an utterance, or as it has frames.
        fitting_s = min(fitting_s, SEAL_AFTER_BYTES / target.frame_bytes([1.0]))
    return device, fitting_s


def device_of(asked: str, target: Target) -> str:
    """Where a model computes: what decodes is the CPU's work in any case."""
    return "cpu" if target.in_decoders else resolve_device(asked)


def resolve_device(asked: str) -> str:
    """Resolve `auto`; the first import of torch.

    Parameters
    ----------
    asked : {"auto", "cpu", "mps", "cuda", "cuda:N"}

    Returns
    -------
    str
        Never "auto".

    Raises
    ------
    ModelError
        There is no such device.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", asked):
        raise ModelError(f"DEVICE={asked}: allowed are auto, cpu, cuda, cuda:N, mps")
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = asked.split(":")[0]
    if (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    ):
        raise ModelError(f"DEVICE={asked}: torch sees no such device here; use DEVICE=auto or cpu")
    if kind == "cuda" and ":" in asked and int(asked.split(":")[1]) >= torch.cuda.device_count():
        raise ModelError(f"DEVICE={asked}: this machine has {torch.cuda.device_count()} of them")
    return asked
