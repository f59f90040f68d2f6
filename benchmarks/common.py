"""What benchmarks share: a process of its own, the machine in a line, medians, made speech."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process of its own.

    A process's peak memory never falls, and counts what its parent had when it was started: the
    parent holds no data and imports no torch.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def peak_bytes(*, of_children: bool = False) -> int:
    """Most resident bytes of this process so far, or of the largest of its children that ended."""
    who = resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def say(text: str) -> None:
    """Tell how far things are, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def goal_verdict(met: bool, small: bool) -> str:
    """Whether a goal is met; goals are for the full sizes, the short form has no verdict."""
    return "short form" if small else "met" if met else "**missed**"


def say_short(small: bool) -> None:
    """In the short form, tell why there are no verdicts."""
    if small:
        print("\nShort form: the goals are for the full sizes.")


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most where there are several."""
    rest = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.2f}{rest}"


def machine(*packages: str) -> str:
    """Date, processor, memory and versions in a line."""
    name, memory = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [one.split(":", 1)[1].strip() for one in lines if one.startswith("model name")]
        name = names[0] if names else name
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = f", {total / 2**30:.0f} GiB of memory"
    versions = [f"{one} {version(one)}" for one in packages]
    software = ", ".join([f"Python {platform.python_version()}", *versions])
    return f"{date.today()}. {name}, {os.cpu_count()} cores{memory}. {software}."


def speechlike(rng: np.random.Generator, n_samples: int, rate_hz: int) -> NDArray[np.float64]:
    """Noise with a falling spectrum and the loudness of syllables, within 1; shape (n_samples,)."""
    samples = rng.normal(size=n_samples)
    samples = scipy.signal.lfilter([1.0], [1.0, -0.95], samples)  # falls by 6 dB an octave
    time_s = np.arange(len(samples)) / rate_hz
    syllables = np.sin(np.pi * rng.uniform(3, 6) * time_s + rng.uniform(0, np.pi)) ** 2
    samples *= syllables * rng.uniform(0.01, 0.1)
    return np.clip(samples, -1, 1)
