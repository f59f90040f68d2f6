"""An SVC grid over shared kernel matrices, beside the same fits by scikit-learn, in one run.

Features of EmoDB's size with ComParE's columns (535 x 6,373, ten speakers, seven classes, made of
noise and class centres), leave one speaker out, five speaker-disjoint inner folds: the search of
`recipes/emodb.toml`. Both ways use all cores, on the same folds. The exit code is 1 where a chosen
cell or a held-out prediction differs; speed decides nothing.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from features.recipe import HeadSpec, SplitSpec
from features.splits import inner_folds, outer_folds
from models.search import Choice, Fits, Problem, decide, search

N, COLUMNS, SPEAKERS = 535, 6373, 10
LABELS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
SPLIT = SplitSpec(outer="leave-one-speaker-out", inner="speaker-k-fold")


def main() -> int:
    """Time both ways and compare what they choose and predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="2 outer folds, 1,000 columns")
    small = parser.parse_args().small
    n_columns, n_outer = (1000, 2) if small else (COLUMNS, SPEAKERS)
    rng = np.random.default_rng(0)
    y = rng.choice(LABELS, N)
    centres = rng.normal(size=(len(LABELS), n_columns))
    X = 0.1 * centres[[LABELS.index(one) for one in y]] + rng.normal(size=(N, n_columns))
    rows = pd.DataFrame(
        {
            "corpus": "made",
            "utterance": [f"u{i:03}" for i in range(N)],
            "speaker": [f"{one:02}" for one in rng.integers(0, SPEAKERS, N)],
        }
    )
    outer = outer_folds(rows, SPLIT, y)[:n_outer]
    choices: dict[str, list[Choice]] = {}
    took: dict[str, float] = {}
    for engine in ("sklearn", "exact-path"):
        head = HeadSpec(
            kind="svc",
            select="uar",
            grid={"kernel": ["linear", "rbf"], "C": [0.01, 0.1, 1.0, 10.0]},
            fixed={"class_weight": "balanced", "gamma": "scale"},
            engine=engine,
        )
        problem = Problem(X.astype(np.float32), y, LABELS, head)
        start = time.perf_counter()
        with Fits(problem, -1, n_outer * 8 * SPLIT.inner_folds) as fits:
            choices[engine] = [
                search(problem, inner_folds(rows, fold.train, y, SPLIT), fits, fold.name)
                for fold in outer
            ]
        took[engine] = time.perf_counter() - start
        print(f"{engine}: {fits.done} fits in {took[engine]:.1f} s", flush=True)
    theirs, ours = choices["sklearn"], choices["exact-path"]
    cells = sum(a.cells != b.cells for a, b in zip(theirs, ours, strict=True))
    labels = [
        (decide(a.values, LABELS) != decide(b.values, LABELS)).sum()
        for a, b in zip(theirs, ours, strict=True)
    ]
    print(f"ratio {took['sklearn'] / took['exact-path']:.1f}; {N} x {n_columns}, {n_outer} folds")
    print(f"chosen cells that differ: {cells}; held-out predictions that differ: {sum(labels)}")
    return int(bool(cells or sum(labels)))


if __name__ == "__main__":
    raise SystemExit(main())
