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
from dataclasses import replace
from typing import Any

from features.common.progress import Progress
from features.common.workers import Workers, task
from features.recipe.member import Member
from features.recipe.model import Recipe
from models.train import Training


def train_on(workers: Workers, training: Training, work: Sequence[Member]) -> None:
    """Train members on workers, and tell what each run says as it ends.

    Parameters
    ----------
    workers : Workers
    training : Training
        Its `jobs` are threads and processes of each worker; -1 is its share of the cores.
    work : sequence of Member

    Raises
    ------
    ClusterError
        A run's workers died, one after the other, or the scheduler is gone.
    """
    from distributed import as_completed

    settings = {
        "folders": replace(
            training.folders,
            stores=training.folders.need_stores().absolute(),
            runs=training.folders.runs.absolute(),
        ),
        "jobs": workers.threads if training.jobs < 0 else training.jobs,
        "force": training.force,
        "allow_failures": training.allow_failures,
        "device": training.device,
        "precision": training.precision,
    }
    group = uuid.uuid4().hex[:8]
    under_way: dict[Any, str] = {}
    for member in work:
        future = workers.client.submit(
            train_one, group, training.recipe, member, settings, key=f"train-{member}-{group}"
        )
        under_way[future] = str(member)
    progress = Progress("train", len(work), "runs")
    try:
        for future in as_completed(list(under_way), loop=workers.client.loop):
            lines = workers.result(future, under_way[future])
            del under_way[future]
            for line in lines:
                training.tell(line)
            progress.add(1)
            workers.count()
    finally:
        progress.close()
        if under_way:
            # A fit cannot be stopped: it ends with its worker, or finishes where that is another's.
            with contextlib.suppress(Exception):
                workers.client.cancel(list(under_way))


def train_one(group: str, recipe: Recipe, member: Member, settings: dict[str, Any]) -> list[str]:
    """Train one run in a worker, and give the lines that it says.

    Parameters
    ----------
    group : str
        The client stops all tasks of it at once.
    recipe : Recipe
    member : Member
    settings : dict
        Of `Training`, besides `recipe` and `tell`.

    Returns
    -------
    list of str
        Empty where it was cancelled before it began.
    """
    said: list[str] = []
    with task(group) as cancelled:
        if not cancelled():
            # Progress is shown by the client, a run at a time.
            with contextlib.redirect_stderr(io.StringIO()):
                Training(recipe, tell=said.append, **settings).train(member)
    return said
