"""Bootstrap of Spearman's rho beside the usual loop, and the other statistics of a large test set.

The data are made: as many rows as the devel part of Hume-Prosody, nine shares of which many are
equal, predictions of ten systems without ties, no speakers.

- The reference takes the rows of a resample and calls `scipy.stats.spearmanr` for each target and
  system, one after the other. A sample of the resamples is timed before and after ours and scaled:
  every resample costs the same.
- Ours is `evaluate.statistics.resampling.systems_resampled`, which gives Pearson's r, CCC, MAE and
  MSE in the same pass, in threads on all cores. Its first call, which compiles, is not timed. The
  median of the repeats counts.
- Both sides see the same resamples, and every sampled value is compared.
- Below it stand the permutation test of every two systems and the Shapley values of all but one of
  them as they are computed for `statistics.json`, ours alone.

The exit code is 1 where a value is further than 1e-12 from scipy's; a missed goal of speed is
printed and decides nothing.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.common import machine, spread
from evaluate.metrics import complementarity
from evaluate.scores.pairs import N_SWAPS, value_of_values
from evaluate.statistics import permutations as comparisons
from evaluate.statistics import resampling as intervals

GOAL = 50
TOLERANCE = 1e-12
FULL = (12_241, 9, 10, 1_000)
"""Rows, targets, systems, resamples."""
SMALL = (2_000, 3, 4, 200)

Floats = NDArray[np.float64]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; the exit code says whether all values agree."""
    parser = argparse.ArgumentParser(prog="benchmarks/resampling.py", description=__doc__)
    parser.add_argument("--small", action="store_true", help="fewer of everything")
    parser.add_argument("--repeats", type=int, default=3, help="runs of ours (%(default)s)")
    parser.add_argument("--sample", type=int, default=5, help="resamples of the loop, each time")
    args = parser.parse_args(argv)
    n, n_targets, n_systems, n_resamples = SMALL if args.small else FULL
    print(machine("numpy", "scipy", "numba"))
    print(f"Load average before: {os.getloadavg()[0]:.1f}.")
    truth, predictions = made(n, n_targets, n_systems)
    drawn = intervals.draw([""] * n, n_resamples, seed=0)
    few = intervals.Resamples(drawn.unit, drawn.counts[:, :2])
    intervals.systems_resampled(truth, predictions, few)

    loop = functools.partial(authors_loop, truth, predictions, drawn)
    before, first = timed(lambda: loop(range(args.sample)))
    ours: list[Seconds] = []
    for _ in range(args.repeats):
        took, found = timed(lambda: intervals.systems_resampled(truth, predictions, drawn))
        ours.append(took)
    after, last = timed(lambda: loop(range(n_resamples - args.sample, n_resamples)))
    rho = found["spearman"]
    worst = max(
        np.abs(rho[:, :, : args.sample] - first).max(),
        np.abs(rho[:, :, -args.sample :] - last).max(),
    )
    print(
        f"\n{n:,} rows x {n_targets} targets x {n_systems} systems x {n_resamples:,} resamples; "
        f"loop from {2 * args.sample} resamples; largest difference {worst:.1e}."
        "\n\n| seconds | loop | ours | ratio | goal |\n|---|---|---|---|---|"
    )
    for field, name in (("wall", "on the clock"), ("cpu", "of processors")):
        scale = n_resamples / args.sample
        theirs = [getattr(one, field) * scale for one in (before, after)]
        took_s = [getattr(one, field) for one in ours]
        ratio = statistics.mean(theirs) / statistics.median(took_s)
        goal = f"{GOAL}x: {'met' if ratio >= GOAL else '**missed**'}" if field == "wall" else "-"
        print(
            f"| {name} | {min(theirs):.0f} to {max(theirs):.0f} | {spread(took_s)} | {ratio:.0f} "
            f"| {goal} |"
        )
    swaps = comparisons.draw_swaps([""] * n, N_SWAPS, seed=0)
    tests, _ = timed(lambda: comparisons.regression_p(truth, predictions, "spearman", swaps))
    value = functools.partial(value_of_values, truth, predictions[1:], ["spearman"])
    shapley, adds = timed(lambda: complementarity.contributions(value, n_systems - 1, [0.0], 0))
    print(
        "\n| ours alone | s |\n|---|---|"
        f"\n| {N_SWAPS:,} swaps, {n_systems * (n_systems - 1) // 2} pairs | {tests.wall:.1f} |"
        f"\n| {adds.n_subsets} subsets of {n_systems - 1} models | {shapley.wall:.1f} |"
        f"\n\nLoad average after: {os.getloadavg()[0]:.1f}."
    )
    if worst > TOLERANCE:
        print(f"A value is {worst:.1e} from scipy's, more than {TOLERANCE:.0e}.")
    return int(worst > TOLERANCE)


def made(n: int, n_targets: int, n_systems: int) -> tuple[Floats, Floats]:
    """Truth (n, n_targets) with ties, and predictions (n_systems, n, n_targets) without."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 400, (n, n_targets)) / 400
    shared = rng.normal(size=(n, n_targets))
    own = rng.normal(size=(n_systems, n, n_targets))
    return truth, truth + 0.3 * shared + 0.3 * own


def authors_loop(
    truth: Floats, predictions: Floats, drawn: intervals.Resamples, resamples: Sequence[int]
) -> Floats:
    """Spearman's rho by scipy, one at a time; shape (n_systems, n_targets, n of resamples)."""
    result = np.empty((len(predictions), truth.shape[1], len(resamples)))
    for b, resample in enumerate(resamples):
        rows = np.repeat(np.arange(len(truth)), drawn.counts[drawn.unit, resample].astype(int))
        for s, prediction in enumerate(predictions):
            for t in range(truth.shape[1]):
                result[s, t, b] = spearmanr(truth[rows, t], prediction[rows, t])[0]
    return result


@dataclass(frozen=True)
class Seconds:
    """On the clock, and of all processors together: those do not count what others take."""

    wall: float
    cpu: float


def timed(function: Callable[[], Any]) -> tuple[Seconds, Any]:
    """How long a function takes, and what it gives."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


if __name__ == "__main__":
    raise SystemExit(main())
