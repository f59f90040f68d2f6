"""Heads on many workers, by Dask: one run (a model at a layer) is one task.

Conventions
-----------
- A worker reads the stores and writes the run's folder itself: no matrix and no head goes over the
  wire. A run is fitted by one worker with all its threads, which change no number.
- Sharing one run's fits among workers would send them its matrix for work that the exact paths do
  in seconds.
"""

from __future__ import annotations

import contextlib
import io
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluate.runs.folders import layer_tag
from features.common.progress import Progress
from features.common.workers import Workers, task
from features.recipe.model import Recipe
from models.train import train_model


def train_on(
    workers: Workers,
    recipe: Recipe,
    work: Sequence[tuple[str, int | str]],
    *,
    stores: Path,
    runs: Path,
    jobs: int,
    force: bool,
    allow_failures: int,
) -> None:
    """Train models at layers on workers, and print what each run says as it ends.

    Parameters
    ----------
    workers : Workers
    recipe : Recipe
    work : sequence of (model, layer)
    stores, runs, force, allow_failures
        As for `models.train.train_model`.
    jobs : int
        Threads and processes of each worker; -1 is its share of the cores.

    Raises
    ------
    ClusterError
        A run's workers died, one after the other, or the scheduler is gone.
    """
    from distributed import as_completed

    settings = {
        "stores": stores.absolute(),
        "runs": runs.absolute(),
        "jobs": workers.threads if jobs < 0 else jobs,
        "force": force,
        "allow_failures": allow_failures,
    }
    group = uuid.uuid4().hex[:8]
    under_way: dict[Any, str] = {}
    for model, layer in work:
        tag = layer_tag(model, layer)
        future = workers.client.submit(
            train_one, group, recipe, model, layer, settings, key=f"train-{tag}-{group}"
        )
        under_way[future] = tag
    progress = Progress("train", len(work), "runs")
    try:
        for future in as_completed(list(under_way), loop=workers.client.loop):
            tag = under_way[future]
            text = workers.result(future, tag)
            del under_way[future]
            print(text, end="", flush=True)
            progress.add(1)
            workers.count()
    finally:
        progress.close()
        if under_way:
            # A fit cannot be stopped: it ends with its worker, or finishes where that is another's.
            with contextlib.suppress(Exception):
                workers.client.cancel(list(under_way))


def train_one(
    group: str, recipe: Recipe, model: str, layer: int | str, settings: dict[str, Any]
) -> str:
    """Train one run in a worker, and give what it prints."""
    with task(group) as cancelled:
        said, progress = io.StringIO(), io.StringIO()
        if not cancelled():
            # Progress is shown by the client, a run at a time.
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(progress):
                train_model(recipe, model, layer, **settings)
        return said.getvalue()
